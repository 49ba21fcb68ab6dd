//! What is claimed of every small history, and the planted mistakes that prove the search awake.

use super::super::policy::OnUnknown::{self, Reject, Retry};
use super::explore::{Explored, Scenario, explore};
use super::play::{Met, Mistake};
use super::world::Asks;

fn asks(process: usize, fingerprint: u8, on_unknown: OnUnknown) -> Asks {
    Asks { process, fingerprint, on_unknown }
}

/// Two requests on two processes, the same request, and any three accidents.
fn twins(on_unknown: OnUnknown) -> Scenario {
    Scenario {
        name: "two requests",
        requests: vec![asks(0, 1, on_unknown), asks(1, 1, on_unknown)],
        troubles: 3,
        expiry: true,
        operators: true,
        removals: true,
        refusals: true,
        long_answers: false,
        damage: false,
        mistake: Mistake::None,
    }
}

/// A third request meets what the first two left behind, on the process of the first; any two
/// accidents.
fn with_a_third(on_unknown: OnUnknown, third: Asks) -> Scenario {
    let mut scenario = twins(on_unknown);
    scenario.requests.push(third);
    Scenario { name: "three requests", troubles: 2, ..scenario }
}

fn without_forgiveness(scenario: Scenario) -> Scenario {
    Scenario { expiry: false, operators: false, ..scenario }
}

fn only_one_accident(scenario: Scenario) -> Scenario {
    Scenario { troubles: 1, ..scenario }
}

/// Every property holds in every moment, and the search has come by all of these places.
fn holds(scenario: &Scenario, comes_by: &[Met]) {
    let explored = explore(scenario);
    report(scenario, &explored);
    if let Some((broken, history)) = &explored.broken {
        panic!("{}: it does not hold that {}:\n{history}", scenario.name, broken.0);
    }
    for place in comes_by {
        assert!(explored.met.contains(place), "{}: never met {place:?}", scenario.name);
    }
}

#[expect(clippy::print_stdout, reason = "how much was searched belongs to the test's output")]
fn report(scenario: &Scenario, explored: &Explored) {
    println!("{}, {:?}: {} moments", scenario.name, scenario.mistake, explored.moments);
}

#[test]
fn nothing_forwards_twice_by_itself() {
    // No policy, no operator, no end of retention, no proof: here `forwards_allowed` is never raised,
    // so the property says "at most one forward" and nothing less.
    for scenario in [twins(Reject), with_a_third(Reject, asks(0, 1, Reject))] {
        let scenario = Scenario { refusals: false, ..without_forgiveness(scenario) };
        holds(
            &scenario,
            &[Met::Replayed, Met::InFlight, Met::OwnerGone, Met::Unknown, Met::UnknownBecameDone],
        );
    }
}

#[test]
fn two_requests_run_once_unless_forgiven_whatever_three_accidents_befall_them() {
    holds(&twins(Reject), &[Met::Executed, Met::Replayed, Met::Unknown, Met::LandedLate, Met::LandedInVain]);
}

#[test]
fn two_requests_run_again_only_where_the_policy_says_so() {
    holds(&twins(Retry), &[Met::Reclaimed, Met::LostReclaim, Met::OwnWriteFound, Met::BackToUnknown]);
}

#[test]
fn a_third_request_finds_what_two_left_behind() {
    let third = |on_unknown| with_a_third(on_unknown, asks(0, 1, on_unknown));
    holds(&third(Reject), &[Met::ReclaimedNeverSent, Met::Replayed, Met::Unknown]);
    let without_refusals = Scenario { refusals: false, ..without_forgiveness(third(Retry)) };
    holds(&without_refusals, &[Met::ReclaimedNeverSent, Met::Reclaimed, Met::LostReclaim]);
    holds(&only_one_accident(third(Retry)), &[Met::Reclaimed, Met::BackToUnknown]);
}

/// Operators step in at any moment, and nothing else forgives a second forward.
fn with_operators_alone(scenario: Scenario) -> Scenario {
    Scenario { name: "operators", expiry: false, refusals: false, ..scenario }
}

#[test]
fn an_operator_who_releases_or_forgets_is_the_only_reason_for_a_second_forward() {
    let met = [
        Met::ForgottenByOperator,
        Met::CompletedByOperator,
        Met::Restored,
        Met::RestoredInVain,
        Met::Replayed,
    ];
    holds(&with_operators_alone(twins(Reject)), &met);
    holds(&with_operators_alone(with_a_third(Reject, asks(0, 1, Reject))), &met);
    holds(
        &Scenario { long_answers: true, troubles: 2, ..with_operators_alone(twins(Retry)) },
        &[Met::Restored],
    );
}

#[test]
fn an_operator_who_only_completes_leads_to_no_second_forward() {
    // Nothing here raises `forwards_allowed`, so the property says "at most one forward" and nothing less.
    let scenario =
        Scenario { name: "operators who complete", removals: false, ..with_operators_alone(twins(Reject)) };
    holds(&scenario, &[Met::CompletedByOperator, Met::Replayed]);
}

#[test]
fn another_request_under_the_same_key_never_runs_and_never_sees_the_answer() {
    let stranger = |on_unknown| with_a_third(on_unknown, asks(0, 2, on_unknown));
    holds(&only_one_accident(stranger(Reject)), &[Met::Mismatched, Met::ReclaimedNeverSent]);
    let without_refusals = Scenario { refusals: false, ..without_forgiveness(stranger(Retry)) };
    holds(&without_refusals, &[Met::Mismatched, Met::ReclaimedNeverSent]);
    holds(&only_one_accident(stranger(Retry)), &[Met::Mismatched, Met::BackToUnknown]);
}

#[test]
fn what_one_policy_may_run_again_another_may_not() {
    // A policy changes while keys are outstanding.
    let third = with_a_third(Retry, asks(0, 1, Reject));
    holds(&only_one_accident(third), &[Met::Unknown, Met::BackToUnknown]);
}

#[test]
fn long_answers_and_renewed_claims_change_nothing() {
    let scenario = Scenario { name: "long answers", long_answers: true, troubles: 2, ..twins(Retry) };
    holds(&scenario, &[Met::BodyNotKept, Met::OwnWriteFound]);
}

#[test]
fn an_unreadable_record_stops_everything() {
    let scenario = Scenario { name: "damage", damage: true, troubles: 2, ..twins(Retry) };
    holds(&scenario, &[Met::UnreadableRefused]);
}

/// The search finds that this mistake breaks this property.
fn notices(mistake: Mistake, property: &str, scenario: Scenario) {
    let scenario = Scenario { mistake, ..scenario };
    let explored = explore(&scenario);
    report(&scenario, &explored);
    let (broken, history) = explored.broken.unwrap_or_else(|| panic!("{mistake:?} goes unnoticed"));
    assert_eq!(broken.0, property, "{mistake:?}:\n{history}");
}

fn third_alike(on_unknown: OnUnknown) -> Scenario {
    with_a_third(on_unknown, asks(0, 1, on_unknown))
}

const STANDS: &str = "a record stands as long as its request may have run";
const LICENSED: &str = "no second claim while an earlier request may have run, unless the policy permits it";
const CLAIMED: &str = "nobody forwards without a claim of its own in the store";
const UNCHANGED: &str = "an answer never changes";

#[test]
fn a_claim_that_expires_while_its_owner_lives_is_noticed() {
    notices(Mistake::ShortClaims, STANDS, twins(Reject));
}

#[test]
fn a_release_after_a_lost_connection_is_noticed() {
    notices(Mistake::ReleaseAfterLoss, STANDS, twins(Reject));
}

#[test]
fn a_removal_that_does_not_look_at_the_version_is_noticed() {
    notices(Mistake::RemoveWhateverStands, STANDS, third_alike(Reject));
}

#[test]
fn a_swap_that_does_not_look_at_the_version_is_noticed() {
    notices(Mistake::SwapWhateverStands, UNCHANGED, without_forgiveness(third_alike(Retry)));
}

#[test]
fn a_swap_that_does_not_look_at_the_revision_is_noticed() {
    notices(Mistake::IgnoreRevisions, UNCHANGED, without_forgiveness(twins(Reject)));
}

#[test]
fn an_operator_who_does_not_look_whether_somebody_works_on_a_claim_is_noticed() {
    notices(Mistake::LookAway, STANDS, with_operators_alone(twins(Reject)));
}

#[test]
fn an_operator_who_completes_under_a_version_that_was_used_is_noticed() {
    let scenario = Scenario { expiry: true, ..with_operators_alone(twins(Reject)) };
    notices(Mistake::CompleteWithoutLeap, UNCHANGED, scenario);
}

#[test]
fn an_operator_who_completes_whatever_stands_is_noticed() {
    let property = "an operator never completes what is answered";
    notices(Mistake::CompleteWhateverStands, property, with_operators_alone(twins(Reject)));
}

#[test]
fn an_outcome_that_is_restored_over_whatever_stands_is_noticed() {
    notices(Mistake::RestoreWhateverStands, UNCHANGED, with_operators_alone(twins(Reject)));
}

#[test]
fn an_outcome_that_is_restored_under_a_version_that_was_used_is_noticed() {
    // A renewal that its owner knows nothing of is the version that another is about to replace.
    let scenario = Scenario { long_answers: true, ..with_operators_alone(twins(Retry)) };
    notices(Mistake::RestoreWithoutLeap, UNCHANGED, scenario);
}

#[test]
fn taking_the_unreadable_for_nothing_is_noticed() {
    let scenario = Scenario { damage: true, ..twins(Retry) };
    notices(Mistake::UnreadableIsAbsent, LICENSED, scenario);
}

#[test]
fn forgetting_that_a_request_was_sent_is_noticed() {
    notices(Mistake::ForgetThatItWasSent, LICENSED, third_alike(Reject));
}

#[test]
fn forwarding_on_a_claim_that_got_no_answer_is_noticed() {
    notices(Mistake::ForwardUnclaimed, CLAIMED, twins(Reject));
}

#[test]
fn forwarding_on_a_lost_reclaim_is_noticed() {
    notices(Mistake::IgnoreLostReclaim, CLAIMED, third_alike(Retry));
}

#[test]
fn settling_a_claim_that_rose_again_is_noticed() {
    notices(Mistake::SettleRisenClaims, UNCHANGED, twins(Retry));
}
