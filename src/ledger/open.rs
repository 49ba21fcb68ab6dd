//! How a request gets its verdict: the claim is written, what stands in its place is judged, and where the
//! judgement allows it the claim takes its place.
//!
//! Read `mod.rs` before, `claim.rs` after.

use super::attempts::Live;
use super::claim::{OneClaim, Unprocessed};
use super::twofold::Claim;
use super::{Known, Ledger, Moment, Opened, Question, Unavailable, sessions};
use crate::clock;
use crate::protocol::machine::{self, Owner, Token, Verdict};
use crate::protocol::record::{Attempt, Phase, Record, Seen};
use crate::store::{StoreError, Swapped};
use crate::telemetry::metrics::Call;

/// How often the claim is tried again when the record changes between look and write. Each round means
/// that another request made progress on the same key.
const OPEN_ROUNDS_MAX: usize = 16;

/// The answer to a question of one storage key.
enum One {
    Execute(Box<OneClaim>),
    Known(Known),
}

/// A verdict, and what was known of the record's owner when it was given.
#[expect(clippy::large_enum_variant, reason = "lives for one step, on the stack")]
pub(super) enum Judged {
    As(Verdict, Owner),
    /// The record went away while its owner was looked for: claim again.
    GoneMeanwhile,
}

impl Ledger {
    /// Asks what a request may do; claims the key if nobody has.
    ///
    /// Errors: nothing may be forwarded; whatever the store may still do with the claim is cleaned up.
    /// Cancel safety: none. Dropping the future may leave a claim that nobody works on, which reads as
    /// unknown. Run it in a tracked task.
    pub async fn open(&self, question: &Question) -> Result<Opened, Unavailable> {
        if let Some(known) = self.remembered(question) {
            return Ok(Opened::Known(known));
        }
        let earlier = match &question.earlier {
            None => None,
            // Claimed first, and by all gateways: those that know nothing of the new key meet the others here.
            Some(earlier) => match self.open_one(earlier).await {
                Ok(One::Execute(claim)) => Some(claim),
                Ok(One::Known(known)) => return Ok(Opened::Known(known)),
                Err(Unavailable::Closed) => return self.look_up(question).await.map(Opened::Known),
                Err(error) => return Err(error),
            },
        };
        match (self.open_one(question).await, earlier) {
            (Ok(One::Execute(claim)), earlier) => {
                Ok(Opened::Execute(Box::new(Claim::new(*claim, earlier.map(|earlier| *earlier)))))
            }
            (Ok(One::Known(known)), earlier) => {
                if let Some(earlier) = earlier {
                    earlier.release(Unprocessed::NeverSent).await;
                }
                Ok(Opened::Known(known))
            }
            (Err(error), earlier) => {
                if let Some(earlier) = earlier {
                    earlier.abandon();
                }
                Err(error)
            }
        }
    }

    /// Asks of one storage key alone.
    async fn open_one(&self, question: &Question) -> Result<One, Unavailable> {
        if let Some(known) = self.recall_one(question) {
            return Ok(One::Known(known));
        }
        if !self.shared.sessions.is_fresh() {
            if self.shared.sessions.is_turned_away() {
                return self.look_up(question).await.map(One::Known);
            }
            return Err(Unavailable::SessionLapsed);
        }
        let asked = Moment { at: clock::monotonic(), lapses: self.shared.sessions.lapses() };
        let token = Token { attempt: fresh_attempt(), session: self.shared.sessions.own() };
        // Entered before the write is sent, so that nobody who reads the claim takes it for an orphan.
        let live = self.shared.attempts.enter(token.attempt);
        let claim = machine::claim(token, &question.asked, clock::unix_millis());
        let mut seen = self.insert(question, &claim, &live).await?;
        for _ in 0..OPEN_ROUNDS_MAX {
            match self.judge(seen, question).await? {
                Judged::As(Verdict::Execute, _) => return Ok(self.claimed(question, claim, live, asked)),
                Judged::As(Verdict::Reclaim(over), owner) => {
                    let next = machine::reclaim(&over, token, &question.asked, owner);
                    let keep_for = question.terms.claim_keep_for;
                    let swap = self
                        .timed(Call::Swap, self.store.swap(&question.key, over.version, &next, keep_for))
                        .await;
                    // Should the write land all the same: nothing was sent for it.
                    match swap.inspect_err(|_| live.abandon()).map_err(Unavailable::KeyStands)? {
                        Swapped::Done => return Ok(self.claimed(question, next, live, asked)),
                        Swapped::Changed | Swapped::Absent => {}
                    }
                }
                Judged::As(verdict, _) => {
                    if let Some(known) = known(verdict) {
                        return Ok(One::Known(known));
                    }
                }
                Judged::GoneMeanwhile => {}
            }
            seen = self.insert(question, &claim, &live).await.map_err(Unavailable::of_standing_key)?;
        }
        // Sixteen others came first in a row; the caller may ask again.
        Ok(One::Known(Known::InFlight))
    }

    /// What this process remembers of the key, without asking the store. An answer never changes, so it
    /// holds until its retention ends.
    pub fn recall(&self, question: &Question) -> Option<Known> {
        let known = self.remembered(question);
        self.shared.answers.count_look(known.is_some());
        known
    }

    fn remembered(&self, question: &Question) -> Option<Known> {
        let earlier = question.earlier.as_deref().and_then(|earlier| self.recall_one(earlier));
        earlier.or_else(|| self.recall_one(question))
    }

    pub(super) fn recall_one(&self, question: &Question) -> Option<Known> {
        let kept = self.shared.answers.find(&question.key)?;
        let known =
            known(machine::judge(Seen::Record(Box::new(kept.record)), &question.asked, Owner::Working));
        match known {
            Some(Known::Replay(saved, settled)) if !kept.is_stored => Some(Known::Unstored(saved, settled)),
            known => known,
        }
    }

    /// What a store that takes no claims knows of a key for good: an answer never changes, whatever happens to the
    /// record in the store to which it has moved.
    async fn look_up(&self, question: &Question) -> Result<Known, Unavailable> {
        let as_of = self.shared.answers.as_of();
        let seen =
            self.timed(Call::Fetch, self.store.fetch(&question.key)).await.map_err(Unavailable::KeyStands)?;
        let Seen::Record(record) = seen else { return Err(Unavailable::Closed) };
        match record.phase {
            Phase::InFlight | Phase::Unknown { .. } => return Err(Unavailable::Closed),
            Phase::Done { .. } | Phase::DoneWithoutBody { .. } => {}
        }
        self.shared.answers.remember(question.key, &record, as_of);
        let verdict = machine::judge(Seen::Record(record), &question.asked, Owner::Working);
        known(verdict).ok_or(Unavailable::Closed)
    }

    fn claimed(&self, question: &Question, record: Record, live: Live, asked: Moment) -> One {
        One::Execute(Box::new(OneClaim::new(self.clone(), question, record, live.claimed(), asked)))
    }

    /// Writes the claim, or answers what stands in its place. A claim whose write got no answer is
    /// abandoned: it was never sent and never will be.
    async fn insert(&self, question: &Question, claim: &Record, live: &Live) -> Result<Seen, Unavailable> {
        let (keep_for, as_of) = (question.terms.claim_keep_for, self.shared.answers.as_of());
        match self.timed(Call::Insert, self.store.insert(&question.key, claim, keep_for)).await {
            // A client library that sends a command again finds its own first write.
            Ok(Seen::Record(found)) if *found == *claim => Ok(Seen::Nothing),
            Ok(seen) => {
                if let Seen::Record(record) = &seen {
                    self.shared.answers.remember(question.key, record, as_of);
                }
                Ok(seen)
            }
            // Nothing is left of it that would have to be removed.
            Err(error @ StoreError::Crowded(_)) => Err(Unavailable::Store(error)),
            Err(error) => {
                live.abandon();
                self.shared.traces.add(question.key, claim.version);
                Err(match error {
                    StoreError::Standing(_) => Unavailable::KeyStands(error),
                    StoreError::Unreachable(_)
                    | StoreError::TimedOut(_)
                    | StoreError::Refused(_)
                    | StoreError::StrangeCursor
                    | StoreError::Crowded(_)
                    | StoreError::Engine(_) => Unavailable::Store(error),
                })
            }
        }
    }

    /// Judges what was seen, asking for the owner of a record in flight.
    pub(super) async fn judge(&self, seen: Seen, question: &Question) -> Result<Judged, Unavailable> {
        let judged = |seen, owner| Judged::As(machine::judge(seen, &question.asked, owner), owner);
        let verdict = machine::judge(seen, &question.asked, Owner::Working);
        let Verdict::InFlight(record) = verdict else { return Ok(Judged::As(verdict, Owner::Working)) };
        match self.owner_of(&record).await? {
            Owner::Working => Ok(Judged::As(Verdict::InFlight(record), Owner::Working)),
            Owner::NeverSent => Ok(judged(Seen::Record(Box::new(record)), Owner::NeverSent)),
            // The owner may have settled just before it went: only a record that still stands after its
            // owner is known to be gone is an orphan.
            Owner::Gone => {
                match self
                    .timed(Call::Fetch, self.store.fetch(&question.key))
                    .await
                    .map_err(Unavailable::KeyStands)?
                {
                    Seen::Record(again) if again.version == record.version => {
                        Ok(judged(Seen::Record(again), Owner::Gone))
                    }
                    Seen::Nothing => Ok(Judged::GoneMeanwhile),
                    again @ (Seen::Record(_) | Seen::Unreadable) => Ok(judged(again, Owner::Working)),
                }
            }
        }
    }

    async fn owner_of(&self, record: &Record) -> Result<Owner, Unavailable> {
        let attempt = record.version.attempt;
        if record.session == self.shared.sessions.own() {
            return Ok(self.shared.attempts.owner_of(attempt));
        }
        let life = self
            .timed(Call::Session, self.store.session_life(record.session))
            .await
            .map_err(Unavailable::KeyStands)?;
        Ok(sessions::owner_by(self, record.session, life))
    }
}

/// What a caller is told whose key is somebody else's; nothing if the request may run.
fn known(verdict: Verdict) -> Option<Known> {
    match verdict {
        Verdict::Replay(saved, settled) => Some(Known::Replay(saved, settled)),
        Verdict::BodyNotKept(head) => Some(Known::BodyNotKept(head)),
        Verdict::Mismatch => Some(Known::Mismatch),
        Verdict::InFlight(_) => Some(Known::InFlight),
        Verdict::Unknown(reason) => Some(Known::Unknown(reason)),
        Verdict::Execute | Verdict::Reclaim(_) => None,
    }
}

fn fresh_attempt() -> Attempt {
    Attempt(uuid::Uuid::new_v4().into_bytes())
}
