//! The contract, situation by situation, held against the running gateway. Each row has a test of its name.

mod before_the_claim;
mod callers;
mod durability;
mod fields;
mod flows;
mod forwarding;
mod intake;
mod intermediary;
mod key_is_known;
mod life;
mod paths;
mod problem_documents;
mod regressions;
mod reload;
mod several_gateways;
mod store_down;
mod streams;
mod topologies;
mod upgrades;
