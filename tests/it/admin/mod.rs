//! What operators see and do, through the socket of their listener.

mod access;
mod changes;
mod document;
mod level;
pub(crate) mod office;
mod records;
mod schema;
mod secured;
