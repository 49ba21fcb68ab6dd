//! How a request gets on: connected, its body moving, or stalled; and whether it may still be sent at all.
//!
//! The time to answer is counted from the last byte of the request that moved, and not before there is a
//! connection: connecting has a limit of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How one request gets on. Cheap to clone; clones see the same.
#[derive(Clone, Default)]
pub struct Progress(Arc<State>);

#[derive(Default)]
struct State {
    moved_at: Mutex<Option<Instant>>,
    queued: OnceLock<Duration>,
    connected: Notify,
    given_up: AtomicBool,
    licence: Option<Licence>,
}

/// Says whether a request may be sent now. Asked right before its first byte is written.
pub type Licence = Box<dyn Fn() -> bool + Send + Sync>;

impl Progress {
    /// The progress of a request that may be sent only while `licence` says so.
    pub fn licensed_by(licence: Licence) -> Self {
        Self(Arc::new(State { licence: Some(licence), ..State::default() }))
    }

    /// From now on the request is not sent, unless it has been already: its outcome has been told.
    pub fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Release);
    }

    /// Whether it has been given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Acquire)
    }

    pub(super) fn may_send(&self) -> bool {
        !self.0.given_up.load(Ordering::Acquire) && self.0.licence.as_ref().is_none_or(|may_send| may_send())
    }

    /// Completes when the request has a connection and nothing of it has moved for `limit`.
    pub async fn stalled_for(&self, limit: Duration) {
        self.0.connected.notified().await;
        loop {
            let until = self.moved_at().unwrap_or_else(Instant::now) + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// How long the request waited for a place at the upstream; nothing while it waits.
    pub fn queued(&self) -> Duration {
        self.0.queued.get().copied().unwrap_or_default()
    }

    /// The request has waited so long for a place.
    pub(super) fn has_queued(&self, time: Duration) {
        self.0.queued.get_or_init(|| time);
    }

    pub(super) fn connected(&self) {
        self.moved();
        self.0.connected.notify_one();
    }

    pub(super) fn moved(&self) {
        *self.0.moved_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it is sent only while somebody says that it may be.
    pub(super) fn is_licensed(&self) -> bool {
        self.0.licence.is_some()
    }

    /// When something of the request moved last; `None` before it had a connection.
    pub(super) fn moved_at(&self) -> Option<Instant> {
        *self.0.moved_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("moved_at", &self.moved_at()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_stalls_only_once_it_is_connected_and_nothing_moves() {
        let (progress, second) = (Progress::default(), Duration::from_secs(1));
        assert!(tokio::time::timeout(9 * second, progress.stalled_for(second)).await.is_err());
        progress.connected();
        let began = Instant::now();
        let moving = async {
            tokio::time::sleep(second / 2).await;
            progress.moved();
        };
        tokio::join!(progress.stalled_for(second), moving);
        assert_eq!(began.elapsed(), second + second / 2);
    }
}
