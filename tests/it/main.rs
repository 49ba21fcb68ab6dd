//! One binary for every test that needs a socket, a file or another process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on stops there"
)]

mod conformance;
mod embedded_store;
mod records;
mod redis_store;
mod servers;
