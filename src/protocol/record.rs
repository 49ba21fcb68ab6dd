//! What the store holds under one storage key.
//!
//! A record changes only in `machine.rs`; how it is written as bytes is `../store/codec.rs`.

use std::fmt;
use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::saved::{SavedHead, SavedResponse};

/// A moment, in milliseconds since the Unix epoch. Shown to people and used for `Age`; never decides
/// who may run: retention is measured by the store's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

/// The token of one claim. Every later write is a compare-and-swap on it, so an owner that lost its
/// claim cannot overwrite its successor.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt(pub [u8; 16]);

/// The token of one gateway process. A claim is alive while its session is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session(pub [u8; 16]);

/// Which write of which attempt a record is. A store compares it whole, so that a write that arrives
/// late cannot undo a later write of the same attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The claim.
    pub attempt: Attempt,
    /// Counts the writes of this attempt, from 0.
    pub revision: u32,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which write this is.
    pub version: Version,
    /// The process that made the claim.
    pub session: Session,
    /// What the first request asked for.
    pub fingerprint: Fingerprint,
    /// How many attempts this key has seen, from 1; more than 1 only by `on_unknown = "retry"`.
    pub attempts: u32,
    /// When the first claim was made.
    pub opened_at: UnixMillis,
    /// The route's path pattern, for operators.
    pub route: String,
    /// Where in its life the key stands.
    pub phase: Phase,
}

/// Where in its life a key stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Claimed and presumed sent.
    InFlight,
    /// Answered; the answer replays.
    Done {
        /// The first answer.
        saved: SavedResponse,
        /// When it was complete, and how long it is kept from then.
        settled: Settled,
    },
    /// Answered, but the body was too large or streamed.
    DoneWithoutBody {
        /// Status and headers of the first answer.
        head: SavedHead,
        /// When it was complete, and how long it is kept from then.
        settled: Settled,
    },
    /// Sent, and nobody but the upstream knows what came of it.
    Unknown {
        /// What cut the answer off.
        reason: UnknownReason,
    },
}

/// When an answer was complete and for how long it replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The moment of completion.
    pub at: UnixMillis,
    /// Retention, counted from `at`.
    pub keep_for: Duration,
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// The connection was reset or closed, or the answer was malformed, after a byte had been sent.
    ConnectionLost,
    /// No whole answer within `response_timeout`.
    ResponseTimeout,
    /// The answer began and did not end.
    AnswerCutShort,
    /// The upstream switched protocols on a request that was to be guarded.
    ProtocolSwitched,
    /// A 5xx answer on a route with `on_5xx = "unknown"`.
    ServerError,
    /// The gateway was stopped before the answer came.
    GatewayStopped,
    /// The last attempt was not processed, and what came of one before it is unknown.
    EarlierAttempt,
    /// The session of the claim died; derived by the reader, never written.
    SessionDied,
    /// The record cannot be read: written by a newer version, or damaged.
    Unreadable,
}

impl UnknownReason {
    /// The word for people and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionLost => "connection-lost",
            Self::ResponseTimeout => "response-timeout",
            Self::AnswerCutShort => "answer-cut-short",
            Self::ProtocolSwitched => "protocol-switched",
            Self::ServerError => "server-error",
            Self::GatewayStopped => "gateway-stopped",
            Self::EarlierAttempt => "earlier-attempt",
            Self::SessionDied => "session-died",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a store answered when asked for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No record: nobody has claimed the key, or its retention ended.
    Nothing,
    /// A record stands there and cannot be read. Never the same as nothing.
    Unreadable,
    /// The record.
    Record(Box<Record>),
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attempt({:032x})", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:032x})", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let reasons = [
            UnknownReason::ConnectionLost,
            UnknownReason::ResponseTimeout,
            UnknownReason::AnswerCutShort,
            UnknownReason::ProtocolSwitched,
            UnknownReason::ServerError,
            UnknownReason::GatewayStopped,
            UnknownReason::EarlierAttempt,
            UnknownReason::SessionDied,
            UnknownReason::Unreadable,
        ];
        let words: BTreeSet<_> = reasons.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), reasons.len());
        assert!(words.iter().all(|word| word.len() > 4), "{words:?}");
    }

    #[test]
    fn tokens_are_shown_by_all_their_digits() {
        let mut token = [0; 16];
        token[15] = 0xab;
        let shown = format!("{:?} {:?}", Attempt(token), Session(token));
        let digits = format!("{}ab", "0".repeat(30));
        assert_eq!(shown, format!("Attempt({digits}) Session({digits})"));
    }
}
