//! Gateways of a model that claim, forward and settle while their store moves: late, frozen, and pointed at the new
//! store too early. Time is tokio's, paused; each seed is a history of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceway::migration::{Ended, Move, Step};
use onceway::protocol::record::{Phase, Record, Seen, Session};
use onceway::protocol::scope::StorageKey;
use onceway::store::{Gate, Store};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::site::{Site, Sites, plan};
use crate::records::{LONG, a_claim, after, done_with, some_key, some_session};

const HISTORIES: u64 = 40;

/// How long a history takes, and how often a key becomes interesting that nobody asked for before.
const HISTORY: Duration = Duration::from_mins(3);
const NEW_KEY_EVERY: Duration = Duration::from_millis(250);

/// So many keys are interesting at a time.
const KEYS_AT_A_TIME: usize = 8;

/// Enough for the longest delay at the end of a history.
const KEYS_MAX: usize = 1000;
const SESSION_TTL: Duration = Duration::from_secs(5);

/// What the service has done, by key.
type Effects = Arc<Mutex<HashMap<StorageKey, usize>>>;

/// A small generator, so that a seed says all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.roll(most + 1))
    }

    /// How long a process or a packet is held up: mostly hardly, sometimes for long.
    fn delay(&mut self) -> Duration {
        match self.roll(40) {
            0 => self.millis(12_000),
            1..6 => self.millis(900),
            _ => self.millis(20),
        }
    }
}

/// A gateway as far as a move is concerned: the argument in `src/migration/mod.rs` is about no more than this.
struct Gateway {
    store: Arc<Site>,
    session: Session,
    fresh_until: Option<Instant>,
    dice: Dice,
    effects: Effects,
}

impl Gateway {
    fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|until| Instant::now() < until)
    }

    async fn held_up(&mut self) {
        tokio::time::sleep(self.dice.delay()).await;
    }

    async fn beat(&mut self) {
        let sent_at = Instant::now();
        self.held_up().await;
        let gate = self.store.renew_session(self.session, SESSION_TTL).await.unwrap();
        self.held_up().await;
        self.fresh_until = (gate == Gate::Open).then_some(sent_at + SESSION_TTL);
    }

    async fn request(&mut self, key: StorageKey) {
        if !self.is_fresh() {
            return;
        }
        let claim = Record { session: self.session, ..a_claim() };
        self.held_up().await;
        let seen = self.store.insert(&key, &claim, LONG).await.unwrap();
        self.held_up().await;
        if seen != Seen::Nothing || !self.is_fresh() {
            return;
        }
        *self.effects.lock().unwrap().entry(key).or_default() += 1;
        self.held_up().await;
        if self.dice.roll(4) > 0 {
            let done = after(&claim, done_with("paid"));
            self.store.swap(&key, claim.version, &done, LONG).await.unwrap();
        }
    }

    async fn serve(mut self, keys: Arc<Vec<StorageKey>>, began: Instant) {
        while began.elapsed() < HISTORY {
            self.beat().await;
            for _ in 0..self.dice.roll(4) {
                let now = began.elapsed().as_millis() / NEW_KEY_EVERY.as_millis();
                let interesting = &keys[usize::try_from(now).unwrap()..][..KEYS_AT_A_TIME];
                let key = interesting[usize::try_from(self.dice.roll(8)).unwrap()];
                self.request(key).await;
            }
        }
    }
}

/// Plays one history; answers what the service did.
async fn play(seed: u64) {
    let (sites, mut dice) = (Sites::new(), Dice(seed));
    let keys: Arc<Vec<StorageKey>> = Arc::new((0..KEYS_MAX).map(|_| some_key()).collect());
    let effects = Effects::default();
    sites.from.keep(&after(&a_claim(), done_with("old"))).await;
    let began = Instant::now();
    let mut fleet = JoinSet::new();
    let mut start = |store: &Arc<Site>, dice: Dice| {
        let (store, session, effects) = (store.clone(), some_session(), effects.clone());
        let gateway = Gateway { store, session, fresh_until: None, dice, effects };
        fleet.spawn(gateway.serve(keys.clone(), began));
    };
    for number in 1..=3 {
        start(&sites.from, Dice(seed ^ (number << 40)));
    }
    tokio::time::sleep(dice.millis(20_000)).await;
    let moving = Move { settle_timeout: dice.millis(20_000), ..plan(&sites.from, &sites.to) };
    let mut tell = |step| {
        // Whoever is told that the destination is closed may start gateways on it.
        if step == Step::DestinationClosed {
            for number in 4..=6 {
                start(&sites.to, Dice(seed ^ (number << 40)));
            }
        }
    };
    let ended = moving.run(&mut tell).await;
    assert!(matches!(ended, Ok(Ended::Moved(_))), "seed {seed}: {ended:?}");
    fleet.join_all().await;
    for (key, times) in effects.lock().unwrap().iter() {
        assert_eq!(*times, 1, "seed {seed}: {key} ran {times} times");
    }
    for moved in sites.from.records().await {
        let (here, there) = (sites.from.standing(&moved.key).await, sites.to.standing(&moved.key).await);
        // An answer that came too late to move leaves an unknown outcome there. A claim that came too late was
        // never forwarded, so its key may well have run there.
        let is_kept = !is_answer(&here) || here == there || is_in_flight(&there);
        assert!(is_kept, "seed {seed}: {here:?} became {there:?}");
    }
    assert!(!effects.lock().unwrap().is_empty(), "seed {seed}: nothing ran");
}

fn is_answer(seen: &Seen) -> bool {
    matches!(seen, Seen::Record(record) if matches!(record.phase, Phase::Done { .. }))
}

fn is_in_flight(seen: &Seen) -> bool {
    matches!(seen, Seen::Record(record) if record.phase == Phase::InFlight)
}

#[tokio::test(start_paused = true)]
async fn whatever_gateways_do_while_their_store_moves_nothing_runs_twice() {
    let first: u64 = rand_seed();
    for seed in first..first + HISTORIES {
        play(seed).await;
    }
}

/// Another one each time; a failure tells it.
fn rand_seed() -> u64 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    u64::from_be_bytes(bytes[..8].try_into().unwrap()) >> 8
}
