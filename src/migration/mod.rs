//! Moves the live records of one store to another without a moment in which a key that is known looks new.
//!
//! Owns the order of the steps and the argument for it. Must not know which stores these are, what an answer
//! holds, or who is told of the progress. Read `../store/transfer.rs` before; then `note.rs` (how the two
//! stores remember the move, and how two runs of the tool are kept apart), `quiet.rs` (when nobody can claim any
//! more), `copy.rs` (how records are carried and compared).
//!
//! ```text
//! announce   a note in the source, a note in the destination; the destination is closed as "arriving" and empty
//! first      what is answered never changes and is copied while the gateways work on
//! close      the source is closed as "leaving"
//! quiet      until no gateway can believe that it may claim
//! settle     owners may still settle what is in flight; what changed is copied, again and again
//! verify     every record of the source stands in the destination, byte for byte
//! commit     the note in the source says "carried out"; the destination is opened
//! ```
//!
//! # Why no key looks new
//!
//! A gateway forwards a request only after (1) its claim was acknowledged by the source and (2) its licence was
//! asked right before the first byte: it is *fresh*, which means that a heartbeat sent less than one session
//! lifetime ago was answered with an open gate. A heartbeat writes the session first and reads the gate after.
//!
//! *Quiet.* Let the gate be closed, and the sessions be listed after that was acknowledged. Take a gateway that is
//! fresh at some later moment, by a heartbeat sent at `s` with a lifetime of `t`. Its gate was read open, so before
//! the closing, so its session was written before the closing too, and it stands in the store until `s + t` at
//! least. So it is on the list, with a remaining time that ends no earlier than `s + t`, unless it ended in order,
//! and whoever ends in order has stopped to claim before it says so. Whoever waits for the longest remaining
//! time on that list has therefore waited until nobody is fresh. Heartbeats after the closing find it closed.
//! A store that crashed, failed over or had its clock set may have lost sessions; so `session_ttl` is waited for
//! in any case, and with it everybody whose heartbeat was sent before the closing, whatever the list says.
//!
//! *Copied.* A request whose first byte leaves had its claim in the source while its gateway was fresh, that is,
//! before the quiet began. The pages are read again after that, and a record that stands meanwhile is in one of
//! them. It stands, unless it was released (then nothing was processed, and the key is rightly new) or its
//! retention ended. What is still in flight moves as it is. Its session is not known in the destination, so it
//! reads as an unknown outcome there: safe, and the truth as far as the destination can know it.
//!
//! *Frozen gateways.* One that is stopped while the records move finds, when it goes on, that its session has lapsed
//! by its own clock. It may have asked its licence an instant before it was stopped and send an instant after; then
//! its claim was acknowledged before that, and was copied.
//!
//! *Late writes.* A claim that the network held back lands in the source after it was copied. Its owner does not
//! forward any more, so the key may look new in the destination: nothing ran for it. An outcome that lands late is
//! lost to the destination, which calls it unknown.
//!
//! *Clocks.* Remaining times are measured by the source, freshness by each gateway, waiting by this process, each
//! with a clock that only has to run at about the right speed: a twentieth is added. A virtual machine whose clock
//! stands still while it is paused is the one case in which a gateway could believe itself fresh for longer; so
//! nobody may pause a gateway's machine while its records move and let it go on before it was pointed elsewhere.
//!
//! *Two destinations.* The destination is opened only after the note in the source was swapped from "under way" to
//! "carried out", by its version. Calling the move off swaps the same note, and opens the source only if that was
//! done. So of the two at most one is ever opened, even where both are asked for at once.
//!
//! *Two runs.* Each run has a session in the source and renews it; the note names the session. A run that finds the
//! note in the name of a session that lives leaves it alone. Where that session is gone, the run puts its own name
//! into the note and then waits as for gateways; each run looks whether the note is still in its name at most a fifth
//! of a session before each of its writes. So a run that was stopped for long writes nothing more.

mod admission;
mod copy;
mod error;
mod note;
mod patience;
mod quiet;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::record::Session;
use crate::store::transfer::Transfer;
use crate::store::{Closure, Gate};

use admission::Found;
pub use copy::Carried;
use copy::{Carrier, Prints, Which};
pub use error::{MoveError, Role};
use note::{Desk, Stage};
use patience::Side;
use quiet::{LOOK_EVERY, Quiet};

/// Why the source takes no claims from the closing on.
const LEFT: Gate = Gate::Closed(Closure::Leaving);

/// How often it is seen to that the destination holds what the source holds.
const VERIFICATIONS_MAX: usize = 8;

/// After this time of waiting for outcomes all records are looked through once more.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long a run that is over waits for the store to take note of it.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A move to be made.
pub struct Move {
    /// Where the records are.
    pub from: Arc<dyn Transfer>,
    /// Where they are to be.
    pub to: Arc<dyn Transfer>,
    /// How long the sessions of the gateways on the source live.
    pub session_ttl: Duration,
    /// How long owners may take to settle what is in flight when the source is closed.
    pub settle_timeout: Duration,
    /// Whether a destination that may evict claims is accepted.
    pub accept_eviction: bool,
    /// Whether keys that were claimed after a backup was taken may look new.
    pub accept_loss: bool,
}

/// What has come to pass, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another run holds the move, or was ended a moment ago.
    AwaitsAnotherRun,
    /// The move goes on where an earlier run left it.
    Continues,
    /// The destination takes no claims; what stands there is known.
    DestinationClosed,
    /// So many records have been looked at, and so many of them copied, in this round.
    Copying {
        /// Looked at.
        seen: u64,
        /// Copied.
        copied: u64,
    },
    /// The finished records are copied; the gateways work on.
    FirstRoundDone(Carried),
    /// The source takes no new claims; from now on guarded requests are refused.
    SourceClosed,
    /// So many gateways may not have heard of it yet.
    AwaitsGateways(usize),
    /// So many requests are in flight, and their owners live.
    AwaitsOutcomes(usize),
    /// The copies are compared.
    Verifying,
    /// Every record of the source stands in the destination.
    Verified(u64),
}

/// What was moved, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records that stand in the destination.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that were in flight to the last; their outcomes read as unknown in the destination.
    pub in_flight: usize,
    /// Copied while the gateways worked on.
    pub before_closing: Carried,
    /// Copied after the source was closed.
    pub after_closing: Carried,
    /// From the closing of the source to the opening of the destination.
    pub closed_for: Duration,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All has moved; the destination is open.
    Moved(Moved),
    /// It had moved before; the destination is open.
    HadMoved,
}

impl Move {
    /// Moves the records, or goes on where an earlier run stopped.
    ///
    /// Errors: see [`MoveError`]; until the destination is opened the move can be called off.
    /// Cancel safety: dropping the future is as good as a crash; another run goes on.
    pub async fn run(&self, tell: &mut dyn FnMut(Step)) -> Result<Ended, MoveError> {
        let from = Side { store: Arc::clone(&self.from), role: Role::Source };
        let to = Side { store: Arc::clone(&self.to), role: Role::Destination };
        let session = fresh_session();
        let ended = match admission::admit(self, &from, &to).await? {
            Found::CarriedOut => admission::open_destination(&from, &to).await.map(|()| Ended::HadMoved),
            Found::ToDo => self.carry_out(&from, &to, session, tell).await,
        };
        leave(&from, session).await;
        ended
    }

    async fn carry_out(
        &self,
        from: &Side,
        to: &Side,
        session: Session,
        tell: &mut dyn FnMut(Step),
    ) -> Result<Ended, MoveError> {
        let mut desk = Desk::take(from, session, tell).await?;
        if desk.note().stage()? == Stage::CarriedOut {
            // Another run was faster.
            return admission::open_destination(from, to).await.map(|()| Ended::HadMoved);
        }
        let (mut carrier, mut moved) = (Carrier::between(from, to), Moved::default());
        let mut known = if admission::begin(&mut desk, from, to).await? {
            Prints::new()
        } else {
            tell(Step::Continues);
            carrier.survey(&mut desk).await?
        };
        tell(Step::DestinationClosed);
        if from.gate().await? == Gate::Open {
            moved.before_closing = carrier.round(Which::Answered, &mut known, &mut desk, tell).await?;
            tell(Step::FirstRoundDone(moved.before_closing));
            desk.hold().await?;
            desk.holding(from.set_gate(LEFT)).await??;
        }
        let closed_at = Instant::now();
        tell(Step::SourceClosed);
        self.await_gateways(&mut desk, from, tell).await?;
        self.await_outcomes(&mut carrier, &mut known, &mut desk, &mut moved, tell).await?;
        drop(known);
        verify(&mut carrier, &mut desk, &mut moved, tell).await?;
        admission::expect_closed(from, to).await?;
        desk.advance(Stage::CarriedOut).await?;
        admission::open_destination(from, to).await?;
        moved.closed_for = closed_at.elapsed();
        Ok(Ended::Moved(moved))
    }

    /// Waits until no gateway can believe that it may claim in the source.
    async fn await_gateways(
        &self,
        desk: &mut Desk<'_>,
        from: &Side,
        tell: &mut dyn FnMut(Step),
    ) -> Result<(), MoveError> {
        let own = desk.session();
        let quiet = Quiet::after_change(from, |session| session != own, self.session_ttl).await?;
        tell(Step::AwaitsGateways(quiet.unaware()));
        desk.pause_until_over(&quiet).await
    }

    /// Copies what has changed until all that is in flight is settled, or the time for it is over.
    async fn await_outcomes(
        &self,
        carrier: &mut Carrier<'_>,
        known: &mut Prints,
        desk: &mut Desk<'_>,
        moved: &mut Moved,
        tell: &mut dyn FnMut(Step),
    ) -> Result<(), MoveError> {
        let give_up_at = Instant::now() + self.settle_timeout;
        loop {
            let round = carrier.round(Which::All, known, desk, tell).await?;
            moved.after_closing.add(round);
            let mut waiting = carrier.in_flight_with_owner(desk).await?;
            moved.in_flight = waiting.len();
            if waiting.is_empty() || Instant::now() >= give_up_at {
                return Ok(());
            }
            tell(Step::AwaitsOutcomes(waiting.len()));
            let look_again_at = give_up_at.min(Instant::now() + LOOK_AGAIN);
            while !waiting.is_empty() && Instant::now() < look_again_at {
                desk.pause(LOOK_EVERY).await?;
                waiting = desk.holding(carrier.still_in_flight(waiting)).await??;
            }
        }
    }
}

/// Sees to it that the source answers and holds something, before anything is made for it elsewhere. Changes nothing.
///
/// Errors: see [`MoveError`].
pub async fn expect_source(from: &Arc<dyn Transfer>) -> Result<(), MoveError> {
    let from = Side { store: Arc::clone(from), role: Role::Source };
    // One that a move has begun with was looked at then, and its records may have expired since.
    if note::leaving(&from).await?.is_some() {
        return Ok(());
    }
    admission::expect_life(&from, None).await
}

/// Opens the source again, if its records have not moved. The destination stays closed, with what it holds; another
/// run goes on from there.
///
/// Errors: see [`MoveError`].
pub async fn call_off(from: &Arc<dyn Transfer>, tell: &mut dyn FnMut(Step)) -> Result<(), MoveError> {
    let from = Side { store: Arc::clone(from), role: Role::Source };
    match note::leaving(&from).await?.map(|note| note.stage()).transpose()? {
        None => return Err(MoveError::NoneUnderWay),
        Some(Stage::CarriedOut) => return Err(MoveError::CarriedOut),
        Some(Stage::Announced | Stage::UnderWay | Stage::CalledOff) => {}
    }
    let session = fresh_session();
    let ended = open_source(&from, session, tell).await;
    leave(&from, session).await;
    ended
}

async fn open_source(from: &Side, session: Session, tell: &mut dyn FnMut(Step)) -> Result<(), MoveError> {
    let mut desk = Desk::take(from, session, tell).await?;
    match desk.note().stage()? {
        Stage::CarriedOut => return Err(MoveError::CarriedOut),
        // Nothing has been closed or copied, and nothing will be without another look.
        Stage::Announced => return Ok(()),
        Stage::UnderWay | Stage::CalledOff => desk.advance(Stage::CalledOff).await?,
    }
    // A backup was closed before, and stays so.
    if from.gate().await? == LEFT {
        desk.holding(from.set_gate(Gate::Open)).await??;
    }
    Ok(())
}

/// Sees to it that the destination holds what the source holds, byte for byte, and nothing that the source has given
/// back.
async fn verify(
    carrier: &mut Carrier<'_>,
    desk: &mut Desk<'_>,
    moved: &mut Moved,
    tell: &mut dyn FnMut(Step),
) -> Result<(), MoveError> {
    tell(Step::Verifying);
    for _ in 0..VERIFICATIONS_MAX {
        let mut standing = carrier.survey(desk).await?;
        let round = carrier.round(Which::All, &mut standing, desk, &mut |_| {}).await?;
        if round.copied == 0 {
            carrier.give_back(desk).await?;
            (moved.records, moved.bytes) = (round.seen, round.bytes);
            tell(Step::Verified(round.seen));
            return Ok(());
        }
        moved.after_closing.add(round);
    }
    Err(MoveError::NotVerified)
}

/// Ends the session of a run, so that the next one need not wait for it to lapse.
async fn leave(from: &Side, session: Session) {
    // Where that fails, it lapses.
    drop(tokio::time::timeout(GOODBYE_MAX, from.store.end_session(session)).await);
}

fn fresh_session() -> Session {
    Session(uuid::Uuid::new_v4().into_bytes())
}
