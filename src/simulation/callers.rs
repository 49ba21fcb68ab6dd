//! Who asks: callers that send the same few keys to any gateway, leave, ask again, and at the end, when everything has
//! healed, one for each key and gateway that asks until it is answered.
//!
//! Must not know what gateways do between a request and its answer.

use std::net::SocketAddr;

use bytes::Bytes;

use super::carriage::{Peer, What};
use super::message::{Answer, Received, field, read_answer, request};
use super::process::Moment;
use super::truth::{Key, ROUTES, Reply, SCOPES};
use super::world::{ANSWERED_BY, Event, HEALS_AT, World};
use crate::net::simulated::Number;

/// One who asks.
pub(super) struct Agent {
    /// Tells its steps from those of an earlier try.
    epoch: u64,
    asks: usize,
    tries: usize,
    question: Option<(Key, usize)>,
    connection: Option<(Number, usize)>,
    is_waiting: bool,
    /// Part of its request is still to be sent.
    holds_back: bool,
    asked_at: Moment,
    /// Asks one gateway until it is answered.
    reads_from: Option<usize>,
    is_done: bool,
}

/// What an agent does next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Asks for the first time, or again.
    Ask,
    /// Sends the rest of its request.
    SendRest { connection: Number, rest: Bytes },
    /// Waits no longer.
    Leave,
}

impl World {
    /// Brings the callers of the history.
    pub(super) fn bring_callers(&mut self) {
        for _ in 0..self.random.usize(3..7) {
            let asks = self.random.usize(2..6);
            let begins = self.random.u64(350..3_000);
            self.bring(asks, None, None, begins);
        }
    }

    /// Brings those who ask for every key at every gateway.
    pub(super) fn bring_readers(&mut self) {
        let keys: Vec<Key> = self.truth.stories.keys().copied().collect();
        for key in keys {
            let story = &self.truth.stories[&key];
            let payload = story.runs.first().map_or(0, |run| self.truth.runs[*run].payload);
            for slot in 0..self.slots.len() {
                let begins = HEALS_AT + self.random.u64(1..300);
                self.bring(1, Some((key, payload)), Some(slot), begins);
            }
        }
    }

    fn bring(
        &mut self,
        asks: usize,
        question: Option<(Key, usize)>,
        reads_from: Option<usize>,
        begins: Moment,
    ) {
        let agent = self.agents.len();
        self.agents.push(Agent {
            epoch: 0,
            asks,
            tries: 0,
            question,
            connection: None,
            is_waiting: false,
            holds_back: false,
            asked_at: 0,
            reads_from,
            is_done: false,
        });
        self.put(begins, Event::Agent { agent, epoch: 0, step: Step::Ask });
    }

    /// An agent does a step.
    pub(super) fn step(&mut self, agent: usize, epoch: u64, step: Step) {
        match step {
            Step::SendRest { connection, rest } => {
                if self.agents[agent].epoch == epoch {
                    self.agents[agent].holds_back = false;
                }
                self.send_to_gateway(connection, What::Bytes(rest));
            }
            Step::Ask if self.agents[agent].epoch == epoch => self.try_to_ask(agent),
            Step::Leave if self.agents[agent].epoch == epoch && self.agents[agent].is_waiting => {
                self.say(format_args!("caller {agent} leaves"));
                self.hang_up(agent);
                self.after(agent, None);
            }
            Step::Ask | Step::Leave => {}
        }
    }

    fn try_to_ask(&mut self, agent: usize) {
        let (key, payload) = match self.agents[agent].question {
            Some(question) => question,
            None => self.draw_question(),
        };
        let slot = self.agents[agent].reads_from.unwrap_or_else(|| self.random.usize(..self.slots.len()));
        self.place(key);
        self.truth.asked(key, payload);
        let now = self.now;
        let held = &mut self.agents[agent];
        held.question = Some((key, payload));
        held.epoch += 1;
        held.asked_at = now;
        let epoch = held.epoch;
        let reused = held.connection.filter(|(_, of)| *of == slot).map(|(number, _)| number);
        if reused.is_none() {
            self.hang_up(agent);
        }
        let Some(number) = reused.or_else(|| self.dial(agent, slot)) else {
            return self.after(agent, None);
        };
        self.say(format_args!(
            "caller {agent} asks gateway {slot} for {key:?}, payload {payload}, on #{number:x}"
        ));
        self.agents[agent].is_waiting = true;
        self.agents[agent].connection = Some((number, slot));
        self.send(agent, number, key, payload);
        let is_reader = self.agents[agent].reads_from.is_some();
        let patience = if is_reader || self.random.bool() { 4_500 } else { self.random.u64(20..2_500) };
        self.put(now + patience, Event::Agent { agent, epoch, step: Step::Leave });
    }

    fn send(&mut self, agent: usize, number: Number, key: Key, payload: usize) {
        let is_chunked = self.chance(200);
        let body = format!("{{\"pay\":{payload}}}");
        let mut bytes =
            request(ROUTES[key.route], SCOPES[key.scope], &key.header(), body.as_bytes(), is_chunked);
        let epoch = self.agents[agent].epoch;
        self.agents[agent].holds_back = self.chance(200);
        if self.agents[agent].holds_back {
            let rest = Bytes::from(bytes.split_off(self.random.usize(..bytes.len())));
            let at = self.now + self.random.u64(1..300);
            self.put(at, Event::Agent { agent, epoch, step: Step::SendRest { connection: number, rest } });
        }
        self.send_to_gateway(number, What::Bytes(Bytes::from(bytes)));
    }

    fn draw_question(&mut self) -> (Key, usize) {
        // Few keys, so that callers meet.
        let (route, number) = (self.random.usize(..ROUTES.len()), self.random.usize(..2));
        let key = Key { route, scope: self.random.usize(..SCOPES.len()), number };
        (key, usize::from(self.chance(60)))
    }

    /// Connects to a gateway; `None` if nobody listens.
    fn dial(&mut self, agent: usize, slot: usize) -> Option<Number> {
        let held = &self.slots[slot];
        let (pipe, generation) = (held.process.as_ref()?.port.pipe(), held.generation);
        let number = pipe.number;
        self.connect(pipe, slot, generation, Peer::Agent(agent));
        let at = self.now + self.weather.latency(&mut self.random);
        let at = at.max(self.weather.callers_cut_until(slot));
        self.connections.get_mut(&number)?.gateway_hears = at;
        self.put(at, Event::Arrive { connection: number });
        Some(number)
    }

    /// A connection reaches a gateway.
    pub(super) fn arrive(&mut self, number: Number) {
        let Some(connection) = self.connections.get(&number) else { return };
        let slot = &self.slots[connection.slot];
        let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
        let is_taken = slot.generation == connection.generation
            && slot.process.as_ref().is_some_and(|process| process.arrive(&connection.pipe, peer));
        if !is_taken {
            self.send_to_peer(number, What::Reset);
        }
    }

    fn hang_up(&mut self, agent: usize) {
        if let Some((number, _)) = self.agents[agent].connection.take() {
            let what = if self.random.bool() { What::Reset } else { What::Finish };
            self.send_to_gateway(number, what);
        }
    }

    /// Bytes, or an end, have come to an agent.
    pub(super) fn agent_hears(&mut self, agent: usize, number: Number, is_end: bool) {
        let held = &mut self.agents[agent];
        if held.connection.map(|(number, _)| number) != Some(number) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if !held.is_waiting {
            if is_end {
                held.connection = None;
            }
            return;
        }
        match read_answer(&connection.received, is_end) {
            Received::Part => {}
            Received::Broken => {
                held.connection = None;
                self.after(agent, None);
            }
            Received::Whole(answer, length) => {
                connection.received.drain(..length);
                let closes =
                    is_end || field(&answer.fields, "connection").is_some_and(|value| value == "close");
                if closes || self.agents[agent].holds_back || self.random.bool() {
                    self.hang_up(agent);
                }
                self.after(agent, Some(answer));
            }
        }
    }

    /// An agent was answered, or was not, and goes on.
    fn after(&mut self, agent: usize, answer: Option<Answer>) {
        let (key, payload) = self.agents[agent].question.unwrap();
        let held = &mut self.agents[agent];
        held.is_waiting = false;
        held.tries += 1;
        held.epoch += 1;
        let (tries, epoch, reads_from, asked_at) = (held.tries, held.epoch, held.reads_from, held.asked_at);
        let word =
            answer.as_ref().and_then(|answer| field(&answer.fields, "idempotency-status")).unwrap_or("-");
        let word = word.to_owned();
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        self.say(format_args!("caller {agent} got {status} {word} for {key:?}"));
        if let Some(answer) = answer {
            let is_last = reads_from.is_some();
            self.truth.replied(&Reply { key, payload, asked_at, at: self.now, answer, is_last });
        }
        let is_answered =
            matches!(word.as_str(), "executed" | "replayed" | "unstored" | "mismatch" | "body-not-kept")
                || (word == "unknown" && status == 409);
        if reads_from.is_some() {
            if is_answered {
                self.agents[agent].is_done = self.now <= ANSWERED_BY;
            } else {
                self.put(self.now + 100, Event::Agent { agent, epoch, step: Step::Ask });
            }
            return;
        }
        let asks_again = if is_answered { self.chance(300) } else { tries < 8 };
        if !asks_again {
            let held = &mut self.agents[agent];
            (held.question, held.tries) = (None, 0);
            held.asks -= 1;
            if held.asks == 0 {
                held.is_done = true;
                return;
            }
        }
        let at = self.now + self.random.u64(5..900);
        self.put(at, Event::Agent { agent, epoch, step: Step::Ask });
    }

    /// Whoever asked when all had healed must have been answered in time.
    pub(super) fn judge_the_end(&mut self) {
        // Where the store forgot that a claim was settled, it is in flight to all but its owner while that lives.
        let is_forgotten = |key| self.truth.stories.get(key).is_some_and(|story| story.is_forgotten);
        let late = self.agents.iter().filter(|agent| {
            let may_be = agent.question.as_ref().is_some_and(|(key, _)| is_forgotten(key));
            agent.reads_from.is_some() && !agent.is_done && !may_be
        });
        let late: Vec<String> =
            late.map(|agent| format!("{:?} of {:?}", agent.question, agent.reads_from)).collect();
        if !late.is_empty() {
            self.truth.faults.push(format!("not answered by {ANSWERED_BY}: {}", late.join(", ")));
        }
    }
}
