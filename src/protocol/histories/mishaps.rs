//! What becomes of a moment when a process, an operator or time steps in.
//!
//! Read `play.rs` before.

use super::super::machine::{self, Owner, Resolution};
use super::events::{is_stopped, lapsing};
use super::play::{Met, Play};
use super::scenario::Planted;
use super::watcher::Hand;
use super::world::{
    BY_OPERATOR, Cell, Ending, NOW, Place, RETENTION, Row, RowPhase, Set, Stage, Write, answer, request_of,
};

impl Play<'_> {
    pub(super) fn crash(&mut self, process: usize) {
        self.world.processes[process].up = false;
        self.world.processes[process].never_sent = Set::default();
        for (request, stage) in self.world.requests.iter_mut().enumerate() {
            // Requests that have not arrived yet are for the next life of the process.
            if self.scenario.process_of(request) == Some(process) && *stage != Stage::Claiming {
                *stage = Stage::Over;
            }
        }
    }

    pub(super) fn restart(&mut self, process: usize) {
        let process = &mut self.world.processes[process];
        process.up = true;
        process.draining = false;
        process.session += 1;
        process.follows = self.world.master;
        self.world.alive = self.world.alive.with(process.session);
    }

    pub(super) fn lapse(&mut self, process: usize) {
        if let Some(session) = lapsing(&self.world, self.world.processes[process]) {
            self.world.alive = self.world.alive.without(session);
        }
    }

    pub(super) fn revive(&mut self, process: usize) {
        self.world.alive = self.world.alive.with(self.world.processes[process].session);
    }

    pub(super) fn drain(&mut self, process: usize) {
        self.world.processes[process].draining = true;
        for (request, stage) in self.world.requests.iter_mut().enumerate() {
            if self.scenario.process_of(request) == Some(process) {
                match *stage {
                    Stage::Forwarded(row) => *stage = Stage::Settling { row, ending: Ending::Lost },
                    Stage::Listening(_) => *stage = Stage::Over,
                    Stage::Claiming
                    | Stage::Looking(_)
                    | Stage::Waiting(_)
                    | Stage::Doubting(_)
                    | Stage::Reclaiming { .. }
                    | Stage::Holding(_)
                    | Stage::Settling { .. }
                    | Stage::Restoring { .. }
                    | Stage::Over => {}
                }
            }
        }
    }

    /// The process stands still. Whoever of it holds a claim and has sent nothing has to ask for it again.
    pub(super) fn stop(&mut self, process: usize) {
        self.world.processes[process].stopped = true;
        for (request, stage) in self.world.requests.iter_mut().enumerate() {
            if let Stage::Holding(row) = *stage
                && self.scenario.process_of(request) == Some(process)
            {
                *stage = Stage::Doubting(row);
            }
        }
    }

    pub(super) fn go_on(&mut self, process: usize) {
        self.world.processes[process].stopped = false;
    }

    // ---- the servers of the store ----

    pub(super) fn catch_up(&mut self, server: u8) {
        self.world.copy(self.world.master, server);
    }

    /// What the new master does not hold is lost, though it may have been acknowledged.
    pub(super) fn fail_over(&mut self, server: u8) {
        if self.world.is_behind(server) {
            self.meet(Met::LostInFailover);
        }
        for key in 0..=self.scenario.last_key() {
            let at = self.world.place_at_master(key);
            let attempt = |cell| if let Cell::Row(row) = cell { Some(row.attempt) } else { None };
            let stood = attempt(self.world.stands(at));
            let stands = attempt(self.world.stands(Place { server, ..at }));
            if stood.is_some() && stands != stood {
                self.watcher().lost(key);
            }
        }
        self.world.master = server;
    }

    pub(super) fn follow(&mut self, process: usize) {
        self.world.processes[process].follows = self.world.master;
    }

    // ---- time and operators ----

    pub(super) fn expire(&mut self, key: usize) {
        let at = self.world.place_at_master(key);
        let ended = self.world.stands(at);
        // Retention that ends too early forgives nothing. Nor does the end of a claim that was never used.
        match ended {
            Cell::Row(row) if row.phase == RowPhase::InFlight && self.world.is_worked_on(row.attempt) => {
                match self.world.requests[request_of(row.attempt)] {
                    _ if !is_stopped(self.scenario, &self.world, row.attempt) => {}
                    Stage::Claiming | Stage::Reclaiming { .. } | Stage::Holding(_) | Stage::Doubting(_) => {
                        self.watcher().outlived(key);
                    }
                    Stage::Looking(_)
                    | Stage::Waiting(_)
                    | Stage::Forwarded(_)
                    | Stage::Settling { .. }
                    | Stage::Restoring { .. }
                    | Stage::Listening(_)
                    | Stage::Over => self.watcher().forgiven(key),
                }
            }
            Cell::Nothing | Cell::Unreadable | Cell::Row(_) => self.watcher().forgiven(key),
        }
        self.watcher().put(at, Cell::Nothing, Hand::Operator);
    }

    /// An operator's command is sent for what they have seen. What happens before it lands is as it may be.
    pub(super) fn operator_removes(&mut self, key: usize) {
        let at = self.world.place_at_master(key);
        let Cell::Row(row) = self.world.stands(at) else {
            return;
        };
        let is_rightful = self.world.is_left(row);
        self.world.leave_in_the_air(at, Write::Forget { seen: row.mark(), is_rightful });
    }

    pub(super) fn operator_completes(&mut self, key: usize) {
        let at = self.world.place_at_master(key);
        let Cell::Row(row) = self.world.stands(at) else {
            return;
        };
        let word = Resolution::Complete { answer: answer(BY_OPERATOR), keep_for: RETENTION.answer };
        let Ok(Some(mut next)) = machine::resolve(&row.thaw(), Owner::Gone, word, NOW) else {
            unreachable!("what may be released may be completed, and completing a key never removes it")
        };
        if self.scenario.planted == Planted::CompleteWithoutLeap {
            next.version = machine::version_after(row.thaw().version);
        }
        self.world.leave_in_the_air(at, Write::Complete { seen: row.mark(), next: Row::of(&next) });
    }
}
