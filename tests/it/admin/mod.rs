//! What operators see and do, through the socket of their listener.

mod access;
mod changes;
mod office;
mod records;
mod secured;
