//! Calls to a store take effect one at a time: each at one moment between its beginning and its answer.
//!
//! Random callers, a history of what they asked and were answered, and a search for an order that explains
//! it. The first two claims are part of the contract of every store (`conformance.rs`). A call that was
//! dropped or failed may take effect at any later moment or never, but never twice. To play a history
//! again, set `ONCEWAY_TEST_SEED` to the seed that a failure names: the callers do the same, the machine
//! may not.

mod broken;
mod calls;
mod search;
mod workload;

use std::path::Path;
use std::sync::Arc;

use onceway::store::embedded::EmbeddedStore;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store};
use tempfile::TempDir;

use crate::conformance::Bench;
use crate::records::eventually;
use crate::servers::redis::{NAMESPACE, RedisServer};
use broken::{Broken, Fault};
use workload::{History, Plan};

const SEED: &str = "ONCEWAY_TEST_SEED";

fn plan() -> Plan {
    let seed = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    Plan {
        seed: seed.unwrap_or_else(|| fastrand::u64(..)),
        keys: 3,
        threads: 3,
        callers_per_thread: 4,
        calls_per_caller: 60,
        dropped_percent: 10,
    }
}

pub(crate) async fn calls_on_one_key_take_effect_one_at_a_time(bench: &impl Bench) {
    let plan = Plan { keys: 1, calls_per_caller: 25, ..plan() };
    play(bench, &plan).await;
}

pub(crate) async fn calls_on_a_few_keys_take_effect_one_at_a_time(bench: &impl Bench) {
    play(bench, &plan()).await;
}

async fn play(bench: &impl Bench, plan: &Plan) {
    let history = History::new(plan);
    history.play(plan, &|| bench.another(), || ());
    history.close(&bench.store()).await;
}

#[tokio::test]
async fn what_redis_acknowledged_stays_however_often_it_is_killed() {
    let mut server = RedisServer::start();
    let (url, plan) = (server.url(), plan());
    let handle =
        || -> Arc<dyn Store> { Arc::new(RedisStore::connect(&url, &Options::of(NAMESPACE)).unwrap()) };
    let history = History::new(&plan);
    history.play(&plan, &handle, || {
        for part in 1..4 {
            history.wait_for(plan.calls() * part / 4);
            server.restart();
        }
    });
    let store = handle();
    eventually("the store connects", async || store.ping().await.is_ok()).await;
    history.close(&store).await;
}

#[tokio::test]
async fn what_the_embedded_store_acknowledged_stays_when_it_is_opened_anew() {
    let dir = TempDir::new().unwrap();
    let open = |dir: &Path| -> Arc<dyn Store> { Arc::new(EmbeddedStore::open(dir).unwrap()) };
    let plan = Plan { calls_per_caller: 20, ..plan() };
    let history = History::new(&plan);
    for _ in 0..3 {
        let store = open(dir.path());
        history.play(&plan, &|| store.clone(), || ());
    }
    history.close(&open(dir.path())).await;
}

/// On one thread and from one seed, so that the same calls interleave in the same way every time.
async fn told_of(fault: Fault) -> Result<(), String> {
    let plan = Plan { seed: 7, threads: 1, callers_per_thread: 8, dropped_percent: 0, ..plan() };
    let store: Arc<dyn Store> = Arc::new(Broken::by(fault));
    let history = History::new(&plan);
    history.call_from_one_thread(&plan, 0, &store).await;
    history.explained()
}

#[tokio::test]
async fn every_fault_of_a_broken_store_is_found() {
    for fault in Fault::EVERY {
        assert!(told_of(fault).await.is_err(), "not found: {fault:?}");
    }
}

#[tokio::test]
async fn a_store_without_a_fault_is_not_suspected() {
    assert_eq!(told_of(Fault::None).await, Ok(()));
}

#[tokio::test]
async fn what_was_found_is_told_with_the_calls_that_nothing_explains() {
    let told = told_of(Fault::SwapIgnoresTheVersion).await.unwrap_err();
    assert!(told.starts_with("seed 7, key ") && told.contains("no order explains") && told.contains("Swap"));
}
