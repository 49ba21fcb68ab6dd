//! How the two stores remember a move: a note in each, which is a record under a key that no request can have.
//!
//! Both notes carry the attempt that names the move, so a destination is known to belong to a source. The source's
//! note also says how far the move has come and which run works on it; it changes by compare-and-swap only, so it
//! decides between opening the destination and calling the move off. The argument stands in `mod.rs`. The words are
//! frozen as stored bytes are.

use std::time::Duration;

use tokio::time::Instant;

use super::patience::Side;
use super::quiet::{LOOK_EVERY, Quiet};
use super::{MoveError, Step};
use crate::clock;
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::machine;
use crate::protocol::record::{Attempt, Phase, Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;
use crate::store::{SessionLife, Swapped};

/// Where the note of the source stands. Other keys are digests, so none is equal to it.
const LEAVING: StorageKey = StorageKey::from_bytes(*b"onceway store migrate: leaving  ");

/// Where the note of the destination stands.
const ARRIVING: StorageKey = StorageKey::from_bytes(*b"onceway store migrate: arriving ");

/// How long a note is kept: longer than any record it could matter to lives by default.
const KEEP_FOR: Duration = Duration::from_hours(90 * 24);

/// How long a run may be silent before another takes its place.
const RUN_TTL: Duration = Duration::from_secs(3);

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has been copied; the destination may not be empty.
    Announced,
    /// The destination was empty; what stands there was copied.
    UnderWay,
    /// The source was opened again.
    CalledOff,
    /// The destination may be opened; the source stays closed.
    CarriedOut,
}

impl Stage {
    const WORDS: [(&'static str, Self); 4] = [
        ("store migrate: announced", Self::Announced),
        ("store migrate: under way", Self::UnderWay),
        ("store migrate: called off", Self::CalledOff),
        ("store migrate: carried out", Self::CarriedOut),
    ];

    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, stage)| *stage == self);
        found.map_or("", |(word, _)| word)
    }
}

/// A note as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note(Record);

impl Note {
    fn new(id: Attempt, stage: Stage, session: Session) -> Self {
        Self(Record {
            version: Version { attempt: id, revision: 0 },
            session,
            fingerprint: Fingerprint::from_bytes([0; 32]),
            attempts: 1,
            opened_at: clock::unix_millis(),
            route: stage.word().to_owned(),
            phase: Phase::InFlight,
        })
    }

    /// Names the move.
    pub(super) fn id(&self) -> Attempt {
        self.0.version.attempt
    }

    /// How far the move has come. What a later version wrote is not for this one to go on with.
    pub(super) fn stage(&self) -> Result<Stage, MoveError> {
        let found = Stage::WORDS.iter().find(|(word, _)| *word == self.0.route);
        found.map(|(_, stage)| *stage).ok_or(MoveError::NoteUnreadable)
    }
}

/// Whether `key` is that of a note, which is not moved.
pub(super) fn is_note(key: &StorageKey) -> bool {
    [LEAVING, ARRIVING].contains(key)
}

/// The note of a store as the source of a move.
pub(super) async fn leaving(side: &Side) -> Result<Option<Note>, MoveError> {
    read(side, &LEAVING).await
}

/// The note of a store as the destination of one.
pub(super) async fn arriving(side: &Side) -> Result<Option<Note>, MoveError> {
    read(side, &ARRIVING).await
}

/// Names the move in its destination.
pub(super) async fn announce_in(destination: &Side, note: &Note) -> Result<(), MoveError> {
    insert(destination, &ARRIVING, &Note::new(note.id(), Stage::Announced, note.0.session)).await
}

/// Takes the name of the move away from its destination again.
pub(super) async fn withdraw_from(destination: &Side) -> Result<(), MoveError> {
    remove(destination, &ARRIVING).await
}

/// The source's note in the name of this run.
pub(super) struct Desk<'s> {
    source: &'s Side,
    session: Session,
    note: Note,
    /// When the last heartbeat was sent after which the note was found in this run's name.
    held_at: Instant,
}

impl<'s> Desk<'s> {
    /// Puts this run's name into the source's note, or makes the note. One that says that the move was carried
    /// out stays as it is.
    ///
    /// Errors: another run is at work.
    pub(super) async fn take(
        source: &'s Side,
        session: Session,
        tell: &mut dyn FnMut(Step),
    ) -> Result<Self, MoveError> {
        let held_at = Instant::now();
        source.call(|store| store.renew_session(session, RUN_TTL)).await?;
        let desk = |note| Self { source, session, note, held_at };
        let Some(found) = leaving(source).await? else {
            let note = Note::new(fresh_id(), Stage::Announced, session);
            insert(source, &LEAVING, &note).await?;
            return Ok(desk(note));
        };
        if found.stage()? == Stage::CarriedOut {
            return Ok(desk(found));
        }
        let other = found.0.session;
        if other != session {
            await_end_of(source, other, tell).await?;
        }
        let mut desk = desk(found);
        desk.held_at = Instant::now();
        source.call(|store| store.renew_session(session, RUN_TTL)).await?;
        desk.put(Record { session, ..desk.note.0.clone() }).await?;
        // It may have looked at the note right before, so it may write until its session ends.
        let is_other = |unaware| unaware == other && other != session;
        let quiet = Quiet::after_change(source, is_other, Duration::ZERO).await?;
        desk.pause_until_over(&quiet).await?;
        Ok(desk)
    }

    pub(super) fn note(&self) -> &Note {
        &self.note
    }

    /// This run's session in the source.
    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// Says that this run lives, and makes sure that the note is still in its name. To be called before
    /// each write; asks the store only when a fifth of the session has passed.
    pub(super) async fn hold(&mut self) -> Result<(), MoveError> {
        if self.held_at.elapsed() < RUN_TTL / 5 {
            return Ok(());
        }
        let sent_at = Instant::now();
        self.source.call(|store| store.renew_session(self.session, RUN_TTL)).await?;
        match leaving(self.source).await? {
            Some(note) if note.0.version == self.note.0.version => {
                self.held_at = sent_at;
                Ok(())
            }
            Some(_) | None => Err(MoveError::TakenAway),
        }
    }

    /// Does some work, and holds the note meanwhile. The work goes no further once the note was taken away.
    pub(super) async fn holding<T>(&mut self, work: impl Future<Output = T>) -> Result<T, MoveError> {
        tokio::pin!(work);
        loop {
            let due = self.held_at + RUN_TTL / 5;
            tokio::select! {
                // The note first: after a long stop, nothing is sent before it was looked at.
                biased;
                () = tokio::time::sleep_until(due) => self.hold().await?,
                done = &mut work => return Ok(done),
            }
        }
    }

    /// Waits, and holds the note meanwhile.
    pub(super) async fn pause(&mut self, pause: Duration) -> Result<(), MoveError> {
        tokio::time::sleep(pause.min(RUN_TTL / 5)).await;
        self.hold().await
    }

    /// Waits until nobody can be unaware of a change any more.
    pub(super) async fn pause_until_over(&mut self, quiet: &Quiet) -> Result<(), MoveError> {
        while !quiet.is_over() {
            self.pause(LOOK_EVERY).await?;
        }
        Ok(())
    }

    /// Says how far the move has come.
    ///
    /// Errors: `TakenAway`: another run has changed the note, and this one decides nothing any more.
    pub(super) async fn advance(&mut self, stage: Stage) -> Result<(), MoveError> {
        self.hold().await?;
        self.put(Record { route: stage.word().to_owned(), ..self.note.0.clone() }).await
    }

    /// Gives the move another name: the one it had belongs to another destination.
    pub(super) async fn rename(&mut self) -> Result<(), MoveError> {
        self.hold().await?;
        let next = Note::new(fresh_id(), Stage::Announced, self.session).0;
        self.swap(next).await
    }

    /// Takes the note away: nothing has come of the move.
    pub(super) async fn withdraw(&mut self) -> Result<(), MoveError> {
        self.hold().await?;
        remove(self.source, &LEAVING).await
    }

    async fn put(&mut self, next: Record) -> Result<(), MoveError> {
        self.swap(Record { version: machine::version_after(self.note.0.version), ..next }).await
    }

    async fn swap(&mut self, next: Record) -> Result<(), MoveError> {
        let seen = self.note.0.version;
        let swapped = self.source.call(|store| store.swap(&LEAVING, seen, &next, KEEP_FOR)).await?;
        let next = Note(next);
        let is_done = match swapped {
            Swapped::Done => true,
            // It may have been done by a try whose answer was lost.
            Swapped::Changed | Swapped::Absent => leaving(self.source).await?.as_ref() == Some(&next),
        };
        if !is_done {
            return Err(MoveError::TakenAway);
        }
        self.note = next;
        Ok(())
    }
}

/// Waits until the session of another run has been gone for two of its heartbeats: the store may have lost it.
///
/// Errors: it lives on.
async fn await_end_of(source: &Side, other: Session, tell: &mut dyn FnMut(Step)) -> Result<(), MoveError> {
    let began = Instant::now();
    let (mut gone_since, mut is_told) = (None, false);
    loop {
        match source.call(|store| store.session_life(other)).await? {
            SessionLife::Dead => return Ok(()),
            SessionLife::Absent => {
                let since = *gone_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= RUN_TTL / 5 * 2 {
                    return Ok(());
                }
            }
            SessionLife::Alive if began.elapsed() >= RUN_TTL * 2 => return Err(MoveError::AnotherAtWork),
            SessionLife::Alive => {
                gone_since = None;
                if !is_told {
                    tell(Step::AwaitsAnotherRun);
                    is_told = true;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn read(side: &Side, key: &StorageKey) -> Result<Option<Note>, MoveError> {
    match side.call(|store| store.fetch(key)).await? {
        Seen::Nothing => Ok(None),
        Seen::Unreadable => Err(MoveError::NoteUnreadable),
        Seen::Record(record) => Ok(Some(Note(*record))),
    }
}

async fn insert(side: &Side, key: &StorageKey, note: &Note) -> Result<(), MoveError> {
    match side.call(|store| store.insert(key, &note.0, KEEP_FOR)).await? {
        Seen::Nothing => Ok(()),
        Seen::Record(found) if *found == note.0 => Ok(()),
        Seen::Record(_) => Err(MoveError::AnotherAtWork),
        Seen::Unreadable => Err(MoveError::NoteUnreadable),
    }
}

async fn remove(side: &Side, key: &StorageKey) -> Result<(), MoveError> {
    if let Some(note) = read(side, key).await? {
        side.call(|store| store.remove(key, note.0.version)).await?;
    }
    Ok(())
}

fn fresh_id() -> Attempt {
    Attempt(uuid::Uuid::new_v4().into_bytes())
}
