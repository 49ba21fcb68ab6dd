//! What must hold in every history, and the onlooker's knowledge that it is held against.
//!
//! Every function here is told of something that has just happened and says whether it was allowed.

use super::super::machine::Verdict;
use super::super::policy::OnUnknown;
use super::super::record::UnknownReason;
use super::explore::Scenario;
use super::world::{BY_OPERATOR, Cell, Row, RowPhase, Stage, World, answered_attempt, request_of};

/// A property that does not hold, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Broken(pub(super) &'static str);

/// Who changes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// A command of a gateway.
    Gateway,
    /// An operator, who may do anything.
    Operator,
}

fn must(holds: bool, property: &'static str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(property)) }
}

/// Whether two records say the same of the first answer.
fn answer_of(cell: Cell) -> Option<RowPhase> {
    match cell {
        Cell::Row(Row { phase: phase @ (RowPhase::Done(_) | RowPhase::DoneWithoutBody(_)), .. }) => {
            Some(phase)
        }
        Cell::Row(Row { phase: RowPhase::InFlight | RowPhase::Unknown, .. })
        | Cell::Nothing
        | Cell::Unreadable => None,
    }
}

/// Every write and removal goes through here: the record changes, and only in ways that are allowed.
pub(super) fn put(world: &mut World, new: Cell, hand: Hand) -> Result<(), Broken> {
    // The same write once more changes nothing.
    if hand == Hand::Gateway && new != world.cell {
        if let Some(answer) = answer_of(world.cell) {
            must(answer_of(new) == Some(answer), "an answer never changes")?;
        }
        if let (Cell::Row(old), Cell::Row(new)) = (world.cell, new)
            && old.attempt == new.attempt
        {
            must(new.revision > old.revision, "an older write never undoes a newer one")?;
            let reopens = old.phase == RowPhase::Unknown && new.phase == RowPhase::InFlight;
            must(!reopens, "an unknown outcome does not become a claim of the same attempt again")?;
        }
        if let Cell::Row(Row { attempt, phase: RowPhase::Done(of) | RowPhase::DoneWithoutBody(of), .. }) = new
        {
            let is_the_attempts_own = of == attempt && world.truth.answered.has(of);
            must(is_the_attempts_own, "what is recorded is the answer of an executed forward")?;
        }
    }
    // Of an operator too: a removal is the only way to undo an answer.
    if hand == Hand::Operator
        && let Some(answer) = answer_of(world.cell)
        && answer_of(new).is_some()
    {
        must(answer_of(new) == Some(answer), "an operator never completes what is answered")?;
    }
    if let Cell::Row(row) = new {
        world.truth.landed = world.truth.landed.with(row.attempt);
        if answer_of(new).is_some() && hand == Hand::Gateway {
            world.truth.recorded = world.truth.recorded.with(row.attempt);
        }
    }
    world.cell = new;
    Ok(())
}

/// A request was told what it may do.
pub(super) fn told(
    scenario: &Scenario,
    world: &World,
    request: usize,
    seen: Cell,
    verdict: &Verdict,
) -> Result<(), Broken> {
    let asks = scenario.asks(request);
    if seen == Cell::Unreadable {
        let is_refused = *verdict == Verdict::Unknown(UnknownReason::Unreadable);
        return must(is_refused, "an unreadable record leads to nothing but `unknown`");
    }
    let is_first_answer = |head| {
        let of = answered_attempt(head);
        let its_fingerprint = |of| scenario.asks(request_of(of)).fingerprint;
        of == BY_OPERATOR || (world.truth.recorded.has(of) && its_fingerprint(of) == asks.fingerprint)
    };
    match verdict {
        Verdict::Replay(saved, _) => {
            must(is_first_answer(&saved.head), "a replay is the recorded first answer to the same request")
        }
        Verdict::BodyNotKept(head) => {
            must(is_first_answer(head), "a head is that of the recorded first answer to the same request")
        }
        Verdict::Mismatch => {
            let is_another = matches!(seen, Cell::Row(row) if row.fingerprint != asks.fingerprint);
            must(is_another, "only another request is told that its key is reused")
        }
        Verdict::Execute | Verdict::Reclaim(_) | Verdict::InFlight(_) | Verdict::Unknown(_) => Ok(()),
    }
}

/// How a claim was won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Won {
    /// Nothing stood there.
    First,
    /// In the place of another, which perhaps ran, or surely did not.
    Over { ran_perhaps: bool },
}

/// A request goes on to forward: it needs the claim, and a licence if another may have run before it.
pub(super) fn won(
    scenario: &Scenario,
    world: &mut World,
    request: usize,
    row: Row,
    how: Won,
) -> Result<(), Broken> {
    let asks = scenario.asks(request);
    must(world.truth.landed.has(row.attempt), "nobody forwards without a claim of its own in the store")?;
    for other in world.truth.standing.without(row.attempt).members() {
        let same = scenario.asks(request_of(other)).fingerprint == asks.fingerprint;
        must(same, "another request never takes a key whose request may have run")?;
        let licensed = how != Won::First && asks.on_unknown == OnUnknown::Retry;
        must(
            licensed,
            "no second claim while an earlier request may have run, unless the policy permits it",
        )?;
    }
    if asks.on_unknown == OnUnknown::Retry && how == (Won::Over { ran_perhaps: true }) {
        world.truth.forwards_allowed += 1;
    }
    world.truth.standing = world.truth.standing.with(row.attempt);
    world.requests[request] = Stage::Holding(row);
    Ok(())
}

/// A request reached the upstream.
pub(super) fn forwarded(world: &mut World) -> Result<(), Broken> {
    world.truth.forwards_allowed -= 1;
    must(world.truth.forwards_allowed >= 0, "no more forwards than policy, operator and retention allow")
}

/// The upstream proved that it did not process an attempt.
pub(super) fn refused(world: &mut World, attempt: u8) {
    world.truth.standing = world.truth.standing.without(attempt);
    world.truth.forwards_allowed += 1;
}

/// Retention ended, or an operator took the key's past upon himself.
pub(super) fn forgiven(world: &mut World) {
    world.truth.standing = super::world::Set::default();
    world.truth.forwards_allowed += 1;
}

/// What must hold between any two steps.
pub(super) fn between(world: &World) -> Result<(), Broken> {
    let is_kept = world.cell != Cell::Nothing || world.truth.standing.is_empty();
    must(is_kept, "a record stands as long as its request may have run")
}
