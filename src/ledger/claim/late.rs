//! A claim whose outcome was told as unknown, and the answer that may still come.
//!
//! It lands only on what this attempt wrote itself: whoever settled the key meanwhile has the last word. Read `../claim.rs`
//! before.

use super::{OneClaim, Settlement, Unprocessed};
use crate::protocol::machine::Outcome;
use crate::protocol::record::{Phase, Record, Seen};
use crate::protocol::saved::{SavedHead, SavedResponse};

/// A claim whose outcome was written as unknown, while its answer may still come.
#[derive(Debug)]
pub(in crate::ledger) struct LateOne {
    pub(super) claim: OneClaim,
    /// The least revision that the unknown outcome can have in the store. A lower one is an older write of this
    /// attempt that came back: to count on from there would give two records one version.
    pub(super) revision_min: u32,
    pub(super) background: Option<tokio::task::AbortHandle>,
}

impl LateOne {
    /// Keeps an answer that came after its timeout, if nobody resolved the key meanwhile.
    pub(in crate::ledger) async fn complete(self, saved: SavedResponse) -> Settlement {
        self.settle(Outcome::Completed(saved)).await
    }

    /// Keeps the head of such an answer, if its body is not kept.
    pub(in crate::ledger) async fn complete_without_body(self, head: SavedHead) -> Settlement {
        self.settle(Outcome::CompletedWithoutBody(head)).await
    }

    /// Gives the key back: the upstream said, late, that it did not process the request.
    pub(in crate::ledger) async fn release(self, _proof: Unprocessed) -> Settlement {
        self.settle(Outcome::Unprocessed).await
    }

    async fn settle(mut self, outcome: Outcome) -> Settlement {
        // The write of the unknown outcome may still be tried; what stands now tells which it is. Should it
        // arrive later all the same, it finds another revision.
        if let Some(background) = self.background.take() {
            background.abort();
        }
        match self.claim.fetch_until_told().await {
            Some(Seen::Record(record)) if self.is_unknown_still(&record) => {
                self.claim.record = *record;
                self.claim.settle(outcome).await.0
            }
            Some(Seen::Nothing) => match outcome {
                // Why it lands though an operator may have released the key: see `OneClaim::restore`.
                Outcome::Completed(_) | Outcome::CompletedWithoutBody(_) => {
                    self.claim.record.version.revision = self.revision_min;
                    self.claim.settle(outcome).await.0
                }
                Outcome::Unprocessed => Settlement::Stored,
                Outcome::Unknown(_) => Settlement::Superseded,
            },
            Some(Seen::Record(_) | Seen::Unreadable) => {
                tracing::warn!(
                    operation_ref = %self.claim.key,
                    "a late answer is not kept: an operator or another attempt has settled the key meanwhile"
                );
                Settlement::Superseded
            }
            None => Settlement::Unstored,
        }
    }

    fn is_unknown_still(&self, stands: &Record) -> bool {
        stands.version.attempt == self.claim.record.version.attempt
            && stands.version.revision >= self.revision_min
            && matches!(stands.phase, Phase::InFlight | Phase::Unknown { .. })
    }
}
