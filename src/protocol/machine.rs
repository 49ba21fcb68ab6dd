//! The only place where a record changes.
//!
//! [`judge`] says what a request may do, given what the store answered; [`settle`] says what the record
//! becomes when the outcome of the forward is known. Both are total and pure. Must not know stores,
//! HTTP or clocks. Read `record.rs` before, `../ledger/mod.rs` after; `histories.rs` holds the proof by
//! enumeration.

use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::policy::OnUnknown;
use super::record::{Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, UnknownReason, Version};
use super::saved::{SavedHead, SavedResponse};

/// What a request asks of the machine.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the request would do.
    pub fingerprint: Fingerprint,
    /// Whether an unknown outcome may be run again.
    pub on_unknown: OnUnknown,
    /// The route's path pattern, kept in the record for operators.
    pub route: String,
}

/// The tokens a new claim is made of.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Fresh for every claim.
    pub attempt: Attempt,
    /// The claiming process.
    pub session: Session,
}

/// What is known of the owner of a record in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Its session lives, or may live: presume that it is at work.
    Working,
    /// Its session is dead, or the owner itself gave up without settling: nobody will tell the outcome.
    Gone,
    /// The owner knows that it never sent the request: its claim arrived in the store after it had
    /// given up on it.
    NeverSent,
}

/// What a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The claim just written is the first: forward.
    Execute,
    /// Forward, if the store still holds this version and lets a new claim take its place.
    Reclaim(Record),
    /// Answer with the first answer.
    Replay(SavedResponse, Settled),
    /// The first answer is known, its body is not.
    BodyNotKept(SavedHead),
    /// The key belongs to another request.
    Mismatch,
    /// The first request is still at work.
    InFlight(Record),
    /// Nobody knows what came of the first request.
    Unknown(UnknownReason),
}

/// What came of a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Completed(SavedResponse),
    /// A whole answer whose body is not kept.
    CompletedWithoutBody(SavedHead),
    /// Proof that the upstream did not process the request.
    Unprocessed,
    /// Sent, and no whole answer.
    Unknown(UnknownReason),
}

/// What the store has to do to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Put `next` in its place, if the version is still the one seen.
    Write {
        /// The record to stand there.
        next: Record,
        /// Its retention from now.
        keep_for: Duration,
    },
    /// Remove it, if the version is still the one seen.
    Remove,
    /// Leave it: an answer never changes.
    Keep,
}

/// How long settled records are kept, from the moment they are settled.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Answers.
    pub answer: Duration,
    /// Unknown outcomes.
    pub unknown: Duration,
}

/// The record of a first claim.
pub fn claim(token: Token, asked: &Asked, now: UnixMillis) -> Record {
    Record {
        version: Version { attempt: token.attempt, revision: 0 },
        session: token.session,
        fingerprint: asked.fingerprint,
        attempts: 1,
        opened_at: now,
        route: asked.route.clone(),
        phase: Phase::InFlight,
    }
}

/// The record of a claim that takes the place of `over`, whose attempt may have run if its outcome was
/// unknown, and has not if it was never sent.
pub fn reclaim(over: &Record, token: Token, asked: &Asked, owner: Owner) -> Record {
    let ran_perhaps = match owner {
        Owner::NeverSent => 0,
        Owner::Working | Owner::Gone => 1,
    };
    Record { attempts: over.attempts.saturating_add(ran_perhaps), ..claim(token, asked, over.opened_at) }
}

/// Says what a request may do, given what the store answered to its claim.
///
/// `owner` is asked for only when the record is in flight; pass [`Owner::Working`] until it is known.
/// Checked in this order: mismatch, replay, unknown, in flight.
pub fn judge(seen: Seen, asked: &Asked, owner: Owner) -> Verdict {
    let record = match seen {
        Seen::Nothing => return Verdict::Execute,
        Seen::Unreadable => return Verdict::Unknown(UnknownReason::Unreadable),
        Seen::Record(record) => *record,
    };
    // A claim that was never sent is no claim, so it cannot be mismatched either.
    if record.phase == Phase::InFlight && owner == Owner::NeverSent {
        return Verdict::Reclaim(record);
    }
    if record.fingerprint != asked.fingerprint {
        return Verdict::Mismatch;
    }
    match (record.phase, owner) {
        (Phase::Done { saved, settled }, _) => Verdict::Replay(saved, settled),
        (Phase::DoneWithoutBody { head, .. }, _) => Verdict::BodyNotKept(head),
        (phase @ Phase::Unknown { reason }, _) => {
            unknown(Record { phase, ..record }, reason, asked.on_unknown)
        }
        (Phase::InFlight, Owner::Gone) => {
            let record = Record { phase: Phase::InFlight, ..record };
            unknown(record, UnknownReason::SessionDied, asked.on_unknown)
        }
        (Phase::InFlight, Owner::Working | Owner::NeverSent) => {
            Verdict::InFlight(Record { phase: Phase::InFlight, ..record })
        }
    }
}

fn unknown(record: Record, reason: UnknownReason, on_unknown: OnUnknown) -> Verdict {
    match on_unknown {
        OnUnknown::Reject => Verdict::Unknown(reason),
        OnUnknown::Retry => Verdict::Reclaim(record),
    }
}

/// Says what becomes of `record`, seen by its own attempt, when the outcome is known.
pub fn settle(record: &Record, outcome: Outcome, now: UnixMillis, retention: Retention) -> Transition {
    let settled = Settled { at: now, keep_for: retention.answer };
    match (&record.phase, outcome) {
        // An answer never changes: a late second opinion is dropped.
        (Phase::Done { .. } | Phase::DoneWithoutBody { .. }, _) => Transition::Keep,
        (Phase::InFlight | Phase::Unknown { .. }, Outcome::Completed(saved)) => {
            write(record, Phase::Done { saved, settled }, retention.answer)
        }
        (Phase::InFlight | Phase::Unknown { .. }, Outcome::CompletedWithoutBody(head)) => {
            write(record, Phase::DoneWithoutBody { head, settled }, retention.answer)
        }
        (Phase::InFlight | Phase::Unknown { .. }, Outcome::Unprocessed) => Transition::Remove,
        (Phase::InFlight, Outcome::Unknown(reason)) => {
            write(record, Phase::Unknown { reason }, retention.unknown)
        }
        (Phase::Unknown { .. }, Outcome::Unknown(_)) => Transition::Keep,
    }
}

/// The same claim once more, to be written so that its retention starts anew while the answer streams.
pub fn extend(record: &Record) -> Record {
    Record { version: version_after(record.version), ..record.clone() }
}

fn write(record: &Record, phase: Phase, keep_for: Duration) -> Transition {
    let next = Record { version: version_after(record.version), phase, ..record.clone() };
    Transition::Write { next, keep_for }
}

/// The version of the write after `version`.
pub fn version_after(version: Version) -> Version {
    Version { revision: version.revision.saturating_add(1), ..version }
}
