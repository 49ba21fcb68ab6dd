//! What goes wrong, and when: the faults of a history, drawn from its seed.
//!
//! Large ones are put down one by one before the history begins, so that one that breaks a promise can be played again
//! without some of them; small ones happen by chance to each message. At [`HEALS_AT`] all of it ends. Must not know what
//! follows from it.

use bytes::Bytes;

use super::carriage::Peer;
use super::process::{Moment, Process};
use super::truth::{Done, ROUTES, SCOPES};
use super::world::{Event, HEALS_AT, World};
use crate::ledger::operations::Resolution;
use crate::protocol::record::Phase;
use crate::protocol::saved::{SavedHead, SavedResponse};

/// Gateways at most.
const GATEWAYS_MAX: usize = 3;

/// The climate of a history, and what holds at the moment. Chances are in thousandths.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    /// Nothing but services and callers misbehaves.
    pub(super) is_calm: bool,
    /// The store forgets what it has acknowledged when it fails over.
    pub(super) is_lossy: bool,
    pub(super) is_healed: bool,
    /// What is lost is told to be lost.
    pub(super) is_loud: bool,
    pub(super) gateways: usize,
    pub(super) troubles: usize,
    /// Connections that services refuse.
    pub(super) refuses: u32,
    /// Writes at which a connection breaks.
    pub(super) breaks: u32,
    /// Questions to the store, or its answers, that are lost.
    pub(super) loses: u32,
    /// Questions that come twice.
    pub(super) doubles: u32,
    /// Questions whose connection breaks.
    pub(super) fails: u32,
    /// Claims upon which their gateway is stopped for longer than its session lives.
    pub(super) stalls: u32,
    /// Claims upon which their gateway is killed.
    pub(super) deaths: u32,
    /// Messages that take long.
    pub(super) lags: u32,
    /// Plans of services that are not simply an answer.
    pub(super) mischief: u32,
    store_cut: [Moment; GATEWAYS_MAX],
    service_cut: [Moment; GATEWAYS_MAX],
    callers_cut: [Moment; GATEWAYS_MAX],
    store_down: Moment,
    store_slow: Moment,
    service_down: Moment,
}

/// Something that goes wrong, or right again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    Kill { slot: usize, polls: usize, back: Moment },
    Drain { slot: usize },
    Start { slot: usize },
    Stop { slot: usize, time: Moment },
    Go { slot: usize, generation: u64 },
    CutStore { slot: usize, time: Moment },
    StoreDown { time: Moment },
    StoreSlow { time: Moment },
    CutService { slot: usize, time: Moment },
    ServiceDown { time: Moment },
    CutCallers { slot: usize, time: Moment },
    BreakAll { slot: usize },
    Damage { which: usize },
    TurnClock { slot: usize, by: i64 },
    Operate { slot: usize, which: usize },
    Remember,
    FallBack,
    Heal,
}

impl Weather {
    /// The climate of a seed.
    pub(super) fn of(random: &mut fastrand::Rng) -> Self {
        let gateways = random.usize(2..=GATEWAYS_MAX);
        let mischief = [100, 350, 600][random.usize(..3)];
        let calm = Self { gateways, mischief, refuses: 20, ..Self::default() };
        if random.u32(..8) == 0 {
            return Self { is_calm: true, ..calm };
        }
        let mut sometimes = |most: u32| if random.bool() { random.u32(..=most) } else { 0 };
        let (breaks, loses, doubles, fails, lags) =
            (sometimes(30), sometimes(30), sometimes(60), sometimes(30), sometimes(80));
        let mut seldom = || if random.u32(..4) == 0 { 150 } else { 0 };
        let (stalls, deaths) = (seldom(), seldom());
        Self {
            stalls,
            deaths,
            breaks,
            loses,
            doubles,
            fails,
            lags,
            is_loud: random.bool(),
            is_lossy: random.u32(..16) == 0,
            troubles: random.usize(0..10),
            ..calm
        }
    }

    /// How long something takes over the network.
    pub(super) fn latency(&self, random: &mut fastrand::Rng) -> Moment {
        let lags = self.lags > 0 && random.u32(..1000) < self.lags;
        if lags { random.u64(20..600) } else { random.u64(1..4) }
    }

    /// How long a question to the store, or its answer, takes.
    pub(super) fn store_latency(&self, random: &mut fastrand::Rng) -> Moment {
        let is_slow = self.store_slow > 0 && random.u32(..3) == 0;
        if is_slow { random.u64(50..900) } else { self.latency(random) }
    }

    /// How long a reader takes to take what has come.
    pub(super) fn slowness(&self, random: &mut fastrand::Rng) -> Moment {
        if self.lags > 0 && random.u32(..50) == 0 { random.u64(0..300) } else { 0 }
    }

    pub(super) fn store_is_cut(&self, slot: usize, now: Moment) -> bool {
        now < self.store_cut[slot] || now < self.store_down
    }

    pub(super) fn store_is_down(&self, now: Moment) -> bool {
        now < self.store_down
    }

    pub(super) fn service_is_down(&self, now: Moment) -> bool {
        now < self.service_down
    }

    pub(super) fn service_cut_until(&self, slot: usize) -> Moment {
        self.service_cut[slot]
    }

    pub(super) fn callers_cut_until(&self, slot: usize) -> Moment {
        self.callers_cut[slot]
    }

    fn heal(&mut self) {
        *self = Self { gateways: self.gateways, is_calm: self.is_calm, is_healed: true, ..Self::default() };
    }
}

impl World {
    /// Puts down everything large that will go wrong.
    pub(super) fn plan_troubles(&mut self) {
        let mut random = fastrand::Rng::with_seed(self.random.u64(..));
        self.troubles = self.weather.troubles;
        for number in 0..self.troubles {
            let (at, trouble) = self.draw(&mut random);
            if !self.without.contains(&number) {
                self.put(at, Event::Trouble(trouble));
            }
        }
        if self.weather.is_lossy {
            let at = random.u64(1_000..HEALS_AT - 1_000);
            self.put(at, Event::Trouble(Trouble::Remember));
            self.put(at + random.u64(1..800), Event::Trouble(Trouble::FallBack));
        }
        self.put(HEALS_AT, Event::Trouble(Trouble::Heal));
    }

    fn draw(&self, random: &mut fastrand::Rng) -> (Moment, Trouble) {
        let at = random.u64(300..HEALS_AT - 500);
        let slot = random.usize(..self.weather.gateways);
        let time = random.u64(50..4_000).min(HEALS_AT - at);
        let trouble = match random.u32(..24) {
            0..5 => Trouble::Kill { slot, polls: random.usize(..60), back: random.u64(1..3_000) },
            5..9 => Trouble::Stop { slot, time: random.u64(500..5_000) },
            9 => Trouble::Drain { slot },
            10 | 11 => Trouble::CutStore { slot, time },
            12 => Trouble::StoreDown { time },
            13 | 14 => Trouble::StoreSlow { time },
            15 => Trouble::CutService { slot, time },
            16 => Trouble::ServiceDown { time: time / 2 },
            17 => Trouble::CutCallers { slot, time },
            18 => Trouble::BreakAll { slot },
            19 | 20 => Trouble::Damage { which: random.usize(..8) },
            21 => Trouble::TurnClock { slot, by: random.i64(-3_600_000..3_600_000) },
            _ => Trouble::Operate { slot, which: random.usize(..8) },
        };
        (at, trouble)
    }

    /// Something goes wrong, or right again.
    pub(super) fn trouble(&mut self, trouble: Trouble) {
        let restores = matches!(trouble, Trouble::Start { .. } | Trouble::Go { .. } | Trouble::Heal);
        // What was drawn shortly before all heals, and would come after it, does not.
        if self.weather.is_healed && !restores {
            return;
        }
        self.say(format_args!("trouble: {trouble:?}"));
        let now = self.now;
        match trouble {
            Trouble::Kill { slot, polls, back } => {
                self.kill(slot, polls);
                self.put(now + back, Event::Trouble(Trouble::Start { slot }));
            }
            Trouble::Drain { slot } => {
                let held = &mut self.slots[slot];
                if let Some(process) = &held.process
                    && held.drains_since.is_none()
                {
                    process.drain();
                    held.drains_since = Some(now);
                }
            }
            Trouble::Start { slot } => {
                if self.slots[slot].process.is_none() {
                    self.start(slot);
                }
            }
            Trouble::Stop { slot, time } => {
                let held = &mut self.slots[slot];
                if held.process.is_some() && held.stopped_until.is_none() {
                    held.stopped_until = Some(now + time);
                    let generation = held.generation;
                    self.put(now + time, Event::Trouble(Trouble::Go { slot, generation }));
                }
            }
            Trouble::Go { slot, generation } => self.go_on(slot, generation),
            Trouble::CutStore { slot, time } => self.weather.store_cut[slot] = now + time,
            Trouble::StoreDown { time } => self.weather.store_down = now + time,
            Trouble::StoreSlow { time } => self.weather.store_slow = now + time,
            Trouble::CutService { slot, time } => self.weather.service_cut[slot] = now + time,
            Trouble::ServiceDown { time } => self.weather.service_down = now + time,
            Trouble::CutCallers { slot, time } => self.weather.callers_cut[slot] = now + time,
            Trouble::BreakAll { slot } => self.break_all(slot),
            Trouble::Damage { which } => self.damage(which),
            Trouble::TurnClock { slot, by } => {
                if let Some(process) = &mut self.slots[slot].process {
                    process.wall_off = by;
                }
            }
            Trouble::Operate { slot, which } => self.operate(slot, which),
            Trouble::Remember => self.earlier = Some(self.shelf.clone()),
            Trouble::FallBack => self.fall_back(),
            Trouble::Heal => self.heal(),
        }
    }

    /// A gateway has just claimed a key: a bad moment to be stopped, or killed.
    pub(super) fn upon_claim(&mut self, slot: usize) {
        let at = self.now + self.random.u64(1..80);
        if self.chance(self.weather.stalls) {
            let time = self.random.u64(3_000..6_000);
            self.put(at, Event::Trouble(Trouble::Stop { slot, time }));
        } else if self.chance(self.weather.deaths) {
            let (polls, back) = (self.random.usize(..60), self.random.u64(1..3_000));
            self.put(at, Event::Trouble(Trouble::Kill { slot, polls, back }));
        }
    }

    fn kill(&mut self, slot: usize, polls: usize) {
        let is_stopped = self.slots[slot].stopped_until.is_some();
        let Some(process) = &mut self.slots[slot].process else { return };
        if !is_stopped {
            process.run_polls(polls);
        }
        let now = self.now;
        self.collect(slot, now);
        self.end_process(slot);
    }

    /// What is left of a process goes, and its connections end.
    pub(super) fn end_process(&mut self, slot: usize) {
        let has_drained = self.slots[slot].drains_since.is_some();
        self.end_connections(slot);
        if let Some(mut process) = self.slots[slot].process.take() {
            process.kill();
        }
        (self.slots[slot].stopped_until, self.slots[slot].drains_since) = (None, None);
        if has_drained {
            let at = self.now + self.random.u64(1..500);
            self.put(at, Event::Trouble(Trouble::Start { slot }));
        }
    }

    fn go_on(&mut self, slot: usize, generation: u64) {
        let now = self.now;
        let held = &mut self.slots[slot];
        if held.generation == generation
            && held.stopped_until.take().is_some()
            && let Some(process) = &mut held.process
        {
            process.leap(now);
            self.collect(slot, now);
        }
    }

    fn break_all(&mut self, slot: usize) {
        let its = |connection: &&super::carriage::Connection| {
            connection.slot == slot && !connection.is_over && connection.peer == Peer::Service
        };
        let numbers: Vec<_> = self.connections.values().filter(its).map(|held| held.pipe.number).collect();
        let now = self.now;
        for number in numbers {
            self.break_off(number, now);
        }
    }

    fn damage(&mut self, which: usize) {
        let keys: Vec<_> = self.keys.iter().map(|(place, key)| (*place, *key)).collect();
        let Some((place, key)) = keys.get(which % keys.len().max(1)).copied() else { return };
        if self.shelf.damage(&place) {
            self.say(format_args!("{key:?} is damaged"));
            self.truth.stories.entry(key).or_default().is_damaged = true;
        }
    }

    fn fall_back(&mut self) {
        let Some(earlier) = self.earlier.take() else { return };
        self.shelf.fall_back(&earlier);
        self.truth.stories.values_mut().for_each(|story| story.is_forgotten = true);
    }

    fn heal(&mut self) {
        self.weather.heal();
        for slot in 0..self.slots.len() {
            let generation = self.slots[slot].generation;
            self.go_on(slot, generation);
            if self.slots[slot].process.is_none() {
                self.start(slot);
            }
        }
        self.bring_readers();
    }

    /// An operator looks for an unknown outcome and asks the service, which knows: what was done is put down as done,
    /// and what was not is released.
    fn operate(&mut self, slot: usize, which: usize) {
        let is_unknown = |place| {
            self.shelf.records.get(place).is_some_and(|kept| match kept.record.phase {
                Phase::Unknown { .. } => true,
                Phase::InFlight => !self.shelf.lives(kept.record.session, self.now),
                Phase::Done { .. } | Phase::DoneWithoutBody { .. } => false,
            })
        };
        let unknown: Vec<_> = self
            .keys
            .iter()
            .filter(|(place, _)| is_unknown(place))
            .map(|(place, key)| (*place, *key))
            .collect();
        let Some((place, key)) = unknown.get(which % unknown.len().max(1)).copied() else { return };
        // The service cannot tell of what is still on its way to it.
        let is_on_its_way = |held: &super::carriage::Connection| {
            held.peer == Peer::Service && !held.is_over && held.peer_hears > self.now
        };
        if self.connections.values().any(is_on_its_way) {
            return;
        }
        let attempt = self.shelf.records[&place].record.version.attempt;
        let story = self.truth.stories.entry(key).or_default();
        let executed = story.runs.iter().find(|run| self.truth.runs[**run].done == Done::Executed);
        let resolution = match executed.map(|run| &self.truth.runs[*run].answer) {
            None => {
                story.freed = story.runs.len();
                Resolution::Release
            }
            Some(answer) => {
                let headers =
                    answer.fields.iter().map(|(name, value)| (name.clone(), Bytes::from(value.clone())));
                let head = SavedHead { status: answer.status, headers: headers.collect() };
                let body = Bytes::from(answer.body.clone());
                let answer = SavedResponse { head, body, trailers: [].into() };
                Resolution::Complete { answer, keep_for: std::time::Duration::from_hours(1) }
            }
        };
        self.log.put(self.now, format_args!("an operator resolves {key:?}: executed {executed:?}"));
        self.operated.insert(place);
        let Some(process) = &self.slots[slot].process else { return };
        let Some(ledger) = process.look(|gateway| gateway.ledger.clone()) else { return };
        process.spawn(async move {
            let _resolved = ledger.resolve(&place, attempt, resolution).await;
        });
    }

    /// Where the record of a key stands, once a gateway is there to tell.
    pub(super) fn place(&mut self, key: super::truth::Key) {
        if self.keys.values().any(|known| *known == key) {
            return;
        }
        let tell = |process: &Process| {
            process.look(|gateway| gateway.storage_key(ROUTES[key.route], SCOPES[key.scope], &key.header()))
        };
        let place = self.slots.iter().filter_map(|slot| slot.process.as_ref()).find_map(tell);
        if let Some(place) = place {
            self.keys.insert(place, key);
        }
    }
}
