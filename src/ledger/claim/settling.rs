//! An outcome on its way into the store: how long somebody waits for it, and how long it is tried.
//!
//! A store that hangs tells nothing, so the wait ends by its own clock. The attempt under way is not given up then, but
//! goes on in a task that a drain waits for: whether it was done is knowledge. One write is `OneClaim::commit`. Read
//! `../claim.rs` before.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::super::answers::AsOf;
use super::{OneClaim, Settlement};
use crate::clock;
use crate::protocol::machine::Transition;
use crate::store::StoreError;

/// The pauses between tries grow to this.
pub(super) const COMMIT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The first pause between tries.
const COMMIT_PAUSE_MIN: Duration = Duration::from_millis(20);

/// A claim, and what is to become of its record.
pub(super) struct Settling {
    claim: OneClaim,
    transition: Transition,
}

impl Settling {
    pub(super) fn new(claim: OneClaim, transition: Transition) -> Self {
        Self { claim, transition }
    }

    /// Tries until the store has taken it, and waits for that for `commit_timeout` at most. Where that was too short,
    /// with the task that goes on.
    ///
    /// Cancel safety: to be run in a task that nobody drops, for whoever is dropped while it waits tries no more. The
    /// claim is then settled, or a tombstone.
    pub(super) async fn settle(self) -> (Settlement, Option<AbortHandle>) {
        let settling = Arc::new(self);
        let tasks = &settling.claim.ledger.shared.commits;
        // Tracked from here, so that a drain sees no gap between this task and the next.
        let mut taken = Box::pin(tasks.track_future(Arc::clone(&settling).until_taken()));
        match tokio::time::timeout(settling.claim.terms.commit_timeout, &mut taken).await {
            Ok(settlement) => (settlement, None),
            Err(_) => (Settlement::Unstored, Some(settling.go_on(taken))),
        }
    }

    /// What the store does with it is not waited for any more.
    fn go_on(self: &Arc<Self>, taken: impl Future<Output = Settlement> + Send + 'static) -> AbortHandle {
        self.remember_unstored();
        let operation_ref = self.claim.key;
        let task = self.claim.ledger.shared.commits.spawn(async move {
            let settlement = taken.await;
            tracing::info!(%operation_ref, ?settlement, "settled in the background");
        });
        task.abort_handle()
    }

    async fn until_taken(self: Arc<Self>) -> Settlement {
        let (settlement, as_of) = self.commit_until_taken().await;
        self.claim.finished(&self.transition, settlement, as_of)
    }

    /// Answers how it ended, and as of when. Not given up before the claim has ended in the store: whoever reads it
    /// elsewhere is told "in flight" for as long as this process lives.
    async fn commit_until_taken(&self) -> (Settlement, AsOf) {
        let (mut pause, mut tries, mut give_up_at) = (COMMIT_PAUSE_MIN, 0_u64, None);
        loop {
            let as_of = self.claim.ledger.shared.answers.as_of();
            let error = match self.claim.commit(&self.transition).await {
                Ok(settlement) => return (settlement, as_of),
                Err(error) => error,
            };
            tries += 1;
            self.warn_not_taken(&error, tries);
            // Counted from the first failure: before that nobody needs to look at the clock.
            let give_up_at = *give_up_at.get_or_insert_with(|| self.claim.ends_by());
            if clock::monotonic() >= give_up_at {
                return (Settlement::Unstored, as_of);
            }
            if tries == 1 {
                self.remember_unstored();
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(COMMIT_PAUSE_MAX);
        }
    }

    /// What is known and not stored yet is told to retries that come here.
    fn remember_unstored(&self) {
        if let Transition::Write { next, .. } = &self.transition {
            self.claim.ledger.shared.answers.remember_unstored(self.claim.key, next);
        }
    }

    /// Says so less and less often: it may go on for days.
    fn warn_not_taken(&self, error: &StoreError, tries: u64) {
        if tries.is_power_of_two() {
            let error: &dyn std::error::Error = error;
            tracing::warn!(operation_ref = %self.claim.key, error, tries, "the store did not take the outcome");
        }
    }
}
