//! What operators are told of operations, and why one was not changed.
//!
//! Must not know the store. Read `../operations.rs` before.

use std::time::Duration;

use super::super::Unavailable;
use crate::protocol::outline::Outline;
use crate::protocol::record::UnknownReason;
use crate::protocol::scope::StorageKey;
use crate::store::Cursor;

/// What an operator is told who finds a claim whose process may have ended a moment ago.
const WORTH_ANOTHER_TRY: &str = "; if its gateway has ended, try again in some seconds, when that is certain";

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Where its record stands.
    pub key: StorageKey,
    /// Where in its life it is, as a request with this key would be told.
    pub state: State,
    /// What the record says. `None`: it cannot be read.
    pub outline: Option<Outline>,
    /// How long it is still kept.
    pub keep_for: Duration,
}

/// Where in its life a key is, as a request with it would be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first request is still at work.
    InFlight,
    /// Answered; the answer replays.
    Done,
    /// Answered, but the body was too large or streamed.
    DoneWithoutBody,
    /// Nobody knows what came of the first request.
    Unknown(UnknownReason),
}

/// Which operations are wanted. `None`: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// In this state, by the word of [`State::as_str`].
    pub state: Option<&'static str>,
    /// Of the route with this path pattern.
    pub route: Option<String>,
}

/// Some of the operations that are wanted.
#[derive(Clone, Debug)]
pub struct Found {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Records looked through for them.
    pub looked_through: usize,
    /// Where to go on; `None`: these were the last.
    pub next: Option<Cursor>,
}

/// Why an operation was not changed. Unless it is [`NotChanged::Unavailable`], nothing was.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// No record stands under the key.
    #[error("find a record: there is none, or its retention has ended")]
    Absent,
    /// Its outcome is not unknown.
    #[error("resolve it: its outcome is not unknown, it is {}{}", .0.as_str(), .0.hint())]
    NotUnknown(State),
    /// The request is at work: to forget it would let another run beside it.
    #[error("forget it: the request is still at work{WORTH_ANOTHER_TRY}")]
    InFlight,
    /// Another attempt stands there than the operator has seen.
    #[error("find the expected attempt: the record has changed")]
    Changed,
    /// The record cannot be read, so nobody can tell which attempt it is.
    #[error("read the record")]
    Unreadable,
    /// Nothing is known: the change may have been made.
    #[error("have the store make the change")]
    Unavailable(#[from] Unavailable),
}

impl State {
    /// Every word of [`State::as_str`].
    pub const WORDS: [&'static str; 4] = ["in-flight", "done", "done-without-body", "unknown"];

    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Done => "done",
            Self::DoneWithoutBody => "done-without-body",
            Self::Unknown(_) => "unknown",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::InFlight => WORTH_ANOTHER_TRY,
            Self::Done | Self::DoneWithoutBody | Self::Unknown(_) => "",
        }
    }
}

impl Wanted {
    pub(super) fn is(&self, operation: &Operation) -> bool {
        let route = operation.outline.as_ref().map(|outline| &outline.route);
        self.state.is_none_or(|state| state == operation.state.as_str())
            && self.route.as_ref().is_none_or(|wanted| Some(wanted) == route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(state: State) -> Operation {
        Operation { key: StorageKey::from_bytes([1; 32]), state, outline: None, keep_for: Duration::ZERO }
    }

    #[test]
    fn every_state_has_its_word_and_only_a_claim_is_worth_another_try() {
        let states = [
            State::InFlight,
            State::Done,
            State::DoneWithoutBody,
            State::Unknown(UnknownReason::SessionDied),
        ];
        assert_eq!(states.map(State::as_str), State::WORDS);
        let told = states.map(|state| NotChanged::NotUnknown(state).to_string());
        assert!(told[0].ends_with(WORTH_ANOTHER_TRY), "{told:?}");
        assert!(told.iter().zip(State::WORDS).skip(1).all(|(told, word)| told.ends_with(word)), "{told:?}");
    }

    #[test]
    fn what_is_wanted_is_told_by_state_and_route() {
        let done = operation(State::Done);
        let by = |state, route: Option<&str>| Wanted { state, route: route.map(str::to_owned) };
        assert!(by(None, None).is(&done) && by(Some("done"), None).is(&done));
        assert!(!by(Some("unknown"), None).is(&done));
        // Of a record that cannot be read nobody knows the route.
        assert!(!by(Some("done"), Some("/payments")).is(&done) && !by(None, Some("/payments")).is(&done));
    }
}
