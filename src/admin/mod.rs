//! The operators' listener: whether the gateway lives, what it counts, what it knows of each key, and the few changes
//! that a person may make to that.
//!
//! A connection comes in (`listener.rs`), is kept from dawdling (`patience.rs`), and its requests take their way
//! (`road.rs`) to what is at their path (`places.rs`). Probes and metrics (`probes.rs`) are for everybody; everything
//! else only for operators, and changes only with the token (`access.rs`, `token.rs`). Then `operations.rs` shows
//! records, `find.rs` finds one by its raw key, `changes.rs` makes changes and has each of them written down first
//! (`audit.rs`), `status.rs` tells how the gateway does, `level.rs` what it logs. What was asked is read by `asked.rs`
//! and `given.rs`, what is answered is written by `shown.rs`, `answers.rs` and, where something is wrong, `problem.rs`.
//! `console/` is the page for people, `openapi.rs` the description for programs.
//!
//! Must not know callers' requests, upstreams or how keys are derived: `desk.rs` is all that the gateway tells it.

mod access;
mod answers;
mod asked;
mod audit;
mod changes;
pub mod console;
mod desk;
mod find;
mod given;
mod level;
mod listener;
mod openapi;
mod operations;
mod patience;
mod places;
mod probes;
mod problem;
mod road;
mod shown;
mod status;
mod token;

pub use audit::{Audit, CannotAudit};
pub use desk::{Derivation, Derive, Derived, Desk, Keeping, NotFound, Readiness, Sought, Tell, Terms};
pub use listener::serve;
pub use places::places;
pub use problem::codes;
pub use status::{GuardedRoute, ServerStatus, Status, StoreStatus, UpstreamStatus};
pub use token::Token;
