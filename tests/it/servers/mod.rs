//! Real servers, started by a test on a free port and gone when it ends.

pub(crate) mod postgres;
pub(crate) mod redis;
