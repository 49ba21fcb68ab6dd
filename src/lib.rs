//! Onceway: a reverse-proxy idempotency gateway.
//!
//! It stands in front of any HTTP API and makes its unsafe requests safe to retry: the first request
//! with an `Idempotency-Key` is claimed in a store and forwarded, its answer is kept, and every retry
//! gets that answer.
//!
//! Reading order: [`protocol`], the pure heart; [`store`], where records live; `ledger`, the protocol
//! over a store; `migration`, from one store to another; `upstream` and `proxy`, the road of a request;
//! `server`; `config`; `admin`; `telemetry`; `gateway`, which alone knows everyone; `cli`.
//! `ARCHITECTURE.md` draws the house.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod ledger;
pub mod migration;
pub mod net;
pub mod octets;
pub mod protocol;
pub mod proxy;
pub mod server;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod telemetry;
pub mod upstream;
