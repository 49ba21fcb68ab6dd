//! Each step of a move, what is refused, and a crash at every call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onceway::migration::{Ended, MoveError, Role, Step, call_off};
use onceway::protocol::record::{Phase, Record, Seen, Session};
use onceway::store::codec::Encoded;
use onceway::store::transfer::{Moved, Transfer};
use onceway::store::{Closure, Gate};

use super::site::{Run, Site, Sites, plan};
use crate::records::{
    EVERY_REASON, LONG, a_claim, after, bytes_of, done_with, done_without_body, some_key, some_session,
    unknown,
};

const LEFT: Gate = Gate::Closed(Closure::Leaving);
const ARRIVING: Gate = Gate::Closed(Closure::Arriving);

/// A source with a record of every kind.
async fn full() -> Sites {
    let sites = Sites::new();
    let mut phases: Vec<Phase> = EVERY_REASON.into_iter().map(unknown).collect();
    phases.extend([Phase::InFlight, done_with("paid"), done_with(bytes_of(2_000)), done_without_body()]);
    for phase in phases {
        sites.from.keep(&after(&a_claim(), phase)).await;
    }
    for garbage in ["", "short", "OW\u{1}\u{1} and what no version can read"] {
        let encoded = Encoded { head: Bytes::from(garbage), body: Bytes::new() };
        sites.from.keep_bytes(Moved { key: some_key(), encoded, keep_for: LONG }).await;
    }
    sites
}

async fn bytes(site: &Site) -> Vec<(Vec<u8>, Bytes, Bytes)> {
    let records = site.records().await;
    records.into_iter().map(|m| (m.key.as_bytes().to_vec(), m.encoded.head, m.encoded.body)).collect()
}

async fn call_off_now(sites: &Sites) -> Result<(), MoveError> {
    let from: Arc<dyn Transfer> = sites.from.clone();
    call_off(&from, &mut |_| {}).await
}

async fn expect_moved(sites: &Sites) {
    assert_eq!((sites.from.gate_now().await, sites.to.gate_now().await), (LEFT, Gate::Open));
    assert_eq!(bytes(&sites.from).await, bytes(&sites.to).await);
}

#[tokio::test(start_paused = true)]
async fn a_move_carries_every_record_byte_for_byte_whether_or_not_it_can_be_read() {
    let sites = full().await;
    let Ok(Ended::Moved(moved)) = sites.run().await else { panic!("not moved") };
    expect_moved(&sites).await;
    assert_eq!(moved.records, 16);
    assert_eq!(moved.before_closing.copied + moved.after_closing.copied, 16);
    assert!(moved.before_closing.copied >= 3, "what is answered is copied while gateways work on");
}

#[tokio::test(start_paused = true)]
async fn a_record_keeps_what_is_left_of_its_time() {
    let sites = full().await;
    sites.run().await.unwrap();
    for (here, there) in sites.from.records().await.iter().zip(sites.to.records().await) {
        assert!(there.keep_for.abs_diff(here.keep_for) < Duration::from_secs(30));
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_that_crashed_at_any_call_is_finished_by_the_next_run() {
    for takes_effect in [false, true] {
        for calls in 0.. {
            let sites = full().await;
            sites.fuse.set(calls, takes_effect);
            let run = sites.fuse.guard(sites.run()).await;
            sites.fuse.remove();
            if sites.to.gate_now().await == Gate::Open && !sites.to.records().await.is_empty() {
                assert_eq!(sites.from.gate_now().await, LEFT, "both are open after call {calls}");
            }
            sites.run().await.unwrap_or_else(|error| panic!("after call {calls}: {error}"));
            expect_moved(&sites).await;
            if matches!(run, Run::Ended(_)) {
                assert!(calls > 30, "the fuse was never reached");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_that_crashed_at_any_call_can_be_called_off_until_it_was_carried_out() {
    for takes_effect in [false, true] {
        for calls in 0.. {
            let sites = full().await;
            sites.fuse.set(calls, takes_effect);
            let run = sites.fuse.guard(sites.run()).await;
            sites.fuse.remove();
            match call_off_now(&sites).await {
                Ok(()) => assert_eq!(sites.from.gate_now().await, Gate::Open, "after call {calls}"),
                Err(MoveError::NoneUnderWay) => assert_eq!(sites.to.gate_now().await, Gate::Open),
                Err(MoveError::CarriedOut) => assert_eq!(sites.from.gate_now().await, LEFT),
                Err(error) => panic!("after call {calls}: {error}"),
            }
            sites.run().await.unwrap_or_else(|error| panic!("after call {calls}: {error}"));
            expect_moved(&sites).await;
            if matches!(run, Run::Ended(_)) {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_given_back_after_it_was_copied_is_new_in_the_destination() {
    let sites = full().await;
    let claim = a_claim();
    let key = sites.from.keep(&claim).await;
    let mut copies = 0;
    sites.fuse.set(usize::MAX, false);
    let crash_after_the_last_round = |step| {
        copies += usize::from(matches!(step, Step::Verifying));
        if copies > 0 {
            sites.fuse.set(0, false);
        }
    };
    let mut tell = crash_after_the_last_round;
    assert!(matches!(sites.fuse.guard(sites.plan().run(&mut tell)).await, Run::Crashed));
    sites.fuse.remove();
    assert_ne!(sites.to.standing(&key).await, Seen::Nothing, "it was copied in flight");
    sites.from.release(&key, claim.version).await;
    sites.run().await.unwrap();
    assert_eq!(sites.to.standing(&key).await, Seen::Nothing);
    expect_moved(&sites).await;
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_comes_while_the_source_is_closed_moves() {
    let sites = full().await;
    let claim = in_flight_with_owner(&sites);
    let key = sites.from.keep(&claim).await;
    let done = after(&claim, done_with("late"));
    let (plan, mut tell) = (sites.plan(), told_to(&sites, claim.session));
    let settling = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        sites.from.change(&key, claim.version, &done).await;
    };
    let (ended, ()) = tokio::join!(plan.run(&mut tell), settling);
    let Ok(Ended::Moved(moved)) = ended else { panic!("{ended:?}") };
    assert_eq!((moved.in_flight, sites.to.standing(&key).await), (0, Seen::Record(Box::new(done))));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_in_flight_for_too_long_moves_as_it_is() {
    let sites = full().await;
    let claim = in_flight_with_owner(&sites);
    let key = sites.from.keep(&claim).await;
    let ended = sites.plan().run(&mut told_to(&sites, claim.session)).await;
    let Ok(Ended::Moved(moved)) = ended else { panic!("{ended:?}") };
    assert_eq!((moved.in_flight, sites.to.standing(&key).await), (1, Seen::Record(Box::new(claim))));
}

/// A claim whose gateway lives.
fn in_flight_with_owner(sites: &Sites) -> Record {
    let claim = a_claim();
    sites.from.lives(claim.session, Duration::from_secs(5));
    claim
}

/// A gateway that renews its session whenever something comes to pass.
fn told_to(sites: &Sites, gateway: Session) -> impl FnMut(Step) {
    move |_| sites.from.lives(gateway, Duration::from_mins(5))
}

#[tokio::test(start_paused = true)]
async fn the_source_is_not_left_before_the_last_session_that_lived_at_its_closing_has_lapsed() {
    let sites = full().await;
    sites.from.lives(some_session(), Duration::from_secs(40));
    let began = tokio::time::Instant::now();
    sites.run().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(40));
}

#[tokio::test(start_paused = true)]
async fn a_destination_on_which_a_gateway_claimed_too_early_is_refused_and_left_as_it_was() {
    let sites = full().await;
    sites.to.lives(some_session(), Duration::from_secs(3));
    let claim = a_claim();
    let claiming = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        sites.to.keep(&claim).await
    };
    let (ended, key) = tokio::join!(sites.run(), claiming);
    assert!(matches!(ended, Err(MoveError::DestinationHoldsRecords)), "{ended:?}");
    assert_eq!((sites.from.gate_now().await, sites.to.gate_now().await), (Gate::Open, Gate::Open));
    assert_eq!(sites.to.standing(&key).await, Seen::Record(Box::new(claim)));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_holds_records_is_refused_and_stays_open() {
    let sites = full().await;
    sites.to.keep(&a_claim()).await;
    assert!(matches!(sites.run().await, Err(MoveError::DestinationHoldsRecords)));
    assert_eq!((sites.from.gate_now().await, sites.to.gate_now().await), (Gate::Open, Gate::Open));
}

#[tokio::test(start_paused = true)]
async fn a_source_without_records_and_gateways_is_taken_for_a_wrong_address() {
    let sites = Sites::new();
    assert!(matches!(sites.run().await, Err(MoveError::NothingLives)));
    sites.from.lives(some_session(), Duration::from_secs(3));
    assert!(matches!(sites.run().await, Ok(Ended::Moved(_))));
}

#[tokio::test(start_paused = true)]
async fn a_store_is_not_moved_to_itself() {
    let sites = full().await;
    let itself = plan(&sites.from, &sites.from);
    assert!(matches!(itself.run(&mut |_| {}).await, Err(MoveError::SameStore)));
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_moved_only_if_its_losses_are_accepted_and_is_never_opened() {
    let sites = full().await;
    let backup = Gate::Closed(Closure::Backup);
    sites.from.close(backup).await;
    assert!(matches!(sites.run().await, Err(MoveError::LossNotAccepted)));
    let accepting = onceway::migration::Move { accept_loss: true, ..sites.plan() };
    sites.fuse.set(40, true);
    assert!(matches!(sites.fuse.guard(accepting.run(&mut |_| {})).await, Run::Crashed));
    sites.fuse.remove();
    call_off_now(&sites).await.unwrap();
    assert_eq!(sites.from.gate_now().await, backup);
    accepting.run(&mut |_| {}).await.unwrap();
    assert_eq!((sites.from.gate_now().await, sites.to.gate_now().await), (backup, Gate::Open));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_moved_is_not_moved_again_and_its_move_not_called_off() {
    let sites = full().await;
    sites.run().await.unwrap();
    assert!(matches!(sites.run().await, Ok(Ended::HadMoved)));
    assert!(matches!(call_off_now(&sites).await, Err(MoveError::CarriedOut)));
    let elsewhere = Site::new("elsewhere", &sites.fuse);
    let again = plan(&sites.from, &elsewhere).run(&mut |_| {}).await;
    assert!(matches!(again, Err(MoveError::SourceHasLeft)), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_move_under_way_goes_to_no_other_destination_unless_it_was_called_off() {
    let sites = full().await;
    sites.fuse.set(40, true);
    assert!(matches!(sites.fuse.guard(sites.run()).await, Run::Crashed));
    sites.fuse.remove();
    let elsewhere = Site::new("elsewhere", &sites.fuse);
    let other = plan(&sites.from, &elsewhere).run(&mut |_| {}).await;
    assert!(matches!(other, Err(MoveError::SourceOfAnother)), "{other:?}");
    call_off_now(&sites).await.unwrap();
    plan(&sites.from, &elsewhere).run(&mut |_| {}).await.unwrap();
    let late = sites.run().await;
    assert!(matches!(late, Err(MoveError::SourceHasLeft)), "{late:?}");
    assert_eq!(sites.to.gate_now().await, ARRIVING);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_destination_takes_no_other_source_and_is_no_source() {
    let sites = full().await;
    sites.fuse.set(40, true);
    assert!(matches!(sites.fuse.guard(sites.run()).await, Run::Crashed));
    sites.fuse.remove();
    let third = Site::new("third", &sites.fuse);
    third.keep(&a_claim()).await;
    let ended = plan(&third, &sites.to).run(&mut |_| {}).await;
    assert!(matches!(ended, Err(MoveError::DestinationOfAnother)), "{ended:?}");
    let onward = plan(&sites.to, &third).run(&mut |_| {}).await;
    assert!(matches!(onward, Err(MoveError::SourceIsArriving)), "{onward:?}");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_opened_behind_the_move_is_noticed() {
    let sites = full().await;
    let mut open_again = false;
    let plan = sites.plan();
    let from = sites.from.clone();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let opening = async {
        while let Some(step) = told.recv().await {
            if matches!(step, Step::SourceClosed) {
                from.close(Gate::Open).await;
                return true;
            }
        }
        false
    };
    sites.from.lives(some_session(), Duration::from_secs(5));
    let mut pass_on = |step| tell.send(step).unwrap();
    let (ended, opened) = tokio::join!(plan.run(&mut pass_on), opening);
    open_again |= opened;
    assert!(open_again && matches!(ended, Err(MoveError::NotClosed(Role::Source))), "{ended:?}");
    assert_eq!(sites.to.gate_now().await, ARRIVING);
}

#[tokio::test(start_paused = true)]
async fn a_run_beside_another_is_refused() {
    let sites = full().await;
    sites.from.lives(some_session(), Duration::from_mins(2));
    let (plan, mut tell) = (sites.plan(), |_| {});
    let second = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        sites.run().await
    };
    let (first, second) = tokio::join!(plan.run(&mut tell), second);
    assert!(matches!(second, Err(MoveError::AnotherAtWork)), "{second:?}");
    assert!(matches!(first, Ok(Ended::Moved(_))), "{first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_stopped_for_long_writes_nothing_once_another_took_its_place() {
    let sites = full().await;
    sites.from.lives(some_session(), Duration::from_mins(2));
    let (plan, mut tell) = (sites.plan(), |_| {});
    let mut stopped = std::pin::pin!(plan.run(&mut tell));
    let begun = tokio::time::timeout(Duration::from_secs(30), &mut stopped).await;
    assert!(begun.is_err(), "it waits for a gateway");
    // Nobody polls it now, and its session lapses.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(matches!(sites.run().await, Ok(Ended::Moved(_))));
    sites.to.keep(&a_claim()).await;
    let before = bytes(&sites.to).await;
    assert!(matches!(stopped.await, Err(MoveError::TakenAway)));
    assert_eq!((bytes(&sites.to).await, sites.to.gate_now().await), (before, Gate::Open));
}
