//! What is done to the servers: faults one upon another, and the healing of all of them.
//!
//! The choice of faults comes from the seed; what they meet does not. Must not know what callers are told meanwhile.
//! Longer than 400 lines, because the end of each fault stands beside its beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use super::Clock;
use super::faults::{FAULTS, Fault, Target};
use super::gateways::Gateway;
use super::ground::{Ground, Place};
use super::history::Moment;
use super::machine::Machine;
use super::stores::{Kind, Servers};

/// How often is looked whether a fault begins or ends; a slowed process works every other time.
const TICK: Duration = Duration::from_millis(25);

/// Between the beginnings of two faults, in milliseconds.
const SPACING: std::ops::Range<u64> = 100..550;

/// By how many seconds the store's clocks jump at once. All jumps together must not reach the retention.
const FORWARD: i64 = 300;

/// A store that is not whole by then will never be.
const WHOLE_WITHIN: Moment = 90_000_000;

/// All servers, and what is being done to them.
pub(crate) struct Nemesis {
    pub(crate) servers: Servers,
    pub(crate) gateways: Vec<Gateway>,
    /// Where the service is, as gateways see it.
    service: IpAddr,
    has_networks: bool,
    has_clocks: bool,
    session_ttl: Duration,
    clock: Clock,
    rng: Rng,
    active: Vec<Active>,
    /// By how many seconds the store's clocks are ahead of the right time.
    store_ahead: i64,
    /// What each place is cut off from, and whose packets it answers with resets.
    drawn: BTreeMap<String, Cuts>,
    pub(crate) counts: BTreeMap<&'static str, usize>,
    pub(crate) done: Vec<(Moment, Moment, String)>,
    /// Processes that ended though nobody had asked them to.
    pub(crate) deaths: BTreeMap<String, usize>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Cuts {
    off: BTreeSet<IpAddr>,
    torn: BTreeSet<IpAddr>,
}

/// A fault that has begun.
struct Active {
    fault: Fault,
    at: Target,
    until: Moment,
    /// What does not arrive where while it lasts.
    cuts: Vec<(Target, IpAddr)>,
}

impl Nemesis {
    pub(crate) fn new(
        servers: Servers,
        gateways: Vec<Gateway>,
        ground: &Ground,
        session_ttl: Duration,
        clock: Clock,
        seed: u64,
    ) -> Self {
        Self {
            servers,
            gateways,
            service: ground.service(),
            has_networks: ground.has_networks(),
            has_clocks: ground.has_clocks(),
            session_ttl,
            clock,
            rng: Rng::with_seed(seed),
            active: Vec::new(),
            store_ahead: 0,
            drawn: BTreeMap::new(),
            counts: BTreeMap::new(),
            done: Vec::new(),
            deaths: BTreeMap::new(),
        }
    }

    /// So many faults, one after another and several at a time. Answers how many there were.
    pub(crate) fn rage(&mut self, faults: usize) -> usize {
        let (mut begun, mut next) = (0, self.clock.now());
        let mut is_odd = false;
        while begun < faults {
            if self.clock.now() >= next {
                begun += usize::from(self.begin_one());
                next = self.clock.now() + self.rng.u64(SPACING) * 1_000;
            }
            self.end_those_over();
            is_odd = !is_odd;
            self.pulse(is_odd);
            thread::sleep(TICK);
        }
        begun
    }

    /// Ends every fault, starts whatever does not run, and waits until the store is whole. Answers when everything ran
    /// again, and when the store was whole; nothing if it did not become so.
    pub(crate) fn heal(&mut self) -> Option<(Moment, Moment)> {
        for active in std::mem::take(&mut self.active) {
            self.end(active.fault, active.at);
        }
        self.draw();
        for gateway in &mut self.gateways {
            gateway.machine.thaw();
        }
        self.start_all();
        let healed = self.clock.now();
        while !self.servers.are_whole() {
            if self.clock.now() > healed + WHOLE_WITHIN {
                return None;
            }
            thread::sleep(TICK);
            self.start_all();
        }
        Some((healed, self.clock.now()))
    }

    /// Starts every gateway anew, with an empty memory.
    pub(crate) fn restart_gateways(&mut self) {
        for gateway in &mut self.gateways {
            gateway.machine.kill();
            gateway.machine.start();
        }
    }

    /// Starts again what ended by itself.
    pub(crate) fn start_all(&mut self) {
        for at in self.targets() {
            if self.machine(at).is_alive() {
                continue;
            }
            if let Target::Node(index) = at
                && self.servers.replace(index)
            {
                *self.counts.entry("(a damaged log thrown away)").or_default() += 1;
            }
            *self.deaths.entry(self.place(at).name.clone()).or_default() += 1;
            self.machine(at).start();
        }
    }

    fn targets(&self) -> Vec<Target> {
        let gateways = (0..self.gateways.len()).map(Target::Gateway);
        let nodes = (0..self.servers.nodes.len()).map(Target::Node);
        gateways.chain(nodes).chain((0..self.servers.watchers.len()).map(Target::Watcher)).collect()
    }

    fn begin_one(&mut self) -> bool {
        let (fault, at) = self.choose();
        let is_taken = |active: &Active| {
            active.at == at
                && (active.fault == fault || active.fault.is_of_process() && fault.is_of_process())
        };
        if self.active.iter().any(is_taken) {
            return false;
        }
        let until = self.clock.now() + self.length(fault, at);
        let cuts = self.cuts(fault, at);
        self.begin(fault, at);
        *self.counts.entry(fault.name(at)).or_default() += 1;
        let told = format!("{} ({}); {cuts:?}", fault.name(at), self.place(at).name);
        self.done.push((self.clock.now(), until, told));
        self.active.push(Active { fault, at, until, cuts });
        self.draw();
        true
    }

    /// A fault and whom it befalls.
    fn choose(&mut self) -> (Fault, Target) {
        loop {
            let at = self.target();
            let fault = FAULTS[self.rng.usize(0..FAULTS.len())];
            if let Some(at) = self.befalls(fault, at) {
                return (fault, at);
            }
        }
    }

    fn target(&mut self) -> Target {
        let (nodes, watchers) = (self.servers.nodes.len(), self.servers.watchers.len());
        match self.rng.u32(0..100) {
            0..50 => Target::Gateway(self.rng.usize(0..self.gateways.len())),
            50..60 if watchers > 0 => Target::Watcher(self.rng.usize(0..watchers)),
            _ if nodes > 0 => Target::Node(self.rng.usize(0..nodes)),
            _ => Target::Gateway(self.rng.usize(0..self.gateways.len())),
        }
    }

    /// Whom the fault befalls, if it can befall anybody here.
    fn befalls(&self, fault: Fault, at: Target) -> Option<Target> {
        let is_gateway = matches!(at, Target::Gateway(_));
        let is_node = matches!(at, Target::Node(_));
        let is_embedded = self.servers.kind == Kind::Embedded;
        let leader = || self.servers.leader().map(Target::Node).filter(|_| self.servers.kind.fails_over());
        match fault {
            Fault::Killed | Fault::Ended | Fault::Frozen | Fault::Slowed => Some(at),
            Fault::WithoutKey => is_gateway.then_some(at),
            Fault::CutOff | Fault::Torn => (self.has_networks && !(is_gateway && is_embedded)).then_some(at),
            Fault::Deaf => (self.has_networks && is_gateway && !is_embedded).then_some(at),
            Fault::CutOffFromService => (self.has_networks && is_gateway).then_some(at),
            Fault::Clock => self.has_clocks.then_some(at),
            Fault::Full => (self.has_networks && (is_node || is_gateway && is_embedded)).then_some(at),
            Fault::LeaderKilled | Fault::LeaderFrozen | Fault::HandOver => leader(),
            Fault::LeaderCutOff => leader().filter(|_| self.has_networks),
        }
    }

    fn length(&mut self, fault: Fault, at: Target) -> Moment {
        let session = u64::try_from(self.session_ttl.as_millis()).unwrap();
        let millis = match fault {
            Fault::Killed | Fault::Ended => 50..1_500,
            Fault::Frozen if matches!(at, Target::Gateway(_)) => session * 11 / 10..session * 2,
            Fault::Torn => 50..300,
            Fault::HandOver => 50..100,
            Fault::LeaderKilled | Fault::LeaderFrozen | Fault::LeaderCutOff => 2_500..6_000,
            Fault::Frozen
            | Fault::Slowed
            | Fault::WithoutKey
            | Fault::CutOff
            | Fault::Deaf
            | Fault::CutOffFromService
            | Fault::Clock
            | Fault::Full => 500..3_500,
        };
        self.rng.u64(millis) * 1_000
    }

    fn begin(&mut self, fault: Fault, at: Target) {
        if fault == Fault::Clock {
            return self.jump(at);
        }
        let machine = self.machine(at);
        match fault {
            Fault::Killed | Fault::LeaderKilled => machine.kill(),
            Fault::Ended => machine.end(Signal::TERM),
            Fault::Frozen | Fault::Slowed | Fault::LeaderFrozen => machine.freeze(),
            Fault::WithoutKey => {
                machine.kill();
                machine.is_altered = true;
                machine.start();
            }
            Fault::Full => machine.place.fill(),
            Fault::HandOver => self.servers.hand_over(),
            Fault::Clock
            | Fault::CutOff
            | Fault::Deaf
            | Fault::CutOffFromService
            | Fault::Torn
            | Fault::LeaderCutOff => {}
        }
    }

    /// A gateway's clock is wrong by hours. One server of the store is wrong by a second, or the clock of all of them
    /// goes forward for good: a session ends when they say so, and set back by an hour they would keep a dead
    /// gateway's for an hour.
    fn jump(&mut self, at: Target) {
        let sign = if self.rng.bool() { 1 } else { -1 };
        if matches!(at, Target::Gateway(_)) {
            let seconds = [2, 60, 3_600, 40_000][self.rng.usize(0..4)];
            self.place(at).set_clock(sign * seconds);
        } else if self.rng.bool() {
            self.set_clock(at, sign);
        } else {
            self.store_ahead += FORWARD;
            let is_of_store = |other: &Target| !matches!(other, Target::Gateway(_));
            self.targets().into_iter().filter(is_of_store).for_each(|other| self.set_clock(other, 0));
        }
    }

    /// Sets the clock of one of the store's servers, against what all of them go by.
    fn set_clock(&self, at: Target, seconds: i64) {
        self.place(at).set_clock(self.store_ahead + seconds);
    }

    fn end_those_over(&mut self) {
        let now = self.clock.now();
        let (over, active) =
            std::mem::take(&mut self.active).into_iter().partition(|active: &Active| active.until <= now);
        self.active = active;
        for active in &over {
            self.end(active.fault, active.at);
        }
        if !over.is_empty() {
            self.draw();
        }
    }

    fn end(&mut self, fault: Fault, at: Target) {
        let machine = self.machine(at);
        match fault {
            Fault::Killed | Fault::LeaderKilled => machine.start(),
            Fault::Ended => {
                // It may still be finishing what it was at; by then its time is over.
                machine.kill();
                machine.start();
            }
            Fault::Frozen | Fault::Slowed | Fault::LeaderFrozen => machine.thaw(),
            Fault::WithoutKey => {
                machine.kill();
                machine.is_altered = false;
                machine.start();
            }
            Fault::Clock if matches!(at, Target::Gateway(_)) => machine.place.set_clock(0),
            Fault::Clock => self.set_clock(at, 0),
            Fault::Full => {
                machine.place.empty();
                // Some servers end when they cannot write.
                machine.start();
            }
            Fault::CutOff
            | Fault::Deaf
            | Fault::CutOffFromService
            | Fault::Torn
            | Fault::LeaderCutOff
            | Fault::HandOver => {}
        }
    }

    /// Slowed processes work half of the time.
    fn pulse(&mut self, works: bool) {
        let slowed = self.active.iter().filter(|active| active.fault == Fault::Slowed);
        for at in slowed.map(|active| active.at).collect::<Vec<_>>() {
            let machine = self.machine(at);
            if works { machine.thaw() } else { machine.freeze() }
        }
    }

    /// What does not arrive where.
    fn cuts(&mut self, fault: Fault, at: Target) -> Vec<(Target, IpAddr)> {
        let own = self.place(at).ip;
        let (others, is_of_service) = (self.peers(fault, at), self.rng.bool());
        let both_ways = |others: Vec<Target>| {
            let to = others.iter().map(|other| (at, self.place(*other).ip));
            to.chain(others.iter().map(|other| (*other, own))).collect()
        };
        match fault {
            Fault::Deaf => others.iter().map(|other| (at, self.place(*other).ip)).collect(),
            Fault::CutOffFromService => vec![(at, self.service)],
            Fault::Torn if matches!(at, Target::Gateway(_)) && is_of_service => vec![(at, self.service)],
            Fault::CutOff | Fault::LeaderCutOff | Fault::Torn => both_ways(others),
            Fault::Killed
            | Fault::Ended
            | Fault::Frozen
            | Fault::Slowed
            | Fault::WithoutKey
            | Fault::Clock
            | Fault::Full
            | Fault::LeaderKilled
            | Fault::LeaderFrozen
            | Fault::HandOver => Vec::new(),
        }
    }

    /// From whom it is cut off: the whole store, one of its nodes, or a node from all other servers of the store.
    fn peers(&mut self, fault: Fault, at: Target) -> Vec<Target> {
        let nodes = self.servers.nodes.len();
        let (gateways, store): (Vec<Target>, Vec<Target>) =
            self.targets().into_iter().partition(|target| matches!(target, Target::Gateway(_)));
        match at {
            Target::Gateway(_) if nodes > 1 && self.rng.bool() => {
                vec![Target::Node(self.rng.usize(0..nodes))]
            }
            Target::Gateway(_) => store,
            Target::Node(_) | Target::Watcher(_) => {
                let others: Vec<Target> = store.into_iter().filter(|other| *other != at).collect();
                // A leader that is cut off from its followers is still reached by gateways, which is worse.
                let is_alone = fault != Fault::LeaderCutOff && (others.is_empty() || self.rng.bool());
                if is_alone { others.into_iter().chain(gateways).collect() } else { others }
            }
        }
    }

    /// Makes the filters what the faults of now want them to be.
    fn draw(&mut self) {
        let mut wanted: BTreeMap<String, Cuts> = BTreeMap::new();
        for active in &self.active {
            for (target, from) in &active.cuts {
                let cuts = wanted.entry(self.place(*target).name.clone()).or_default();
                if active.fault == Fault::Torn {
                    cuts.torn.insert(*from)
                } else {
                    cuts.off.insert(*from)
                };
            }
        }
        for place in self.targets().into_iter().map(|target| self.place(target).clone()).collect::<Vec<_>>() {
            let new = wanted.remove(&place.name).unwrap_or_default();
            let old = self.drawn.entry(place.name.clone()).or_default();
            if *old != new {
                place.filter_out(&new.off, &new.torn);
                *old = new;
            }
        }
    }

    fn machine(&mut self, at: Target) -> &mut Machine {
        match at {
            Target::Gateway(index) => &mut self.gateways[index].machine,
            Target::Node(index) => &mut self.servers.nodes[index],
            Target::Watcher(index) => &mut self.servers.watchers[index],
        }
    }

    fn place(&self, at: Target) -> &Place {
        match at {
            Target::Gateway(index) => &self.gateways[index].machine.place,
            Target::Node(index) => &self.servers.nodes[index].place,
            Target::Watcher(index) => &self.servers.watchers[index].place,
        }
    }
}
