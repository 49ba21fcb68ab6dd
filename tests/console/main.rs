//! The operators' console in a real browser: how it looks, what a person can do with it, and what it keeps to itself.
//!
//! Needs Chromium and its driver, so plain `cargo test` leaves it out and `scripts/console-check` runs it. Read
//! `browser.rs` (the browser), `api.rs` (a scripted operations API that serves the page), then the claims.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod acceptance;
mod api;
mod browser;
mod hands;
#[path = "../it/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the integration tests use the rest of it")]
mod harness;
mod looks;
mod secrets;
mod sight;
