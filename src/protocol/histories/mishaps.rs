//! What becomes of a moment when a process, an operator or time steps in.
//!
//! Read `play.rs` before.

use super::super::machine::{self, Transition};
use super::events::lapsing;
use super::play::{Play, Step};
use super::watcher::{self, Broken, Hand};
use super::world::{BY_OPERATOR, Cell, Ending, NOW, RETENTION, Row, RowPhase, Set, Stage, answer};

#[expect(clippy::unnecessary_wraps, reason = "one shape for every event, so that `happen` is a table")]
impl Play<'_> {
    pub(super) fn crash(&mut self, process: usize) -> Step {
        self.world.processes[process].up = false;
        self.world.processes[process].never_sent = Set::default();
        for (request, stage) in self.world.requests.iter_mut().enumerate() {
            // Requests that have not arrived yet are for the next life of the process.
            if self.scenario.process_of(request) == Some(process) && *stage != Stage::Claiming {
                *stage = Stage::Over;
            }
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, process: usize) -> Step {
        let process = &mut self.world.processes[process];
        process.up = true;
        process.draining = false;
        process.session += 1;
        self.world.alive = self.world.alive.with(process.session);
        Ok(())
    }

    pub(super) fn lapse(&mut self, process: usize) -> Step {
        if let Some(session) = lapsing(&self.world, self.world.processes[process]) {
            self.world.alive = self.world.alive.without(session);
        }
        Ok(())
    }

    pub(super) fn revive(&mut self, process: usize) -> Step {
        self.world.alive = self.world.alive.with(self.world.processes[process].session);
        Ok(())
    }

    pub(super) fn drain(&mut self, process: usize) -> Step {
        self.world.processes[process].draining = true;
        for (request, stage) in self.world.requests.iter_mut().enumerate() {
            if self.scenario.process_of(request) == Some(process) {
                match *stage {
                    Stage::Forwarded(row) => *stage = Stage::Settling { row, ending: Ending::Lost },
                    Stage::Listening(_) => *stage = Stage::Over,
                    Stage::Claiming
                    | Stage::Looking(_)
                    | Stage::Reclaiming { .. }
                    | Stage::Holding(_)
                    | Stage::Settling { .. }
                    | Stage::Over => {}
                }
            }
        }
        Ok(())
    }

    // ---- time and operators ----

    pub(super) fn expire(&mut self) -> Step {
        // Retention that ends too early forgives nothing.
        let is_legitimate = match self.world.cell {
            Cell::Row(row) => row.phase != RowPhase::InFlight || !self.world.is_worked_on(row.attempt),
            Cell::Nothing | Cell::Unreadable => true,
        };
        if is_legitimate {
            watcher::forgiven(&mut self.world);
        }
        watcher::put(&mut self.world, Cell::Nothing, Hand::Operator)
    }

    pub(super) fn operator_release(&mut self) -> Step {
        watcher::forgiven(&mut self.world);
        watcher::put(&mut self.world, Cell::Nothing, Hand::Operator)
    }

    pub(super) fn operator_complete(&mut self) -> Step {
        let Cell::Row(row) = self.world.cell else { return Ok(()) };
        let outcome = machine::Outcome::Completed(answer(BY_OPERATOR));
        match machine::settle(&row.thaw(), outcome, NOW, RETENTION) {
            Transition::Write { next, .. } => {
                watcher::put(&mut self.world, Cell::Row(Row::of(&next)), Hand::Operator)
            }
            Transition::Keep => Ok(()),
            Transition::Remove => Err(Broken("completing a key never removes it")),
        }
    }
}
