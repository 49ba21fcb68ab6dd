//! What operators read: the log, and one line in it per request.
//!
//! Must not hold keys, credentials or bodies.

pub mod access;
pub mod log;
