//! The campaign's checker finds each broken promise in a history that was forged to break it, and nothing in those that
//! break none.

use crate::campaign_short::play::check::{Finding, check};
use crate::campaign_short::play::history::{Arrival, Call, Deed, History, Moment, Name, Problem, Told, Word};

/// On a path where a duplicate is refused.
const NAME: Name = Name { scope: 0, key: 8 };

/// The same key of somebody else.
const OTHER: Name = Name { scope: 1, key: 8 };

const WAITING: Name = Name { scope: 0, key: 4 };

const RETRIED: Name = Name { scope: 0, key: 7 };

const SECOND: Moment = 1_000_000;

/// A history that is written line by line, a second for each.
#[derive(Default)]
struct Forged(History);

impl Forged {
    fn now(&self) -> Moment {
        let lines = self.0.calls.len() + self.0.arrivals.len();
        u64::try_from(lines).unwrap() * SECOND
    }

    fn arrives(mut self, name: Name, deed: Deed) -> Self {
        let (number, at) = (u64::try_from(self.0.arrivals.len()).unwrap(), self.now());
        self.0.arrivals.push(Arrival { number, name, variant: 0, at, deed });
        self
    }

    fn told(self, name: Name, told: Told) -> Self {
        self.call(|call| Call { name, told, ..call })
    }

    fn read(self, name: Name, told: Told) -> Self {
        self.call(|call| Call { name, told, is_final_read: true, ..call })
    }

    fn call(mut self, change: impl Fn(Call) -> Call) -> Self {
        let (began, operation) = (self.now(), u64::try_from(self.0.calls.len()).unwrap());
        let ended = began + 1_000;
        let told = Told::Nothing;
        let plain =
            Call { operation, name: NAME, variant: 0, gateway: 0, is_final_read: false, began, ended, told };
        self.0.calls.push(change(plain));
        self
    }

    fn quiet(mut self, from: Moment, to: Moment) -> Self {
        self.0.quiet.push((from, to));
        self
    }

    fn findings(&self) -> Vec<Finding> {
        check(&self.0, 4 * SECOND).findings.into_iter().collect()
    }
}

fn answer(execution: u64, word: Word) -> Told {
    Told::Answer { execution, word, is_sound: true }
}

fn executed(execution: u64) -> Told {
    answer(execution, Word::Executed)
}

fn replayed(execution: u64) -> Told {
    answer(execution, Word::Replayed)
}

/// One execution, its answer, and a replay at the end.
fn good() -> Forged {
    let forged = Forged::default().arrives(NAME, Deed::Answered);
    forged.told(NAME, executed(0)).read(NAME, replayed(0))
}

#[test]
fn a_history_in_which_all_is_well_has_no_findings() {
    let forged = good().arrives(OTHER, Deed::Refused).told(OTHER, Told::Refused { execution: 1 });
    let forged = forged.arrives(OTHER, Deed::Answered).told(OTHER, executed(2)).read(OTHER, replayed(2));
    assert_eq!(forged.findings(), []);
}

#[test]
fn a_second_execution_is_found() {
    let forged = good().arrives(NAME, Deed::Answered);
    assert_eq!(forged.findings(), [Finding::ExecutedTwice { name: NAME, times: 2 }]);
}

#[test]
fn a_second_execution_is_none_where_the_route_asks_for_it() {
    let forged = Forged::default().arrives(RETRIED, Deed::DoneAndCut).arrives(RETRIED, Deed::Answered);
    assert_eq!(forged.told(RETRIED, executed(1)).findings(), []);
}

#[test]
fn a_request_that_is_sent_again_after_it_was_cut_off_is_found_though_it_ran_once() {
    let forged = Forged::default().arrives(NAME, Deed::Cut).arrives(NAME, Deed::Answered);
    assert_eq!(forged.findings(), [Finding::SentAgain { name: NAME }]);
}

#[test]
fn a_replay_that_is_not_the_first_answer_is_found() {
    let forged = Forged::default().arrives(RETRIED, Deed::Answered).arrives(RETRIED, Deed::Answered);
    let forged = forged.told(RETRIED, executed(1)).told(RETRIED, replayed(0));
    assert_eq!(forged.findings(), [Finding::WrongAnswer { name: RETRIED, first: 1, other: 0 }]);
}

#[test]
fn an_answer_that_no_execution_gave_is_found() {
    assert_eq!(good().told(OTHER, executed(9)).findings(), [Finding::MadeUp { name: OTHER, execution: 9 }]);
}

#[test]
fn an_answer_of_a_request_that_was_cut_off_before_it_ran_is_found() {
    let forged = Forged::default().arrives(NAME, Deed::Cut).told(NAME, executed(0));
    assert_eq!(forged.findings(), [Finding::MadeUp { name: NAME, execution: 0 }]);
}

#[test]
fn an_answer_with_a_wrong_byte_is_found() {
    let wrong = Told::Answer { execution: 0, word: Word::Replayed, is_sound: false };
    assert_eq!(good().told(NAME, wrong).findings(), [Finding::MadeUp { name: NAME, execution: 0 }]);
}

#[test]
fn another_callers_answer_is_found() {
    assert_eq!(good().told(OTHER, replayed(0)).findings(), [Finding::Anothers { name: OTHER, execution: 0 }]);
}

#[test]
fn the_answer_to_another_body_is_found() {
    let forged = good().call(|call| Call { variant: 1, told: replayed(0), ..call });
    assert_eq!(forged.findings(), [Finding::OfAnotherBody { name: NAME, execution: 0 }]);
}

#[test]
fn a_mismatch_that_nobody_caused_is_found() {
    let forged = good().told(NAME, Told::Problem(Problem::KeyReused));
    assert_eq!(forged.findings(), [Finding::NoMismatch { name: NAME }]);
}

#[test]
fn a_mismatch_with_another_body_is_right() {
    let told = Told::Problem(Problem::KeyReused);
    assert_eq!(good().call(|call| Call { variant: 1, told, ..call }).findings(), []);
}

#[test]
fn an_answer_that_is_unknown_in_the_end_is_found() {
    let forged = good().read(NAME, Told::Problem(Problem::OutcomeUnknown));
    assert_eq!(forged.findings(), [Finding::Lost { name: NAME, execution: 0 }]);
}

#[test]
fn an_answer_that_was_told_as_not_stored_may_be_unknown_in_the_end() {
    let forged = Forged::default().arrives(NAME, Deed::Answered).told(NAME, answer(0, Word::Unstored));
    assert_eq!(forged.read(NAME, Told::Problem(Problem::OutcomeUnknown)).findings(), []);
}

#[test]
fn a_result_that_is_said_to_be_too_large_and_was_not_is_found() {
    let forged = good().told(NAME, Told::Problem(Problem::ResultUnavailable));
    assert_eq!(forged.findings(), [Finding::NotTooLarge { name: NAME }]);
}

#[test]
fn an_answer_that_was_too_large_is_no_longer_to_be_had() {
    let forged = Forged::default().arrives(NAME, Deed::AnsweredLarge).told(NAME, executed(0));
    assert_eq!(forged.read(NAME, Told::Problem(Problem::ResultUnavailable)).findings(), []);
}

#[test]
fn words_that_no_contract_knows_are_found() {
    let told = Told::Nonsense(500);
    assert_eq!(good().told(NAME, told).findings(), [Finding::Unexpected { name: NAME, told }]);
}

#[test]
fn a_key_that_has_no_end_is_found() {
    let forged = good().read(NAME, Told::Problem(Problem::InFlight));
    assert_eq!(forged.findings(), [Finding::Unanswered { name: NAME, gateway: 0 }]);
}

#[test]
fn a_waiter_who_was_not_woken_is_found() {
    let forged = Forged::default().arrives(WAITING, Deed::Answered).told(WAITING, executed(0));
    let slow = |call| Call { name: WAITING, told: Told::Problem(Problem::InFlight), ..call };
    let forged = forged.call(|call| Call { ended: call.began + 2 * SECOND, ..slow(call) });
    assert_eq!(forged.quiet(0, 9 * SECOND).findings(), [Finding::NotWoken { name: WAITING }]);
}

#[test]
fn a_caller_who_waits_for_long_while_nothing_is_wrong_is_found() {
    let forged = good().call(|call| Call { ended: call.began + 5 * SECOND, told: replayed(0), ..call });
    let late = Finding::Late { name: NAME, waited: 5 * SECOND };
    assert_eq!(forged.quiet(0, 99 * SECOND).findings(), [late]);
}

#[test]
fn a_caller_may_wait_as_long_as_something_is_wrong() {
    let forged = good().call(|call| Call { ended: call.began + 5 * SECOND, told: replayed(0), ..call });
    assert_eq!(forged.quiet(7 * SECOND, 99 * SECOND).findings(), []);
}
