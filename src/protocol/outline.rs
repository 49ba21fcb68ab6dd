//! What is known of one key, without what was answered: what operators are shown.
//!
//! Must not hold bodies, header values, raw keys or credentials. Read `record.rs` before.

use super::record::{Attempt, Phase, Record, Session, Settled, UnixMillis, UnknownReason, Version};

/// A record without its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Which write the record is.
    pub version: Version,
    /// The process that made the claim.
    pub session: Session,
    /// How many attempts this key has seen, from 1.
    pub attempts: u32,
    /// When the first claim was made.
    pub opened_at: UnixMillis,
    /// The route's path pattern.
    pub route: String,
    /// Where in its life the key stands.
    pub stage: Stage,
}

/// Where in its life a key stands, without its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Claimed and presumed sent. If the claim's session is dead, this is an unknown outcome.
    InFlight,
    /// Answered; the answer replays.
    Done {
        /// Of the first answer.
        status: u16,
        /// Bytes of its body, before anything was done to it.
        body_bytes: u64,
        /// When it was complete, and how long it is kept from then.
        settled: Settled,
    },
    /// Answered, but the body was too large or streamed.
    DoneWithoutBody {
        /// Of the first answer.
        status: u16,
        /// When it was complete, and how long it is kept from then.
        settled: Settled,
    },
    /// Sent, and nobody but the upstream knows what came of it.
    Unknown {
        /// What cut the answer off.
        reason: UnknownReason,
    },
}

impl Outline {
    /// The claim that the record belongs to.
    pub fn attempt(&self) -> Attempt {
        self.version.attempt
    }
}

impl From<&Record> for Outline {
    fn from(record: &Record) -> Self {
        Self {
            version: record.version,
            session: record.session,
            attempts: record.attempts,
            opened_at: record.opened_at,
            route: record.route.clone(),
            stage: Stage::from(&record.phase),
        }
    }
}

impl From<&Phase> for Stage {
    fn from(phase: &Phase) -> Self {
        match phase {
            Phase::InFlight => Self::InFlight,
            Phase::Done { saved, settled } => Self::Done {
                status: saved.head.status,
                body_bytes: u64::try_from(saved.body.len()).unwrap_or(u64::MAX),
                settled: *settled,
            },
            Phase::DoneWithoutBody { head, settled } => {
                Self::DoneWithoutBody { status: head.status, settled: *settled }
            }
            Phase::Unknown { reason } => Self::Unknown { reason: *reason },
        }
    }
}
