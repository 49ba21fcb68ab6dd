//! How much the gateway takes on at once: requests under way, and bytes of bodies that are held whole.
//!
//! Both refuse at once where there is no room, and nobody waits, so that nothing can lock. A request is refused before
//! its key is claimed. An answer is not refused, because it is what a claim was made for and the request has run: it
//! is counted, and may exceed the budget. New requests are refused the sooner for it, so the excess is bounded by what
//! the requests under way may be answered. Only where answers would take twice the budget is one streamed and its
//! body not kept: a process that ends for want of memory would lose them all.
//!
//! Must not know what the requests are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// How often one kind of trouble is logged at most.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Counts what is in use of one thing.
#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicUsize,
    refused: AtomicUsize,
    told_at: Mutex<Option<Instant>>,
}

/// What is taken of a budget; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Budget>,
    size: usize,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Budget {
    /// A share of nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { of: Arc::clone(self), size: 0 }
    }

    /// What is in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Logs that there was no room, at most once a second.
    pub(super) fn tell_refusal(&self, what: &'static str, max: usize) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let now = clock::monotonic();
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            *told_at = Some(now);
            let requests = self.refused.swap(0, Ordering::Relaxed);
            tracing::warn!(what, max, requests, "refused as overloaded: the gateway has no room");
        }
    }
}

impl Share {
    /// Takes more, up to `size` in all, if no more than `max` are in use then.
    pub(super) fn grow_to(&mut self, size: usize, max: usize) -> Result<(), Exhausted> {
        let more = size.saturating_sub(self.size);
        let used = self.of.used.fetch_add(more, Ordering::Relaxed);
        if used.saturating_add(more) > max {
            self.of.used.fetch_sub(more, Ordering::Relaxed);
            return Err(Exhausted);
        }
        self.size += more;
        Ok(())
    }
}

impl Share {
    /// Takes `size` more, whether or not there is room.
    pub(super) fn grow_anyway(&mut self, size: usize) {
        self.of.used.fetch_add(size, Ordering::Relaxed);
        self.size = self.size.saturating_add(size);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_and_nothing_is_taken_in_vain() {
        let budget = Arc::<Budget>::default();
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!(one.grow_to(6, 10), Ok(()));
        assert_eq!(two.grow_to(5, 10), Err(Exhausted));
        assert_eq!(two.grow_to(4, 10), Ok(()));
        assert_eq!(one.grow_to(6, 10), Ok(()));
        drop(one);
        assert_eq!(budget.used(), 4);
        assert_eq!(two.grow_to(10, 10), Ok(()));
        drop(two);
        assert_eq!(budget.used(), 0);
    }
}
