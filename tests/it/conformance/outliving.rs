//! Claims on stores that outlive their process.

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::Codec;
use onceway::store::transfer::Moved;
use onceway::store::{Closure, Gate, Swapped};

use super::Durable;
use super::listing::listed;
use super::moving::walk;
use super::records::{insert, seen};
use crate::records::{LONG, a_claim, after, bytes_of, done_with, some_key, some_session};

fn claim_and_answer(length: usize) -> (StorageKey, Record, Record) {
    let claim = a_claim();
    let done = after(&claim, done_with(bytes_of(length)));
    (some_key(), claim, done)
}

pub(super) async fn records_of_every_size_outlive_a_restart(bench: impl Durable) {
    let records = [0, 100, 16 * 1024 + 1, 500_000].map(claim_and_answer);
    let in_flight = (some_key(), a_claim());
    insert(&bench.store(), &in_flight.0, &in_flight.1).await;
    for (key, claim, done) in &records {
        insert(&bench.store(), key, claim).await;
        assert_eq!(bench.store().swap(key, claim.version, done, LONG).await.unwrap(), Swapped::Done);
    }
    let bench = bench.restarted().await;
    for (key, _, done) in &records {
        assert_eq!(bench.store().insert(key, &a_claim(), LONG).await.unwrap(), seen(done));
    }
    assert_eq!(bench.store().fetch(&in_flight.0).await.unwrap(), seen(&in_flight.1));
}

pub(super) async fn what_was_removed_stays_away_after_a_restart(bench: impl Durable) {
    let (key, claim, done) = claim_and_answer(100_000);
    insert(&bench.store(), &key, &claim).await;
    bench.store().swap(&key, claim.version, &done, LONG).await.unwrap();
    assert_eq!(bench.store().remove(&key, done.version).await.unwrap(), Swapped::Done);
    let bench = bench.restarted().await;
    assert_eq!(bench.store().insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Nothing);
}

pub(super) async fn records_that_were_put_and_a_closed_gate_outlive_a_restart(bench: impl Durable) {
    let (key, _, done) = claim_and_answer(20_000);
    let moved = Moved { key, encoded: Codec::default().encode(&key, &done), keep_for: LONG };
    bench.transfer().put(vec![moved]).await.unwrap();
    bench.transfer().set_gate(Gate::Closed(Closure::Arriving)).await.unwrap();
    let bench = bench.restarted().await;
    let store = bench.transfer();
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done));
    assert!(walk(&store, 10).await[&key].keep_for <= LONG, "its time went on");
    let told = store.renew_session(some_session(), LONG).await.unwrap();
    assert_eq!(told, Gate::Closed(Closure::Arriving));
}

pub(super) async fn what_is_listed_and_how_often_was_forgotten_outlive_a_restart(bench: impl Durable) {
    let (key, _, done) = claim_and_answer(20_000);
    insert(&bench.store(), &key, &done).await;
    bench.store().count_forgetting().await.unwrap();
    let (before, forgettings) =
        (listed(&bench.store(), 10).await, bench.store().forgettings().await.unwrap());
    let bench = bench.restarted().await;
    let after = listed(&bench.store(), 10).await;
    assert_eq!(after[&key].outline, before[&key].outline);
    assert!(after[&key].keep_for <= before[&key].keep_for, "its time went on");
    assert_eq!(bench.store().forgettings().await.unwrap(), forgettings);
}
