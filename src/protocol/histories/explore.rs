//! The search: every moment that can be reached, breadth first, by stateright. One thread, so that the first bad
//! moment found has a shortest history.
//!
//! Moments already seen are remembered by a 64-bit hash only. With a million of them the odds that two share one, and
//! that a history goes unseen for it, are about one in forty million; with ten million, one in four hundred thousand.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::events::{Event, possible};
use super::play::{Met, Play};
use super::scenario::{Scenario, storage_keys};
use super::watcher::{ANSWERED, FIRST_ANSWER, ONE_FORWARD, OWN_ANSWER, PROMISES};
use super::world::World;

/// What the promises rest on; the moment says which part of it is broken.
const BENEATH: &str = "what the promises rest on";

/// What a search found.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) moments: usize,
    /// Steps of the longest history; of the one that is told, if a property does not hold.
    pub(super) steps: usize,
    pub(super) took: Duration,
    met: u64,
    /// The first property that does not hold, and how it came to that.
    pub(super) broken: Option<(&'static str, String)>,
}

impl Explored {
    pub(super) fn has_met(&self, met: Met) -> bool {
        self.met & 1 << met.number() != 0
    }
}

struct Histories {
    scenario: Scenario,
    met: AtomicU64,
    /// Stateright keeps the last counterexample of the thousand moments that it looks at together. The first is the
    /// shortest, so it alone is admitted.
    has_told: AtomicBool,
}

impl Histories {
    fn possible(&self, world: &World, events: &mut Vec<Event>) {
        if world.truth.broken.is_none() {
            possible(&self.scenario, world, events);
        }
    }

    /// Says for the first bad moment, and no other, that `property` does not hold.
    fn holds(&self, is_broken: bool) -> bool {
        !is_broken || self.has_told.swap(true, Ordering::Relaxed)
    }

    fn keeps(&self, world: &World, promise: &str) -> bool {
        self.holds(world.truth.broken.is_some_and(|broken| broken.0 == promise))
    }

    /// Whether somebody waits for an answer, nothing more may happen by itself, and no process is gone for good.
    ///
    /// No step can be taken back, so the fault-free steps from any moment end; where they end, all must be answered.
    fn is_dead_end(&self, world: &World) -> bool {
        if world.truth.broken.is_some() || !world.may_be_stuck(&self.scenario) {
            return false;
        }
        let mut events = Vec::new();
        self.possible(world, &mut events);
        events.iter().all(|event| event.is_trouble(world))
    }
}

impl Model for Histories {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World::start(self.scenario.requests.len(), self.scenario.troubles)]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        self.possible(world, events);
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let _made = self.scenario.planted.make();
        let mut play = Play { scenario: &self.scenario, world: *world, met: &self.met };
        play.happen(event);
        Some(play.world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_FORWARD, |this, world: &World| this.keeps(world, ONE_FORWARD)),
            Property::always(FIRST_ANSWER, |this, world: &World| this.keeps(world, FIRST_ANSWER)),
            Property::always(OWN_ANSWER, |this, world: &World| this.keeps(world, OWN_ANSWER)),
            Property::always(ANSWERED, |this, world: &World| {
                this.keeps(world, ANSWERED) && this.holds(this.is_dead_end(world))
            }),
            Property::always(BENEATH, |this, world: &World| {
                this.holds(world.truth.broken.is_some_and(|broken| !PROMISES.contains(&broken.0)))
            }),
        ]
    }
}

/// Visits every moment that can be reached, up to the first in which a property does not hold.
pub(super) fn explore(scenario: &Scenario) -> Explored {
    #[expect(clippy::disallowed_methods, reason = "for the report alone; nothing here is decided by time")]
    let began = Instant::now();
    let scenario = Scenario { keys: storage_keys(scenario), ..scenario.clone() };
    let histories = Histories { scenario, met: AtomicU64::new(0), has_told: AtomicBool::new(false) };
    let checker = histories.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let took = began.elapsed();
    let mut steps = checker.max_depth() - 1;
    let broken = checker.discoveries().into_iter().next().map(|(property, path)| {
        let property = path.last_state().truth.broken.map_or(property, |broken| broken.0);
        let history: Vec<_> = path.into();
        steps = history.len() - 1;
        (property, tell(checker.model(), history))
    });
    let met = checker.model().met.load(Ordering::Relaxed);
    Explored { moments: checker.unique_state_count(), steps, took, met, broken }
}

/// Tells a history step by step, with what stands in the store after each.
fn tell(histories: &Histories, history: Vec<(World, Option<Event>)>) -> String {
    let mut text = String::new();
    let mut stood = String::new();
    for (step, (before, event)) in history.into_iter().enumerate() {
        let Some(event) = event else { break };
        let after = histories.next_state(&before, event).unwrap();
        let stands = after.told(&histories.scenario);
        write!(text, "{:>3}. {event}", step + 1).unwrap();
        if stands != stood {
            write!(text, "\n     the store: {stands}").unwrap();
        }
        text.push('\n');
        stood = stands;
    }
    text
}
