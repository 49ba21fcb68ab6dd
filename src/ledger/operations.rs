//! What operators see and do: records without their answers, unknown outcomes resolved, keys forgotten.
//!
//! An operator is told what a request with the same key would be told: a claim whose session is dead is an unknown
//! outcome. Every change is a compare-and-swap on what the operator has seen. Must not know who the operator is
//! (`../admin/`). Read `open.rs` and `../protocol/outline.rs` before; `operations/terms.rs` has what is answered.

mod terms;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Ledger, Unavailable, sessions};
use crate::clock;
use crate::protocol::machine::{self, HandsOff, Owner};
use crate::protocol::outline::{Outline, Stage};
use crate::protocol::record::{Attempt, Phase, Record, Seen, Session, UnknownReason};
use crate::protocol::saved::SavedResponse;
use crate::protocol::scope::StorageKey;
use crate::store::{Cursor, Listed, StoreError, Swapped};
use crate::telemetry::metrics::Call;

pub use crate::protocol::machine::Resolution;
pub use terms::{Found, NotChanged, Operation, State, Wanted};

/// Records looked through for one page at most, so that a rare state in a large store takes several calls and not one
/// long one.
pub const LOOKED_THROUGH_MAX: usize = 10_000;

/// Pages of the store that one call asks for at most, and how long it goes on asking: in a store that is shared with
/// others page after page may be empty, and whoever asked does not wait for ever.
const PAGES_MAX: usize = 40;
const LOOKED_FOR_MAX: Duration = Duration::from_secs(3);

/// Records asked for at once at most while few of them are wanted.
const PAGE_MAX: usize = 500;

/// How often a change is tried again when the record changes between look and write.
const CHANGE_ROUNDS_MAX: usize = 4;

impl Ledger {
    /// Some of the operations that are wanted, `most` of them or about as many, beginning after `after`. An operation
    /// that stands all the while is in one page at least when all pages are asked for; one may be in two.
    ///
    /// Errors: the store was out of reach.
    pub async fn list(
        &self,
        wanted: &Wanted,
        after: Option<Cursor>,
        most: usize,
    ) -> Result<Found, Unavailable> {
        let mut owners = HashMap::new();
        let (mut operations, mut looked_through, mut next) = (Vec::new(), 0, after);
        let (mut page, mut pages, began) = (most.max(1), 0, clock::monotonic());
        loop {
            let listing = self.asked(Call::List, self.store.list(next.clone(), page)).await?;
            let read = listing.records.len();
            let mut matching = Vec::new();
            for listed in listing.records {
                let operation = self.operation(listed, &mut owners).await?;
                if wanted.is(&operation) {
                    matching.push(operation);
                }
            }
            let room = most.saturating_sub(operations.len()).max(1);
            // More than there is room for, in a page that was larger than that: again, as small as need be.
            if matching.len() > room && page > room {
                page = room;
                continue;
            }
            // What is rare is looked for in ever larger pages.
            page = if matching.is_empty() { (page * 2).min(PAGE_MAX) } else { page };
            operations.append(&mut matching);
            looked_through += read;
            pages += 1;
            next = listing.next;
            let is_enough = operations.len() >= most
                || looked_through >= LOOKED_THROUGH_MAX
                || pages >= PAGES_MAX
                || clock::monotonic().saturating_duration_since(began) >= LOOKED_FOR_MAX;
            if next.is_none() || is_enough {
                return Ok(Found { operations, looked_through, next });
            }
        }
    }

    /// What is known of one key; `None`: nothing.
    ///
    /// Errors: the store was out of reach.
    pub async fn look(&self, key: &StorageKey) -> Result<Option<Operation>, Unavailable> {
        match self.asked(Call::Outline, self.store.outline(key)).await? {
            Some(listed) => self.operation(listed, &mut HashMap::new()).await.map(Some),
            None => Ok(None),
        }
    }

    /// Resolves an unknown outcome, if the attempt that stands is the one expected. Answers what stands afterwards.
    ///
    /// A claim of another process is unknown only once its session has been absent for a heartbeat. Until then it is
    /// [`NotChanged::NotUnknown`], and worth another try. One that a living process has given up is unknown to that
    /// process at once, and to others only when it has ended.
    ///
    /// A key that was claimed in two ways (`twofold.rs`) has two records, and this is about one of them; from a storage
    /// key the other cannot be told. Both are to be resolved, and alike: a retry is told of the older one first, and a
    /// gateway that knows one way of the two sees one of them only.
    ///
    /// May be repeated after [`NotChanged::Unavailable`]: what was done before is not done again, and a release that
    /// was done before is [`NotChanged::Absent`].
    ///
    /// Errors: see [`NotChanged`].
    /// Cancel safety: dropping the future may leave the change made or not.
    pub async fn resolve(
        &self,
        key: &StorageKey,
        expected: Attempt,
        resolution: Resolution,
    ) -> Result<Option<Operation>, NotChanged> {
        for _ in 0..CHANGE_ROUNDS_MAX {
            let record = match self.asked(Call::Fetch, self.store.fetch(key)).await? {
                Seen::Nothing => return self.absent(key).await,
                Seen::Unreadable => return Err(NotChanged::Unreadable),
                Seen::Record(record) => *record,
            };
            if record.version.attempt != expected {
                return Err(NotChanged::Changed);
            }
            // Said before: the answer to that was lost, or the operator asks once more.
            if is_completed_so(&record, &resolution) {
                self.make_known(key).await?;
                return Ok(Some(completed(key, &record)));
            }
            let owner = self.owner_by_stage(&Outline::from(&record)).await?;
            let next = machine::resolve(&record, owner, resolution.clone(), clock::unix_millis())
                .map_err(|hands_off| NotChanged::NotUnknown(not_unknown(hands_off, &record)))?;
            let swapped = match &next {
                None => self.changed(key, Call::Remove, self.store.remove(key, record.version)).await?,
                Some(next) => {
                    let keep_for = kept_for(&next.phase);
                    self.changed(key, Call::Swap, self.store.swap(key, record.version, next, keep_for))
                        .await?
                }
            };
            match (swapped, next) {
                (Swapped::Done, Some(next)) => {
                    self.make_known(key).await?;
                    return Ok(Some(completed(key, &next)));
                }
                // Gone since it was seen, by this removal, sent twice, or by another: the key is free as asked.
                (Swapped::Done | Swapped::Absent, None) => return self.make_known(key).await.map(|()| None),
                (Swapped::Absent, Some(_)) => return self.absent(key).await,
                (Swapped::Changed, _) => {}
            }
        }
        Err(NotChanged::Changed)
    }

    /// Forgets a key: the next request with it is a first one. `expected`: only if this attempt stands.
    ///
    /// As with [`Ledger::resolve`], a claim whose session has just gone is still at work, a key that was claimed in
    /// two ways has another record, and the call may be repeated.
    ///
    /// Errors: see [`NotChanged`].
    /// Cancel safety: dropping the future may leave the change made or not.
    pub async fn forget(&self, key: &StorageKey, expected: Option<Attempt>) -> Result<(), NotChanged> {
        for _ in 0..CHANGE_ROUNDS_MAX {
            // Without its answer: a body that cannot be fetched does not stand in the way.
            let Some(stands) = self.asked(Call::Outline, self.store.outline(key)).await? else {
                return self.absent(key).await;
            };
            let outline = stands.outline.ok_or(NotChanged::Unreadable)?;
            if expected.is_some_and(|expected| expected != outline.attempt()) {
                return Err(NotChanged::Changed);
            }
            let owner = self.owner_by_stage(&outline).await?;
            machine::forget(outline.stage, owner).map_err(|_at_work| NotChanged::InFlight)?;
            match self.changed(key, Call::Remove, self.store.remove(key, outline.version)).await? {
                Swapped::Done | Swapped::Absent => return self.make_known(key).await,
                Swapped::Changed => {}
            }
        }
        Err(NotChanged::Changed)
    }

    /// Nothing stands under the key. Perhaps by an earlier call that could not make known what it had done.
    async fn absent<T>(&self, key: &StorageKey) -> Result<T, NotChanged> {
        self.make_known(key).await?;
        Err(NotChanged::Absent)
    }

    /// Has the store make a change. An error leaves open whether it does, so this process remembers nothing of it.
    async fn changed(
        &self,
        key: &StorageKey,
        call: Call,
        change: impl Future<Output = Result<Swapped, StoreError>>,
    ) -> Result<Swapped, NotChanged> {
        self.asked(call, change).await.inspect_err(|_| self.let_go(key)).map_err(Into::into)
    }

    /// After a change: nobody replays from memory what no longer stands, here at once, elsewhere by the next
    /// heartbeat; and whoever waits for the key looks again.
    ///
    /// Every change is counted, that of an unknown outcome too: a process that was cut off may hold an answer to it in
    /// memory that the store never had.
    async fn make_known(&self, key: &StorageKey) -> Result<(), NotChanged> {
        self.let_go(key);
        Ok(self.asked(Call::CountForgetting, self.store.count_forgetting()).await?)
    }

    fn let_go(&self, key: &StorageKey) {
        self.shared.answers.let_go();
        self.shared.waiters.wake(key);
    }

    async fn owner_by_stage(&self, outline: &Outline) -> Result<Owner, NotChanged> {
        match outline.stage {
            Stage::InFlight => {
                self.owner(outline.session, outline.attempt()).await.map_err(NotChanged::Unavailable)
            }
            // Whoever had the claim has told its outcome.
            Stage::Done { .. } | Stage::DoneWithoutBody { .. } | Stage::Unknown { .. } => Ok(Owner::Working),
        }
    }

    /// `others` remembers what the store said of other processes' sessions, so that it is asked once for each.
    async fn operation(
        &self,
        Listed { key, outline, keep_for }: Listed,
        others: &mut HashMap<Session, Owner>,
    ) -> Result<Operation, Unavailable> {
        let state = match &outline {
            None => State::Unknown(UnknownReason::Unreadable),
            Some(outline) => match outline.stage {
                Stage::Done { .. } => State::Done,
                Stage::DoneWithoutBody { .. } => State::DoneWithoutBody,
                Stage::Unknown { reason } => State::Unknown(reason),
                Stage::InFlight => {
                    let owner = match others.get(&outline.session) {
                        Some(owner) => *owner,
                        None => self.owner(outline.session, outline.attempt()).await?,
                    };
                    if outline.session != self.shared.sessions.own() {
                        others.insert(outline.session, owner);
                    }
                    state_in_flight(outline, owner)
                }
            },
        };
        Ok(Operation { key, state, outline, keep_for })
    }

    async fn owner(&self, session: Session, attempt: Attempt) -> Result<Owner, Unavailable> {
        if session == self.shared.sessions.own() {
            return Ok(self.shared.attempts.owner_of(attempt));
        }
        let life = self.asked(Call::Session, self.store.session_life(session)).await?;
        Ok(sessions::owner_by(self, session, life))
    }
}

/// Where a claim stands that is not settled, as [`machine::judge`] would tell a request.
fn state_in_flight(outline: &Outline, owner: Owner) -> State {
    match owner {
        Owner::Working => State::InFlight,
        Owner::NeverSent if outline.attempts <= 1 => State::InFlight,
        Owner::NeverSent => State::Unknown(UnknownReason::EarlierAttempt),
        Owner::Gone => State::Unknown(UnknownReason::SessionDied),
    }
}

/// Whether an operator has said the same of this attempt before.
fn is_completed_so(record: &Record, resolution: &Resolution) -> bool {
    match (&record.phase, resolution) {
        (Phase::Done { saved, .. }, Resolution::Complete { answer, .. }) => {
            saved.head.status == answer.head.status
                && undated(saved).eq(undated(answer))
                && saved.body == answer.body
                && saved.trailers == answer.trailers
        }
        (Phase::Done { .. }, Resolution::Release)
        | (Phase::InFlight | Phase::DoneWithoutBody { .. } | Phase::Unknown { .. }, _) => false,
    }
}

/// The field lines of an answer but for its date: where an operator gives none, it is the moment of asking.
fn undated(answer: &SavedResponse) -> impl Iterator<Item = &(String, Bytes)> {
    answer.head.headers.iter().filter(|(name, _)| name != "date")
}

fn not_unknown(hands_off: HandsOff, record: &Record) -> State {
    match (hands_off, &record.phase) {
        (HandsOff::Answered, Phase::DoneWithoutBody { .. }) => State::DoneWithoutBody,
        (HandsOff::Answered, Phase::InFlight | Phase::Done { .. } | Phase::Unknown { .. }) => State::Done,
        (HandsOff::AtWork, _) => State::InFlight,
    }
}

fn kept_for(phase: &Phase) -> Duration {
    match phase {
        Phase::Done { settled, .. } | Phase::DoneWithoutBody { settled, .. } => settled.keep_for,
        Phase::InFlight | Phase::Unknown { .. } => Duration::ZERO,
    }
}

/// What an operator completed.
fn completed(key: &StorageKey, record: &Record) -> Operation {
    Operation {
        key: *key,
        state: State::Done,
        outline: Some(Outline::from(record)),
        keep_for: still_kept_for(&record.phase),
    }
}

fn still_kept_for(phase: &Phase) -> Duration {
    match phase {
        Phase::Done { settled, .. } | Phase::DoneWithoutBody { settled, .. } => {
            let since = clock::unix_millis().0.saturating_sub(settled.at.0);
            settled.keep_for.saturating_sub(Duration::from_millis(since))
        }
        Phase::InFlight | Phase::Unknown { .. } => Duration::ZERO,
    }
}
