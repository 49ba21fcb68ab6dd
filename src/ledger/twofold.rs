//! A claim as its holder sees it: on one storage key or, while keys are made in a new way and the old one is given as
//! `previous`, on two.
//!
//! Why two. A retry must find the record of its first request whichever way that one's key was made, and gateways
//! that know only the old way work beside those that know both. So whoever knows both ways asks for the old key
//! first, and only then for the new one (`open.rs`):
//!
//! * A record under the old key answers, judged by the old fingerprint.
//! * Two gateways of which at least one knows only the old way meet at the old key: each claims it before it sends.
//!   Two that know both meet there too. Two of which one knows only the new way meet at the new key. So `previous`
//!   must be everywhere before the old way ends anywhere, and stand until the records from before it have ended.
//! * A process that dies between the two claims leaves the old key as an orphan: an unknown outcome, which is safe.
//!   One that finds the new key taken gives the old one back, for which nothing was sent.
//! * Two that ask in opposite orders, as while a change is taken back, may each hold one and be turned away from the
//!   other: both give back what they hold. Nobody waits holding a claim.
//! * Both records are settled alike, in any order: whichever is not settled yet reads as in flight, or as unknown.
//!
//! Read `claim.rs` before.

use std::time::Duration;

use super::Unavailable;
use super::claim::{LateOne, OneClaim, Settlement, Unprocessed};
use crate::protocol::record::{Attempt, UnknownReason};
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::protocol::scope::StorageKey;
use crate::store::StoreError;
use crate::telemetry::metrics::{Settled, Written};

/// The licence to forward one request once.
#[derive(Debug)]
pub struct Claim {
    own: OneClaim,
    earlier: Option<Box<OneClaim>>,
}

/// A claim whose outcome was written as unknown, while its answer may still come.
#[derive(Debug)]
pub struct LateClaim {
    own: LateOne,
    earlier: Option<Box<LateOne>>,
}

impl Claim {
    pub(super) fn new(own: OneClaim, earlier: Option<OneClaim>) -> Self {
        Self { own, earlier: earlier.map(Box::new) }
    }

    /// The key this claim is for.
    pub fn key(&self) -> &StorageKey {
        self.own.key()
    }

    /// Which attempt it is.
    pub fn attempt(&self) -> Attempt {
        self.own.attempt()
    }

    /// Makes sure that the claim still stands, if this process may have been stopped since it was made.
    ///
    /// Errors: it does not, or nobody can tell; nothing may be sent.
    pub async fn confirm(&mut self) -> Result<(), Unavailable> {
        if let Some(earlier) = &mut self.earlier {
            earlier.confirm().await?;
        }
        self.own.confirm().await
    }

    /// Says, at any later moment, whether the claim is certain to be this process's still: its session has not
    /// lapsed since. Whoever was stopped for long must not send.
    pub fn licence(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (own, earlier) = (self.own.licence(), self.earlier.as_ref().map(|earlier| earlier.licence()));
        move || own() && earlier.as_ref().is_none_or(|earlier| earlier())
    }

    /// Starts the claim's retention anew; for answers that stream longer than a claim is kept.
    pub async fn extend(&mut self) -> Result<(), StoreError> {
        let earlier = match &mut self.earlier {
            Some(earlier) => earlier.extend().await,
            None => Ok(()),
        };
        // Whatever became of the other: either may be the one that a retry finds.
        self.own.extend().await.and(earlier)
    }

    /// How long after the claim, or its last extension, it is due to be extended.
    pub fn extend_after(&self) -> Duration {
        self.own.extend_after()
    }

    /// Keeps a whole answer.
    pub async fn complete(self, saved: SavedResponse) -> Settlement {
        let metrics = self.own.metrics();
        let settlement = match self.earlier {
            None => self.own.complete(saved).await,
            Some(earlier) => Box::pin(both(self.own.complete(saved.clone()), earlier.complete(saved))).await,
        };
        metrics.claims.settled(Settled::Completed, settlement.into());
        settlement
    }

    /// Keeps the head of an answer whose body is not kept.
    pub async fn complete_without_body(self, head: SavedHead) -> Settlement {
        let metrics = self.own.metrics();
        let settlement = match self.earlier {
            None => self.own.complete_without_body(head).await,
            Some(earlier) => {
                Box::pin(both(
                    self.own.complete_without_body(head.clone()),
                    earlier.complete_without_body(head),
                ))
                .await
            }
        };
        metrics.claims.settled(Settled::WithoutBody, settlement.into());
        settlement
    }

    /// Gives the key back: the next request with it is a first one.
    pub async fn release(self, proof: Unprocessed) -> Settlement {
        let metrics = self.own.metrics();
        let settlement = match self.earlier {
            None => self.own.release(proof).await,
            Some(earlier) => Box::pin(both(self.own.release(proof), earlier.release(proof))).await,
        };
        metrics.claims.settled(Settled::Released, settlement.into());
        settlement
    }

    /// Says that the outcome is unknown, and keeps the right to tell it later.
    pub async fn unknown(self, reason: UnknownReason) -> (Settlement, LateClaim) {
        let metrics = self.own.metrics();
        let (settlement, late) = match self.earlier {
            None => {
                let (settlement, own) = self.own.unknown(reason).await;
                (settlement, LateClaim { own, earlier: None })
            }
            Some(earlier) => {
                let unknown = async { tokio::join!(self.own.unknown(reason), earlier.unknown(reason)) };
                let ((one, own), (other, earlier)) = Box::pin(unknown).await;
                (worse(one, other), LateClaim { own, earlier: Some(Box::new(earlier)) })
            }
        };
        metrics.claims.settled(Settled::Unknown, settlement.into());
        (settlement, late)
    }
}

impl LateClaim {
    /// Keeps an answer that came after its timeout, if nobody resolved the key meanwhile.
    pub async fn complete(self, saved: SavedResponse) -> Settlement {
        match self.earlier {
            None => self.own.complete(saved).await,
            Some(earlier) => Box::pin(both(self.own.complete(saved.clone()), earlier.complete(saved))).await,
        }
    }

    /// Keeps the head of such an answer, if its body is not kept.
    pub async fn complete_without_body(self, head: SavedHead) -> Settlement {
        match self.earlier {
            None => self.own.complete_without_body(head).await,
            Some(earlier) => {
                Box::pin(both(
                    self.own.complete_without_body(head.clone()),
                    earlier.complete_without_body(head),
                ))
                .await
            }
        }
    }

    /// Gives the key back: the upstream said, late, that it did not process the request.
    pub async fn release(self, proof: Unprocessed) -> Settlement {
        match self.earlier {
            None => self.own.release(proof).await,
            Some(earlier) => Box::pin(both(self.own.release(proof), earlier.release(proof))).await,
        }
    }
}

impl From<Settlement> for Written {
    fn from(settlement: Settlement) -> Self {
        match settlement {
            Settlement::Stored => Self::Stored,
            Settlement::Unstored => Self::Unstored,
            Settlement::Superseded => Self::Superseded,
        }
    }
}

/// Both together. To be boxed: nearly all claims are on one key, and their futures should not grow by this.
async fn both(one: impl Future<Output = Settlement>, other: impl Future<Output = Settlement>) -> Settlement {
    let (one, other) = tokio::join!(one, other);
    worse(one, other)
}

/// What became of two settlements: no better than of either.
fn worse(one: Settlement, other: Settlement) -> Settlement {
    match (one, other) {
        (Settlement::Superseded, _) | (_, Settlement::Superseded) => Settlement::Superseded,
        (Settlement::Unstored, _) | (_, Settlement::Unstored) => Settlement::Unstored,
        (Settlement::Stored, Settlement::Stored) => Settlement::Stored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_settlements_are_no_better_than_the_worse_of_them() {
        use Settlement::{Stored, Superseded, Unstored};
        for (one, other, both) in [
            (Stored, Stored, Stored),
            (Stored, Unstored, Unstored),
            (Stored, Superseded, Superseded),
            (Unstored, Unstored, Unstored),
            (Unstored, Superseded, Superseded),
        ] {
            assert_eq!((worse(one, other), worse(other, one)), (both, both));
        }
    }
}
