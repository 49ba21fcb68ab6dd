//! What becomes of a moment when a process, an operator or time steps in.
//!
//! Read `play.rs` before.

use super::super::machine::{self, Owner, Resolution};
use super::events::lapsing;
use super::play::{Mistake, Play, Step};
use super::watcher::{self, Broken, Hand};
use super::world::{BY_OPERATOR, Cell, Ending, NOW, RETENTION, Row, RowPhase, Set, Stage, Write, answer};

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
                    | Stage::Restoring { .. }
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

    /// An operator's command is sent for what they have seen. What happens before it lands is as it may be.
    pub(super) fn operator_removes(&mut self) -> Step {
        let Cell::Row(row) = self.world.cell else { return Ok(()) };
        let is_rightful = self.world.is_left(row);
        self.world.leave_in_the_air(Write::Forget { seen: row.mark(), is_rightful });
        Ok(())
    }

    pub(super) fn operator_completes(&mut self) -> Step {
        let Cell::Row(row) = self.world.cell else { return Ok(()) };
        let word = Resolution::Complete { answer: answer(BY_OPERATOR), keep_for: RETENTION.answer };
        match machine::resolve(&row.thaw(), Owner::Gone, word, NOW) {
            Ok(Some(mut next)) => {
                if self.scenario.mistake == Mistake::CompleteWithoutLeap {
                    next.version = machine::version_after(row.thaw().version);
                }
                self.world.leave_in_the_air(Write::Complete { seen: row.mark(), next: Row::of(&next) });
                Ok(())
            }
            Ok(None) => Err(Broken("completing a key never removes it")),
            Err(_) => Err(Broken("what may be released may be completed")),
        }
    }
}
