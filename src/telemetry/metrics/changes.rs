//! What operators changed, and what came of reading the configuration again.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{CONFIG_RELOADS, OPERATOR_CHANGES};
use super::labelled::{Labelled, PerWord};

/// What an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorAction {
    /// That a key be given back.
    Release,
    /// That an answer be recorded.
    Complete,
    /// That a record be forgotten.
    Forget,
    /// That more or less be logged.
    LogLevel,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// It is done.
    Done,
    /// It was not done: not allowed, not possible, or not what stands there.
    Refused,
    /// It was begun, and nobody knows what came of it.
    Unknown,
}

/// What is counted of changes.
#[derive(Debug)]
pub struct ChangeMetrics {
    operators: PerWord<(OperatorAction, ChangeOutcome), Counter>,
    taken: Counter,
    refused: Counter,
}

impl ChangeMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let changes: Labelled<Counter> = Labelled::registered(registry, &OPERATOR_CHANGES, Counter::default);
        let reloads: Labelled<Counter> = Labelled::registered(registry, &CONFIG_RELOADS, Counter::default);
        let each = OperatorAction::ALL.iter();
        let pairs: Vec<_> =
            each.flat_map(|action| ChangeOutcome::ALL.map(|outcome| (*action, outcome))).collect();
        Self {
            operators: PerWord::of(&pairs, |(action, outcome)| {
                changes.with(&[action.as_str(), outcome.as_str()])
            }),
            taken: reloads.with(&["taken"]),
            refused: reloads.with(&["refused"]),
        }
    }

    /// Counts what an operator asked for.
    pub fn by_operator(&self, action: OperatorAction, outcome: ChangeOutcome) {
        if let Some(counter) = self.operators.get((action, outcome)) {
            counter.inc();
        }
    }

    /// Counts a reload.
    pub fn reloaded(&self, is_taken: bool) {
        if is_taken {
            self.taken.inc()
        } else {
            self.refused.inc()
        };
    }
}

impl OperatorAction {
    const ALL: [Self; 4] = [Self::Release, Self::Complete, Self::Forget, Self::LogLevel];

    /// By its word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Complete => "complete",
            Self::Forget => "forget",
            Self::LogLevel => "log-level",
        }
    }
}

impl ChangeOutcome {
    const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Unknown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}
