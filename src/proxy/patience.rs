//! How long somebody is waited for: a time that runs down while they keep us waiting, and that every byte moved
//! lengthens.
//!
//! Must not know who is waited for. Read `pace.rs` for callers' bodies, `../server/patience.rs` for slow readers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer that is set anew at almost no cost: it rings late rather than be moved, and is then set to the time that
/// holds.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

/// The time for which somebody is still waited for.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    left: Duration,
    max: Duration,
    /// Bytes that must move in a second; 0: nobody is hurried.
    rate_min: u64,
}

impl Timer {
    /// Ready when `deadline` has come. Each call names the deadline that holds.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl Allowance {
    /// Waits for `time`, and for more while `rate_min` bytes a second move: up to `max` from any moment.
    pub fn new(time: Duration, max: Duration, rate_min: u64) -> Self {
        Self { left: time, max, rate_min }
    }

    /// For how long somebody is still waited for who lets nothing move.
    pub fn left(&self) -> Duration {
        self.left
    }

    /// Takes what was waited.
    pub fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// Gives what was moved.
    pub fn moved(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let millis = bytes.saturating_mul(1000).checked_div(self.rate_min);
        let earned = millis.map_or(Duration::ZERO, Duration::from_millis);
        self.left = self.left.saturating_add(earned).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn somebody_who_keeps_the_pace_is_waited_for_without_end_and_others_are_not() {
        let rounds = |bytes: usize| {
            let mut allowance = Allowance::new(3 * SECOND, 3 * SECOND, 1000);
            let one_round = |_: &i32| {
                allowance.waited(SECOND);
                let is_over = allowance.left().is_zero();
                allowance.moved(bytes);
                !is_over
            };
            (0..1000).take_while(one_round).count()
        };
        assert_eq!([rounds(1000), rounds(500), rounds(0)], [1000, 4, 2]);
    }

    #[test]
    fn what_was_moved_early_is_credited_within_bounds() {
        let mut allowance = Allowance::new(SECOND, 5 * SECOND, 1000);
        allowance.moved(1_000_000);
        assert_eq!(allowance.left(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_rings_at_the_deadline_named_last() {
        let (mut timer, began) = (Timer::default(), Instant::now());
        for deadline in [10, 30, 20] {
            let deadline = began + deadline * SECOND;
            let is_early = std::future::poll_fn(|cx| Poll::Ready(timer.poll(deadline, cx).is_ready())).await;
            assert!(!is_early);
        }
        std::future::poll_fn(|cx| timer.poll(began + 20 * SECOND, cx)).await;
        assert_eq!(began.elapsed(), 20 * SECOND);
    }
}
