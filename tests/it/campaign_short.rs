//! The fault campaign in short: for each store a handful of faults under load, and every promise held against what the
//! service and the callers wrote down. `scripts/campaign` plays the long one.
//!
//! `ONCEWAY_CAMPAIGN_SEED` plays the faults of a failure again.

#[path = "../../benches/campaign/play/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the benchmark uses the rest of it")]
pub(crate) mod play;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use play::{Kind, Plan};

/// Faults for each store, several at a time.
const FAULTS: usize = 8;

fn is_as_promised(store: Kind) {
    let seed = std::env::var("ONCEWAY_CAMPAIGN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let plan = Plan {
        store,
        seed,
        faults: FAULTS,
        faults_at_once: FAULTS,
        quiet: Duration::from_secs(1),
        callers: 8,
        pause: Duration::from_millis(5),
        session_ttl: Duration::from_secs(1),
        // A machine that does many things at once is slow; the long campaign looks at that.
        patience: Duration::from_mins(2),
        min_replicas: store.min_replicas(),
        has_networks: false,
        ends_early: false,
    };
    let outcome = play::run(&plan, &AtomicBool::new(false), &mut |_| {});
    let findings = &outcome.verdict.findings;
    assert!(
        findings.is_empty(),
        "ONCEWAY_CAMPAIGN_SEED={seed}: {findings:?} after {:?}",
        outcome.history.faults
    );
    assert!(outcome.verdict.counts.replays > 0, "ONCEWAY_CAMPAIGN_SEED={seed}: nothing was played");
}

#[test]
fn gateways_over_a_redis_keep_their_promises_whatever_befalls_them_and_it() {
    is_as_promised(Kind::Redis);
}

#[test]
fn gateways_over_a_redis_with_sentinels_keep_their_promises_whatever_befalls_them_and_it() {
    is_as_promised(Kind::Sentinel);
}

#[test]
fn gateways_over_a_redis_cluster_keep_their_promises_whatever_befalls_them_and_it() {
    is_as_promised(Kind::Cluster);
}

#[test]
fn gateways_over_a_postgresql_keep_their_promises_whatever_befalls_them_and_it() {
    is_as_promised(Kind::Postgres);
}

#[test]
fn a_gateway_with_an_embedded_store_keeps_its_promises_whatever_befalls_it() {
    is_as_promised(Kind::Embedded);
}
