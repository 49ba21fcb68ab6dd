//! A claim on one storage key: the licence to forward one request, and the duty to say what came of it.
//!
//! Each way to settle consumes the claim. Dropping it unsettled leaves the tombstone, which reads as an
//! unknown outcome: safe. Read `mod.rs` before; then `claim/settling.rs` (how long an outcome is tried), `claim/late.rs`
//! (an answer that comes late) and `twofold.rs`.

mod late;
mod settling;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::answers::AsOf;
use super::attempts::Live;
use super::{Ledger, Moment, Question, Terms, Unavailable};
use crate::clock;
use crate::protocol::machine::{self, Outcome, Transition};
use crate::protocol::mistake::Mistake;
use crate::protocol::record::{Attempt, Phase, Record, Seen, UnknownReason};
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::protocol::scope::StorageKey;
use crate::store::{StoreError, Swapped};
use crate::telemetry::metrics::{Call, Metrics};

pub(super) use late::LateOne;
use settling::{COMMIT_PAUSE_MAX, Settling};

/// The licence to forward one request once, as far as one storage key tells.
#[derive(Debug)]
pub(super) struct OneClaim {
    ledger: Ledger,
    key: StorageKey,
    terms: Terms,
    record: Record,
    asked: Moment,
    /// Held for its `Drop`: while it lives, readers know that somebody answers for the claim.
    live: Live,
}

/// Proof that the upstream did not process the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprocessed {
    /// Not one byte of it left.
    NeverSent,
    /// The upstream's status says so.
    SaidByStatus(u16),
}

/// What became of a settlement by the time the caller is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The store has it.
    Stored,
    /// The store has not taken it yet; it is tried on in the background.
    Unstored,
    /// The store holds another attempt in this one's place: it forgot the claim, or an operator stepped in.
    Superseded,
}

impl OneClaim {
    pub(super) fn new(
        ledger: Ledger,
        question: &Question,
        record: Record,
        live: Live,
        asked: Moment,
    ) -> Self {
        Self { ledger, key: question.key, terms: question.terms, record, asked, live }
    }

    /// The key this claim is for.
    pub(super) fn key(&self) -> &StorageKey {
        &self.key
    }

    /// Which attempt it is.
    pub(super) fn attempt(&self) -> Attempt {
        self.record.version.attempt
    }

    /// Where it is counted what becomes of the claim.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.ledger.shared.metrics)
    }

    /// Makes sure that the claim still stands, if this process may have been stopped since it was made.
    ///
    /// Errors: it does not, or nobody can tell; nothing may be sent.
    pub(super) async fn confirm(&mut self) -> Result<(), Unavailable> {
        let age = clock::monotonic().duration_since(self.asked.at);
        if age < self.ledger.shared.settings.session_ttl / 2 {
            return Ok(());
        }
        let asked = Moment { at: clock::monotonic(), lapses: self.ledger.shared.sessions.lapses() };
        match self.fetch().await.map_err(Unavailable::Store)? {
            Seen::Record(record) if record.version == self.record.version => {
                self.asked = asked;
                Ok(())
            }
            Seen::Record(_) | Seen::Nothing | Seen::Unreadable => Err(Unavailable::ClaimGone),
        }
    }

    /// Says, at any later moment, whether the claim is certain to be this process's still: its session has not
    /// lapsed since. Whoever was stopped for long must not send.
    pub(super) fn licence(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (ledger, lapses) = (self.ledger.clone(), self.asked.lapses);
        move || ledger.shared.sessions.is_fresh() && ledger.shared.sessions.lapses() == lapses
    }

    /// Starts the claim's retention anew; for answers that stream longer than a claim is kept.
    pub(super) async fn extend(&mut self) -> Result<(), StoreError> {
        let next = machine::extend(&self.record);
        let swap = self.ledger.store.swap(&self.key, self.record.version, &next, self.terms.claim_keep_for);
        match self.ledger.timed(Call::Swap, swap).await? {
            Swapped::Done => self.record = next,
            Swapped::Changed | Swapped::Absent => {}
        }
        Ok(())
    }

    /// How long after the claim, or its last extension, it is due to be extended.
    pub(super) fn extend_after(&self) -> Duration {
        self.terms.claim_keep_for / 3
    }

    /// Keeps a whole answer.
    pub(super) async fn complete(self, saved: SavedResponse) -> Settlement {
        self.settle(Outcome::Completed(saved)).await.0
    }

    /// Keeps the head of an answer whose body is not kept.
    pub(super) async fn complete_without_body(self, head: SavedHead) -> Settlement {
        self.settle(Outcome::CompletedWithoutBody(head)).await.0
    }

    /// Gives the key back: the next request with it is a first one.
    pub(super) async fn release(self, proof: Unprocessed) -> Settlement {
        tracing::debug!(operation_ref = %self.key, ?proof, "released");
        self.settle(Outcome::Unprocessed).await.0
    }

    /// Gives the key back without waiting for the store: nothing was sent and nothing will be.
    pub(super) fn abandon(self) {
        self.live.abandon();
        // The trace of a claim that took another's place would be that other's too.
        if self.record.attempts <= 1 {
            self.ledger.shared.traces.add(self.key, self.record.version);
        }
    }

    /// Says that the outcome is unknown, and keeps the right to tell it later.
    pub(super) async fn unknown(self, reason: UnknownReason) -> (Settlement, LateOne) {
        let late = Self {
            ledger: self.ledger.clone(),
            key: self.key,
            terms: self.terms,
            record: self.record.clone(),
            asked: self.asked,
            live: self.ledger.shared.attempts.enter(self.record.version.attempt),
        };
        let (settlement, background) = self.settle(Outcome::Unknown(reason)).await;
        let revision_min = match settlement {
            Settlement::Stored => machine::version_after(late.record.version).revision,
            Settlement::Unstored | Settlement::Superseded => late.record.version.revision,
        };
        (settlement, LateOne { claim: late, revision_min, background })
    }

    async fn settle(self, outcome: Outcome) -> (Settlement, Option<AbortHandle>) {
        let transition = machine::settle(&self.record, outcome, clock::unix_millis(), self.terms.retention);
        Settling::new(self, transition).settle().await
    }

    /// When the store has let go of the claim for certain: its last extension was before now.
    fn ends_by(&self) -> Instant {
        clock::monotonic() + self.terms.claim_keep_for
    }

    /// Writes the transition once. A write that was done before, though its answer was lost, counts.
    async fn commit(&self, transition: &Transition) -> Result<Settlement, StoreError> {
        let (ledger, mut seen) = (&self.ledger, self.record.version);
        // A second round only after an extension whose answer was lost and that was done all the same.
        for _ in 0..2 {
            let swapped = match transition {
                Transition::Keep => return Ok(Settlement::Stored),
                Transition::Remove => {
                    ledger.timed(Call::Remove, ledger.store.remove(&self.key, seen)).await?
                }
                Transition::Write { next, keep_for } => {
                    let next = Record { version: machine::version_after(seen), ..next.clone() };
                    ledger.timed(Call::Swap, ledger.store.swap(&self.key, seen, &next, *keep_for)).await?
                }
            };
            match (swapped, transition) {
                (Swapped::Done, _) | (Swapped::Absent, Transition::Remove) => return Ok(Settlement::Stored),
                (Swapped::Absent, Transition::Write { next, keep_for }) => {
                    return self.restore(next, *keep_for).await;
                }
                (Swapped::Absent, Transition::Keep) => return Ok(Settlement::Superseded),
                (Swapped::Changed, _) => match self.fetch().await? {
                    Seen::Record(stands) if is_written(&stands, transition) => return Ok(Settlement::Stored),
                    Seen::Record(stands) if self.is_own_claim(&stands) || is_blind(transition) => {
                        seen = stands.version;
                    }
                    Seen::Record(_) | Seen::Nothing | Seen::Unreadable => return Ok(Settlement::Superseded),
                },
            }
        }
        Ok(Settlement::Superseded)
    }

    /// Whether an earlier write of this claim stands: an extension, or an unknown outcome that was told
    /// before a late answer.
    fn is_own_claim(&self, stands: &Record) -> bool {
        // A lower revision would be an older write of this attempt that came back, which proves nothing.
        stands.version.attempt == self.record.version.attempt
            && stands.version.revision > self.record.version.revision
            && matches!(stands.phase, Phase::InFlight | Phase::Unknown { .. })
    }

    /// Nothing stands under the key, though this claim was never given back: what is known of the outcome goes there,
    /// unless somebody has used the key since.
    ///
    /// Either the store forgot the claim: then the next retry would run again. Or an operator released it, or forgot
    /// it, taking a process for dead that was only stopped, or an answer for lost that was only late. The operator's
    /// word was that the upstream did not process the request, so that it may run. An answer proves the contrary, and
    /// while nobody has used the key it comes in time to keep the next retry from running a second time. An outcome
    /// that is still unknown proves nothing, but it is later knowledge than the operator's: the request was under way
    /// when they looked. The insert decides between this and a retry, so nothing is taken from anybody.
    async fn restore(&self, next: &Record, keep_for: Duration) -> Result<Settlement, StoreError> {
        tracing::error!(
            operation_ref = %self.key,
            "nothing stands in the place of this attempt: the store forgot it, or an operator released it"
        );
        let restored = machine::restored(next);
        let insert = self.ledger.store.insert(&self.key, &restored, keep_for);
        let stands = self.ledger.timed(Call::Insert, insert).await?;
        Ok(match stands {
            Seen::Nothing => Settlement::Stored,
            Seen::Record(stands) if *stands == restored => Settlement::Stored,
            Seen::Record(_) | Seen::Unreadable => Settlement::Superseded,
        })
    }

    async fn fetch(&self) -> Result<Seen, StoreError> {
        self.ledger.timed(Call::Fetch, self.ledger.store.fetch(&self.key)).await
    }

    /// What stands under the key, asked for as long as a settlement is tried.
    async fn fetch_until_told(&self) -> Option<Seen> {
        let give_up_at = self.ends_by();
        loop {
            match self.fetch().await {
                Ok(seen) => return Some(seen),
                Err(_) if clock::monotonic() >= give_up_at => return None,
                Err(_) => tokio::time::sleep(COMMIT_PAUSE_MAX).await,
            }
        }
    }

    /// `as_of`: before the store was asked for the last time.
    fn finished(&self, transition: &Transition, settlement: Settlement, as_of: AsOf) -> Settlement {
        match settlement {
            Settlement::Stored => self.remember(transition, as_of),
            Settlement::Unstored => {}
            Settlement::Superseded => {
                self.ledger.shared.answers.forget(&self.key);
                tracing::error!(
                    operation_ref = %self.key,
                    "another attempt stands in the place of this one: the store lost the claim, or an operator stepped in"
                );
            }
        }
        self.ledger.shared.waiters.wake(&self.key);
        settlement
    }

    fn remember(&self, transition: &Transition, as_of: AsOf) {
        match transition {
            Transition::Write { next, .. } => self.ledger.shared.answers.remember(self.key, next, as_of),
            Transition::Remove | Transition::Keep => {}
        }
    }
}

fn is_blind(transition: &Transition) -> bool {
    match transition {
        Transition::Write { .. } => Mistake::BlindCompletion.is_made(),
        Transition::Remove => Mistake::BlindRemoval.is_made(),
        Transition::Keep => false,
    }
}

fn is_written(stands: &Record, transition: &Transition) -> bool {
    match transition {
        Transition::Write { next, .. } => {
            stands.version.attempt == next.version.attempt && stands.phase == next.phase
        }
        Transition::Remove | Transition::Keep => false,
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.store.describe())
    }
}
