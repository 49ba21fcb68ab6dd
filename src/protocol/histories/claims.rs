//! What is claimed of every small history, and of those in which the store loses what it acknowledged.
//!
//! Each claim has two bounds: one for every run of the tests, and a larger one for `scripts/model --large`, which takes
//! an optimiser and minutes. Read `noticed.rs` after.

use super::super::policy::OnUnknown::{Reject, Retry};
use super::bounds::{
    accidents, asks, breaks, eased, failover, holds, is_large, strictly_once, third_alike, twins,
    two_callers, with_a_third, with_accidents, with_operators_alone,
};
use super::play::Met;
use super::scenario::Scenario;
use super::watcher::ONE_FORWARD;

#[test]
fn nothing_forwards_twice_by_itself() {
    // Here `forwards_allowed` is never raised, so the property says "at most one forward" and nothing less.
    let met = [Met::Replayed, Met::InFlight, Met::OwnerGone, Met::Unknown, Met::UnknownBecameDone];
    holds(&with_accidents(accidents(3, 4), strictly_once(twins(Reject))), &met);
    holds(&with_accidents(accidents(2, 3), strictly_once(third_alike(Reject))), &met);
}

#[test]
fn two_requests_run_once_unless_forgiven() {
    let met = [Met::Executed, Met::Replayed, Met::Unknown, Met::LandedLate, Met::LandedInVain];
    holds(&with_accidents(accidents(2, 4), twins(Reject)), &met);
}

#[test]
fn two_requests_run_again_only_where_the_policy_says_so() {
    holds(&twins(Retry), &[Met::Reclaimed, Met::LostReclaim, Met::OwnWriteFound, Met::BackToUnknown]);
}

#[test]
fn a_third_request_finds_what_two_left_behind() {
    holds(&third_alike(Reject), &[Met::ReclaimedNeverSent, Met::Replayed, Met::Unknown]);
    holds(
        &with_accidents(accidents(1, 3), strictly_once(third_alike(Retry))),
        &[Met::ReclaimedNeverSent, Met::Reclaimed, Met::LostReclaim],
    );
    holds(&eased(third_alike(Retry)), &[Met::Reclaimed, Met::BackToUnknown]);
}

#[test]
fn an_operator_who_releases_or_forgets_is_the_only_reason_for_a_second_forward() {
    let met = [Met::ForgottenByOperator, Met::Replayed];
    let more = [Met::CompletedByOperator, Met::Restored, Met::RestoredInVain];
    holds(&with_accidents(3, with_operators_alone(twins(Reject))), &[met.as_slice(), &more].concat());
    holds(&with_accidents(accidents(1, 3), with_operators_alone(third_alike(Reject))), &met);
    holds(&Scenario { long_answers: true, ..with_operators_alone(twins(Retry)) }, &[Met::Restored]);
}

#[test]
fn an_operator_who_only_completes_leads_to_no_second_forward() {
    // Nothing here raises `forwards_allowed`, so the property says "at most one forward" and nothing less.
    let scenario =
        Scenario { name: "operators who complete", removals: false, ..with_operators_alone(twins(Reject)) };
    holds(&with_accidents(accidents(3, 4), scenario), &[Met::CompletedByOperator, Met::Replayed]);
}

#[test]
fn another_request_under_the_same_key_never_runs_and_never_sees_the_answer() {
    let stranger = |on_unknown| with_a_third(on_unknown, asks(0, 2, on_unknown));
    holds(&stranger(Reject), &[Met::Mismatched, Met::ReclaimedNeverSent]);
    let without_refusals = with_accidents(accidents(1, 3), strictly_once(stranger(Retry)));
    holds(&without_refusals, &[Met::Mismatched, Met::ReclaimedNeverSent]);
    holds(&eased(stranger(Retry)), &[Met::Mismatched, Met::BackToUnknown]);
}

#[test]
fn what_one_policy_may_run_again_another_may_not() {
    // A policy changes while keys are outstanding.
    holds(&eased(with_a_third(Retry, asks(0, 1, Reject))), &[Met::Unknown, Met::BackToUnknown]);
}

#[test]
fn long_answers_and_renewed_claims_change_nothing() {
    let scenario = Scenario { name: "long answers", long_answers: true, ..twins(Retry) };
    holds(&eased(scenario), &[Met::BodyNotKept, Met::OwnWriteFound]);
}

#[test]
fn an_unreadable_record_stops_everything() {
    let scenario = Scenario { name: "damage", damage: true, ..twins(Retry) };
    holds(&eased(scenario), &[Met::UnreadableRefused]);
}

#[test]
fn commands_that_reach_the_store_twice_change_nothing() {
    let repeats = |scenario| Scenario { name: "repeats", repeats: true, ..scenario };
    holds(&repeats(with_accidents(accidents(2, 4), twins(Reject))), &[Met::LandedTwice, Met::Replayed]);
    holds(&repeats(with_accidents(accidents(2, 3), strictly_once(twins(Retry)))), &[Met::LandedTwice]);
}

#[test]
fn who_waits_is_told_the_outcome() {
    let waits = |scenario| Scenario { name: "waiting", waits: true, ..scenario };
    holds(&waits(twins(Reject)), &[Met::Woken, Met::WaitedInVain, Met::Replayed, Met::Unknown]);
    let third = if is_large() { third_alike(Retry) } else { strictly_once(third_alike(Retry)) };
    holds(&waits(third), &[Met::Woken, Met::Replayed]);
}

#[test]
fn an_owner_that_stood_still_beyond_its_session_and_its_claim_sends_nothing() {
    let stops = |scenario| Scenario { name: "standing still", stops: true, ..scenario };
    let met = [Met::Confirmed, Met::Unconfirmed, Met::Replayed, Met::Unknown];
    let without_operators = Scenario { operators: false, refusals: false, ..twins(Reject) };
    holds(&stops(with_accidents(accidents(3, 4), without_operators)), &met);
    holds(&stops(Scenario { operators: false, ..twins(Retry) }), &[Met::Confirmed, Met::Unconfirmed]);
}

#[test]
fn two_callers_who_send_the_same_never_meet() {
    holds(&two_callers(Reject), &[Met::Replayed, Met::Unknown, Met::Executed]);
    holds(&two_callers(Retry), &[Met::Replayed, Met::Reclaimed]);
}

// ---- a store that fails over ----

#[test]
fn a_failover_that_loses_an_acknowledged_claim_lets_its_key_run_again() {
    let history = breaks(&failover(1, 0, with_accidents(1, twins(Reject))), ONE_FORWARD);
    let told: Vec<_> = history.lines().filter(|line| !line.contains("the store:")).collect();
    assert_eq!(told.len(), 6, "{history}");
}

#[test]
fn only_the_loss_of_the_claim_itself_lets_a_key_run_again() {
    // An answer may be lost, or the word that an outcome is unknown: below it stands the claim.
    let forgiven = |scenario| Scenario { losses_forgiven: true, ..failover(1, 0, scenario) };
    holds(&forgiven(with_accidents(accidents(2, 3), twins(Reject))), &[Met::LostInFailover, Met::Unknown]);
    holds(&forgiven(with_accidents(accidents(1, 2), third_alike(Reject))), &[Met::LostInFailover]);
}

#[test]
fn nothing_runs_twice_in_a_failover_where_every_replica_that_may_be_promoted_acknowledges() {
    let all = |replicas, scenario| failover(replicas, replicas, scenario);
    holds(&all(1, with_accidents(accidents(2, 4), twins(Reject))), &[Met::LostInFailover, Met::Replayed]);
    holds(&all(2, with_accidents(accidents(2, 3), twins(Reject))), &[Met::LostInFailover, Met::Replayed]);
    holds(&all(1, with_accidents(accidents(1, 3), third_alike(Reject))), &[]);
}

#[test]
fn one_acknowledgement_of_two_replicas_is_not_enough() {
    breaks(&failover(2, 1, with_accidents(1, twins(Reject))), ONE_FORWARD);
}
