//! What becomes of claims, and what the store takes to keep them.
//!
//! Must not know what a claim is, nor what a store holds. The words are those of `../../ledger/`.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{CLAIMS_SETTLED, LATE_ANSWERS, STORE_CALL};
use super::histogram::Histogram;
use super::labelled::{Labelled, PerWord};

/// What a store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To write a claim if nothing stands under its key.
    Insert,
    /// To write a record in the place of another.
    Swap,
    /// To remove a record.
    Remove,
    /// For a record.
    Fetch,
    /// Whether another process is alive.
    Session,
    /// To tell of changes to a record.
    Watch,
    /// To take a heartbeat.
    Heartbeat,
    /// To end the session of this process.
    EndSession,
    /// For a page of records, for operators.
    List,
    /// For a record without its answer, for operators.
    Outline,
    /// To note that an operator changed something.
    CountForgetting,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It was answered.
    Ok,
    /// It failed.
    Error,
    /// There was no answer in time.
    Timeout,
}

/// What came of a request under a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// An answer that is kept.
    Completed,
    /// An answer whose body is not kept.
    WithoutBody,
    /// It was not processed; the key is free again.
    Released,
    /// Nobody knows.
    Unknown,
}

/// What came of writing an outcome down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The store has it.
    Stored,
    /// The store has not taken it yet.
    Unstored,
    /// The store holds another attempt in its place.
    Superseded,
}

/// What the ledger counts.
#[derive(Debug)]
pub struct ClaimMetrics {
    calls: PerWord<(Call, CallOutcome), Histogram>,
    settled: PerWord<(Settled, Written), Counter>,
    late_answers: Counter,
}

impl ClaimMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let call = Labelled::registered(registry, &STORE_CALL, Histogram::brief_once_seen);
        let settled: Labelled<Counter> = Labelled::registered(registry, &CLAIMS_SETTLED, Counter::default);
        let late_answers = Counter::default();
        LATE_ANSWERS.register(registry, late_answers.clone());
        let calls = pairs(&Call::ALL, &CallOutcome::ALL);
        let outcomes = pairs(&Settled::ALL, &Written::ALL);
        Self {
            calls: PerWord::of(&calls, |(asked, outcome)| call.with(&[asked.as_str(), outcome.as_str()])),
            settled: PerWord::of(&outcomes, |(outcome, written)| {
                settled.with(&[outcome.as_str(), written.as_str()])
            }),
            late_answers,
        }
    }

    /// Counts a call to the store that took so long.
    pub fn called(&self, call: Call, outcome: CallOutcome, took: Duration) {
        if let Some(histogram) = self.calls.get((call, outcome)) {
            histogram.observe(took);
        }
    }

    /// Counts a claim that was settled.
    pub fn settled(&self, outcome: Settled, written: Written) {
        if let Some(counter) = self.settled.get((outcome, written)) {
            counter.inc();
        }
    }

    /// Counts an answer that came late and was recorded.
    pub fn answered_late(&self) {
        self.late_answers.inc();
    }
}

impl Call {
    const ALL: [Self; 11] = [
        // The commonest first.
        Self::Insert,
        Self::Swap,
        Self::Fetch,
        Self::Heartbeat,
        Self::Remove,
        Self::Session,
        Self::Watch,
        Self::EndSession,
        Self::List,
        Self::Outline,
        Self::CountForgetting,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Swap => "swap",
            Self::Remove => "remove",
            Self::Fetch => "fetch",
            Self::Session => "session",
            Self::Watch => "watch",
            Self::Heartbeat => "heartbeat",
            Self::EndSession => "end-session",
            Self::List => "list",
            Self::Outline => "outline",
            Self::CountForgetting => "count-forgetting",
        }
    }
}

impl CallOutcome {
    const ALL: [Self; 3] = [Self::Ok, Self::Error, Self::Timeout];

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

impl Settled {
    const ALL: [Self; 4] = [Self::Completed, Self::WithoutBody, Self::Released, Self::Unknown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::WithoutBody => "without-body",
            Self::Released => "released",
            Self::Unknown => "unknown",
        }
    }
}

impl Written {
    const ALL: [Self; 3] = [Self::Stored, Self::Unstored, Self::Superseded];

    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Unstored => "unstored",
            Self::Superseded => "superseded",
        }
    }
}

fn pairs<A: Copy, B: Copy>(all: &[A], others: &[B]) -> Vec<(A, B)> {
    all.iter().flat_map(|one| others.iter().map(|other| (*one, *other))).collect()
}
