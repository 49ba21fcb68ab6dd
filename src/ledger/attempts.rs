//! Which attempts this process is working on, and which it gave up before sending anything.
//!
//! Must not know the store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::machine::Owner;
use crate::protocol::record::Attempt;

/// Abandoned attempts remembered at most. One that is forgotten is taken for an unknown outcome, which
/// is safe.
const ABANDONED_MAX: usize = 65_536;

/// The attempts of this process.
#[derive(Clone, Default)]
pub(super) struct Attempts(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// With the number of those who answer for it: the claim, and its late answer.
    live: HashMap<Attempt, usize>,
    /// How many of them are claims that stand in the store and are not settled.
    claims: usize,
    abandoned: HashSet<Attempt>,
    abandoned_in_order: VecDeque<Attempt>,
}

/// An attempt that somebody in this process answers for. Dropping it unsettled, in a panic say, makes its
/// record an orphan at once.
#[derive(Debug)]
pub(super) struct Live {
    attempt: Attempt,
    attempts: Attempts,
    is_claim: bool,
}

impl Attempts {
    pub(super) fn enter(&self, attempt: Attempt) -> Live {
        *self.known().live.entry(attempt).or_default() += 1;
        Live { attempt, attempts: self.clone(), is_claim: false }
    }

    /// How many claims of this process stand in the store and are not settled.
    pub(super) fn claims(&self) -> usize {
        self.known().claims
    }

    /// Who answers for an attempt of this process's session.
    pub(super) fn owner_of(&self, attempt: Attempt) -> Owner {
        let known = self.known();
        if known.abandoned.contains(&attempt) {
            Owner::NeverSent
        } else if known.live.contains_key(&attempt) {
            Owner::Working
        } else {
            Owner::Gone
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // The sets stay consistent whatever panicked while the lock was held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Counts the attempt as a claim until it is settled or dropped.
    pub(super) fn claimed(mut self) -> Self {
        if !self.is_claim {
            self.attempts.known().claims += 1;
            self.is_claim = true;
        }
        self
    }

    /// Remembers that nothing was and nothing will be sent for this attempt.
    pub(super) fn abandon(&self) {
        let mut known = self.attempts.known();
        if known.abandoned.insert(self.attempt) {
            known.abandoned_in_order.push_back(self.attempt);
        }
        if known.abandoned_in_order.len() > ABANDONED_MAX
            && let Some(oldest) = known.abandoned_in_order.pop_front()
        {
            known.abandoned.remove(&oldest);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut known = self.attempts.known();
        if self.is_claim {
            known.claims -= 1;
        }
        if let Some(answering) = known.live.get_mut(&self.attempt) {
            *answering -= 1;
            if *answering == 0 {
                known.live.remove(&self.attempt);
            }
        }
    }
}

impl std::fmt::Debug for Attempts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attempts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_at_work_until_dropped_and_then_gone() {
        let attempts = Attempts::default();
        let attempt = Attempt([1; 16]);
        let live = attempts.enter(attempt);
        assert_eq!(attempts.owner_of(attempt), Owner::Working);
        drop(live);
        assert_eq!(attempts.owner_of(attempt), Owner::Gone);
    }

    #[test]
    fn an_attempt_counts_as_a_claim_from_when_it_is_one_until_it_is_dropped() {
        let attempts = Attempts::default();
        let asking = attempts.enter(Attempt([1; 16]));
        assert_eq!(attempts.claims(), 0);
        let claimed = asking.claimed();
        let late = attempts.enter(Attempt([1; 16]));
        assert_eq!(attempts.claims(), 1);
        drop(claimed);
        assert_eq!(attempts.claims(), 0);
        drop(late);
    }

    #[test]
    fn an_abandoned_attempt_was_never_sent_and_the_memory_of_it_is_bounded() {
        let attempts = Attempts::default();
        let first = Attempt([0; 16]);
        attempts.enter(first).abandon();
        assert_eq!(attempts.owner_of(first), Owner::NeverSent);
        for number in 1..=u128::try_from(ABANDONED_MAX).unwrap() {
            attempts.enter(Attempt(number.to_be_bytes())).abandon();
        }
        assert_eq!(attempts.owner_of(first), Owner::Gone);
        assert_eq!(attempts.known().abandoned.len(), ABANDONED_MAX);
    }

    #[test]
    fn an_attempt_that_two_answer_for_is_gone_with_the_second() {
        let attempts = Attempts::default();
        let attempt = Attempt([1; 16]);
        let (claim, late) = (attempts.enter(attempt).claimed().claimed(), attempts.enter(attempt));
        assert_eq!((attempts.claims(), attempts.known().live[&attempt]), (1, 2));
        drop(claim);
        assert_eq!((attempts.claims(), attempts.owner_of(attempt)), (0, Owner::Working));
        drop(late);
        assert_eq!(attempts.owner_of(attempt), Owner::Gone);
        assert!(attempts.known().live.is_empty());
        assert_eq!(format!("{attempts:?}"), "Attempts");
    }
}
