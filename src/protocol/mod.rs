//! The heart: what an idempotency key means, as plain data and pure functions.
//!
//! Owns the words (key, scope, fingerprint, attempt, session, record) and the only two functions that
//! decide: [`machine::judge`], what a request may do given what the store holds, and
//! [`machine::settle`], what the record becomes when an outcome is known. Must not know: HTTP
//! libraries, stores, runtimes, clocks, sources of randomness; time and tokens are arguments.
//!
//! Read `key.rs`, `scope.rs`, `fingerprint.rs`, then `record.rs` and `machine.rs`; `histories/`
//! enumerates every small history and shows that none forwards twice.

pub mod fingerprint;
#[cfg(test)]
mod histories;
pub mod key;
pub mod machine;
pub mod mistake;
pub mod outline;
pub mod policy;
pub mod record;
pub mod saved;
pub mod scope;
