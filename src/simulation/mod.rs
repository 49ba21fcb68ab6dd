//! The real code in a simulated world: gateways, callers, services and a store, in one thread, in simulated time, over a
//! simulated network, with faults drawn from a seed. The same seed plays the same history.
//!
//! What runs is the product: listener, framing, road, ledger, connections to services, drain. What is simulated is what
//! is around a process: time, network, store, services, callers. `SEED=7` plays one history and tells it, `SEEDS=10000`
//! plays many, which `scripts/simulate` does.
//!
//! Read `world.rs` (what happens when), `process.rs` (one gateway process), `carriage.rs` (how things travel),
//! `weather.rs` (what goes wrong), `desk.rs` and `shelf.rs` (the store), `service.rs`, `callers.rs`, and `truth.rs`: what
//! must never be.
#![allow(
    clippy::as_conversions,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::struct_excessive_bools,
    clippy::wildcard_enum_match_arm,
    reason = "a test that panics has failed, which is what it is for"
)]

mod callers;
mod carriage;
mod desk;
mod message;
mod process;
mod service;
mod shelf;
mod truth;
mod weather;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Once;

use crate::protocol::mistake::Mistake;
use world::World;

/// What came of a history.
struct Played {
    digest: u64,
    faults: Vec<String>,
    runs: usize,
    replies: usize,
    losses: usize,
    words: BTreeMap<String, usize>,
    troubles: usize,
    lines: Vec<String>,
}

thread_local! {
    /// The panics of this thread while a history is played.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// A task that panics ends unseen: its runtime catches it. So it is heard of where it is told.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| {
                if let Some(panics) = panics {
                    panics.push(format!("a task panicked: {panic}"));
                }
            });
            tell(panic);
        }));
    });
}

/// Plays the history of a seed, without some of its troubles.
fn play(seed: u64, without: &BTreeSet<usize>, tells: bool) -> Played {
    hear_panics();
    PANICS.with_borrow_mut(|panics| *panics = Some(Vec::new()));
    let mut world = World::new(seed, without, tells);
    world.play();
    // Before a gateway's tasks are dropped, which no process does.
    let panics = PANICS.with_borrow_mut(Option::take).unwrap_or_default();
    world.truth.faults.extend(panics);
    Played {
        digest: world.log.digest,
        troubles: world.troubles,
        faults: std::mem::take(&mut world.truth.faults),
        runs: world.truth.runs.len(),
        replies: world.truth.replies,
        losses: world.truth.losses,
        words: std::mem::take(&mut world.truth.words),
        lines: world.log.lines.take().unwrap_or_default(),
    }
}

/// What is wrong with a seed's history, told with as few troubles as show it.
fn told(seed: u64) -> String {
    let mut without = BTreeSet::new();
    let troubles = play(seed, &without, false).troubles;
    for trouble in 0..troubles {
        without.insert(trouble);
        if play(seed, &without, false).faults.is_empty() {
            without.remove(&trouble);
        }
    }
    let played = play(seed, &without, true);
    let mut text = String::new();
    for line in played.lines.iter().filter(|line| is_about(line, &played.faults)) {
        writeln!(text, "{line}").unwrap();
    }
    let left = troubles - without.len();
    writeln!(text, "seed {seed}, with {left} of its {troubles} troubles, breaks promises:").unwrap();
    for fault in &played.faults {
        writeln!(text, "  {fault}").unwrap();
    }
    text
}

/// Whether a line is about the key that a promise was broken on, or about no key.
fn is_about(line: &str, faults: &[String]) -> bool {
    let key = |text: &str| text.find("Key {").and_then(|at| Some(text[at..].split_once('}')?.0.to_owned()));
    let wanted = faults.iter().find_map(|fault| key(fault));
    match (key(line), wanted) {
        (Some(about), Some(wanted)) => about == wanted,
        (None, Some(_)) => !line.contains(" writes "),
        (_, None) => true,
    }
}

/// Broken promises that are told at most.
const TOLD_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn no_history_of_a_thousand_breaks_a_promise() {
    if let Some(seed) = number("SEED") {
        let text = told(seed);
        eprintln!("{text}");
        assert!(play(seed, &BTreeSet::new(), false).faults.is_empty());
        return;
    }
    let (first, count) = (number("FIRST").unwrap_or(0), number("SEEDS").unwrap_or(1_000));
    let (mut runs, mut replies, mut losses, mut words) = (0, 0, 0, BTreeMap::<String, usize>::new());
    let mut broken = Vec::new();
    for seed in first..first + count {
        let played = play(seed, &BTreeSet::new(), false);
        if let Some(fault) = played.faults.first() {
            broken.push((seed, fault.clone()));
        }
        if broken.len() >= TOLD_MAX {
            break;
        }
        (runs, replies, losses) = (runs + played.runs, replies + played.replies, losses + played.losses);
        played.words.into_iter().for_each(|(word, count)| *words.entry(word).or_default() += count);
    }
    if let Some((seed, _)) = broken.first() {
        panic!("{}\n{broken:#?}", told(*seed));
    }
    eprintln!(
        "{count} histories: {runs} requests reached services, {replies} answers, {words:?}, {losses} told of a store that forgot"
    );
}

/// Each mistake, and a seed from which on it is looked for.
const FOUND_FROM: [(Mistake, u64); 8] = [
    (Mistake::ExpiringClaim, 14),
    (Mistake::BlindCompletion, 8),
    (Mistake::BlindRemoval, 92),
    (Mistake::HopefulRelease, 1),
    (Mistake::StaleWaiter, 0),
    (Mistake::ForgetfulGiant, 0),
    (Mistake::UnreadableIsAbsent, 0),
    (Mistake::ScopelessKey, 0),
];

/// Histories that are played at most to find a mistake.
const SOUGHT_MAX: u64 = 1_000;

#[test]
fn every_known_mistake_is_found() {
    for (mistake, from) in FOUND_FROM {
        let _made = mistake.make();
        let finds = |seed: &u64| !play(*seed, &BTreeSet::new(), false).faults.is_empty();
        if let Some(count) = number("SEEDS") {
            let found: Vec<u64> = (0..count).filter(finds).collect();
            let (by, first) = (found.len(), found.first());
            eprintln!("{}: found by {by} of {count} histories, first by {first:?}", mistake.as_str());
            continue;
        }
        let found = (from..from + SOUGHT_MAX).find(finds);
        assert!(found.is_some(), "{} is not found", mistake.as_str());
    }
}

#[test]
fn a_seed_plays_the_same_history_each_time() {
    for seed in 0..20 {
        let (first, second) = (play(seed, &BTreeSet::new(), true), play(seed, &BTreeSet::new(), true));
        assert_eq!(first.lines, second.lines, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}
