//! Claims on what a store says of sessions, of its gate and of itself.

use std::time::Duration;

use onceway::protocol::record::Seen;
use onceway::store::{Closure, Gate, SessionLife, Swapped};

use super::Bench;
use super::records::{insert, seen};
use crate::records::{LONG, a_claim, after, done_with, eventually, some_key, some_session};

pub(super) async fn a_session_lives_from_its_registration_to_its_end<B: Bench>(bench: &B) {
    let (store, session) = (bench.store(), some_session());
    assert_eq!(store.session_life(session).await.unwrap(), B::NOT_THERE);
    store.renew_session(session, LONG).await.unwrap();
    store.renew_session(session, LONG).await.unwrap();
    assert_eq!(store.session_life(session).await.unwrap(), SessionLife::Alive);
    assert_eq!(store.session_life(some_session()).await.unwrap(), B::NOT_THERE);
    store.end_session(session).await.unwrap();
    assert_eq!(store.session_life(session).await.unwrap(), B::NOT_THERE);
}

pub(super) async fn another_handle_sees_the_same_records_and_sessions(bench: &impl Bench) {
    let (store, another) = (bench.store(), bench.another());
    let (key, claim, session) = (some_key(), a_claim(), some_session());
    insert(&store, &key, &claim).await;
    store.renew_session(session, LONG).await.unwrap();
    eventually("the other handle connects", || async { another.ping().await.is_ok() }).await;
    assert_eq!(another.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claim));
    assert_eq!(another.session_life(session).await.unwrap(), SessionLife::Alive);
}

pub(super) async fn a_store_that_runs_answers_a_ping_and_says_what_it_is(bench: &impl Bench) {
    bench.store().ping().await.unwrap();
    assert!(!bench.store().describe().is_empty());
}

pub(super) async fn an_inspection_answers_and_refuses_nothing_that_is_sound(bench: &impl Bench) {
    let told = bench.store().inspect().await.unwrap();
    assert!(told.facts.iter().all(|(name, fact)| !name.is_empty() && !fact.is_empty()), "{told:?}");
    assert_eq!(told.refusal(false), None);
}

pub(super) async fn a_closed_gate_is_told_at_every_renewal_until_it_is_opened(bench: &impl Bench) {
    let (store, session) = (bench.transfer(), some_session());
    assert_eq!(store.gate().await.unwrap(), Gate::Open);
    let closed = Closure::WORDS.map(|(_, closure)| Gate::Closed(closure));
    for gate in [&closed[..], &[Gate::Open, Gate::Open]].concat() {
        store.set_gate(gate).await.unwrap();
        assert_eq!(store.gate().await.unwrap(), gate);
        for session in [session, some_session()] {
            assert_eq!(store.renew_session(session, LONG).await.unwrap(), gate);
        }
    }
}

pub(super) async fn a_closed_store_still_keeps_and_settles(bench: &impl Bench) {
    let (store, key, other) = (bench.store(), some_key(), some_key());
    let (claim, session) = (a_claim(), some_session());
    let done = after(&claim, done_with("paid"));
    insert(&store, &key, &claim).await;
    bench.transfer().set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done));
    assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
    // The outcome of a claim that the store forgot; who may claim is for the ledger to say.
    assert_eq!(store.insert(&other, &done, LONG).await.unwrap(), Seen::Nothing);
    store.renew_session(session, LONG).await.unwrap();
    assert_eq!(store.session_life(session).await.unwrap(), SessionLife::Alive);
}

pub(super) async fn whoever_was_told_open_is_found_by_whoever_closes_the_gate(bench: &impl Bench) {
    let (store, another) = (bench.transfer(), bench.another());
    eventually("the other handle connects", || async { another.ping().await.is_ok() }).await;
    for _ in 0..50 {
        store.set_gate(Gate::Open).await.unwrap();
        let session = some_session();
        let closing = async {
            store.set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
            store.sessions().await.unwrap()
        };
        let (told, found) = tokio::join!(another.renew_session(session, LONG), closing);
        let is_found = found.iter().any(|(found, _)| *found == session);
        assert!(told.unwrap() != Gate::Open || is_found, "it may claim, and nobody waits for it");
    }
}

pub(super) async fn the_sessions_that_live_are_told_with_what_is_left_of_their_time(bench: &impl Bench) {
    let (store, here, there, ended) = (bench.transfer(), some_session(), some_session(), some_session());
    for session in [here, there, ended, here] {
        store.renew_session(session, LONG).await.unwrap();
    }
    store.end_session(ended).await.unwrap();
    let mut told = store.sessions().await.unwrap();
    told.sort_by_key(|(session, _)| session.0);
    let mut expected = [here, there];
    expected.sort_by_key(|session| session.0);
    assert_eq!(told.iter().map(|(session, _)| *session).collect::<Vec<_>>(), expected);
    // Those of a store that belongs to one process live as long as it does.
    let is_right = |left: Duration| left == Duration::MAX || LONG / 2 < left && left <= LONG;
    assert!(told.iter().all(|(_, left)| is_right(*left)), "{told:?}");
}
