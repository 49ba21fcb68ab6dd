//! The search: every moment that can be reached, breadth first, by stateright. One thread, so that the first bad
//! moment found has a shortest history.
//!
//! Moments already seen are remembered by a 64-bit hash only. With a million of them the odds that two
//! share one, and that a history goes unseen for it, are about one in forty million.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::events::{Event, possible};
use super::play::{Met, Mistake, Play};
use super::watcher::Broken;
use super::world::{Asks, World};

/// What is played.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each named where it is set")]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) requests: Vec<Asks>,
    /// How many accidents a history may have, of whatever kind.
    pub(super) troubles: u8,
    /// Whether records expire.
    pub(super) expiry: bool,
    /// Whether operators act.
    pub(super) operators: bool,
    /// Whether they release and forget, beside completing.
    pub(super) removals: bool,
    /// Whether the upstream may prove that it did not process a request.
    pub(super) refusals: bool,
    /// Whether answers may be too long to keep, and claims are renewed while they stream.
    pub(super) long_answers: bool,
    /// Whether a record may become unreadable.
    pub(super) damage: bool,
    pub(super) mistake: Mistake,
}

impl Scenario {
    pub(super) fn asks(&self, request: usize) -> Asks {
        // Places without a request are over from the start; they belong to process 0.
        self.requests.get(request).copied().unwrap_or(self.requests[0])
    }

    pub(super) fn process_of(&self, request: usize) -> Option<usize> {
        self.requests.get(request).map(|asks| asks.process)
    }
}

/// What a search found.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) moments: usize,
    pub(super) met: BTreeSet<Met>,
    /// The first property that does not hold, and how it came to that.
    pub(super) broken: Option<(Broken, String)>,
}

/// A moment, and the property that the step to it broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Moment {
    world: World,
    broken: Option<Broken>,
}

struct Histories {
    scenario: Scenario,
    met: Mutex<BTreeSet<Met>>,
    /// Stateright keeps the last counterexample of the thousand moments that it looks at together. The first is the
    /// shortest, so it alone is admitted.
    has_told: AtomicBool,
}

const EVERYTHING_HOLDS: &str = "everything holds";

impl Model for Histories {
    type State = Moment;
    type Action = Event;

    fn init_states(&self) -> Vec<Moment> {
        let world = World::start(self.scenario.requests.len(), self.scenario.troubles);
        vec![Moment { world, broken: None }]
    }

    fn actions(&self, moment: &Moment, events: &mut Vec<Event>) {
        if moment.broken.is_none() {
            possible(&self.scenario, &moment.world, events);
        }
    }

    fn next_state(&self, moment: &Moment, event: Event) -> Option<Moment> {
        let mut met = self.met.lock().unwrap();
        let mut play = Play { scenario: &self.scenario, world: moment.world, met: &mut met };
        let broken = play.happen(event).err();
        Some(Moment { world: play.world, broken })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always(EVERYTHING_HOLDS, |histories, moment: &Moment| {
            moment.broken.is_none() || histories.has_told.swap(true, Ordering::Relaxed)
        })]
    }
}

/// Visits every moment that can be reached, up to the first in which a property does not hold.
pub(super) fn explore(scenario: &Scenario) -> Explored {
    let histories =
        Histories { scenario: scenario.clone(), met: Mutex::default(), has_told: AtomicBool::new(false) };
    let checker = histories.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let broken = checker.discovery(EVERYTHING_HOLDS).map(|path| {
        let broken = path.last_state().broken.unwrap();
        (broken, tell(checker.model(), path.into()))
    });
    let met = checker.model().met.lock().unwrap().clone();
    Explored { moments: checker.unique_state_count(), met, broken }
}

/// Tells a history step by step, with what stands in the store after each.
fn tell(histories: &Histories, history: Vec<(Moment, Option<Event>)>) -> String {
    let mut text = String::new();
    for (step, (before, event)) in history.into_iter().enumerate() {
        let Some(event) = event else { break };
        let after = histories.next_state(&before, event).unwrap();
        let broken = if after.broken.is_some() { "   <-- here" } else { "" };
        writeln!(text, "{:>3}. {event}{broken}\n     store: {:?}", step + 1, after.world.cell).unwrap();
    }
    text
}
