//! What operators see and do: records without their answers, unknown outcomes resolved, keys forgotten.
//!
//! An operator is told what a request with the same key would be told: a claim whose session is dead is an unknown
//! outcome. Every change is a compare-and-swap on what the operator has seen. Must not know who the operator is
//! (`../admin/`). Read `open.rs` and `../protocol/outline.rs` before.

use std::time::Duration;

use super::{Ledger, Unavailable, sessions};
use crate::protocol::machine::Owner;
use crate::protocol::outline::{Outline, Stage};
use crate::protocol::record::{Attempt, Session, UnknownReason};
use crate::protocol::saved::SavedResponse;
use crate::protocol::scope::StorageKey;
use crate::store::{Cursor, Listed};
use crate::telemetry::metrics::StoreCall;

/// Records looked through for one page at most, so that a rare state in a large store takes several calls and not one
/// long one.
pub const LOOKED_THROUGH_MAX: usize = 10_000;

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

/// How an operator resolves an unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The upstream did not process the request: the next one with the key is a first one.
    Release,
    /// The upstream did, and this was its answer.
    Complete {
        /// The true answer.
        answer: SavedResponse,
        /// How long it replays.
        keep_for: Duration,
    },
}

/// Why an operation was not changed. Unless it is [`NotChanged::Unavailable`], nothing was.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// No record stands under the key.
    #[error("find a record: there is none, or its retention has ended")]
    Absent,
    /// Its outcome is not unknown.
    #[error("resolve it: its outcome is not unknown, it is {}", .0.as_str())]
    NotUnknown(State),
    /// The request is at work: to forget it would let another run beside it.
    #[error("forget it: the request is still at work")]
    InFlight,
    /// Another attempt stands there than the operator has seen.
    #[error("find the expected attempt: the record has changed")]
    Changed,
    /// The record cannot be read, so nobody can tell which attempt it is.
    #[error("read the record")]
    Unreadable,
    /// Nothing is known: the change may have been made.
    #[error("have the store make the change")]
    Unavailable(#[source] Unavailable),
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
}

impl Wanted {
    fn is(&self, operation: &Operation) -> bool {
        let route = operation.outline.as_ref().map(|outline| &outline.route);
        self.state.is_none_or(|state| state == operation.state.as_str())
            && self.route.as_ref().is_none_or(|wanted| Some(wanted) == route)
    }
}

impl Ledger {
    /// Some of the operations that are wanted, `most` of them at most, beginning after `after`. An operation that
    /// stands all the while is in one page at least when all pages are asked for; one may be in two.
    ///
    /// Errors: the store was out of reach.
    pub async fn list(
        &self,
        wanted: &Wanted,
        after: Option<Cursor>,
        most: usize,
    ) -> Result<Found, Unavailable> {
        let (mut operations, mut looked_through, mut next) = (Vec::new(), 0, after);
        loop {
            let page = most.saturating_sub(operations.len()).max(1);
            let listing =
                self.timed(StoreCall::List, self.store.list(next, page)).await.map_err(Unavailable::Store)?;
            looked_through += listing.records.len();
            for listed in listing.records {
                let operation = self.operation(listed).await?;
                if wanted.is(&operation) {
                    operations.push(operation);
                }
            }
            next = listing.next;
            if next.is_none() || operations.len() >= most || looked_through >= LOOKED_THROUGH_MAX {
                return Ok(Found { operations, looked_through, next });
            }
        }
    }

    /// What is known of one key; `None`: nothing.
    ///
    /// Errors: the store was out of reach.
    pub async fn look(&self, key: &StorageKey) -> Result<Option<Operation>, Unavailable> {
        match self.timed(StoreCall::Outline, self.store.outline(key)).await.map_err(Unavailable::Store)? {
            Some(listed) => self.operation(listed).await.map(Some),
            None => Ok(None),
        }
    }

    /// Resolves an unknown outcome, if the attempt that stands is the one expected. Answers what stands afterwards.
    ///
    /// Errors: see [`NotChanged`].
    /// Cancel safety: dropping the future may leave the change made or not.
    pub async fn resolve(
        &self,
        key: &StorageKey,
        expected: Attempt,
        resolution: Resolution,
    ) -> Result<Option<Operation>, NotChanged> {
        let stands = self.look(key).await.map_err(NotChanged::Unavailable)?.ok_or(NotChanged::Absent)?;
        let outline = stands.outline.ok_or(NotChanged::Unreadable)?;
        if outline.attempt() != expected {
            return Err(NotChanged::Changed);
        }
        let _ = resolution;
        Err(NotChanged::NotUnknown(stands.state))
    }

    /// Forgets a key: the next request with it is a first one. `expected`: only if this attempt stands.
    ///
    /// Errors: see [`NotChanged`].
    /// Cancel safety: dropping the future may leave the change made or not.
    pub async fn forget(&self, key: &StorageKey, expected: Option<Attempt>) -> Result<(), NotChanged> {
        let stands = self.look(key).await.map_err(NotChanged::Unavailable)?.ok_or(NotChanged::Absent)?;
        let outline = stands.outline.ok_or(NotChanged::Unreadable)?;
        match expected {
            Some(expected) if outline.attempt() != expected => Err(NotChanged::Changed),
            Some(_) | None => Err(NotChanged::InFlight),
        }
    }

    async fn operation(&self, Listed { key, outline, keep_for }: Listed) -> Result<Operation, Unavailable> {
        let state = match &outline {
            None => State::Unknown(UnknownReason::Unreadable),
            Some(outline) => match outline.stage {
                Stage::Done { .. } => State::Done,
                Stage::DoneWithoutBody { .. } => State::DoneWithoutBody,
                Stage::Unknown { reason } => State::Unknown(reason),
                Stage::InFlight => match self.owner(outline.session, outline.attempt()).await? {
                    Owner::Working | Owner::NeverSent => State::InFlight,
                    Owner::Gone => State::Unknown(UnknownReason::SessionDied),
                },
            },
        };
        Ok(Operation { key, state, outline, keep_for })
    }

    async fn owner(&self, session: Session, attempt: Attempt) -> Result<Owner, Unavailable> {
        if session == self.shared.sessions.own() {
            return Ok(self.shared.attempts.owner_of(attempt));
        }
        let life = self
            .timed(StoreCall::Session, self.store.session_life(session))
            .await
            .map_err(Unavailable::Store)?;
        Ok(sessions::owner_by(self, session, life))
    }
}
