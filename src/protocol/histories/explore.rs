//! The search: every moment that can be reached, breadth first, so that the first bad one found has a
//! shortest history.
//!
//! Moments already seen are remembered by a 64-bit hash only. With a million of them the odds that two
//! share one, and that a history goes unseen for it, are about one in forty million.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

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

/// How a moment was reached first.
struct Reached {
    from: usize,
    by: Event,
}

/// Visits every moment that can be reached, up to the first in which a property does not hold.
pub(super) fn explore(scenario: &Scenario) -> Explored {
    let start = World::start(scenario.requests.len(), scenario.troubles);
    let hash = BuildHasherDefault::<Mixer>::new();
    let mut seen = HashSet::with_hasher(hash.clone());
    seen.insert(hash.hash_one(start));
    let mut reached: Vec<Option<Reached>> = vec![None];
    let mut level = vec![(0, start)];
    let mut met = BTreeSet::new();
    let mut events = Vec::new();
    while !level.is_empty() {
        let mut next_level = Vec::new();
        for (from, world) in level {
            possible(scenario, &world, &mut events);
            for by in &events {
                let mut play = Play { scenario, world, met: &mut met };
                let step = play.happen(*by);
                let next = play.world;
                if let Err(broken) = step {
                    let history = tell(scenario, &reached, from, *by);
                    return Explored { moments: seen.len(), met, broken: Some((broken, history)) };
                }
                if seen.insert(hash.hash_one(next)) {
                    reached.push(Some(Reached { from, by: *by }));
                    next_level.push((reached.len() - 1, next));
                }
            }
        }
        level = next_level;
    }
    Explored { moments: seen.len(), met, broken: None }
}

/// Multiplies 128 bits wide and folds, once per field: quick without an optimiser, and spread over all
/// 64 bits.
#[derive(Clone, Copy, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn write_isize(&mut self, discriminant: isize) {
        self.write_u64(discriminant.cast_unsigned().try_into().unwrap());
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        let [low, high] = [wide & u128::from(u64::MAX), wide >> 64];
        self.0 = u64::try_from(low ^ high).unwrap();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Tells a history step by step, with what stands in the store after each.
fn tell(scenario: &Scenario, reached: &[Option<Reached>], mut at: usize, last: Event) -> String {
    let mut events = vec![last];
    while let Some(Reached { from, by }) = &reached[at] {
        events.push(*by);
        at = *from;
    }
    let mut world = World::start(scenario.requests.len(), scenario.troubles);
    let mut text = String::new();
    for (step, event) in events.iter().rev().enumerate() {
        let mut play = Play { scenario, world, met: &mut BTreeSet::new() };
        let outcome = play.happen(*event);
        world = play.world;
        let broken = if outcome.is_err() { "   <-- here" } else { "" };
        writeln!(text, "{:>3}. {event}{broken}\n     store: {:?}", step + 1, world.cell).unwrap();
    }
    text
}
