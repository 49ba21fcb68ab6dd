//! The integration tests: one binary, a module per subject, for everything that needs a socket, a file or
//! another process.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

mod admin;
#[path = "../../benches/failover/campaign.rs"]
#[allow(dead_code, reason = "the benchmark uses the rest of it")]
mod campaign;
mod campaign_checker;
mod campaign_short;
mod claims;
mod cli;
mod config;
mod conformance;
mod console;
mod demo;
mod deploy;
mod embedded_backup;
mod embedded_crash;
mod embedded_store;
mod fuzzed;
mod harness;
mod kill_sweep;
mod ledger;
mod linearizability;
mod metrics;
mod migration;
mod operations;
mod postgres_application;
mod postgres_durability;
mod postgres_operators;
mod postgres_store;
mod postgres_tls;
mod raw_bytes;
mod records;
mod redis_failovers;
mod redis_faults;
mod redis_operators;
mod redis_store;
mod redis_topology;
mod road;
mod sealed;
mod security;
mod servers;
#[path = "../smuggling/mod.rs"]
mod smuggling;
mod spellings;
mod telemetry;
mod twofold;
mod upstream;
mod upstreams;
mod wellformed;
