//! Moving records from one store to another.
//!
//! Read `site.rs` (a store that crashes, delays and knows sessions in paused time), `steps.rs` (each step, and a crash
//! at each), `fleet.rs` (gateways of a model that claim while their store moves), `processes.rs` (the real thing).

mod fleet;
mod processes;
mod site;
mod steps;
