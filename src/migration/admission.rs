//! What must be so before anything is changed, how a move begins, and when the destination may be opened.
//!
//! Refuses whatever could make a known key look new, or mix two moves. Read `mod.rs` and `note.rs` before.

use std::time::Duration;

use super::Move;
use super::copy::is_empty;
use super::error::{MoveError, Role};
use super::note::{self, Desk, Note, Stage};
use super::patience::Side;
use super::quiet::Quiet;
use crate::protocol::record::Session;
use crate::store::{Closure, Gate, Store};

/// Why the destination takes no claims until all has moved.
const ARRIVING: Gate = Gate::Closed(Closure::Arriving);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The records have yet to move, some or all.
    ToDo,
    /// They have moved, by the source's note. Perhaps the destination has not been opened.
    CarriedOut,
}

/// Looks at both stores and changes nothing.
pub(super) async fn admit(asked: &Move, from: &Side, to: &Side) -> Result<Found, MoveError> {
    if from.store.describe() == to.store.describe() {
        return Err(MoveError::SameStore);
    }
    let (leaving, arriving) = (note::leaving(from).await?, note::arriving(to).await?);
    let is_ours = is_same(leaving.as_ref(), arriving.as_ref());
    let stage = leaving.as_ref().map(Note::stage).transpose()?;
    match (from.gate().await?, stage) {
        (_, Some(Stage::CarriedOut)) if is_ours => return Ok(Found::CarriedOut),
        (_, Some(Stage::CarriedOut)) | (Gate::Closed(Closure::Leaving), None) => {
            return Err(MoveError::SourceHasLeft);
        }
        (Gate::Closed(Closure::Arriving), _) => return Err(MoveError::SourceIsArriving),
        (Gate::Closed(Closure::Backup), _) if !asked.accept_loss => return Err(MoveError::LossNotAccepted),
        (_, Some(Stage::UnderWay)) if arriving.is_none() => return Err(MoveError::SourceOfAnother),
        (Gate::Open | Gate::Closed(Closure::Leaving | Closure::Backup), _) => {}
    }
    if arriving.is_some() && !is_ours {
        return Err(MoveError::DestinationOfAnother);
    }
    let is_begun = is_ours && matches!(stage, Some(Stage::UnderWay | Stage::CalledOff));
    match to.gate().await? {
        Gate::Open if is_begun => return Err(MoveError::NotClosed(Role::Destination)),
        Gate::Closed(Closure::Arriving) if is_ours => {}
        Gate::Closed(closure) => return Err(MoveError::DestinationIsClosed(closure.word())),
        Gate::Open => {}
    }
    expect_trust(to, asked.accept_eviction).await?;
    if !is_begun {
        expect_room(from, to, None).await?;
    }
    Ok(Found::ToDo)
}

/// Closes the destination, if that was not done before, and says in both stores that the move is under way.
/// Answers whether it begins anew, with an empty destination.
pub(super) async fn begin(desk: &mut Desk<'_>, from: &Side, to: &Side) -> Result<bool, MoveError> {
    let arriving = note::arriving(to).await?;
    let is_ours = is_same(Some(desk.note()), arriving.as_ref());
    match (desk.note().stage()?, arriving) {
        (Stage::UnderWay | Stage::CalledOff, Some(_)) if is_ours => {
            if to.gate().await? != ARRIVING {
                return Err(MoveError::NotClosed(Role::Destination));
            }
            desk.advance(Stage::UnderWay).await?;
            return Ok(false);
        }
        (Stage::UnderWay, None) => return Err(MoveError::SourceOfAnother),
        (Stage::CarriedOut, _) => return Err(MoveError::CarriedOut),
        (Stage::Announced, Some(_)) if is_ours => {}
        (Stage::Announced | Stage::CalledOff | Stage::UnderWay, Some(_)) => {
            return Err(MoveError::DestinationOfAnother);
        }
        // The name that the move has may stand in another destination.
        (Stage::Announced | Stage::CalledOff, None) => {
            desk.rename().await?;
            if is_same(note::leaving(to).await?.as_ref(), Some(desk.note())) {
                desk.withdraw().await?;
                return Err(MoveError::SameStore);
            }
            note::announce_in(to, desk.note()).await?;
        }
    }
    close_destination(desk, from, to).await?;
    desk.advance(Stage::UnderWay).await?;
    Ok(true)
}

/// Closes the destination and makes sure that nothing stands there that did not come from the source: a gateway
/// that was started on it too early may have claimed until it heard of the closing.
async fn close_destination(desk: &mut Desk<'_>, from: &Side, to: &Side) -> Result<(), MoveError> {
    desk.hold().await?;
    desk.holding(to.set_gate(ARRIVING)).await??;
    let quiet = Quiet::after_change(to, |_| true, Duration::ZERO).await?;
    desk.pause_until_over(&quiet).await?;
    let own = desk.session();
    let has_room = desk.holding(expect_room(from, to, Some(own))).await?;
    if let Err(MoveError::DestinationHoldsRecords | MoveError::NothingLives) = &has_room {
        desk.holding(to.set_gate(Gate::Open)).await??;
        note::withdraw_from(to).await?;
        desk.withdraw().await?;
    }
    has_room
}

/// Sees to it that gateways would start on the destination.
async fn expect_trust(to: &Side, accept_eviction: bool) -> Result<(), MoveError> {
    let found = to.call(Store::inspect).await?;
    match found.refusal(accept_eviction) {
        None => Ok(()),
        Some(fault) => Err(MoveError::DestinationUntrusted(fault.text.clone())),
    }
}

/// Sees to it that the destination is empty, and that the source is not.
async fn expect_room(from: &Side, to: &Side, own: Option<Session>) -> Result<(), MoveError> {
    if !is_empty(to).await? {
        return Err(MoveError::DestinationHoldsRecords);
    }
    expect_life(from, own).await
}

/// Sees to it that the source holds something, or that gateways other than `own` live on it.
pub(super) async fn expect_life(from: &Side, own: Option<Session>) -> Result<(), MoveError> {
    // A wrong address or namespace would lead to an empty store, and then every key would look new.
    let sessions = from.sessions().await?;
    let is_in_use = sessions.iter().any(|(session, _)| Some(*session) != own);
    if !is_in_use && is_empty(from).await? {
        return Err(MoveError::NothingLives);
    }
    Ok(())
}

/// Sees to it that neither store has taken claims since it was closed.
pub(super) async fn expect_closed(from: &Side, to: &Side) -> Result<(), MoveError> {
    if from.gate().await? == Gate::Open {
        return Err(MoveError::NotClosed(Role::Source));
    }
    if to.gate().await? != ARRIVING {
        return Err(MoveError::NotClosed(Role::Destination));
    }
    Ok(())
}

/// Opens the destination of a move that was carried out.
pub(super) async fn open_destination(from: &Side, to: &Side) -> Result<(), MoveError> {
    let leaving = note::leaving(from).await?;
    let is_ours = is_same(leaving.as_ref(), note::arriving(to).await?.as_ref());
    if !is_ours || leaving.map(|note| note.stage()).transpose()? != Some(Stage::CarriedOut) {
        return Err(MoveError::SourceHasLeft);
    }
    match to.gate().await? {
        Gate::Open => Ok(()),
        ARRIVING => to.set_gate(Gate::Open).await,
        Gate::Closed(closure) => Err(MoveError::DestinationIsClosed(closure.word())),
    }
}

/// Whether both are there and name the same move.
fn is_same(one: Option<&Note>, other: Option<&Note>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.id() == other.id())
}
