//! Looks for an order of the calls on one key that explains all answers: each call takes effect at one
//! moment between its beginning and its end, as if the calls had come one at a time.
//!
//! The search is Wing and Gong's, with Lowe's memory of places that were visited: the same calls done and
//! the same record standing lead to the same end. A call without an answer may take effect at any moment
//! after its beginning, or never. Keys are independent, so each is searched by itself. Read `calls.rs`
//! before.

use std::collections::HashSet;
use std::fmt;

use super::calls::{Call, Stands, apply, fits};

/// Places visited before the search is given up, which fails the test too.
const PLACES_MAX: usize = 2_000_000;

/// Why no order was found.
#[derive(Debug)]
pub(super) enum Unexplained {
    /// There is none. This is how far the best one comes.
    Stuck { explained: usize, stands: Stands, next: Vec<Call> },
    /// Too many places.
    GivenUp,
}

/// Finds out whether there is such an order.
pub(super) fn explain(calls: &[Call]) -> Result<(), Unexplained> {
    Search::new(calls).run()
}

struct Search<'a> {
    /// Those with an answer in the order of their ends, then those without.
    calls: Vec<&'a Call>,
    answered: usize,
    /// For each answered call: which calls may take effect next if it is the first that has not.
    next: Vec<Vec<usize>>,
    done: Done,
    stands: Stands,
    road: Vec<Step>,
    visited: HashSet<(Done, Stands)>,
    deepest: (usize, usize, Stands),
}

/// Which calls have taken effect, a bit for each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

struct Step {
    call: usize,
    /// Its place among those that could have been taken.
    choice: usize,
    stood: Stands,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let end = |call: &Call| call.ended.map_or(u64::MAX, |(at, _)| at);
        let mut calls: Vec<&Call> = calls.iter().collect();
        calls.sort_by_key(|call| end(call));
        let answered = calls.iter().filter(|call| call.ended.is_some()).count();
        let next = |first: usize| {
            let may = |at: &usize| calls[*at].began < end(calls[first]);
            (first..calls.len()).filter(may).collect()
        };
        let next = (0..answered).map(next).collect();
        let done = Done(vec![0; calls.len() / 64 + 1]);
        let (road, visited) = (Vec::new(), HashSet::new());
        Self { calls, answered, next, done, stands: None, road, visited, deepest: (0, 0, None) }
    }

    fn run(mut self) -> Result<(), Unexplained> {
        let mut choice = 0;
        loop {
            let first = self.done.first_missing();
            if first >= self.answered {
                return Ok(());
            }
            if let Some(step) = self.step(first, choice) {
                choice = if self.take(step) { 0 } else { self.back().unwrap_or(usize::MAX) };
            } else if let Some(other) = self.back() {
                choice = other;
            } else {
                return Err(self.stuck());
            }
            if self.visited.len() > PLACES_MAX {
                return Err(Unexplained::GivenUp);
            }
        }
    }

    /// The next call, from `choice` on, whose answer is explained by what stands.
    fn step(&self, first: usize, choice: usize) -> Option<(Step, Stands)> {
        let choices = self.next[first].iter().enumerate().skip(choice);
        for (choice, &call) in choices.filter(|(_, call)| !self.done.holds(**call)) {
            let (stands, due) = apply(self.calls[call].asked, self.stands);
            let explains = match self.calls[call].ended {
                Some((_, given)) => fits(due, given),
                // Without an answer to explain, it matters only where it changes something.
                None => stands != self.stands,
            };
            if explains {
                return Some((Step { call, choice, stood: self.stands }, stands));
            }
        }
        None
    }

    /// Goes there, and answers whether nobody was there before.
    fn take(&mut self, (step, stands): (Step, Stands)) -> bool {
        self.done.flip(step.call);
        self.road.push(step);
        self.stands = stands;
        if self.road.len() > self.deepest.0 {
            self.deepest = (self.road.len(), self.done.first_missing(), stands);
        }
        self.visited.insert((self.done.clone(), stands))
    }

    /// Undoes the last step, and answers which choice comes after it.
    fn back(&mut self) -> Option<usize> {
        let step = self.road.pop()?;
        self.done.flip(step.call);
        self.stands = step.stood;
        Some(step.choice + 1)
    }

    fn stuck(&self) -> Unexplained {
        let (explained, first, stands) = self.deepest;
        let next = self.next.get(first).into_iter().flatten().map(|&call| *self.calls[call]).collect();
        Unexplained::Stuck { explained, stands, next }
    }
}

impl Done {
    fn first_missing(&self) -> usize {
        let full = self.0.iter().take_while(|word| **word == u64::MAX).count();
        let ones = self.0.get(full).map_or(0, |word| word.trailing_ones());
        full * 64 + usize::try_from(ones).unwrap()
    }

    fn holds(&self, call: usize) -> bool {
        self.0[call / 64] & (1 << (call % 64)) != 0
    }

    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stuck { explained, stands, next } => {
                writeln!(f, "no order explains the answers; after {explained} calls stands {stands:?},")?;
                writeln!(f, "and of these the one that ended first has not taken effect:")?;
                next.iter().try_for_each(|call| writeln!(f, "  {call:?}"))
            }
            Self::GivenUp => write!(f, "gave up after {PLACES_MAX} places"),
        }
    }
}

#[cfg(test)]
mod tests {
    use onceway::store::Swapped::{self, Absent, Changed, Done};

    use super::super::calls::Asked::{self, Fetch, Insert, Remove, Swap};
    use super::super::calls::{Answer, Found, Written};
    use super::*;

    fn record(number: usize) -> Written {
        Written { number, version: number }
    }

    fn call(began: u64, ended: u64, asked: Asked, answer: Answer) -> Call {
        Call { caller: 0, asked, began, ended: Some((ended, answer)) }
    }

    fn unanswered(began: u64, asked: Asked) -> Call {
        Call { caller: 0, asked, began, ended: None }
    }

    const NOTHING: Answer = Answer::Found(Found::Nothing);

    fn stands(number: usize) -> Answer {
        Answer::Found(Found::Record(record(number)))
    }

    fn swapped(swapped: Swapped) -> Answer {
        Answer::Swapped(swapped)
    }

    fn swap(seen: usize, next: usize) -> Asked {
        Swap { seen, next: record(next) }
    }

    #[track_caller]
    fn is_explained(calls: &[Call]) -> bool {
        let mut backwards = calls.to_vec();
        backwards.reverse();
        let answer = explain(calls).is_ok();
        assert_eq!(answer, explain(&backwards).is_ok(), "whatever the order of recording");
        answer
    }

    #[test]
    fn the_life_of_a_key_is_explained() {
        assert!(is_explained(&[
            call(0, 1, Fetch, NOTHING),
            call(2, 3, Insert(record(1)), NOTHING),
            call(4, 5, Insert(record(2)), stands(1)),
            call(6, 7, swap(2, 3), swapped(Changed)),
            call(8, 9, swap(1, 4), swapped(Done)),
            call(10, 11, Fetch, stands(4)),
            call(12, 13, Remove { seen: 4 }, swapped(Done)),
            call(14, 15, Remove { seen: 4 }, swapped(Absent)),
        ]));
    }

    #[test]
    fn two_inserts_that_find_nothing_are_not_explained() {
        let twice = |began| {
            is_explained(&[
                call(0, 3, Insert(record(1)), NOTHING),
                call(began, began + 3, Insert(record(2)), NOTHING),
            ])
        };
        assert!(!twice(1) && !twice(4));
    }

    #[test]
    fn a_lost_update_is_not_explained() {
        let lost = |second| {
            is_explained(&[
                call(0, 1, Insert(record(1)), NOTHING),
                call(2, 5, swap(1, 2), swapped(Done)),
                call(3, 6, swap(1, 3), swapped(second)),
                call(7, 8, Fetch, stands(2)),
            ])
        };
        assert!(!lost(Done) && lost(Changed));
    }

    #[test]
    fn a_stale_read_is_not_explained_and_one_that_overlaps_the_write_is() {
        let read = |began, ended| {
            is_explained(&[
                call(0, 1, Insert(record(1)), NOTHING),
                call(2, 6, swap(1, 2), swapped(Done)),
                call(began, ended, Fetch, stands(1)),
            ])
        };
        assert!(read(5, 7) && !read(7, 8));
    }

    #[test]
    fn a_read_that_goes_back_is_not_explained() {
        let reads = |first, second| {
            is_explained(&[
                call(0, 1, Insert(record(1)), NOTHING),
                call(2, 9, swap(1, 2), swapped(Done)),
                call(3, 4, Fetch, stands(first)),
                call(5, 6, Fetch, stands(second)),
            ])
        };
        assert!(reads(1, 2) && !reads(2, 1));
    }

    #[test]
    fn an_acknowledged_write_that_is_gone_is_not_explained() {
        assert!(!is_explained(&[call(0, 1, Insert(record(1)), NOTHING), call(2, 3, Fetch, NOTHING)]));
    }

    #[test]
    fn a_call_without_an_answer_may_take_effect_late_or_never_but_not_early_or_twice() {
        let claim = unanswered(2, Insert(record(1)));
        let fetches = |answers: [Answer; 4]| {
            let fetch = |(at, answer): (u64, Answer)| call(2 * at, 2 * at + 1, Fetch, answer);
            let mut calls = vec![claim];
            calls.extend((0..).zip(answers).map(fetch));
            is_explained(&calls)
        };
        assert!(fetches([NOTHING, NOTHING, NOTHING, stands(1)]), "late");
        assert!(fetches([NOTHING; 4]), "never");
        assert!(!fetches([stands(1); 4]), "early");
        let removed = call(6, 7, Remove { seen: 1 }, swapped(Done));
        let twice = [claim, call(4, 5, Fetch, stands(1)), removed, call(8, 9, Fetch, stands(1))];
        assert!(!is_explained(&twice), "twice");
    }

    #[test]
    fn what_cannot_be_read_stands_and_what_nobody_wrote_does_not() {
        let fetched = |found| {
            is_explained(&[call(0, 1, Insert(record(1)), NOTHING), call(2, 3, Fetch, Answer::Found(found))])
        };
        assert!(fetched(Found::Unreadable) && !fetched(Found::Foreign));
        assert!(!is_explained(&[call(0, 1, Fetch, Answer::Found(Found::Unreadable))]));
    }

    #[test]
    fn a_late_write_of_the_same_version_is_told_from_the_one_it_is_late_for() {
        let (first, late) = (Written { number: 2, version: 7 }, Written { number: 3, version: 7 });
        let write = |began, next, answer| call(began, began + 1, Swap { seen: 1, next }, swapped(answer));
        let begin = call(0, 1, Insert(record(1)), NOTHING);
        let read = |written| call(6, 7, Fetch, Answer::Found(Found::Record(written)));
        let writes = [begin, write(2, first, Done), write(4, late, Changed)];
        assert!(is_explained(&[&writes[..], &[read(first)]].concat()));
        assert!(!is_explained(&[&writes[..], &[read(late)]].concat()));
    }

    #[test]
    fn long_histories_with_many_unanswered_calls_are_explained_soon() {
        let mut calls = Vec::new();
        for at in 0..200 {
            let (began, number) = (10 * u64::try_from(at).unwrap(), 3 * at);
            calls.push(unanswered(began, Insert(record(number))));
            calls.push(unanswered(began + 1, Remove { seen: number }));
            calls.push(call(began + 2, began + 3, Insert(record(number + 1)), NOTHING));
            calls.push(call(began + 4, began + 5, Remove { seen: number + 1 }, swapped(Done)));
        }
        assert!(is_explained(&calls));
    }
}
