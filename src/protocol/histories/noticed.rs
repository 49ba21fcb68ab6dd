//! The planted mistakes that show that the search is awake: each is noticed, and its shortest history told.
//!
//! For the known mistakes (`../mistake.rs`) the promises alone count, so that each history ends in the harm that a
//! caller would see. For the others what the promises rest on counts too, which breaks sooner.

use super::super::mistake::Mistake;
use super::super::policy::OnUnknown::{Reject, Retry};
use super::bounds::{
    breaks, third_alike, twins, two_callers, with_accidents, with_operators_alone, without_forgiveness,
};
use super::scenario::{Heed, Planted, Scenario};
use super::watcher::{ANSWERED, FIRST_ANSWER, ONE_FORWARD, OWN_ANSWER};

const STANDS: &str = "a record stands as long as its request may have run";
const LICENSED: &str = "no second claim while an earlier request may have run, unless the policy permits it";
const CLAIMED: &str = "nobody forwards without a claim of its own in the store";
const UNCHANGED: &str = "an answer never changes";

/// The search finds that a known mistake breaks this promise.
fn harms(mistake: Mistake, promise: &str, scenario: Scenario) {
    let planted = Planted::Known(mistake);
    breaks(&Scenario { name: "a known mistake", planted, heed: Heed::Promises, ..scenario }, promise);
}

fn notices(planted: Planted, property: &str, scenario: Scenario) {
    breaks(&Scenario { planted, ..scenario }, property);
}

// ---- the known mistakes ----

#[test]
fn a_claim_that_expires_with_its_session_runs_twice() {
    harms(Mistake::ExpiringClaim, ONE_FORWARD, without_forgiveness(twins(Reject)));
}

#[test]
fn a_completion_that_does_not_look_whose_attempt_stands_there_changes_an_answer() {
    harms(Mistake::BlindCompletion, FIRST_ANSWER, without_forgiveness(third_alike(Retry)));
}

#[test]
fn a_removal_that_does_not_look_whose_attempt_stands_there_runs_a_third_request_beside_the_second() {
    harms(Mistake::BlindRemoval, ONE_FORWARD, without_forgiveness(third_alike(Reject)));
}

#[test]
fn a_release_after_a_lost_connection_runs_twice() {
    harms(Mistake::HopefulRelease, ONE_FORWARD, without_forgiveness(twins(Reject)));
}

#[test]
fn a_waiter_that_goes_by_what_it_read_before_is_never_told() {
    harms(Mistake::StaleWaiter, ANSWERED, Scenario { waits: true, ..without_forgiveness(twins(Reject)) });
}

#[test]
fn an_answer_too_large_to_keep_that_frees_its_key_runs_twice() {
    let scenario = Scenario { long_answers: true, ..without_forgiveness(twins(Reject)) };
    harms(Mistake::ForgetfulGiant, ONE_FORWARD, scenario);
}

#[test]
fn taking_the_unreadable_for_nothing_runs_twice() {
    let scenario = Scenario { damage: true, ..without_forgiveness(twins(Reject)) };
    harms(Mistake::UnreadableIsAbsent, ONE_FORWARD, scenario);
}

#[test]
fn callers_who_share_one_space_of_keys_see_each_others_answers() {
    harms(Mistake::ScopelessKey, OWN_ANSWER, two_callers(Reject));
}

// ---- others ----

#[test]
fn a_claim_that_expires_while_its_owner_lives_is_noticed() {
    notices(Planted::ShortClaims, STANDS, twins(Reject));
}

#[test]
fn a_swap_that_does_not_look_at_the_version_is_noticed() {
    notices(Planted::SwapWhateverStands, UNCHANGED, without_forgiveness(third_alike(Retry)));
}

#[test]
fn a_swap_that_does_not_look_at_the_revision_is_noticed() {
    notices(Planted::IgnoreRevisions, UNCHANGED, without_forgiveness(twins(Reject)));
}

#[test]
fn an_operator_who_does_not_look_whether_somebody_works_on_a_claim_is_noticed() {
    notices(Planted::LookAway, STANDS, with_operators_alone(twins(Reject)));
}

#[test]
fn an_operator_who_completes_under_a_version_that_was_used_is_noticed() {
    let scenario =
        with_accidents(3, Scenario { expiry: true, crashes: false, ..with_operators_alone(twins(Reject)) });
    notices(Planted::CompleteWithoutLeap, UNCHANGED, scenario);
}

#[test]
fn an_operator_who_completes_whatever_stands_is_noticed() {
    let property = "an operator never completes what is answered";
    notices(Planted::CompleteWhateverStands, property, with_operators_alone(twins(Reject)));
}

#[test]
fn an_outcome_that_is_restored_over_whatever_stands_is_noticed() {
    notices(Planted::RestoreWhateverStands, UNCHANGED, with_operators_alone(twins(Reject)));
}

#[test]
fn an_outcome_that_is_restored_under_a_version_that_was_used_is_noticed() {
    // A renewal that its owner knows nothing of is the version that another is about to replace.
    let scenario = Scenario { long_answers: true, crashes: false, ..with_operators_alone(twins(Retry)) };
    notices(Planted::RestoreWithoutLeap, UNCHANGED, with_accidents(3, scenario));
}

#[test]
fn forgetting_that_a_request_was_sent_is_noticed() {
    notices(Planted::ForgetThatItWasSent, LICENSED, third_alike(Reject));
}

#[test]
fn forwarding_on_a_claim_that_got_no_answer_is_noticed() {
    notices(Planted::ForwardUnclaimed, CLAIMED, twins(Reject));
}

#[test]
fn forwarding_on_a_lost_reclaim_is_noticed() {
    notices(Planted::IgnoreLostReclaim, CLAIMED, third_alike(Retry));
}

#[test]
fn settling_a_claim_that_rose_again_is_noticed() {
    notices(Planted::SettleRisenClaims, UNCHANGED, twins(Retry));
}

#[test]
fn forwarding_on_a_claim_that_was_not_confirmed_after_standing_still_is_noticed() {
    let scenario = Scenario { stops: true, operators: false, heed: Heed::Promises, ..twins(Reject) };
    notices(Planted::ForwardUnconfirmed, ONE_FORWARD, scenario);
}

#[test]
fn a_waiter_that_only_its_own_process_wakes_is_noticed() {
    notices(Planted::DeafWaiter, ANSWERED, Scenario { waits: true, ..without_forgiveness(twins(Reject)) });
}
