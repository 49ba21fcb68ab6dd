//! How much one caller may take of the gateway, as its route tells callers apart: guarded requests at once, and new
//! keys in a while.
//!
//! Each process counts for itself, in memory, so that whoever goes beyond costs nobody a question to the store. What is
//! counted of a caller is gone when nothing of it is left to count, and there is a bound on how many callers are
//! counted at once. Callers beyond it are not: one must not be refused for what others did.
//!
//! Must not know keys or requests: a caller is a tag. Time is an argument of what decides.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::protocol::policy::Policy;
use crate::protocol::scope::ScopeTag;

/// Callers are spread over so many parts, each with a lock of its own.
const PARTS: usize = 16;

/// Callers that are counted at once at most, in each part: a million bytes or two in all.
const CALLERS_MAX: usize = 2048;

/// How often a full part is looked through for callers of whom nothing is left to count.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// What callers have taken.
#[derive(Debug, Default)]
pub struct Quotas([Mutex<Part>; PARTS]);

#[derive(Debug, Default)]
struct Part {
    callers: HashMap<ScopeTag, Taken>,
    swept_at: Option<Instant>,
}

/// What one caller has taken.
#[derive(Debug, Default)]
struct Taken {
    in_flight: usize,
    /// When its new keys are forgotten, each a while after the one before. No later than a window from now.
    forgotten_at: Option<Instant>,
}

/// A place of one caller's request, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    quotas: Arc<Quotas>,
    caller: ScopeTag,
    is_counted: bool,
}

/// What a caller has taken as much of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Guarded requests at once.
    InFlight {
        /// As many as there may be.
        max: usize,
    },
    /// New keys.
    Claims {
        /// As many as there may be in the window.
        max: usize,
        /// The window.
        window: Duration,
        /// Until there may be another.
        wait: Duration,
    },
}

/// Whether a route counts anything of its callers.
pub(super) fn counts(policy: &Policy) -> bool {
    policy.in_flight_per_scope_max > 0 || policy.claims_per_scope_max > 0
}

impl Quotas {
    /// Takes a place for a request of `caller`, if it has no more than it may by `policy`.
    pub(super) fn seat(self: &Arc<Self>, caller: ScopeTag, policy: &Policy) -> Result<Seat, Quota> {
        let max = policy.in_flight_per_scope_max;
        let mut seat = Seat { quotas: Arc::clone(self), caller, is_counted: false };
        if max == 0 {
            return Ok(seat);
        }
        let mut part = self.part(&caller);
        if let Some(taken) = part.of(caller, clock::monotonic()) {
            if taken.in_flight >= max {
                return Err(Quota::InFlight { max });
            }
            taken.in_flight += 1;
            seat.is_counted = true;
        }
        drop(part);
        Ok(seat)
    }

    fn part(&self, caller: &ScopeTag) -> MutexGuard<'_, Part> {
        let [first, ..] = caller.as_bytes();
        let [one, ..] = &self.0;
        let part = self.0.get(usize::from(*first) % PARTS).unwrap_or(one);
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Counts a new key that is about to be claimed.
    pub(super) fn claims(&self, policy: &Policy, now: Instant) -> Result<(), Quota> {
        let (max, window) = (policy.claims_per_scope_max, policy.claims_window);
        if max == 0 {
            return Ok(());
        }
        let mut part = self.quotas.part(&self.caller);
        let Some(taken) = part.of(self.caller, now) else { return Ok(()) };
        let begins = taken.forgotten_at.map_or(now, |forgotten_at| forgotten_at.max(now));
        let forgotten_at = begins + each(max, window);
        let wait = forgotten_at.saturating_duration_since(now + window);
        if wait > Duration::ZERO {
            return Err(Quota::Claims { max, window, wait });
        }
        taken.forgotten_at = Some(forgotten_at);
        Ok(())
    }

    /// Counts no new key after all: it was known, or could not be claimed.
    pub(super) fn claimed_none(&self, policy: &Policy) {
        if policy.claims_per_scope_max == 0 {
            return;
        }
        let mut part = self.quotas.part(&self.caller);
        if let Some(taken) = part.callers.get_mut(&self.caller) {
            let each = each(policy.claims_per_scope_max, policy.claims_window);
            taken.forgotten_at = taken.forgotten_at.and_then(|forgotten_at| forgotten_at.checked_sub(each));
        }
    }
}

/// How long it takes until one key of `max` in a window is forgotten.
fn each(max: usize, window: Duration) -> Duration {
    window / u32::try_from(max).unwrap_or(u32::MAX)
}

impl Part {
    /// What a caller has taken; `None` if it cannot be counted.
    fn of(&mut self, caller: ScopeTag, now: Instant) -> Option<&mut Taken> {
        if self.callers.len() >= CALLERS_MAX && !self.callers.contains_key(&caller) {
            if self.swept_at.is_some_and(|swept| now.saturating_duration_since(swept) < SWEPT_EVERY) {
                return None;
            }
            self.swept_at = Some(now);
            self.callers.retain(|_, taken| !taken.is_nothing(now));
            if self.callers.len() >= CALLERS_MAX {
                tracing::warn!("more callers at once than are counted: some are not held to their quotas");
                return None;
            }
        }
        Some(self.callers.entry(caller).or_default())
    }
}

impl Taken {
    fn is_nothing(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.forgotten_at.is_none_or(|forgotten_at| forgotten_at <= now)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut part = self.quotas.part(&self.caller);
        if let Entry::Occupied(mut caller) = part.callers.entry(self.caller) {
            if self.is_counted {
                caller.get_mut().in_flight -= 1;
            }
            if caller.get().is_nothing(clock::monotonic()) {
                caller.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(in_flight: usize, claims: usize) -> Policy {
        let window = Duration::from_mins(1);
        let (in_flight_per_scope_max, claims_per_scope_max) = (in_flight, claims);
        Policy { in_flight_per_scope_max, claims_per_scope_max, claims_window: window, ..Policy::default() }
    }

    fn caller(number: u32) -> ScopeTag {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes[0] = 7;
        ScopeTag::from_bytes(bytes)
    }

    fn counted(quotas: &Quotas) -> usize {
        quotas.0.iter().map(|part| part.lock().unwrap().callers.len()).sum()
    }

    #[test]
    fn a_caller_has_as_many_requests_at_once_as_it_may_and_another_has_its_own() {
        let (quotas, policy) = (Arc::<Quotas>::default(), policy(2, 0));
        let seats = [quotas.seat(caller(1), &policy).unwrap(), quotas.seat(caller(1), &policy).unwrap()];
        assert_eq!(quotas.seat(caller(1), &policy).unwrap_err(), Quota::InFlight { max: 2 });
        let other = quotas.seat(caller(2), &policy).unwrap();
        drop(seats);
        assert!(quotas.seat(caller(1), &policy).is_ok());
        drop(other);
        assert_eq!(counted(&quotas), 0);
    }

    #[test]
    fn new_keys_come_back_one_by_one_and_those_that_were_known_at_once() {
        let (quotas, policy, start) = (Arc::<Quotas>::default(), policy(0, 3), clock::monotonic());
        let seat = quotas.seat(caller(1), &policy).unwrap();
        for _ in 0..3 {
            assert_eq!(seat.claims(&policy, start), Ok(()));
        }
        let wait = Duration::from_secs(20);
        let beyond = Quota::Claims { max: 3, window: Duration::from_mins(1), wait };
        assert_eq!(seat.claims(&policy, start), Err(beyond));
        seat.claimed_none(&policy);
        assert_eq!(seat.claims(&policy, start), Ok(()));
        assert_eq!(seat.claims(&policy, start + wait), Ok(()));
        assert!(seat.claims(&policy, start + wait).is_err());
    }

    #[test]
    fn more_callers_than_are_counted_are_let_through_and_take_no_memory() {
        let (quotas, policy) = (Arc::<Quotas>::default(), policy(1, 0));
        let most = u32::try_from(CALLERS_MAX).unwrap();
        let seats: Vec<_> =
            (0..most + 50).map(|number| quotas.seat(caller(number), &policy).unwrap()).collect();
        assert_eq!(counted(&quotas), CALLERS_MAX);
        assert!(quotas.seat(caller(most + 1), &policy).is_ok());
        assert!(quotas.seat(caller(0), &policy).is_err());
        drop(seats);
        assert_eq!(counted(&quotas), 0);
    }

    #[test]
    fn a_route_that_bounds_nothing_counts_nothing() {
        let (quotas, policy) = (Arc::<Quotas>::default(), policy(0, 0));
        let seat = quotas.seat(caller(1), &policy).unwrap();
        assert_eq!(
            (counts(&policy), seat.claims(&policy, clock::monotonic()), counted(&quotas)),
            (false, Ok(()), 0)
        );
    }
}
