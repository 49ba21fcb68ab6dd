//! Whether more is to be written than the disk takes.
//!
//! A claim that waits longer than its caller does is written for nobody, and so is its removal: where more comes in than
//! can be written, answers come too late, to all. So claims are refused while the writer has been behind for a while,
//! and what waits longest has waited too long. Nothing is written of a refused claim. What settles a claim is always
//! taken: its caller is nearly served.
//!
//! A full batch proves nothing: many callers may have come at once, and a batch takes as long as the disk needs. What
//! proves it is a queue that is never empty when a batch was taken from it. Source: as `../../server/intake.rs`. Must not
//! know what is written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The queue was not empty for so long, and
const PERSISTS: Duration = Duration::from_millis(500);

/// what was taken from it last had waited so long.
const WAITED: Duration = Duration::from_millis(150);

/// What was proved holds for so long: a queue that empties because claims were refused fills again at once.
const HOLDS: Duration = Duration::from_secs(2);

/// What the writer tells those who come.
#[derive(Debug, Default)]
pub(super) struct Crowd(AtomicBool);

/// What the writer knows of its queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Since when something was left each time.
    since: Option<Instant>,
    /// When it was too much for the last time.
    proved: Option<Instant>,
}

/// The writer has more to do than the disk takes; nothing of this was written.
#[derive(Debug, thiserror::Error)]
#[error("take one more claim: more is to be written than the disk takes")]
pub(super) struct Crowded;

impl Crowd {
    pub(super) fn is_too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, is_too_large: bool) {
        if self.0.swap(is_too_large, Ordering::Relaxed) != is_too_large {
            if is_too_large {
                tracing::warn!("claims are refused: more is to be written than the disk takes");
            } else {
                tracing::info!("claims are taken again: the disk keeps up");
            }
        }
    }
}

impl Backlog {
    /// After a batch was taken: `oldest` came first of it, and whether more is left. Answers whether it is too much.
    pub(super) fn is_too_much(&mut self, now: Instant, oldest: Option<Instant>, is_more_left: bool) -> bool {
        if !is_more_left {
            self.since = None;
            return false;
        }
        let lasts = |since: Instant| now.saturating_duration_since(since);
        let persists = lasts(*self.since.get_or_insert(now)) >= PERSISTS;
        let holds = self.proved.is_some_and(|proved| lasts(proved) < HOLDS);
        let is_too_much = (persists || holds) && oldest.is_some_and(|came| lasts(came) >= WAITED);
        if is_too_much {
            self.proved = Some(now);
        }
        is_too_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Looks at a queue of which the oldest came at this moment, in milliseconds, and has waited for so many.
    fn looked_at(moments: &[(u64, u64, bool)]) -> Vec<bool> {
        let (mut backlog, began) = (Backlog::default(), clock::monotonic());
        let look = |&(at, waited, is_more_left): &(u64, u64, bool)| {
            let came = began + Duration::from_millis(at);
            backlog.is_too_much(came + Duration::from_millis(waited), Some(came), is_more_left)
        };
        moments.iter().map(look).collect()
    }

    #[test]
    fn a_queue_that_is_never_empty_and_slow_is_too_much() {
        let seen = looked_at(&[(0, 200, true), (300, 200, true), (600, 200, true), (700, 100, true)]);
        assert_eq!(seen, [false, false, true, false]);
    }

    #[test]
    fn once_it_was_too_much_a_wait_is_proof_enough_for_a_while() {
        let proof = [(0, 200, true), (300, 200, true), (600, 200, true), (700, 0, false)];
        let soon = [&proof[..], &[(800, 100, true), (900, 200, true)]].concat();
        assert_eq!(looked_at(&soon)[2..], [true, false, false, true]);
        let late = [&proof[..], &[(3_000, 200, true)]].concat();
        assert_eq!(looked_at(&late)[2..], [true, false, false]);
    }

    #[test]
    fn a_queue_that_is_empty_now_and_then_is_not_however_slow_the_disk() {
        assert!(!looked_at(&[(0, 900, true), (400, 900, false), (800, 900, true)]).contains(&true));
    }

    #[test]
    fn a_long_queue_that_moves_fast_is_not() {
        assert!(!looked_at(&[(0, 90, true), (600, 90, true), (1_200, 90, true)]).contains(&true));
    }
}
