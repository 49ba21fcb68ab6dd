//! What operators read: the log, one line in it per request, and the metrics.
//!
//! Must not hold keys, credentials or bodies.

pub mod access;
pub mod course;
pub mod log;
pub mod metrics;
pub mod trace;
