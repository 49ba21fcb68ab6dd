//! Operators step in: unknown outcomes are resolved and keys forgotten, over stores that misbehave and over real ones.
//! `ledger.rs` has the store with faults to order.

use std::time::Duration;

use onceway::ledger::operations::{NotChanged, Operation, Resolution, State, Wanted};
use onceway::ledger::{Claim, Known, Ledger, Opened, Question, Settings, Settlement, fresh_session};
use onceway::protocol::outline::Stage;
use onceway::protocol::policy::OnUnknown;
use onceway::protocol::record::{Attempt, UnknownReason};
use onceway::protocol::scope::StorageKey;
use onceway::store::Store;
use onceway::store::codec::Encoded;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::transfer::{Moved, Transfer};

use crate::ledger::{
    Fault, SECOND, Unreliable, answer, claim, patient_process, pay, process, question, replayed,
};
use crate::servers::redis::RedisServer;

fn completed() -> Resolution {
    Resolution::Complete { answer: answer("as the ledger of the bank says"), keep_for: 600 * SECOND }
}

async fn stands(ledger: &Ledger) -> Operation {
    ledger.look(&pay().key).await.unwrap().expect("a record")
}

async fn attempt(ledger: &Ledger) -> Attempt {
    stands(ledger).await.outline.expect("a readable record").attempt()
}

async fn resolve(ledger: &Ledger, resolution: Resolution) -> Result<Option<Operation>, NotChanged> {
    let attempt = attempt(ledger).await;
    ledger.resolve(&pay().key, attempt, resolution).await
}

/// A claim that nobody will settle.
async fn orphan(ledger: &Ledger) {
    drop(claim(ledger, &pay()).await);
}

/// A claim of a process that stops without a word, seen to have gone by another.
async fn claim_of_one_that_stops(stops: &Ledger, other: &Ledger) -> Claim {
    let claim = claim(stops, &pay()).await;
    stops.stop();
    stops.end_session().await.unwrap();
    assert_eq!(stands(other).await.state, State::InFlight, "absent is not dead yet");
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(stands(other).await.state, State::Unknown(UnknownReason::SessionDied));
    claim
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_that_an_operator_releases_runs_again() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    orphan(&ledger).await;
    assert_eq!(resolve(&ledger, Resolution::Release).await.unwrap(), None);
    assert_eq!(ledger.look(&pay().key).await.unwrap(), None);
    claim(&ledger, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_that_an_operator_completes_replays_everywhere() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let (_, _late) = claim(&one, &pay()).await.unknown(UnknownReason::ResponseTimeout).await;
    let now = resolve(&other, completed()).await.unwrap().unwrap();
    assert_eq!(now.state, State::Done);
    let looked_up = stands(&one).await;
    assert_eq!((looked_up.state, &looked_up.outline), (State::Done, &now.outline));
    for ledger in [&one, &other] {
        assert_eq!(replayed(ledger, &pay()).await, "as the ledger of the bank says");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_at_work_is_neither_resolved_nor_forgotten() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    for ledger in [&one, &other] {
        for resolution in [Resolution::Release, completed()] {
            let refused = resolve(ledger, resolution).await.unwrap_err();
            assert!(matches!(refused, NotChanged::NotUnknown(State::InFlight)), "{refused:?}");
        }
        let refused = ledger.forget(&pay().key, None).await.unwrap_err();
        assert!(matches!(refused, NotChanged::InFlight), "{refused:?}");
    }
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored);
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_process_has_just_gone_is_resolved_once_that_is_certain() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    std::mem::forget(claim(&one, &pay()).await);
    one.stop();
    one.end_session().await.unwrap();
    let refused = resolve(&other, Resolution::Release).await.unwrap_err();
    assert!(refused.to_string().contains("try again"), "{refused}");
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(resolve(&other, Resolution::Release).await.unwrap(), None);
    claim(&other, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_resolved_and_may_be_forgotten() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    claim(&ledger, &pay()).await.complete(answer("paid")).await;
    for resolution in [Resolution::Release, completed()] {
        let refused = resolve(&ledger, resolution).await.unwrap_err();
        assert!(matches!(refused, NotChanged::NotUnknown(State::Done)), "{refused:?}");
    }
    assert_eq!(replayed(&ledger, &pay()).await, "paid");
    ledger.forget(&pay().key, None).await.unwrap();
    claim(&ledger, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_attempt_has_taken_meanwhile_is_left_alone() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let retrying = question(1, OnUnknown::Retry);
    drop(claim(&ledger, &retrying).await);
    let seen = attempt(&ledger).await;
    drop(claim(&ledger, &retrying).await);
    for resolution in [Resolution::Release, completed()] {
        let refused = ledger.resolve(&pay().key, seen, resolution).await.unwrap_err();
        assert!(matches!(refused, NotChanged::Changed), "{refused:?}");
    }
    let refused = ledger.forget(&pay().key, Some(seen)).await.unwrap_err();
    assert!(matches!(refused, NotChanged::Changed), "{refused:?}");
    assert_eq!(stands(&ledger).await.outline.unwrap().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_release_speaks_for_all_attempts_that_may_have_run() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let retrying = question(1, OnUnknown::Retry);
    drop(claim(&ledger, &retrying).await);
    drop(claim(&ledger, &retrying).await);
    assert_eq!(resolve(&ledger, Resolution::Release).await.unwrap(), None);
    drop(claim(&ledger, &pay()).await);
    assert_eq!(stands(&ledger).await.outline.unwrap().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_changed() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let encoded = Encoded { head: "garbage".into(), body: bytes::Bytes::new() };
    store.inner.put(vec![Moved { key: pay().key, encoded, keep_for: 600 * SECOND }]).await.unwrap();
    assert_eq!(stands(&ledger).await.state, State::Unknown(UnknownReason::Unreadable));
    let refused = ledger.resolve(&pay().key, Attempt([0; 16]), completed()).await.unwrap_err();
    assert!(matches!(refused, NotChanged::Unreadable), "{refused:?}");
    let refused = ledger.forget(&pay().key, None).await.unwrap_err();
    assert!(matches!(refused, NotChanged::Unreadable), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_used_is_absent() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let refused = ledger.resolve(&pay().key, Attempt([0; 16]), completed()).await.unwrap_err();
    assert!(matches!(refused, NotChanged::Absent), "{refused:?}");
    let refused = ledger.forget(&pay().key, None).await.unwrap_err();
    assert!(matches!(refused, NotChanged::Absent), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_acknowledgement_was_lost_is_known_again_when_it_is_repeated() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    orphan(&ledger).await;
    store.next_swap(Fault::AnswerLost);
    let nothing_known = resolve(&ledger, completed()).await.unwrap_err();
    assert!(matches!(nothing_known, NotChanged::Unavailable(_)), "{nothing_known:?}");
    let done = stands(&ledger).await;
    let again = resolve(&ledger, completed()).await.unwrap().unwrap();
    assert_eq!((again.state, again.outline), (State::Done, done.outline), "it is not written twice");
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_known_again_though_its_repetition_bears_a_later_date() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    orphan(&ledger).await;
    let attempt = attempt(&ledger).await;
    let dated = |date: &'static str| {
        let mut answer = answer("as the ledger of the bank says");
        let dated = [("date".to_owned(), date.into())];
        answer.head.headers = answer.head.headers.iter().cloned().chain(dated).collect();
        Resolution::Complete { answer, keep_for: 600 * SECOND }
    };
    let (first, later) = ("Mon, 23 Nov 2026 09:00:00 GMT", "Mon, 23 Nov 2026 09:00:07 GMT");
    ledger.resolve(&pay().key, attempt, dated(first)).await.unwrap();
    let done = stands(&ledger).await;
    let again = ledger.resolve(&pay().key, attempt, dated(later)).await.unwrap().unwrap();
    assert_eq!((again.state, again.outline), (State::Done, done.outline));
}

#[tokio::test(start_paused = true)]
async fn a_removal_whose_acknowledgement_was_lost_is_absent_when_it_is_repeated() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    orphan(&ledger).await;
    let attempt = attempt(&ledger).await;
    store.next_remove(Fault::AnswerLost);
    let nothing_known = ledger.resolve(&pay().key, attempt, Resolution::Release).await.unwrap_err();
    assert!(matches!(nothing_known, NotChanged::Unavailable(_)), "{nothing_known:?}");
    let again = ledger.resolve(&pay().key, attempt, Resolution::Release).await.unwrap_err();
    assert!(matches!(again, NotChanged::Absent), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_through_one_gateway_is_let_go_of_by_another_within_a_heartbeat() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    claim(&one, &pay()).await.complete(answer("paid")).await;
    assert_eq!(replayed(&other, &pay()).await, "paid");
    one.forget(&pay().key, None).await.unwrap();
    assert!(one.recall(&pay()).is_none(), "here at once");
    assert!(other.recall(&pay()).is_some(), "the other cannot know yet");
    tokio::time::sleep(2 * SECOND).await;
    assert!(other.recall(&pay()).is_none());
    claim(&other, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn a_forgetting_that_could_not_be_counted_is_counted_when_it_is_repeated() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    claim(&one, &pay()).await.complete(answer("paid")).await;
    replayed(&other, &pay()).await;
    store.next_count(Fault::Refused);
    let nothing_known = one.forget(&pay().key, None).await.unwrap_err();
    assert!(matches!(nothing_known, NotChanged::Unavailable(_)), "{nothing_known:?}");
    tokio::time::sleep(2 * SECOND).await;
    assert!(other.recall(&pay()).is_some(), "nobody told it");
    assert!(matches!(one.forget(&pay().key, None).await, Err(NotChanged::Absent)));
    tokio::time::sleep(2 * SECOND).await;
    assert!(other.recall(&pay()).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_before_it_was_forgotten_does_not_come_back_into_memory_after_it() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, patient_process(&store, 60 * SECOND).await);
    claim(&one, &pay()).await.complete(answer("paid")).await;
    store.next_insert(Fault::AnswerHeld);
    let question = pay();
    let (read_before, ()) = tokio::join!(other.open(&question), async {
        store.holds().await;
        one.forget(&pay().key, None).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        store.answer();
    });
    let opened = read_before.unwrap();
    assert!(matches!(opened, Opened::Known(Known::Replay(..))), "it asked before: {opened:?}");
    assert!(other.recall(&pay()).is_none());
    claim(&other, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_write_is_acknowledged_after_it_was_forgotten_is_not_kept_in_memory() {
    let store = Unreliable::new();
    let (one, other) = (patient_process(&store, 60 * SECOND).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    store.next_swap(Fault::AnswerHeld);
    tokio::join!(held.complete(answer("paid")), async {
        store.holds().await;
        other.forget(&pay().key, None).await.unwrap();
        tokio::time::sleep(2 * SECOND).await;
        store.answer();
    });
    assert!(one.recall(&pay()).is_none());
    claim(&one, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_cut_off_goes_on_replaying_and_lets_go_when_it_is_back() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    claim(&one, &pay()).await.complete(answer("paid")).await;
    store.go(true);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(replayed(&one, &pay()).await, "paid");
    assert!(!one.reaches_store());
    store.go(false);
    other.forget(&pay().key, None).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    assert!(one.recall(&pay()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_change_what_an_operator_completed() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let (_, late) = claim(&ledger, &pay()).await.unknown(UnknownReason::ResponseTimeout).await;
    resolve(&ledger, completed()).await.unwrap();
    assert_eq!(late.complete(answer("late")).await, Settlement::Superseded);
    assert_eq!(replayed(&ledger, &pay()).await, "as the ledger of the bank says");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_process_that_was_only_stopped_does_not_change_what_an_operator_completed() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim_of_one_that_stops(&one, &other).await;
    resolve(&other, completed()).await.unwrap();
    assert_eq!(held.complete(answer("late")).await, Settlement::Superseded);
    assert_eq!(replayed(&other, &pay()).await, "as the ledger of the bank says");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_lands_on_a_released_key_that_nobody_has_used_since() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim_of_one_that_stops(&one, &other).await;
    resolve(&other, Resolution::Release).await.unwrap();
    assert_eq!(held.complete(answer("it ran after all")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "it ran after all");

    other.forget(&pay().key, None).await.unwrap();
    let (_, late) = claim(&other, &pay()).await.unknown(UnknownReason::ResponseTimeout).await;
    resolve(&other, Resolution::Release).await.unwrap();
    assert_eq!(late.complete(answer("so did this")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "so did this");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_land_on_a_released_key_that_somebody_has_used() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim_of_one_that_stops(&one, &other).await;
    resolve(&other, Resolution::Release).await.unwrap();
    let next = claim(&other, &pay()).await;
    assert_eq!(held.complete(answer("it ran after all")).await, Settlement::Superseded);
    assert_eq!(next.complete(answer("the next one")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "the next one");
}

#[tokio::test(start_paused = true)]
async fn what_is_rare_is_found_among_many_and_no_page_is_larger_than_asked_for() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    for number in 0..300_u16 {
        let [high, low] = number.to_be_bytes();
        let key = StorageKey::from_bytes([[low; 16], [high; 16]].concat().try_into().unwrap());
        let held = claim(&ledger, &Question { key, ..pay() }).await;
        if number % 100 == 0 {
            drop(held);
        } else {
            held.complete(answer("paid")).await;
        }
    }
    let wanted = Wanted { state: Some("unknown"), route: None };
    let (mut found, mut next, mut looked_through) = (0, None, 0);
    loop {
        let page = ledger.list(&wanted, next, 2).await.unwrap();
        assert!(page.operations.len() <= 2);
        found += page.operations.len();
        looked_through += page.looked_through;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!((found, looked_through), (3, 300));
}

#[tokio::test(start_paused = true)]
async fn one_list_ends_though_page_after_page_holds_nothing_and_the_next_goes_on() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    orphan(&ledger).await;
    store.begin_with_empty_pages(150);
    let (mut calls, mut found, mut next) = (0, 0, None);
    loop {
        let before = store.empty_pages_left();
        let page = ledger.list(&Wanted::default(), next, 50).await.unwrap();
        assert!(before - store.empty_pages_left() <= 64, "one call must not go through a whole server");
        (calls, found, next) = (calls + 1, found + page.operations.len(), page.next);
        if next.is_none() {
            break;
        }
    }
    assert!(calls > 1);
    assert_eq!(found, 1);
}

fn alone() -> Settings {
    Settings { store_timeout: 30 * SECOND, session_ttl: 60 * SECOND, local_cache_bytes: 1 << 20 }
}

/// A ledger over a real store, kept alive until the test ends.
async fn over(store: impl Store, settings: Settings) -> Ledger {
    let ledger = Ledger::new(std::sync::Arc::new(store), fresh_session(), settings);
    let beating = ledger.clone();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { beating.heartbeat().await });
    assert!(ledger.connected(Duration::from_secs(30)).await);
    ledger
}

#[tokio::test]
async fn what_the_process_before_left_in_an_embedded_store_is_resolved_and_forgotten_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let before = over(EmbeddedStore::open(dir.path()).unwrap(), alone()).await;
    orphan(&before).await;
    before.stop();
    drop(before);
    let ledger = over(reopened(dir.path()).await, alone()).await;
    assert_eq!(stands(&ledger).await.state, State::Unknown(UnknownReason::SessionDied));
    resolve(&ledger, completed()).await.unwrap();
    assert_eq!(replayed(&ledger, &pay()).await, "as the ledger of the bank says");
    let stage = stands(&ledger).await.outline.unwrap().stage;
    assert!(matches!(stage, Stage::Done { status: 201, .. }), "{stage:?}");
    ledger.forget(&pay().key, None).await.unwrap();
    claim(&ledger, &pay()).await;
}

/// The store again, as soon as the one before has let go of its directory.
async fn reopened(dir: &std::path::Path) -> EmbeddedStore {
    for _ in 0..3000 {
        if let Ok(store) = EmbeddedStore::open(dir) {
            return store;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    EmbeddedStore::open(dir).unwrap()
}

/// Sessions that live long enough on a loaded machine, with a heartbeat that a test can wait for.
fn shared() -> Settings {
    Settings { session_ttl: 10 * SECOND, ..alone() }
}

/// Asks until it is so, for as long as a loaded machine may take.
async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..3000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn what_is_forgotten_through_one_gateway_on_a_redis_is_let_go_of_by_another_within_a_heartbeat() {
    let redis = RedisServer::start();
    let (one, other) = (over(redis.store().await, shared()).await, over(redis.store().await, shared()).await);
    claim(&one, &pay()).await.complete(answer("paid")).await;
    assert_eq!(replayed(&other, &pay()).await, "paid");
    one.forget(&pay().key, None).await.unwrap();
    eventually("it is let go of", async || other.recall(&pay()).is_none()).await;
    claim(&other, &pay()).await;
}

#[tokio::test]
async fn what_a_gateway_that_died_left_in_a_redis_is_resolved_through_another() {
    let redis = RedisServer::start();
    let (one, other) = (over(redis.store().await, shared()).await, over(redis.store().await, shared()).await);
    let late = claim(&one, &pay()).await;
    one.stop();
    one.end_session().await.unwrap();
    let is_unknown = async || stands(&other).await.state == State::Unknown(UnknownReason::SessionDied);
    eventually("it is unknown", is_unknown).await;
    assert_eq!(resolve(&other, completed()).await.unwrap().unwrap().state, State::Done);
    assert_eq!(late.complete(answer("late")).await, Settlement::Superseded);
    assert_eq!(replayed(&other, &pay()).await, "as the ledger of the bank says");
}
