//! What becomes of a moment when an event happens.
//!
//! The glue that the ledger will be, with the real machine in the middle, and the model of a store.
//! [`Mistake`] names ways to get the glue or the store wrong; `claims.rs` shows that each is noticed.

use std::collections::BTreeSet;

use super::super::machine::{self, Owner, Transition, Verdict};
use super::events::Event;
use super::explore::Scenario;
use super::watcher::{self, Broken, Hand, Won};
use super::world::{
    Cell, Ending, Mark, NOW, RETENTION, Row, RowPhase, Stage, World, Write, first_token, second_token, token,
};

/// A planted mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// Claims expire while their owner is at work, as a lock with a lease does.
    ShortClaims,
    /// A lost connection is taken for proof that nothing was processed.
    ReleaseAfterLoss,
    /// `remove` does not look at the version.
    RemoveWhateverStands,
    /// `swap` looks only whether something stands there.
    SwapWhateverStands,
    /// `swap` and `remove` look at the attempt and not at the revision.
    IgnoreRevisions,
    /// What cannot be read is taken for nothing.
    UnreadableIsAbsent,
    /// A process that could not write an outcome says later that it never sent the request.
    ForgetThatItWasSent,
    /// A claim that got no answer is taken for granted.
    ForwardUnclaimed,
    /// A claim that another has taken over meanwhile is taken for granted.
    IgnoreLostReclaim,
    /// A claim that was removed and landed once more is settled as if it had never been away.
    SettleRisenClaims,
    /// An operator does not look whether somebody works on a claim.
    LookAway,
    /// An operator's completion counts on from the version that it replaces.
    CompleteWithoutLeap,
    /// An operator's completion does not look at the version.
    CompleteWhateverStands,
    /// What is known of an outcome takes the place of whatever stands there.
    RestoreWhateverStands,
    /// What is put in an empty place counts on as if nothing unseen could have been written before.
    RestoreWithoutLeap,
}

/// What a search has met, to show that it does not walk past the interesting places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Met {
    Executed,
    Reclaimed,
    ReclaimedNeverSent,
    Replayed,
    BodyNotKept,
    Mismatched,
    InFlight,
    OwnerGone,
    Unknown,
    UnreadableRefused,
    LostReclaim,
    UnknownBecameDone,
    LandedInVain,
    LandedLate,
    OwnWriteFound,
    BackToUnknown,
    ForgottenByOperator,
    CompletedByOperator,
    Restored,
    RestoredInVain,
}

/// The answer to a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Swapped {
    Done,
    Changed,
    Absent,
}

pub(super) struct Play<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: World,
    pub(super) met: &'a mut BTreeSet<Met>,
}

pub(super) type Step = Result<(), Broken>;

#[expect(clippy::unnecessary_wraps, reason = "one shape for every event, so that `happen` is a table")]
impl Play<'_> {
    pub(super) fn happen(&mut self, event: Event) -> Step {
        if event.is_trouble(&self.world) {
            self.world.troubles -= 1;
        }
        match event {
            Event::Claim(request) => self.claim(request),
            Event::Look(request) => self.look(request),
            Event::Reclaim(request) => self.reclaim(request),
            Event::Forward(request) => self.forward(request),
            Event::Answer(request) | Event::AnswerLate(request) => self.end(request, Ending::Answered),
            Event::AnswerWithoutBody(request) => self.end(request, Ending::AnsweredWithoutBody),
            Event::Refuse(request) | Event::RefuseLate(request) => self.end(request, Ending::Refused),
            Event::Lose(request) => self.end(request, Ending::Lost),
            Event::TimeOut(request) => self.end(request, Ending::TimedOut),
            Event::Extend(request) => self.extend(request),
            Event::Settle(request) => self.settle(request),
            Event::Restore(request) => self.restore(request),
            Event::Linger(request) => self.linger(request),
            Event::Abandon(request) => self.abandon(request),
            Event::LingerExtending(request) => self.linger_extending(request),
            Event::Land(at) => self.land(at),
            Event::Crash(process) => self.crash(process),
            Event::Restart(process) => self.restart(process),
            Event::Lapse(process) => self.lapse(process),
            Event::Revive(process) => self.revive(process),
            Event::Drain(process) => self.drain(process),
            Event::Expire => self.expire(),
            Event::OperatorRelease | Event::OperatorForget => self.operator_removes(),
            Event::OperatorComplete => self.operator_completes(),
            Event::Damage => watcher::put(&mut self.world, Cell::Unreadable, Hand::Operator),
        }?;
        watcher::between(&self.world)
    }

    // ---- the road of a request ----

    fn first_claim(&self, request: usize) -> Row {
        let asks = self.scenario.asks(request);
        let session = self.world.processes[asks.process].session;
        Row::of(&machine::claim(token(first_token(request), session), &asks.asked(), NOW))
    }

    fn claim(&mut self, request: usize) -> Step {
        let mine = self.first_claim(request);
        let seen = self.insert(mine)?;
        match seen {
            // An earlier copy of the same command has landed: the version tells.
            Cell::Row(row) if row == mine => {
                self.met.insert(Met::OwnWriteFound);
                watcher::won(self.scenario, &mut self.world, request, mine, Won::First)
            }
            Cell::Row(row) if row.phase == RowPhase::InFlight => {
                self.world.requests[request] = Stage::Looking(row);
                Ok(())
            }
            Cell::Unreadable if self.scenario.mistake == Mistake::UnreadableIsAbsent => {
                watcher::put(&mut self.world, Cell::Row(mine), Hand::Gateway)?;
                self.judge(request, Cell::Nothing, Owner::Working)
            }
            Cell::Nothing | Cell::Unreadable | Cell::Row(_) => self.judge(request, seen, Owner::Working),
        }
    }

    fn look(&mut self, request: usize) -> Step {
        let Stage::Looking(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let owner = self.world.owner_by(self.scenario.asks(request).process, row);
        if owner == Owner::Gone {
            self.met.insert(Met::OwnerGone);
        }
        self.judge(request, Cell::Row(row), owner)
    }

    fn judge(&mut self, request: usize, seen: Cell, owner: Owner) -> Step {
        let asks = self.scenario.asks(request);
        let verdict = machine::judge(seen.thaw(), &asks.asked(), owner);
        watcher::told(self.scenario, &self.world, request, seen, &verdict)?;
        self.world.requests[request] = Stage::Over;
        let met = match verdict {
            Verdict::Execute => {
                let mine = self.first_claim(request);
                watcher::won(self.scenario, &mut self.world, request, mine, Won::First)?;
                Met::Executed
            }
            Verdict::Reclaim(over) => {
                let session = self.world.processes[asks.process].session;
                let next =
                    machine::reclaim(&over, token(second_token(request), session), &asks.asked(), owner);
                let (over, next) = (Row::of(&over), Row::of(&next));
                let ran_perhaps = owner != Owner::NeverSent || over.attempts > 1;
                self.world.requests[request] = Stage::Reclaiming { over, next, ran_perhaps };
                if owner == Owner::NeverSent { Met::ReclaimedNeverSent } else { Met::Reclaimed }
            }
            Verdict::Replay(..) => Met::Replayed,
            Verdict::BodyNotKept(_) => Met::BodyNotKept,
            Verdict::Mismatch => Met::Mismatched,
            Verdict::InFlight(_) => Met::InFlight,
            Verdict::Unknown(_) if seen == Cell::Unreadable => Met::UnreadableRefused,
            Verdict::Unknown(_) => Met::Unknown,
        };
        self.met.insert(met);
        Ok(())
    }

    fn reclaim(&mut self, request: usize) -> Step {
        let Stage::Reclaiming { over, next, ran_perhaps } = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        let swapped = self.swap(over.mark(), next)?;
        let is_found = swapped == Swapped::Changed && self.world.cell == Cell::Row(next);
        if swapped == Swapped::Done || is_found || self.scenario.mistake == Mistake::IgnoreLostReclaim {
            return watcher::won(self.scenario, &mut self.world, request, next, Won::Over { ran_perhaps });
        }
        // Somebody else was first. The caller is told so, and its retry is one more request.
        self.met.insert(Met::LostReclaim);
        self.world.requests[request] = Stage::Over;
        Ok(())
    }

    fn forward(&mut self, request: usize) -> Step {
        let Stage::Holding(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        self.world.requests[request] = Stage::Forwarded(row);
        watcher::forwarded(&mut self.world)
    }

    fn end(&mut self, request: usize, ending: Ending) -> Step {
        let (Stage::Forwarded(row) | Stage::Listening(row)) = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        match ending {
            Ending::Answered | Ending::AnsweredWithoutBody => {
                self.world.truth.answered = self.world.truth.answered.with(row.attempt);
            }
            Ending::Refused => watcher::refused(&mut self.world, row.attempt),
            Ending::Lost | Ending::TimedOut => {}
        }
        self.world.requests[request] = Stage::Settling { row, ending };
        Ok(())
    }

    fn extend(&mut self, request: usize) -> Step {
        let Stage::Forwarded(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let next = Row::of(&machine::extend(&row.thaw()));
        if self.swap(row.mark(), next)? == Swapped::Done {
            self.world.requests[request] = Stage::Forwarded(next);
        }
        Ok(())
    }

    /// The write by which an outcome is told, as the machine says; `None`: there is nothing to write.
    fn settling(&self, request: usize) -> Option<(Row, Ending, Write)> {
        let Stage::Settling { row, ending } = self.world.requests[request] else { return None };
        let told = match ending {
            Ending::Lost if self.scenario.mistake == Mistake::ReleaseAfterLoss => Ending::Refused,
            Ending::Lost
            | Ending::Answered
            | Ending::AnsweredWithoutBody
            | Ending::Refused
            | Ending::TimedOut => ending,
        };
        match machine::settle(&row.thaw(), told.outcome(row.attempt), NOW, RETENTION) {
            Transition::Write { next, .. } => {
                Some((row, ending, Write::Swap { seen: row.mark(), next: Row::of(&next) }))
            }
            Transition::Remove => Some((row, ending, Write::Remove { seen: row.mark() })),
            Transition::Keep => None,
        }
    }

    fn settle(&mut self, request: usize) -> Step {
        let Some((row, ending, write)) = self.settling(request) else {
            let Stage::Settling { row, ending } = self.world.requests[request] else { return Ok(()) };
            self.world.requests[request] = after(row, ending);
            return Ok(());
        };
        let (swapped, stands) = match write {
            Write::Swap { seen, next } => (self.swap(seen, next)?, next),
            Write::Remove { seen } => (self.remove(seen)?, row),
            Write::Insert(_) | Write::Forget { .. } | Write::Complete { .. } => {
                unreachable!("an outcome is swapped in, or removes")
            }
        };
        self.world.requests[request] = match (swapped, self.world.cell) {
            (Swapped::Done, _) => {
                self.meet_settled(row, stands, ending);
                after(stands, ending)
            }
            // Changed by a write of its own, of which it got no answer, or by an operator: settle that.
            // An older revision than the one known is a claim that was removed and landed once more:
            // to count on from there would give two records one version.
            (Swapped::Changed, Cell::Row(found))
                if found.attempt == row.attempt
                    && (found.revision > row.revision
                        || self.scenario.mistake == Mistake::SettleRisenClaims) =>
            {
                self.met.insert(Met::OwnWriteFound);
                Stage::Settling { row: found, ending }
            }
            // Released by an operator, or its retention ended: see `OneClaim::restore` in the ledger.
            (Swapped::Absent, _) if matches!(write, Write::Swap { .. }) => {
                let leaps = self.scenario.mistake != Mistake::RestoreWithoutLeap;
                let restored = if leaps { Row::of(&machine::restored(&stands.thaw())) } else { stands };
                Stage::Restoring { row, ending, restored }
            }
            (Swapped::Changed | Swapped::Absent, _) => Stage::Over,
        };
        Ok(())
    }

    fn restore(&mut self, request: usize) -> Step {
        let Stage::Restoring { ending, restored, .. } = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        let seen = if self.scenario.mistake == Mistake::RestoreWhateverStands {
            watcher::put(&mut self.world, Cell::Row(restored), Hand::Gateway)?;
            Cell::Nothing
        } else {
            self.insert(restored)?
        };
        self.world.requests[request] = if seen == Cell::Nothing || seen == Cell::Row(restored) {
            self.met.insert(Met::Restored);
            after(restored, ending)
        } else {
            self.met.insert(Met::RestoredInVain);
            Stage::Over
        };
        Ok(())
    }

    fn meet_settled(&mut self, before: Row, now: Row, ending: Ending) {
        match (before.phase, now.phase, ending) {
            (RowPhase::Unknown, RowPhase::Done(_) | RowPhase::DoneWithoutBody(_), _) => {
                self.met.insert(Met::UnknownBecameDone);
            }
            (_, RowPhase::Unknown, Ending::Refused) if now.revision > before.revision => {
                self.met.insert(Met::BackToUnknown);
            }
            (
                _,
                RowPhase::InFlight | RowPhase::Unknown | RowPhase::Done(_) | RowPhase::DoneWithoutBody(_),
                _,
            ) => {}
        }
    }

    // ---- mishaps between a request and the store ----

    /// The command that a request is about to send.
    fn command(&self, request: usize) -> Option<Write> {
        match self.world.requests[request] {
            Stage::Claiming => Some(Write::Insert(self.first_claim(request))),
            Stage::Reclaiming { over, next, .. } => Some(Write::Swap { seen: over.mark(), next }),
            Stage::Settling { .. } => self.settling(request).map(|(_, _, write)| write),
            Stage::Restoring { restored, .. } => Some(Write::Insert(restored)),
            Stage::Looking(_)
            | Stage::Holding(_)
            | Stage::Forwarded(_)
            | Stage::Listening(_)
            | Stage::Over => None,
        }
    }

    fn linger(&mut self, request: usize) -> Step {
        if let Some(write) = self.command(request) {
            self.world.leave_in_the_air(write);
        }
        // Tried again from the beginning.
        if let Stage::Restoring { row, ending, .. } = self.world.requests[request] {
            self.world.requests[request] = Stage::Settling { row, ending };
        }
        Ok(())
    }

    fn abandon(&mut self, request: usize) -> Step {
        self.linger(request)?;
        let mistake = self.scenario.mistake;
        let claim = match self.world.requests[request] {
            Stage::Claiming => Some(self.first_claim(request)),
            Stage::Reclaiming { next, .. } => Some(next),
            Stage::Settling { row, .. } if mistake == Mistake::ForgetThatItWasSent => Some(row),
            Stage::Looking(_)
            | Stage::Holding(_)
            | Stage::Forwarded(_)
            | Stage::Settling { .. }
            | Stage::Restoring { .. }
            | Stage::Listening(_)
            | Stage::Over => None,
        };
        self.world.requests[request] = Stage::Over;
        let Some(row) = claim else { return Ok(()) };
        if mistake == Mistake::ForwardUnclaimed {
            return watcher::won(self.scenario, &mut self.world, request, row, Won::First);
        }
        let process = &mut self.world.processes[self.scenario.asks(request).process];
        process.never_sent = process.never_sent.with(row.attempt);
        Ok(())
    }

    fn linger_extending(&mut self, request: usize) -> Step {
        let Stage::Forwarded(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let next = Row::of(&machine::extend(&row.thaw()));
        self.world.leave_in_the_air(Write::Swap { seen: row.mark(), next });
        Ok(())
    }

    fn land(&mut self, at: usize) -> Step {
        let before = self.world.cell;
        match self.world.take_from_the_air(at) {
            Write::Insert(row) => self.insert(row).map(|_| ()),
            Write::Swap { seen, next } => self.swap(seen, next).map(|_| ()),
            Write::Remove { seen } => self.remove(seen).map(|_| ()),
            Write::Forget { seen, is_rightful } => self.forget(seen, is_rightful),
            Write::Complete { seen, next } => self.complete(seen, next),
        }?;
        self.met.insert(if before == self.world.cell { Met::LandedInVain } else { Met::LandedLate });
        Ok(())
    }

    // ---- an operator's command reaches the store ----

    fn forget(&mut self, seen: Mark, is_rightful: bool) -> Step {
        if self.is_marked(seen) {
            // An operator who did not look whether somebody works on it forgives nothing.
            if is_rightful {
                watcher::forgiven(&mut self.world);
            }
            self.met.insert(Met::ForgottenByOperator);
            watcher::put(&mut self.world, Cell::Nothing, Hand::Operator)?;
        }
        Ok(())
    }

    fn complete(&mut self, seen: Mark, next: Row) -> Step {
        if self.is_marked(seen) || self.scenario.mistake == Mistake::CompleteWhateverStands {
            self.met.insert(Met::CompletedByOperator);
            watcher::put(&mut self.world, Cell::Row(next), Hand::Operator)?;
        }
        Ok(())
    }

    fn is_marked(&self, seen: Mark) -> bool {
        matches!(self.world.cell, Cell::Row(row) if row.mark() == seen)
    }

    // ---- the model of a store ----

    fn insert(&mut self, fresh: Row) -> Result<Cell, Broken> {
        let seen = self.world.cell;
        if seen == Cell::Nothing {
            watcher::put(&mut self.world, Cell::Row(fresh), Hand::Gateway)?;
        }
        Ok(seen)
    }

    fn swap(&mut self, seen: Mark, next: Row) -> Result<Swapped, Broken> {
        self.change(seen, Cell::Row(next), self.scenario.mistake == Mistake::SwapWhateverStands)
    }

    fn remove(&mut self, seen: Mark) -> Result<Swapped, Broken> {
        self.change(seen, Cell::Nothing, self.scenario.mistake == Mistake::RemoveWhateverStands)
    }

    fn change(&mut self, seen: Mark, new: Cell, whatever_stands: bool) -> Result<Swapped, Broken> {
        let matches = match self.world.cell {
            Cell::Nothing => return Ok(Swapped::Absent),
            Cell::Unreadable => false,
            Cell::Row(row) if self.scenario.mistake == Mistake::IgnoreRevisions => {
                row.attempt == seen.attempt
            }
            Cell::Row(row) => row.mark() == seen,
        };
        if !matches && !whatever_stands {
            return Ok(Swapped::Changed);
        }
        watcher::put(&mut self.world, new, Hand::Gateway)?;
        Ok(Swapped::Done)
    }
}

/// Where a request stands once its outcome is written.
fn after(row: Row, ending: Ending) -> Stage {
    match ending {
        Ending::TimedOut => Stage::Listening(row),
        Ending::Answered | Ending::AnsweredWithoutBody | Ending::Refused | Ending::Lost => Stage::Over,
    }
}
