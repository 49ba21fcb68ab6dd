//! Whether a worker keeps up with what it is asked to do.
//!
//! A worker is one thread that gives every task that is ready one turn after the other. How long a round of all of them
//! takes is how long each must wait for its next step, and a request has several. Where more comes in than the
//! processor can do, rounds grow without end: every caller is answered, too late, and goodput is nothing. So a worker
//! that has been behind for a while takes new requests only at the beginning of each round, and refuses the others at
//! once, before their bodies are read and their keys are claimed. What it took on it brings to its end.
//!
//! A refused payment is worse than a slow one. So a long round proves nothing: another process may have had the
//! processor. What is proof is that no round was short for [`PERSISTS`]; a worker with time to spare has short ones in
//! between. Long waits for stores and upstreams take no part in it, since who waits has no turn.
//!
//! Source: Nichols and Jacobson, `CoDel`, RFC 8289 (only a queue that never empties is an overload). Must not know what
//! the requests are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// A longer round is a sign of too much to do. While there is, new requests are taken for so long in each.
const LONG: Duration = Duration::from_millis(10);

/// For so long no round was short, and
const PERSISTS: Duration = Duration::from_millis(500);

/// so many of them were seen, before anything is refused.
const ROUNDS: u32 = 3;

/// A worker that is not behind looks so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The rounds of one worker.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Rounds>);

#[derive(Debug, Default)]
struct Rounds {
    /// When the round began that is under way, if one is looked at.
    began: Option<Instant>,
    behind: Option<Behind>,
}

/// No round was short since.
#[derive(Debug)]
struct Behind {
    since: Instant,
    rounds: u32,
    refused: u64,
}

impl Turns {
    /// Looks at the worker's rounds, as one of its tasks; never returns.
    pub async fn watch(self: Arc<Self>) {
        loop {
            self.rounds().begin(clock::monotonic());
            // Goes to the end of the line: it comes back when all others had their turn.
            tokio::task::yield_now().await;
            let end = self.rounds().end(clock::monotonic());
            match end {
                End::KeepsUp => tokio::time::sleep(LOOK_EVERY).await,
                End::CaughtUp { refused } => {
                    if refused > 0 {
                        tracing::info!(refused, "a worker keeps up again: requests are taken as before");
                    }
                }
                End::FallsBehind => {
                    tracing::warn!("refused as overloaded: a worker has more to do than its processor can");
                }
                End::Behind => {}
            }
        }
    }

    /// Whether a request that has just come is to be refused, because there is no time for it.
    pub(super) fn has_no_time(&self) -> bool {
        let mut rounds = self.rounds();
        // The clock is read only where it matters.
        rounds.behind.is_some() && rounds.refuses(clock::monotonic())
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a round has shown.
#[derive(Debug, PartialEq, Eq)]
enum End {
    KeepsUp,
    /// From the next one on, requests are refused.
    FallsBehind,
    Behind,
    CaughtUp {
        refused: u64,
    },
}

impl Rounds {
    fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    fn end(&mut self, now: Instant) -> End {
        let Some(began) = self.began.take() else { return End::KeepsUp };
        if now.duration_since(began) < LONG / 2 {
            return self
                .behind
                .take()
                .map_or(End::KeepsUp, |behind| End::CaughtUp { refused: behind.refused });
        }
        let was_proven = self.is_proven(began);
        let behind = self.behind.get_or_insert(Behind { since: began, rounds: 0, refused: 0 });
        behind.rounds = behind.rounds.saturating_add(1);
        if !was_proven && self.is_proven(now) { End::FallsBehind } else { End::Behind }
    }

    fn is_proven(&self, now: Instant) -> bool {
        let is_long =
            |behind: &Behind| now.duration_since(behind.since) >= PERSISTS && behind.rounds >= ROUNDS;
        self.behind.as_ref().is_some_and(is_long)
    }

    fn refuses(&mut self, now: Instant) -> bool {
        let is_late = self.began.is_some_and(|began| now.duration_since(began) >= LONG);
        let refuses = is_late && self.is_proven(now);
        if let Some(behind) = self.behind.as_mut().filter(|_| refuses) {
            behind.refused += 1;
        }
        refuses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds that take so many milliseconds each, one after the other.
    fn after(rounds: &mut Rounds, millis: &[u64], mut now: Instant) -> Instant {
        for millis in millis {
            rounds.begin(now);
            now += Duration::from_millis(*millis);
            rounds.end(now);
        }
        now
    }

    /// Whether a request is refused that comes so long after the round has begun.
    fn refuses_at(rounds: &mut Rounds, now: Instant, millis: u64) -> bool {
        rounds.begin(now);
        rounds.refuses(now + Duration::from_millis(millis))
    }

    #[test]
    fn one_round_that_takes_long_proves_nothing() {
        let mut rounds = Rounds::default();
        let now = after(&mut rounds, &[1, 2_000], clock::monotonic());
        assert!(!refuses_at(&mut rounds, now, 400));
    }

    #[test]
    fn long_rounds_with_a_short_one_among_them_prove_nothing() {
        let mut rounds = Rounds::default();
        let now = after(&mut rounds, &[300, 300, 1, 300, 100], clock::monotonic());
        assert!(!refuses_at(&mut rounds, now, 50));
    }

    #[test]
    fn where_no_round_was_short_for_a_while_requests_are_taken_only_at_the_beginning_of_each() {
        let mut rounds = Rounds::default();
        let now = after(&mut rounds, &[100, 200, 300], clock::monotonic());
        assert!(!refuses_at(&mut rounds, now, 9));
        assert!(refuses_at(&mut rounds, now, 10));
    }

    #[test]
    fn a_short_round_ends_it_and_tells_how_many_were_refused() {
        let mut rounds = Rounds::default();
        let now = after(&mut rounds, &[100, 200, 300], clock::monotonic());
        assert!(refuses_at(&mut rounds, now, 20));
        assert_eq!(rounds.end(now + Duration::from_millis(1)), End::CaughtUp { refused: 1 });
        assert!(!refuses_at(&mut rounds, now, 2_000));
    }

    #[test]
    fn the_beginning_is_told_once() {
        let (mut rounds, now) = (Rounds::default(), clock::monotonic());
        let now = after(&mut rounds, &[300, 100], now);
        let mut told = Vec::new();
        for round in 0..3 {
            let began = now + LONG * 30 * round;
            rounds.begin(began);
            told.push(rounds.end(began + LONG * 30));
        }
        assert_eq!(told, [End::FallsBehind, End::Behind, End::Behind]);
    }
}
