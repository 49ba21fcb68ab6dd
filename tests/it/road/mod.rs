//! The contract, situation by situation, held against the running gateway. Each row has a test of its name.

mod asides;
mod before_the_claim;
mod callers;
mod durability;
mod fields;
mod flows;
mod forwarding;
mod intermediary;
mod key_is_known;
mod life;
mod operation;
mod paths;
mod problem_documents;
mod regressions;
mod reload;
mod several_gateways;
mod store_down;
mod streams;
mod topologies;
mod upgrades;
mod upstream_http2;
mod upstream_tls;
