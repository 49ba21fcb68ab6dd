//! The model of a store: insert if absent, compare-and-swap, remove; and commands that reach it late, or twice.
//!
//! Read `play.rs` before.

use super::play::{Met, Play};
use super::scenario::{Planted, Scenario};
use super::watcher::Hand;
use super::world::{Cell, Flying, Mark, Place, Row, World, Write};

/// The answer to a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swapped {
    Done,
    Changed,
    Absent,
}

/// The servers that take a master's writes before it acknowledges them: all but itself, and but those that take
/// themselves for masters.
fn replicas_of(scenario: &Scenario, world: &World, server: u8) -> impl Iterator<Item = u8> {
    let is_followed = |server| world.processes.iter().any(|process| process.up && process.follows == server);
    let master = world.master;
    (0..=scenario.replication.replicas)
        .filter(move |other| *other != server && *other != master && !is_followed(*other))
}

/// Whether a write to `server` can be acknowledged.
pub(super) fn can_acknowledge(scenario: &Scenario, world: &World, server: u8) -> bool {
    let needed = usize::from(scenario.replication.acknowledged_by);
    needed == 0 || replicas_of(scenario, world, server).count() >= needed
}

impl Play<'_> {
    // ---- with an acknowledgement ----

    pub(super) fn insert(&mut self, at: Place, fresh: Row) -> Cell {
        let seen = self.put_if_absent(at, fresh);
        if seen == Cell::Nothing || seen == Cell::Row(fresh) {
            self.acknowledge(at.server);
            self.claimed(at);
        }
        seen
    }

    pub(super) fn swap(&mut self, at: Place, seen: Mark, next: Row) -> Swapped {
        let swapped = self.put_over(at, seen, next);
        self.acknowledge(at.server);
        if swapped == Swapped::Done && next.attempt != seen.attempt {
            self.claimed(at);
        }
        swapped
    }

    /// A claim that is acknowledged by a server that is master no more is as good as lost.
    fn claimed(&mut self, at: Place) {
        if at.server != self.world.master {
            self.watcher().lost(usize::from(at.key));
        }
    }

    pub(super) fn remove(&mut self, at: Place, seen: Mark) -> Swapped {
        let removed = self.take_away(at, seen);
        self.acknowledge(at.server);
        removed
    }

    /// So many replicas have all that this server holds before anybody is told.
    fn acknowledge(&mut self, server: u8) {
        let needed = usize::from(self.scenario.replication.acknowledged_by);
        if needed == 0 {
            return;
        }
        let replicas: Vec<u8> = replicas_of(self.scenario, &self.world, server).take(needed).collect();
        for replica in replicas {
            self.world.copy(server, replica);
        }
    }

    // ---- without one ----

    /// A command in the air reaches its server; nobody waits for the answer.
    pub(super) fn land(&mut self, at: usize) {
        let flying = self.world.take_from_the_air(at);
        self.carry_out(flying);
    }

    /// The same, and it will come once more.
    pub(super) fn land_and_stay(&mut self, at: usize) {
        let Some(flying) = self.world.air[at] else { unreachable!("see events.rs") };
        self.meet(Met::LandedTwice);
        self.carry_out(flying);
    }

    fn carry_out(&mut self, Flying { to, write }: Flying) {
        let stood = self.world.stands(to);
        match write {
            Write::Insert(row) => {
                self.put_if_absent(to, row);
            }
            Write::Swap { seen, next } => {
                self.put_over(to, seen, next);
            }
            Write::Remove { seen } => {
                self.take_away(to, seen);
            }
            Write::Forget { seen, is_rightful } => self.forget(to, seen, is_rightful),
            Write::Complete { seen, next } => self.complete(to, seen, next),
        }
        self.meet(if stood == self.world.stands(to) { Met::LandedInVain } else { Met::LandedLate });
    }

    // ---- what a server does ----

    fn put_if_absent(&mut self, at: Place, fresh: Row) -> Cell {
        let seen = self.world.stands(at);
        if seen == Cell::Nothing {
            self.watcher().put(at, Cell::Row(fresh), Hand::Gateway);
        }
        seen
    }

    fn put_over(&mut self, at: Place, seen: Mark, next: Row) -> Swapped {
        self.change(at, seen, Cell::Row(next), self.scenario.planted == Planted::SwapWhateverStands)
    }

    fn take_away(&mut self, at: Place, seen: Mark) -> Swapped {
        self.change(at, seen, Cell::Nothing, false)
    }

    fn change(&mut self, at: Place, seen: Mark, new: Cell, whatever_stands: bool) -> Swapped {
        let matches = match self.world.stands(at) {
            Cell::Nothing => return Swapped::Absent,
            Cell::Unreadable => false,
            Cell::Row(row) if self.scenario.planted == Planted::IgnoreRevisions => {
                row.attempt == seen.attempt
            }
            Cell::Row(row) => row.mark() == seen,
        };
        if !matches && !whatever_stands {
            return Swapped::Changed;
        }
        self.watcher().put(at, new, Hand::Gateway);
        Swapped::Done
    }

    fn forget(&mut self, at: Place, seen: Mark, is_rightful: bool) {
        if self.is_marked(at, seen) {
            // An operator who did not look whether somebody works on it forgives nothing.
            if is_rightful {
                self.watcher().forgiven(usize::from(at.key));
            }
            self.meet(Met::ForgottenByOperator);
            self.watcher().put(at, Cell::Nothing, Hand::Operator);
        }
    }

    fn complete(&mut self, at: Place, seen: Mark, next: Row) {
        if self.is_marked(at, seen) || self.scenario.planted == Planted::CompleteWhateverStands {
            self.meet(Met::CompletedByOperator);
            self.watcher().put(at, Cell::Row(next), Hand::Operator);
        }
    }

    fn is_marked(&self, at: Place, seen: Mark) -> bool {
        matches!(self.world.stands(at), Cell::Row(row) if row.mark() == seen)
    }
}
