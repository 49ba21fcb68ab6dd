//! What becomes of a moment when an event happens.
//!
//! The glue that the ledger is, with the real machine in the middle. Where a known mistake is made in the ledger it is
//! made here; `claims.rs` shows that each is noticed. Read `mishaps.rs` and `store.rs` after.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::machine::{self, Owner, Transition, Verdict};
use super::super::mistake::Mistake;
use super::events::Event;
use super::scenario::{Planted, Scenario};
use super::store::Swapped;
use super::watcher::{Hand, Watcher, Won};
use super::world::{
    Cell, Ending, NOW, Place, RETENTION, Row, RowPhase, Stage, World, Write, first_token, second_token, token,
};

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
    Woken,
    WaitedInVain,
    Confirmed,
    Unconfirmed,
    LandedTwice,
    LostInFailover,
}

impl Met {
    #[expect(clippy::as_conversions, reason = "the place in the list, which no conversion tells")]
    pub(super) fn number(self) -> u32 {
        (self as u8).into()
    }
}

pub(super) struct Play<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: World,
    pub(super) met: &'a AtomicU64,
}

impl Play<'_> {
    pub(super) fn happen(&mut self, event: Event) {
        if event.is_trouble(&self.world) {
            self.world.troubles -= 1;
        }
        match event {
            Event::Claim(request) => self.claim(request),
            Event::Look(request) => self.look(request),
            Event::Wake(request) => self.wake(request),
            Event::GiveUpWaiting(request) => self.give_up_waiting(request),
            Event::Reclaim(request) => self.reclaim(request),
            Event::Confirm(request) => self.confirm(request),
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
            Event::LandAndStay(at) => self.land_and_stay(at),
            Event::Crash(process) => self.crash(process),
            Event::Restart(process) => self.restart(process),
            Event::Lapse(process) => self.lapse(process),
            Event::Revive(process) => self.revive(process),
            Event::Drain(process) => self.drain(process),
            Event::Stop(process) => self.stop(process),
            Event::GoOn(process) => self.go_on(process),
            Event::CatchUp(server) => self.catch_up(server),
            Event::FailOver(server) => self.fail_over(server),
            Event::Follow(process) => self.follow(process),
            Event::Expire(key) => self.expire(key),
            Event::OperatorRelease(key) | Event::OperatorForget(key) => self.operator_removes(key),
            Event::OperatorComplete(key) => self.operator_completes(key),
            Event::Damage(key) => {
                let at = self.world.place_at_master(key);
                self.watcher().put(at, Cell::Unreadable, Hand::Operator);
            }
        }
        self.watcher().between();
    }

    pub(super) fn watcher(&mut self) -> Watcher<'_> {
        Watcher { scenario: self.scenario, world: &mut self.world }
    }

    pub(super) fn meet(&self, met: Met) {
        self.met.fetch_or(1 << met.number(), Ordering::Relaxed);
    }

    /// Where a request finds its record.
    pub(super) fn place(&self, request: usize) -> Place {
        let server = self.world.processes[self.scenario.asks(request).process].follows;
        Place { server, key: u8::try_from(self.scenario.key(request)).unwrap() }
    }

    // ---- the road of a request ----

    fn first_claim(&self, request: usize) -> Row {
        let asks = self.scenario.asks(request);
        let session = self.world.processes[asks.process].session;
        Row::of(&machine::claim(token(first_token(request), session), &asks.asked(), NOW))
    }

    fn claim(&mut self, request: usize) {
        let mine = self.first_claim(request);
        match self.insert(self.place(request), mine) {
            // An earlier copy of the same command has landed: the version tells.
            Cell::Row(row) if row == mine => {
                self.meet(Met::OwnWriteFound);
                self.watcher().won(request, mine, Won::First);
            }
            Cell::Row(row) if row.phase == RowPhase::InFlight => {
                self.world.requests[request] = Stage::Looking(row);
            }
            seen @ (Cell::Nothing | Cell::Unreadable | Cell::Row(_)) => {
                self.judge(request, seen, Owner::Working);
            }
        }
    }

    fn look(&mut self, request: usize) {
        let Stage::Looking(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let owner = self.world.owner_by(self.scenario.asks(request).process, row);
        if owner == Owner::Gone {
            self.meet(Met::OwnerGone);
        }
        self.judge(request, Cell::Row(row), owner);
    }

    fn judge(&mut self, request: usize, seen: Cell, owner: Owner) {
        let asks = self.scenario.asks(request);
        let verdict = machine::judge(seen.thaw(), &asks.asked(), owner);
        self.watcher().told(request, seen, &verdict);
        self.world.requests[request] = Stage::Over;
        let met = match verdict {
            Verdict::Execute => {
                let mine = self.first_claim(request);
                self.watcher().won(request, mine, Won::First);
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
            Verdict::InFlight(row) => {
                if self.scenario.waits {
                    self.world.requests[request] = Stage::Waiting(Row::of(&row));
                }
                Met::InFlight
            }
            Verdict::Unknown(_) if seen == Cell::Unreadable => Met::UnreadableRefused,
            Verdict::Unknown(_) => Met::Unknown,
        };
        self.meet(met);
    }

    /// Whoever waits looks at what stands there now. Where nothing does, the request begins anew, which is one more
    /// request.
    fn wake(&mut self, request: usize) {
        self.meet(Met::Woken);
        match self.world.stands(self.place(request)) {
            Cell::Nothing => self.world.requests[request] = Stage::Over,
            Cell::Row(row) if row.phase == RowPhase::InFlight => {
                self.world.requests[request] = Stage::Looking(row);
            }
            seen @ (Cell::Unreadable | Cell::Row(_)) => self.judge(request, seen, Owner::Working),
        }
    }

    /// `wait_timeout` is over; the caller is told that the request is at work.
    fn give_up_waiting(&mut self, request: usize) {
        let Stage::Waiting(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let is_still_at_work = self.world.stands(self.place(request)) == Cell::Row(row);
        self.watcher().waited_in_vain(is_still_at_work);
        self.meet(Met::WaitedInVain);
        self.world.requests[request] = Stage::Over;
    }

    fn reclaim(&mut self, request: usize) {
        let Stage::Reclaiming { over, next, ran_perhaps } = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        let at = self.place(request);
        let swapped = self.swap(at, over.mark(), next);
        let is_found = swapped == Swapped::Changed && self.world.stands(at) == Cell::Row(next);
        if swapped == Swapped::Done || is_found || self.scenario.planted == Planted::IgnoreLostReclaim {
            return self.watcher().won(request, next, Won::Over { ran_perhaps });
        }
        // Somebody else was first. The caller is told so, and its retry is one more request.
        self.meet(Met::LostReclaim);
        self.world.requests[request] = Stage::Over;
    }

    /// The process stood still: the claim is asked for again before anything is sent, and so is the session.
    fn confirm(&mut self, request: usize) {
        let Stage::Doubting(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let stands =
            matches!(self.world.stands(self.place(request)), Cell::Row(now) if now.mark() == row.mark());
        if stands && self.world.alive.has(row.session) {
            self.meet(Met::Confirmed);
            self.world.requests[request] = Stage::Holding(row);
        } else {
            self.meet(Met::Unconfirmed);
            self.watcher().never_sent(row.attempt);
            self.world.requests[request] = Stage::Settling { row, ending: Ending::Refused };
        }
    }

    fn forward(&mut self, request: usize) {
        let (Stage::Holding(row) | Stage::Doubting(row)) = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        self.world.requests[request] = Stage::Forwarded(row);
        self.watcher().forwarded(request);
    }

    fn end(&mut self, request: usize, ending: Ending) {
        let (Stage::Forwarded(row) | Stage::Listening(row)) = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        match ending {
            Ending::Answered | Ending::AnsweredWithoutBody => {
                self.world.truth.answered = self.world.truth.answered.with(row.attempt);
            }
            Ending::Refused => self.watcher().refused(request, row.attempt),
            Ending::Lost | Ending::TimedOut => {}
        }
        self.world.requests[request] = Stage::Settling { row, ending };
    }

    fn extend(&mut self, request: usize) {
        let Stage::Forwarded(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let next = Row::of(&machine::extend(&row.thaw()));
        if self.swap(self.place(request), row.mark(), next) == Swapped::Done {
            self.world.requests[request] = Stage::Forwarded(next);
        }
    }

    /// The write by which an outcome is told, as the machine says; `None`: there is nothing to write.
    fn settling(&self, request: usize) -> Option<(Row, Ending, Write)> {
        let Stage::Settling { row, ending } = self.world.requests[request] else {
            return None;
        };
        match machine::settle(&row.thaw(), ending.outcome(row.attempt), NOW, RETENTION) {
            Transition::Write { next, .. } => {
                Some((row, ending, Write::Swap { seen: row.mark(), next: Row::of(&next) }))
            }
            Transition::Remove => Some((row, ending, Write::Remove { seen: row.mark() })),
            Transition::Keep => None,
        }
    }

    fn settle(&mut self, request: usize) {
        let Stage::Settling { row, ending } = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        let Some((_, _, write)) = self.settling(request) else {
            self.world.requests[request] = after(row, ending);
            return;
        };
        let at = self.place(request);
        let (swapped, stands) = match write {
            Write::Swap { seen, next } => (self.swap(at, seen, next), next),
            Write::Remove { seen } => (self.remove(at, seen), row),
            Write::Insert(_) | Write::Forget { .. } | Write::Complete { .. } => {
                unreachable!("an outcome is swapped in, or removes")
            }
        };
        let is_written = matches!(write, Write::Swap { .. });
        let blind = if is_written { Mistake::BlindCompletion } else { Mistake::BlindRemoval };
        match (swapped, self.world.stands(at)) {
            (Swapped::Done, _) => self.settled(request, row, stands, ending),
            (Swapped::Changed, Cell::Row(found)) if self.scenario.makes(blind) => {
                let over = Row { attempt: found.attempt, revision: found.revision + 1, ..stands };
                let new = if is_written { Cell::Row(over) } else { Cell::Nothing };
                self.watcher().put(at, new, Hand::Gateway);
                self.settled(request, row, stands, ending);
            }
            // Changed by a write of its own, of which it got no answer, or by an operator: settle that.
            // An older revision than the one known is a claim that was removed and landed once more:
            // to count on from there would give two records one version.
            (Swapped::Changed, Cell::Row(found))
                if found.attempt == row.attempt
                    && (found.revision > row.revision
                        || self.scenario.planted == Planted::SettleRisenClaims) =>
            {
                self.meet(Met::OwnWriteFound);
                self.world.requests[request] = Stage::Settling { row: found, ending };
            }
            // Released by an operator, or its retention ended: see `OneClaim::restore` in the ledger.
            (Swapped::Absent, _) if is_written => {
                let leaps = self.scenario.planted != Planted::RestoreWithoutLeap;
                let restored = if leaps { Row::of(&machine::restored(&stands.thaw())) } else { stands };
                self.world.requests[request] = Stage::Restoring { row, ending, restored };
            }
            (Swapped::Changed | Swapped::Absent, _) => self.world.requests[request] = Stage::Over,
        }
    }

    /// The outcome is written, and the caller sees it.
    fn settled(&mut self, request: usize, before: Row, stands: Row, ending: Ending) {
        self.meet_settled(before, stands, ending);
        self.show_own(request, stands);
        self.world.requests[request] = after(stands, ending);
    }

    fn show_own(&mut self, request: usize, stands: Row) {
        if let RowPhase::Done(of) | RowPhase::DoneWithoutBody(of) = stands.phase {
            self.watcher().shown(request, of);
        }
    }

    fn restore(&mut self, request: usize) {
        let Stage::Restoring { ending, restored, .. } = self.world.requests[request] else {
            unreachable!("see events.rs")
        };
        let at = self.place(request);
        let seen = if self.scenario.planted == Planted::RestoreWhateverStands {
            self.watcher().put(at, Cell::Row(restored), Hand::Gateway);
            Cell::Nothing
        } else {
            self.insert(at, restored)
        };
        if seen == Cell::Nothing || seen == Cell::Row(restored) {
            self.meet(Met::Restored);
            self.show_own(request, restored);
            self.world.requests[request] = after(restored, ending);
        } else {
            self.meet(Met::RestoredInVain);
            self.world.requests[request] = Stage::Over;
        }
    }

    fn meet_settled(&self, before: Row, now: Row, ending: Ending) {
        match (before.phase, now.phase, ending) {
            (RowPhase::Unknown, RowPhase::Done(_) | RowPhase::DoneWithoutBody(_), _) => {
                self.meet(Met::UnknownBecameDone);
            }
            (_, RowPhase::Unknown, Ending::Refused) if now.revision > before.revision => {
                self.meet(Met::BackToUnknown);
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
            | Stage::Waiting(_)
            | Stage::Holding(_)
            | Stage::Doubting(_)
            | Stage::Forwarded(_)
            | Stage::Listening(_)
            | Stage::Over => None,
        }
    }

    fn linger(&mut self, request: usize) {
        if let Some(write) = self.command(request) {
            self.world.leave_in_the_air(self.place(request), write);
        }
        // Tried again from the beginning.
        if let Stage::Restoring { row, ending, .. } = self.world.requests[request] {
            self.world.requests[request] = Stage::Settling { row, ending };
        }
    }

    fn abandon(&mut self, request: usize) {
        self.linger(request);
        let planted = self.scenario.planted;
        let claim = match self.world.requests[request] {
            Stage::Claiming => Some(self.first_claim(request)),
            Stage::Reclaiming { next, .. } => Some(next),
            Stage::Settling { row, .. } if planted == Planted::ForgetThatItWasSent => Some(row),
            Stage::Looking(_)
            | Stage::Waiting(_)
            | Stage::Holding(_)
            | Stage::Doubting(_)
            | Stage::Forwarded(_)
            | Stage::Settling { .. }
            | Stage::Restoring { .. }
            | Stage::Listening(_)
            | Stage::Over => None,
        };
        self.world.requests[request] = Stage::Over;
        let Some(row) = claim else { return };
        if planted == Planted::ForwardUnclaimed {
            return self.watcher().won(request, row, Won::First);
        }
        let process = &mut self.world.processes[self.scenario.asks(request).process];
        process.never_sent = process.never_sent.with(row.attempt);
    }

    fn linger_extending(&mut self, request: usize) {
        let Stage::Forwarded(row) = self.world.requests[request] else { unreachable!("see events.rs") };
        let next = Row::of(&machine::extend(&row.thaw()));
        self.world.leave_in_the_air(self.place(request), Write::Swap { seen: row.mark(), next });
    }
}

/// Where a request stands once its outcome is written.
fn after(row: Row, ending: Ending) -> Stage {
    match ending {
        Ending::TimedOut => Stage::Listening(row),
        Ending::Answered | Ending::AnsweredWithoutBody | Ending::Refused | Ending::Lost => Stage::Over,
    }
}
