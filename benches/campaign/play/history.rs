//! What was written down: every request of a caller with what it was told, every request that reached the service with
//! what the service did, and when everything was healed.
//!
//! Plain data, in microseconds from the beginning. Must not know what is right; `check.rs` does.

use std::fmt::Write as _;

/// Microseconds since the campaign began.
pub(crate) type Moment = u64;

/// An idempotency key of one of two callers who use the same keys and send the same bodies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Name {
    pub(crate) scope: u8,
    pub(crate) key: u32,
}

/// How a path is guarded. A key belongs to one path for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Path {
    /// A duplicate in flight is refused.
    Payments,
    /// A duplicate in flight waits.
    Orders,
    /// An unknown outcome is run again, as the service is said to bear it: the one path where a key may run twice.
    Retried,
}

/// A request of a caller, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Call {
    /// Calls of one number are one caller's tries at one thing.
    pub(crate) operation: u64,
    pub(crate) name: Name,
    /// 0 is the body that nearly everybody sends, 1 the altered one.
    pub(crate) variant: u8,
    pub(crate) gateway: u8,
    /// Whether it belongs to the reading of every key at the end.
    pub(crate) is_final_read: bool,
    pub(crate) began: Moment,
    pub(crate) ended: Moment,
    pub(crate) told: Told,
}

/// What a caller was told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Told {
    /// An answer of the service, under its number. It is sound if its bytes are those that the number stands for.
    Answer {
        execution: u64,
        word: Word,
        is_sound: bool,
    },
    /// The service's word that it did nothing.
    Refused {
        execution: u64,
    },
    Problem(Problem),
    /// No connection, no answer in time, or half of one.
    Nothing,
    /// Something that is neither an answer of the service nor a problem document.
    Nonsense(u16),
}

/// `Idempotency-Status` of an answer of the service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Word {
    Executed,
    Replayed,
    Unstored,
    BodyNotKept,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Problem {
    InFlight,
    /// To the caller whose request it was.
    OutcomeUnknownNow,
    /// To a retry.
    OutcomeUnknown,
    ResultUnavailable,
    KeyReused,
    UpstreamUnreachable,
    StoreUnavailable,
    Draining,
    Overloaded,
    Unexpected(u16),
}

/// A whole request that reached the service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    /// Counts from 0; it is the number of the execution, too.
    pub(crate) number: u64,
    pub(crate) name: Name,
    pub(crate) variant: u8,
    pub(crate) at: Moment,
    pub(crate) deed: Deed,
}

/// What the service did with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// The effect, and an answer.
    Answered,
    /// The effect, and an answer too large to be kept.
    AnsweredLarge,
    /// The effect, and then the connection ended without the whole answer.
    DoneAndCut,
    /// The connection ended before the effect.
    Cut,
    /// A status by which it says that it did nothing, and so it was.
    Refused,
}

/// Everything.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    pub(crate) arrivals: Vec<Arrival>,
    /// What was done to the servers: when, until when, and what.
    pub(crate) faults: Vec<(Moment, Moment, String)>,
    /// From when everything was whole to when the next fault began.
    pub(crate) quiet: Vec<(Moment, Moment)>,
}

impl Path {
    pub(crate) fn of(key: u32) -> Self {
        match key % 8 {
            0..=3 => Self::Payments,
            4..=6 => Self::Orders,
            _ => Self::Retried,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Payments => "/payments",
            Self::Orders => "/orders",
            Self::Retried => "/retried",
        }
    }
}

impl Deed {
    /// Whether the effect happened.
    pub(crate) fn is_effect(self) -> bool {
        matches!(self, Self::Answered | Self::AnsweredLarge | Self::DoneAndCut)
    }
}

impl Told {
    /// The number of the service's answer, if it is one.
    pub(crate) fn execution(self) -> Option<u64> {
        match self {
            Self::Answer { execution, .. } => Some(execution),
            Self::Refused { .. } | Self::Problem(_) | Self::Nothing | Self::Nonsense(_) => None,
        }
    }

    /// Whether there is nothing to be gained by asking again.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Answer { .. } => true,
            Self::Problem(problem) => {
                matches!(problem, Problem::OutcomeUnknown | Problem::ResultUnavailable | Problem::KeyReused)
            }
            Self::Refused { .. } | Self::Nothing | Self::Nonsense(_) => false,
        }
    }
}

impl History {
    /// A line for each entry, to be read by people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for arrival in &self.arrivals {
            writeln!(text, "{:>12} {arrival:?}", arrival.at).unwrap();
        }
        for call in &self.calls {
            writeln!(text, "{:>12} {call:?}", call.began).unwrap();
        }
        for (from, until, fault) in &self.faults {
            writeln!(text, "{from:>12} until {until}: {fault}").unwrap();
        }
        for (from, to) in &self.quiet {
            writeln!(text, "{from:>12} quiet until {to}").unwrap();
        }
        text
    }
}
