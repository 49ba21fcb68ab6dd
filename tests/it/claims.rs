//! A claim in doubt: confirmed after a pause, extended, settled late or not at all, on one key and on two; and what the
//! ledger tells of itself meanwhile. Over the store of `ledger.rs`, with its paused time.

use std::time::Duration;

use onceway::ledger::operations::{NotChanged, Resolution, State, Wanted};
use onceway::ledger::{
    Cached, Known, Ledger, Opened, Question, Settlement, Unavailable, Unprocessed, Waited,
};
use onceway::protocol::outline::Outline;
use onceway::protocol::policy::OnUnknown;
use onceway::protocol::record::{Phase, Record, Seen, UnknownReason, Version};
use onceway::protocol::saved::SavedHead;
use onceway::protocol::scope::StorageKey;
use onceway::store::transfer::Transfer;
use onceway::store::{Closure, Gate, Store};
use tokio::time::{Instant, advance, sleep};

use crate::ledger::{
    Fault, SECOND, Unreliable, answer, claim, patient_process, pay, process, question, replayed,
};

/// Half of how long a session lives in these tests.
const HALF_A_SESSION: Duration = Duration::from_millis(2500);

/// The same question, asked of a key that was made in another way before.
fn pay_in_two_ways() -> Question {
    Question { earlier: Some(Box::new(earlier())), ..pay() }
}

fn earlier() -> Question {
    Question { key: StorageKey::from_bytes([8; 32]), ..pay() }
}

async fn record(store: &Unreliable) -> Record {
    let Seen::Record(record) = store.inner.fetch(&pay().key).await.unwrap() else {
        panic!("no record stands")
    };
    *record
}

async fn stands(ledger: &Ledger, question: &Question) -> Outline {
    ledger.look(&question.key).await.unwrap().unwrap().outline.unwrap()
}

fn within(limit: Duration) -> std::time::Instant {
    onceway::clock::monotonic() + limit
}

#[tokio::test(start_paused = true)]
async fn a_young_claim_is_confirmed_unasked_and_from_half_a_session_on_only_by_the_store() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let mut held = claim(&ledger, &pay()).await;
    store.go(true);
    advance(Duration::from_millis(2499)).await;
    assert!(held.confirm().await.is_ok(), "it is young");
    advance(Duration::from_millis(1)).await;
    assert!(matches!(held.confirm().await, Err(Unavailable::Store(_))), "nobody can tell");
    store.go(false);
    assert!(held.confirm().await.is_ok(), "it stands");
    store.go(true);
    assert!(held.confirm().await.is_ok(), "it was seen to stand a moment ago");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_no_longer_stands_is_not_confirmed() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    for way in [pay(), pay_in_two_ways()] {
        let mut held = claim(&ledger, &way).await;
        let key = way.earlier.as_ref().map_or(way.key, |earlier| earlier.key);
        let Seen::Record(stands) = store.inner.fetch(&key).await.unwrap() else { panic!("no claim stands") };
        let other = Record { version: Version { revision: 7, ..stands.version }, ..*stands.clone() };
        store.inner.swap(&key, stands.version, &other, 60 * SECOND).await.unwrap();
        sleep(HALF_A_SESSION).await;
        assert!(matches!(held.confirm().await, Err(Unavailable::ClaimGone)));
        store.inner.remove(&key, other.version).await.unwrap();
        assert!(matches!(held.confirm().await, Err(Unavailable::ClaimGone)));
        held.release(Unprocessed::NeverSent).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_licence_ends_when_the_session_lapses_and_does_not_come_back_with_it() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let held = claim(&ledger, &pay()).await;
    let licence = held.licence();
    assert!(licence());
    store.go(true);
    sleep(6 * SECOND).await;
    assert!(!licence(), "the session may have lapsed");
    store.go(false);
    sleep(2 * SECOND).await;
    assert!(!licence(), "somebody may have taken the claim for an orphan meanwhile");
    drop(held);
    let fresh = claim(&ledger, &earlier()).await;
    assert!(fresh.licence()(), "it was claimed in the renewed session");
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_two_keys_has_a_licence_only_if_both_have() {
    let store = Unreliable::new();
    let ledger = patient_process(&store, 60 * SECOND).await;
    store.next_insert(Fault::AnswerHeld);
    let (asking, question) = (ledger.clone(), pay_in_two_ways());
    let ((), held) = tokio::join!(
        async {
            store.holds().await;
            // The session lapses between the first key and the second.
            store.go(true);
            sleep(10 * SECOND).await;
            store.go(false);
            sleep(2 * SECOND).await;
            store.answer();
        },
        async { claim(&asking, &question).await }
    );
    assert!(!held.licence()());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_extended_outlives_its_retention() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    for way in [pay(), pay_in_two_ways()] {
        let mut held = claim(&one, &way).await;
        assert_eq!(held.extend_after(), way.terms.claim_keep_for / 3);
        for _ in 0..2 {
            sleep(way.terms.claim_keep_for * 2 / 3).await;
            held.extend().await.unwrap();
        }
        assert!(matches!(other.open(&way).await.unwrap(), Opened::Known(Known::InFlight)));
        assert_eq!(held.release(Unprocessed::NeverSent).await, Settlement::Stored);
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_whose_acknowledgement_was_lost_does_not_bar_the_answer() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let mut held = claim(&one, &pay()).await;
    store.next_swap(Fault::AnswerLost);
    assert!(held.extend().await.is_err());
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "paid");
}

#[tokio::test(start_paused = true)]
async fn an_older_write_of_the_same_attempt_that_came_back_bars_the_answer() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let mut held = claim(&ledger, &pay()).await;
    let older = record(&store).await;
    held.extend().await.unwrap();
    store.inner.swap(&pay().key, record(&store).await.version, &older, 60 * SECOND).await.unwrap();
    assert_eq!(held.complete(answer("paid")).await, Settlement::Superseded);
    assert_eq!(record(&store).await, older);
}

#[tokio::test(start_paused = true)]
async fn a_claim_on_two_keys_that_cannot_have_the_second_leaves_nothing_under_the_first() {
    let store = Unreliable::new();
    let (one, other) = (patient_process(&store, 60 * SECOND).await, process(&store).await);
    store.next_insert(Fault::AnswerHeld);
    let question = pay_in_two_ways();
    let ((), opened) = tokio::join!(
        async {
            store.holds().await;
            store.next_insert(Fault::Refused);
            store.answer();
        },
        one.open(&question)
    );
    assert!(opened.is_err());
    sleep(SECOND).await;
    claim(&other, &earlier()).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_two_keys_is_over_when_neither_is_in_flight() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let question = pay_in_two_ways();
    assert_eq!(ledger.wait(&question, within(SECOND)).await.unwrap(), Waited::Settled);
    for held in [pay(), earlier()] {
        let held = claim(&ledger, &held).await;
        assert_eq!(ledger.wait(&question, within(SECOND)).await.unwrap(), Waited::TimedOut);
        let (waited, _) = tokio::join!(ledger.wait(&question, within(60 * SECOND)), async {
            sleep(SECOND).await;
            assert_eq!(ledger.waiters(), 1);
            held.complete(answer("paid")).await
        });
        assert_eq!((waited.unwrap(), ledger.waiters()), (Waited::Settled, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_a_store_that_says_nothing_no_longer_than_for_one_that_refuses() {
    let store = Unreliable::new();
    let ledger = patient_process(&store, 60 * SECOND).await;
    let held = claim(&ledger, &pay()).await;
    store.next_swap(Fault::AnswerHeld);
    let began = Instant::now();
    assert_eq!(held.complete(answer("paid")).await, Settlement::Unstored);
    assert_eq!(began.elapsed().as_secs(), pay().terms.commit_timeout.as_secs());
    let retry = ledger.open(&pay()).await.unwrap();
    assert!(matches!(retry, Opened::Known(Known::Unstored(..))), "{retry:?}");
    // The attempt under way was not given up: a second one would have to wait for its turn.
    store.answer();
    ledger.commits_done().await;
    assert_eq!(began.elapsed().as_secs(), pay().terms.commit_timeout.as_secs());
    assert_eq!(replayed(&ledger, &pay()).await, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_lands_though_the_word_that_it_is_missing_is_still_on_its_way() {
    let store = Unreliable::new();
    let ledger = patient_process(&store, 60 * SECOND).await;
    for way in [pay(), pay_in_two_ways()] {
        let held = claim(&ledger, &way).await;
        store.next_swap(Fault::AnswerHeld);
        let (settlement, late) = held.unknown(UnknownReason::ResponseTimeout).await;
        assert_eq!(settlement, Settlement::Unstored);
        assert_eq!(late.complete(answer("late")).await, Settlement::Stored);
        assert_eq!(replayed(&ledger, &way).await, "late");
        ledger.forget(&pay().key, None).await.unwrap();
        sleep(2 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_is_tried_for_as_long_as_its_claim_may_stand() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let held = claim(&ledger, &pay()).await;
    store.go(true);
    let began = Instant::now();
    assert_eq!(held.complete(answer("paid")).await, Settlement::Unstored);
    assert_eq!(began.elapsed().as_secs(), pay().terms.commit_timeout.as_secs());
    ledger.commits_done().await;
    let (tried, stands) = (began.elapsed(), pay().terms.claim_keep_for);
    assert!(tried + SECOND > stands && tried < stands + 5 * SECOND, "{tried:?}");
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_claim_that_was_extended_is_tried_for_as_long_as_that_of_another() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let mut held = claim(&ledger, &pay()).await;
    for _ in 0..2 {
        sleep(pay().terms.claim_keep_for * 2 / 3).await;
        held.extend().await.unwrap();
    }
    store.go(true);
    assert_eq!(held.complete(answer("streamed")).await, Settlement::Unstored);
    sleep(60 * SECOND).await;
    store.go(false);
    ledger.commits_done().await;
    assert!(matches!(record(&store).await.phase, Phase::Done { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_tried_until_the_store_is_back_or_its_claim_ends() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let longer = 2 * pay().terms.claim_keep_for;
    for (outage, settlement) in [(3_600 * SECOND, Settlement::Stored), (longer, Settlement::Unstored)] {
        let (_, late) = claim(&ledger, &pay()).await.unknown(UnknownReason::ResponseTimeout).await;
        store.go(true);
        let began = Instant::now();
        let (settled, ()) = tokio::join!(late.complete(answer("late")), async {
            sleep(outage).await;
            store.go(false);
        });
        assert_eq!(settled, settlement);
        assert!(began.elapsed() >= outage);
        ledger.forget(&pay().key, None).await.ok();
        sleep(2 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_word_without_a_body_or_without_a_run_lands_on_every_key_of_its_claim() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    for way in [pay(), pay_in_two_ways()] {
        let (_, late) = claim(&one, &way).await.unknown(UnknownReason::ResponseTimeout).await;
        assert_eq!(late.release(Unprocessed::SaidByStatus(429)).await, Settlement::Stored);
        let (_, late) = claim(&other, &way).await.unknown(UnknownReason::ResponseTimeout).await;
        let head = SavedHead { status: 200, headers: [].into() };
        assert_eq!(late.complete_without_body(head.clone()).await, Settlement::Stored);
        let told = one.open(&way).await.unwrap();
        assert!(matches!(&told, Opened::Known(Known::BodyNotKept(kept)) if *kept == head), "{told:?}");
        one.forget(&way.key, None).await.unwrap();
        // The other hears of that with its next heartbeat.
        sleep(2 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_that_was_never_written_is_still_told_by_the_late_answer() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let held = claim(&ledger, &pay()).await;
    store.go(true);
    let (settlement, late) = held.unknown(UnknownReason::ResponseTimeout).await;
    assert_eq!(settlement, Settlement::Unstored);
    store.go(false);
    assert_eq!(late.complete(answer("late")).await, Settlement::Stored);
    assert_eq!(replayed(&ledger, &pay()).await, "late");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_not_put_over_an_older_write_of_its_attempt_that_came_back() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let held = claim(&ledger, &pay()).await;
    let older = record(&store).await;
    let (_, late) = held.unknown(UnknownReason::ResponseTimeout).await;
    store.inner.swap(&pay().key, record(&store).await.version, &older, 60 * SECOND).await.unwrap();
    assert_eq!(late.complete(answer("late")).await, Settlement::Superseded);
    assert_eq!(record(&store).await, older);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_held_claims_nothing_and_settles_what_is_in_flight() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let held = claim(&ledger, &pay()).await;
    ledger.hold();
    assert!(matches!(ledger.open(&earlier()).await, Err(Unavailable::SessionLapsed)));
    assert!(!ledger.is_connected());
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored);
    assert_eq!(replayed(&ledger, &pay()).await, "paid");
    ledger.admit();
    assert!(ledger.is_connected());
    claim(&ledger, &earlier()).await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_stopped_says_no_more_that_it_lives() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    assert!(ledger.is_connected());
    ledger.stop();
    sleep(6 * SECOND).await;
    assert!(!ledger.is_connected());
    assert!(matches!(ledger.open(&pay()).await, Err(Unavailable::SessionLapsed)));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_ends_in_the_store_and_claims_nothing_any_more() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    assert_eq!(store.inner.sessions().await.unwrap().len(), 1);
    ledger.stop();
    ledger.end_session().await.unwrap();
    assert!(store.inner.sessions().await.unwrap().is_empty());
    assert!(matches!(ledger.open(&pay()).await, Err(Unavailable::SessionLapsed)));
}

#[tokio::test(start_paused = true)]
async fn the_ledger_tells_whether_it_is_cut_off_turned_away_or_at_work() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let is = || (ledger.reaches_store(), ledger.is_store_closed(), ledger.heartbeat_age().is_some());
    assert_eq!((is(), ledger.sessions_lapsed()), ((true, false, true), 0));
    store.go(true);
    sleep(4 * SECOND).await;
    let age = ledger.heartbeat_age().unwrap();
    assert!(age >= 3 * SECOND && age <= 6 * SECOND, "{age:?}");
    assert_eq!(is(), (false, false, true));
    sleep(4 * SECOND).await;
    store.go(false);
    sleep(2 * SECOND).await;
    assert_eq!((is(), ledger.sessions_lapsed()), ((true, false, true), 1));
    store.inner.set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(is(), (true, true, false));
    assert!(matches!(ledger.open(&pay()).await, Err(Unavailable::Closed)));
    store.inner.set_gate(Gate::Open).await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!((is(), ledger.sessions_lapsed()), ((true, false, true), 2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_closed_for_claims_replays_what_it_knows_for_good() {
    let store = Unreliable::new();
    let (one, other, third) = (process(&store).await, process(&store).await, process(&store).await);
    claim(&one, &pay()).await.complete(answer("paid")).await;
    let held = claim(&one, &earlier()).await;
    store.inner.set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
    sleep(2 * SECOND).await;
    assert_eq!(replayed(&other, &pay()).await, "paid");
    assert!(matches!(
        other.open(&Question { key: pay().key, ..question(2, OnUnknown::Reject) }).await,
        Ok(Opened::Known(Known::Mismatch))
    ));
    assert!(matches!(other.open(&earlier()).await, Err(Unavailable::Closed)), "it is in flight");
    assert_eq!(
        replayed(&third, &pay_in_two_ways()).await,
        "paid",
        "the other key of the two is known for good"
    );
    held.release(Unprocessed::NeverSent).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_from_memory_and_what_is_not_is_counted() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    assert_eq!(ledger.cached(), Cached { records: 0, bytes: 0, hits: 0, misses: 0 });
    assert!(ledger.recall(&pay()).is_none());
    let held = claim(&ledger, &pay()).await;
    assert_eq!(ledger.claims_in_flight(), 1);
    held.complete(answer("paid")).await;
    for _ in 0..2 {
        assert!(matches!(ledger.recall(&pay()), Some(Known::Replay(..))));
    }
    let Cached { records, bytes, hits, misses } = ledger.cached();
    assert_eq!((records, hits, misses, ledger.claims_in_flight()), (1, 2, 1, 0));
    assert!(bytes > 4, "{bytes}");
}

#[tokio::test(start_paused = true)]
async fn the_ledger_is_shown_by_its_store() {
    let ledger = process(&Unreliable::new()).await;
    assert_eq!(
        (ledger.store_name(), format!("{ledger:?}")),
        ("unreliable:".into(), "Ledger(unreliable:)".into())
    );
    let held = claim(&ledger, &pay()).await;
    assert_eq!(*held.key(), pay().key);
    let stands = ledger.look(&pay().key).await.unwrap().unwrap();
    assert_eq!(stands.outline.unwrap().attempt(), held.attempt());
    assert_ne!(onceway::ledger::fresh_session(), onceway::ledger::fresh_session());
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_body_is_not_kept_is_told_as_such_on_every_key() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let head = SavedHead { status: 200, headers: [].into() };
    for (way, asked) in
        [(pay(), pay()), (Question { key: StorageKey::from_bytes([7; 32]), ..pay_in_two_ways() }, earlier())]
    {
        let settlement = claim(&one, &way).await.complete_without_body(head.clone()).await;
        assert_eq!(settlement, Settlement::Stored);
        for question in [&way, &asked] {
            let told = other.open(question).await.unwrap();
            assert!(matches!(&told, Opened::Known(Known::BodyNotKept(kept)) if *kept == head), "{told:?}");
        }
        assert_eq!(other.look(&asked.key).await.unwrap().unwrap().state, State::DoneWithoutBody);
        let attempt = stands(&other, &asked).await.attempt();
        let released = other.resolve(&asked.key, attempt, Resolution::Release).await;
        assert!(matches!(released, Err(NotChanged::NotUnknown(State::DoneWithoutBody))), "{released:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_lands_on_both_keys_of_its_claim() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let (_, late) = claim(&one, &pay_in_two_ways()).await.unknown(UnknownReason::ResponseTimeout).await;
    let told = other.look(&earlier().key).await.unwrap().unwrap();
    assert_eq!(told.state, State::Unknown(UnknownReason::ResponseTimeout));
    assert_eq!(late.complete(answer("late")).await, Settlement::Stored);
    for question in [pay(), earlier()] {
        assert_eq!(replayed(&other, &question).await, "late");
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_of_what_no_longer_stands_puts_nothing_there() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let mut held = claim(&ledger, &pay()).await;
    store.inner.remove(&pay().key, record(&store).await.version).await.unwrap();
    held.extend().await.unwrap();
    assert_eq!(store.inner.fetch(&pay().key).await.unwrap(), Seen::Nothing);
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored, "the store forgot it");
    // Further on than any write of this attempt that may still be on its way.
    assert!(record(&store).await.version.revision > 8);
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_claim_the_store_forgot_takes_nothing_from_whoever_claimed_since() {
    let store = Unreliable::new();
    let (one, other) = (patient_process(&store, 60 * SECOND).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    store.inner.remove(&pay().key, record(&store).await.version).await.unwrap();
    store.next_swap(Fault::AnswerHeld);
    let (settlement, second) = tokio::join!(held.complete(answer("first")), async {
        store.holds().await;
        let second = claim(&other, &pay()).await;
        store.answer();
        second
    });
    assert_eq!(settlement, Settlement::Superseded);
    assert_eq!(second.complete(answer("second")).await, Settlement::Stored);
    assert_eq!(replayed(&one, &pay()).await, "second");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_given_up_is_swept_once_the_store_answers_again() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    store.next_insert(Fault::AnswerLost);
    assert!(one.open(&pay()).await.is_err());
    assert_eq!(
        one.look(&pay().key).await.unwrap().unwrap().state,
        State::InFlight,
        "nothing was sent for it"
    );
    store.go(true);
    sleep(3 * SECOND).await;
    store.go(false);
    sleep(2 * SECOND).await;
    claim(&other, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_is_looked_for_again_until_the_store_tells_of_it() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let _held = claim(&one, &pay()).await;
    one.stop();
    one.end_session().await.unwrap();
    assert!(matches!(other.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)));
    store.go(true);
    sleep(3 * SECOND).await;
    store.go(false);
    sleep(2 * SECOND).await;
    let told = other.open(&pay()).await.unwrap();
    assert!(matches!(told, Opened::Known(Known::Unknown(UnknownReason::SessionDied))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_keys_that_cannot_be_asked_for_stops_the_second() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    store.next_insert(Fault::Refused);
    assert!(matches!(ledger.open(&pay_in_two_ways()).await, Err(Unavailable::Store(_))));
    assert_eq!(store.inner.fetch(&pay().key).await.unwrap(), Seen::Nothing);
}

#[tokio::test(start_paused = true)]
async fn one_process_knows_the_same_over_every_handle_to_its_store() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let same = ledger.over(store.clone());
    let held = claim(&ledger, &pay()).await;
    assert!(matches!(same.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)));
    assert_eq!(same.claims_in_flight(), 1);
    held.complete(answer("paid")).await;
    assert!(matches!(same.recall(&pay()), Some(Known::Replay(..))));
}

#[tokio::test(start_paused = true)]
async fn one_list_goes_on_from_page_to_page_while_it_finds_nothing() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    for number in 1..=3 {
        let question = Question { key: StorageKey::from_bytes([number; 32]), ..pay() };
        claim(&ledger, &question).await.complete(answer("paid")).await;
    }
    let wanted = Wanted { state: Some("unknown"), route: None };
    let found = ledger.list(&wanted, None, 1).await.unwrap();
    assert_eq!((found.operations.len(), found.looked_through, found.next), (0, 3, None));
}
