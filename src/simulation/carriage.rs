//! How bytes and messages travel: how long they take, which are lost, which come twice, and where connections break.
//!
//! Must not know what is carried.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::desk::{Ask, Broke, Message, Told};
use super::process::Moment;
use super::shelf::Change;
use super::world::{Event, World};
use crate::net::simulated::{Act, Number, Pipe};
use crate::store::StoreError;

/// What travels over a connection.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The connection is made.
    Made,
    Bytes(Bytes),
    /// The sender writes no more.
    Finish,
    /// The connection is broken.
    Reset,
    /// So many bytes have been taken.
    Taken(usize),
}

/// Who is at the other end of a gateway's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Agent(usize),
    Service,
}

/// A connection of a gateway.
pub(super) struct Connection {
    pub(super) pipe: Arc<Pipe>,
    pub(super) slot: usize,
    pub(super) generation: u64,
    pub(super) peer: Peer,
    /// Before these moments nothing more reaches the ends: bytes keep their order.
    pub(super) gateway_hears: Moment,
    pub(super) peer_hears: Moment,
    /// What the peer has received and not dealt with.
    pub(super) received: Vec<u8>,
    pub(super) gateway_has_finished: bool,
    pub(super) is_over: bool,
    /// Nothing travels over it any more.
    is_broken: bool,
    /// The service is at work on a request.
    pub(super) is_busy: bool,
}

/// Where the answer to a question goes: once, by whichever copy of it comes first.
#[derive(Clone)]
pub(super) struct Reply(Rc<RefCell<Option<Sender>>>);

type Sender = oneshot::Sender<Result<Told, StoreError>>;

impl Reply {
    fn to(sender: Sender) -> Self {
        Self(Rc::new(RefCell::new(Some(sender))))
    }

    pub(super) fn give(&self, told: Result<Told, ()>) {
        if let Some(sender) = self.0.borrow_mut().take() {
            let told = told.map_err(|()| StoreError::Unreachable(Box::new(Broke)));
            sender.send(told).ok();
        }
    }
}

impl World {
    /// Takes note of what a gateway has done; whether it has done anything.
    pub(super) fn collect(&mut self, slot: usize, at: Moment) -> bool {
        let held = &self.slots[slot];
        let Some(process) = &held.process else { return false };
        let (acts, messages, generation) =
            (process.take_acts(), process.desk.take_messages(), held.generation);
        let has_acted = !acts.is_empty() || !messages.is_empty();
        let before = std::mem::replace(&mut self.now, at);
        for act in acts {
            self.carry(slot, generation, act);
        }
        for message in messages {
            self.ask(slot, generation, message);
        }
        self.now = before;
        has_acted
    }

    fn carry(&mut self, slot: usize, generation: u64, act: Act) {
        match act {
            Act::Connect { pipe } => {
                let number = pipe.number;
                self.connect(pipe, slot, generation, Peer::Service);
                let is_refused = self.weather.service_is_down(self.now) || self.chance(self.weather.refuses);
                self.say(format_args!("gateway {slot} connects #{number:x}, refused: {is_refused}"));
                let what = if is_refused { What::Reset } else { What::Made };
                self.send_to_gateway(number, what);
            }
            Act::Write { number, bytes } => {
                self.say(format_args!("gateway {slot} writes {} bytes to #{number:x}", bytes.len()));
                self.send_to_peer(number, What::Bytes(bytes));
            }
            Act::Finish { number } => self.send_to_peer(number, What::Finish),
            Act::Close { number, is_reset } => {
                self.send_to_peer(number, if is_reset { What::Reset } else { What::Finish });
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.gateway_has_finished = true;
                }
            }
        }
    }

    /// A connection of a gateway, of which nothing has reached the other end yet.
    pub(super) fn connect(&mut self, pipe: Arc<Pipe>, slot: usize, generation: u64, peer: Peer) {
        let connection = Connection {
            slot,
            generation,
            peer,
            gateway_hears: self.now,
            peer_hears: self.now,
            received: Vec::new(),
            gateway_has_finished: false,
            is_over: false,
            is_broken: false,
            is_busy: false,
            pipe,
        };
        self.connections.insert(connection.pipe.number, connection);
    }

    /// Sends something to a gateway.
    pub(super) fn send_to_gateway(&mut self, number: Number, what: What) {
        let Some(connection) = self.connections.get(&number).filter(|held| !held.is_broken) else { return };
        let (slot, peer, not_before) = (connection.slot, connection.peer, connection.gateway_hears);
        let at = self.travels(slot, peer).max(not_before);
        let breaks = matches!(what, What::Bytes(_)) && self.chance(self.weather.breaks);
        self.connections.get_mut(&number).unwrap().gateway_hears = at;
        match what {
            What::Bytes(bytes) if breaks => {
                let part = bytes.slice(..self.random.usize(..=bytes.len()));
                self.put(at, Event::ToGateway { connection: number, what: What::Bytes(part) });
                self.break_off(number, at);
            }
            what => self.put(at, Event::ToGateway { connection: number, what }),
        }
    }

    /// Sends something to the other end of a gateway's connection.
    pub(super) fn send_to_peer(&mut self, number: Number, what: What) {
        let Some(connection) = self.connections.get(&number).filter(|held| !held.is_broken) else { return };
        let (slot, peer, not_before) = (connection.slot, connection.peer, connection.peer_hears);
        let at = self.travels(slot, peer).max(not_before);
        let breaks = matches!(what, What::Bytes(_)) && self.chance(self.weather.breaks);
        self.connections.get_mut(&number).unwrap().peer_hears = at;
        match what {
            What::Bytes(bytes) if breaks => {
                let part = bytes.slice(..self.random.usize(..=bytes.len()));
                self.put(at, Event::ToPeer { connection: number, what: What::Bytes(part) });
                self.break_off(number, at);
            }
            what => self.put(at, Event::ToPeer { connection: number, what }),
        }
    }

    /// Breaks a connection off; both ends learn of it in their time.
    pub(super) fn break_off(&mut self, number: Number, at: Moment) {
        self.say(format_args!("#{number:x} breaks"));
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.is_broken = true;
        }
        let (one, other) = (self.random.u64(0..20), self.random.u64(0..20));
        self.put(at + one, Event::ToGateway { connection: number, what: What::Reset });
        self.put(at + other, Event::ToPeer { connection: number, what: What::Reset });
    }

    fn travels(&mut self, slot: usize, peer: Peer) -> Moment {
        let takes = self.weather.latency(&mut self.random);
        let hole = match peer {
            Peer::Service => self.weather.service_cut_until(slot),
            Peer::Agent(_) => self.weather.callers_cut_until(slot),
        };
        // What is held up is sent again when the way is open.
        self.now.max(hole) + takes
    }

    pub(super) fn chance(&mut self, one_in_thousand: u32) -> bool {
        one_in_thousand > 0 && self.random.u32(..1000) < one_in_thousand
    }

    /// Something reaches a gateway.
    pub(super) fn reach_gateway(&mut self, number: Number, what: What) {
        let Some(connection) = self.connections.get(&number) else { return };
        let slot = &self.slots[connection.slot];
        if slot.generation != connection.generation || slot.process.is_none() {
            return;
        }
        let pipe = Arc::clone(&connection.pipe);
        match what {
            What::Made => pipe.connected(),
            What::Bytes(bytes) => pipe.deliver(bytes),
            What::Finish => pipe.finish(),
            What::Reset => pipe.reset(),
            What::Taken(bytes) => pipe.taken(bytes),
        }
    }

    /// Something reaches the other end of a gateway's connection.
    pub(super) fn reach_peer(&mut self, number: Number, what: &What) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let What::Bytes(bytes) = what {
            connection.received.extend_from_slice(bytes);
            let taken = bytes.len();
            let at = self.now + self.weather.slowness(&mut self.random);
            self.put(at, Event::ToGateway { connection: number, what: What::Taken(taken) });
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let is_end = matches!(what, What::Finish | What::Reset);
        connection.gateway_has_finished |= is_end;
        match connection.peer {
            Peer::Agent(agent) => self.agent_hears(agent, number, is_end),
            Peer::Service => self.service_hears(number, is_end),
        }
    }

    /// All connections of a process end with it.
    pub(super) fn end_connections(&mut self, slot: usize) {
        let generation = self.slots[slot].generation;
        let its = |connection: &&Connection| connection.slot == slot && connection.generation == generation;
        let numbers: Vec<Number> =
            self.connections.values().filter(its).map(|connection| connection.pipe.number).collect();
        for number in numbers {
            let what = if self.random.bool() { What::Finish } else { What::Reset };
            self.send_to_peer(number, what);
        }
    }

    /// A gateway asks the store.
    fn ask(&mut self, slot: usize, generation: u64, Message { ask, reply }: Message) {
        let reply = Reply::to(reply);
        let weather = &self.weather;
        let is_cut = weather.store_is_cut(slot, self.now);
        let (loses, doubles, fails) = (weather.loses, weather.doubles, weather.fails);
        if is_cut || self.chance(loses) {
            self.say(format_args!("gateway {slot}: {} is lost", name(&ask)));
            if self.weather.is_loud || self.chance(300) {
                let at = self.now + self.random.u64(1..50);
                self.put(at, Event::Tell { reply, told: Err(()) });
            }
            return;
        }
        let takes = self.weather.store_latency(&mut self.random);
        let at = self.now + takes;
        if self.chance(fails) {
            // The connection breaks: whether the question arrived nobody knows.
            let early = self.now + self.random.u64(1..20);
            self.put(early, Event::Tell { reply: reply.clone(), told: Err(()) });
        }
        if self.chance(doubles) {
            // A client library that sends a command again does so because it heard nothing: it tells what came of the
            // last one.
            let first = self.now + self.random.u64(..=takes);
            let ask = ask.clone();
            self.say(format_args!("gateway {slot}: {} comes twice", name(&ask)));
            self.put(first, Event::Ask { slot, generation, ask, reply: None });
        }
        self.put(at, Event::Ask { slot, generation, ask, reply: Some(reply) });
    }

    /// A question reaches the store.
    pub(super) fn reach_store(&mut self, slot: usize, generation: u64, ask: &Ask, reply: Option<Reply>) {
        if self.weather.store_is_down(self.now) {
            return;
        }
        if let Ask::Renew { session, .. } = ask
            && self.slots[slot].generation == generation
        {
            self.slots[slot].session = Some(*session);
        }
        let effect = self.shelf.act(ask, slot, self.now);
        if let Some((key, change)) = effect.change {
            let by = if self.slots[slot].generation == generation { self.slots[slot].session } else { None };
            if let Some(known) = self.keys.get(&key).copied() {
                self.say(format_args!(
                    "store: {} of gateway {slot} for {known:?}: {}",
                    name(ask),
                    brief(&change)
                ));
                self.truth.changed(known, &change, by, self.operated.contains(&key), self.now);
            }
            if matches!(change, Change::Claimed | Change::Reclaimed { .. }) {
                self.upon_claim(slot);
            }
            for (watcher, tell) in self.shelf.watchers(&key) {
                if !self.weather.store_is_cut(watcher, self.now) && !self.chance(self.weather.loses * 3) {
                    let at = self.now + self.weather.store_latency(&mut self.random);
                    self.put(at, Event::Notify { tell });
                }
            }
        }
        if self.weather.store_is_cut(slot, self.now) || self.chance(self.weather.loses) {
            self.say(format_args!("store: the answer to gateway {slot} is lost"));
            return;
        }
        let at = self.now + self.weather.store_latency(&mut self.random);
        if let Some(reply) = reply {
            self.put(at, Event::Tell { reply, told: Ok(effect.told) });
        }
    }
}

fn name(ask: &Ask) -> &'static str {
    match ask {
        Ask::Insert { .. } => "insert",
        Ask::Swap { .. } => "swap",
        Ask::Remove { .. } => "remove",
        Ask::Fetch { .. } => "fetch",
        Ask::Renew { .. } => "renew",
        Ask::EndSession { .. } => "end",
        Ask::Life { .. } => "life",
        Ask::Watch { .. } => "watch",
        Ask::Ping => "ping",
        Ask::Forget => "forget",
        Ask::Forgettings => "forgettings",
    }
}

fn brief(change: &Change) -> String {
    use crate::protocol::outline::Stage;
    let stage = |record: &crate::protocol::record::Record| match Stage::from(&record.phase) {
        Stage::InFlight => "in flight",
        Stage::Done { .. } => "done",
        Stage::DoneWithoutBody { .. } => "done without body",
        Stage::Unknown { .. } => "unknown",
    };
    match change {
        Change::Claimed => "claimed".to_owned(),
        Change::Reclaimed { over, owner_lives, .. } => {
            format!("claimed over one {}, its owner lives: {owner_lives}", stage(over))
        }
        Change::Settled { before, after } => format!("{} becomes {}", stage(before), stage(after)),
        Change::Restored { after } => format!("put back as {}", stage(after)),
        Change::Overwritten { before, after } => {
            format!("{} of another is made {}", stage(before), stage(after))
        }
        Change::Removed { before } => format!("removed, was {}", stage(before)),
    }
}
