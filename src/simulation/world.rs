//! The world: its time, what is going to happen, and the gateways in it.
//!
//! Everything happens in the order of moments, and at one moment in the order in which it was put down, so one seed is
//! one history. Between two events the gateways run, each until it has nothing to do before the next. Must not know what
//! callers and services do (`callers.rs`, `service.rs`), nor what goes wrong when (`weather.rs`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Arguments;
use std::sync::Arc;

use tokio::sync::watch;

use super::callers::{Agent, Step};
use super::carriage::{Connection, Reply, What};
use super::desk::Ask;
use super::process::{Moment, Process};
use super::service::Plan;
use super::shelf::Shelf;
use super::truth::{Key, Truth};
use super::weather::{Trouble, Weather};
use crate::config::{self, Config};
use crate::net::simulated::Number;
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

/// The longest that gateways run on their own, when nothing is known to happen.
const STRIDE: Moment = 50;

/// When everything heals.
pub(super) const HEALS_AT: Moment = 9_000;

/// When the last caller must have been answered: the life of a session, and two seconds.
pub(super) const ANSWERED_BY: Moment = HEALS_AT + 2_000 + 2_000;

/// When the world ends.
const ENDS_AT: Moment = ANSWERED_BY + 2_000;

const CONFIG: &str = r#"
    [server]
    drain_timeout = "2s"
    [store]
    url = "memory:"
    timeout = "300ms"
    session_ttl = "2s"
    [upstreams.default]
    url = "http://127.0.0.1:9000"
    connect_timeout = "400ms"
    response_timeout = "1500ms"
    [policy]
    key = "required"
    wait_timeout = "4s"
    late_answer_window = "2s"
    response_body_max = "1KiB"
    [[routes]]
    path = "/reject"
    [[routes]]
    path = "/wait"
    in_flight = "wait"
    [[routes]]
    path = "/retry"
    on_unknown = "retry"
    [[routes]]
    path = "/release"
    on_5xx = "release"
    [[routes]]
    path = "/unknown"
    on_5xx = "unknown"
    in_flight = "wait"
"#;

/// Something that is going to happen.
pub(super) enum Event {
    /// A connection reaches a gateway's listener.
    Arrive { connection: Number },
    /// Something reaches a gateway over a connection.
    ToGateway { connection: Number, what: What },
    /// Something reaches the other end.
    ToPeer { connection: Number, what: What },
    /// A question reaches the store; without a reply where it is sent again, since nobody hears of it.
    Ask { slot: usize, generation: u64, ask: Ask, reply: Option<Reply> },
    /// Its answer reaches the gateway.
    Tell { reply: Reply, told: Result<super::desk::Told, ()> },
    /// Whoever watches a key is told.
    Notify { tell: watch::Sender<u64> },
    /// A service goes on with its answer.
    Serve { connection: Number, plan: Box<Plan> },
    /// A caller does its next step.
    Agent { agent: usize, epoch: u64, step: Step },
    /// Something goes wrong, or right again.
    Trouble(Trouble),
}

/// A place for a gateway process.
pub(super) struct Slot {
    pub(super) process: Option<Process>,
    /// Counts the processes that were here.
    pub(super) generation: u64,
    pub(super) stopped_until: Option<Moment>,
    pub(super) drains_since: Option<Moment>,
    /// By what the store knows it.
    pub(super) session: Option<Session>,
}

/// Everything.
pub(super) struct World {
    pub(super) now: Moment,
    pub(super) random: fastrand::Rng,
    pub(super) slots: Vec<Slot>,
    pub(super) connections: BTreeMap<Number, Connection>,
    pub(super) shelf: Shelf,
    pub(super) earlier: Option<Shelf>,
    pub(super) truth: Truth,
    pub(super) agents: Vec<Agent>,
    pub(super) weather: Weather,
    pub(super) keys: BTreeMap<StorageKey, Key>,
    pub(super) log: Log,
    /// Keys that an operator has had resolved.
    pub(super) operated: BTreeSet<StorageKey>,
    /// The numbers of the troubles that are left out, and how many there are with them.
    pub(super) without: BTreeSet<usize>,
    pub(super) troubles: usize,
    config: Arc<Config>,
    coming: BinaryHeap<(Reverse<Moment>, Reverse<u64>, Coming)>,
    put_down: u64,
    born: u64,
}

struct Coming(Event);

impl PartialEq for Coming {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Coming {}

impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Coming {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// What has happened, as a digest, and in words where they are wanted.
#[derive(Default)]
pub(super) struct Log {
    pub(super) digest: u64,
    pub(super) lines: Option<Vec<String>>,
}

impl Log {
    pub(super) fn put(&mut self, now: Moment, what: Arguments<'_>) {
        let line = format!("{now:>6} {what}");
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }
}

thread_local! {
    static PARSED: Arc<Config> = Arc::new({
        let mut config = config::parse("simulated", CONFIG, &|_| None).unwrap();
        for route in &mut config.routes {
            route.policy.commit_timeout = std::time::Duration::from_millis(500);
        }
        config
    });
}

impl World {
    /// The world of a seed, before anything has happened. `tells`: also in words.
    pub(super) fn new(seed: u64, without: &BTreeSet<usize>, tells: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let weather = Weather::of(&mut random);
        let log = Log { digest: 0xcbf2_9ce4_8422_2325, lines: tells.then(Vec::new) };
        let mut world = Self {
            now: 0,
            random,
            slots: Vec::new(),
            connections: BTreeMap::new(),
            shelf: Shelf::default(),
            earlier: None,
            truth: Truth { is_calm: weather.is_calm, ..Truth::default() },
            agents: Vec::new(),
            weather,
            keys: BTreeMap::new(),
            log,
            operated: BTreeSet::new(),
            without: without.clone(),
            troubles: 0,
            config: PARSED.with(Arc::clone),
            coming: BinaryHeap::new(),
            put_down: 0,
            born: 0,
        };
        for slot in 0..world.weather.gateways {
            let empty =
                Slot { process: None, generation: 0, stopped_until: None, drains_since: None, session: None };
            world.slots.push(empty);
            world.start(slot);
        }
        world
    }

    /// Puts down what is going to happen.
    pub(super) fn put(&mut self, at: Moment, event: Event) {
        self.put_down += 1;
        self.coming.push((Reverse(at.max(self.now)), Reverse(self.put_down), Coming(event)));
    }

    /// Starts a gateway process in an empty slot.
    pub(super) fn start(&mut self, slot: usize) {
        self.born += 1;
        let process = Process::start(self.born, self.now, &self.config);
        let held = &mut self.slots[slot];
        held.process = Some(process);
        held.generation += 1;
        (held.stopped_until, held.drains_since, held.session) = (None, None, None);
        self.say(format_args!("gateway {slot} starts"));
    }

    pub(super) fn say(&mut self, what: Arguments<'_>) {
        self.log.put(self.now, what);
    }

    /// Lets everything happen up to the end.
    pub(super) fn play(&mut self) {
        self.plan_troubles();
        self.bring_callers();
        while self.now < ENDS_AT {
            while self.coming.peek().is_some_and(|(at, _, _)| at.0 <= self.now) {
                let Some((_, _, Coming(event))) = self.coming.pop() else { break };
                self.happen(event);
            }
            let next = self.coming.peek().map_or(ENDS_AT, |(at, _, _)| at.0);
            let limit = next.min(self.now + STRIDE).min(ENDS_AT);
            self.now = self.run_gateways(limit);
        }
        self.judge_the_end();
    }

    /// Runs every gateway up to `limit`; answers up to where nobody has done anything that others must know of.
    fn run_gateways(&mut self, mut limit: Moment) -> Moment {
        let first = self.random.usize(..self.slots.len());
        for turn in 0..self.slots.len() {
            let number = (first + turn) % self.slots.len();
            let slot = &mut self.slots[number];
            if slot.stopped_until.is_some() {
                continue;
            }
            let Some(process) = &mut slot.process else { continue };
            process.run(limit);
            let at = process.clock.max(self.now);
            if self.collect(number, at) {
                limit = limit.min(at);
            }
            self.look_after_drain(number);
        }
        limit
    }

    fn look_after_drain(&mut self, number: usize) {
        let slot = &self.slots[number];
        let Some(since) = slot.drains_since else { return };
        let has_ended = slot.process.as_ref().is_some_and(Process::has_ended);
        if has_ended {
            self.say(format_args!("gateway {number} has ended in order"));
            self.end_process(number);
        } else if self.now > since + 9_000 {
            self.truth.faults.push(format!("gateway {number} has not ended since {since}"));
            self.end_process(number);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { connection } => self.arrive(connection),
            Event::ToGateway { connection, what } => self.reach_gateway(connection, what),
            Event::ToPeer { connection, what } => self.reach_peer(connection, &what),
            Event::Ask { slot, generation, ask, reply } => self.reach_store(slot, generation, &ask, reply),
            Event::Tell { reply, told } => reply.give(told),
            Event::Notify { tell } => tell.send_modify(|count| *count += 1),
            Event::Serve { connection, plan } => self.serve(connection, *plan),
            Event::Agent { agent, epoch, step } => self.step(agent, epoch, step),
            Event::Trouble(trouble) => self.trouble(trouble),
        }
    }
}
