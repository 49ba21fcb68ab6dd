//! What may happen next.

use std::fmt;

use super::super::machine::{self, Owner, Resolution};
use super::super::outline;
use super::explore::Scenario;
use super::play::Mistake;
use super::world::{
    ATTEMPTS, Cell, NOW, PROCESSES, Process, REQUESTS, Row, RowPhase, Stage, World, Write, first_token,
};

/// One step of a history. The number is that of a request, a process, or a place in the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    // The road of a request.
    /// Its claim reaches the store, and the store's answer reaches it.
    Claim(usize),
    /// It asks whether the owner of the claim that it met lives.
    Look(usize),
    /// It puts its own claim in the place of the one that it may replace.
    Reclaim(usize),
    /// It reaches the upstream. This is what must not happen twice.
    Forward(usize),
    Answer(usize),
    AnswerWithoutBody(usize),
    /// The upstream proves that it did not process it.
    Refuse(usize),
    /// Reset, or cut short.
    Lose(usize),
    TimeOut(usize),
    AnswerLate(usize),
    RefuseLate(usize),
    /// The claim's retention starts anew while the answer streams.
    Extend(usize),
    /// The outcome is written.
    Settle(usize),
    /// The outcome is put where nothing stands any more.
    Restore(usize),

    // Mishaps between a request and the store.
    /// The command that it is about to send gets no answer and may land later; it will try again.
    Linger(usize),
    /// The same, but the request gives up: nothing is sent, or the outcome is not written by it.
    Abandon(usize),
    /// The same for an extension, which is not tried again.
    LingerExtending(usize),
    /// A command in the air reaches the store.
    Land(usize),

    // Mishaps of processes and of the store.
    /// A process dies with all its requests.
    Crash(usize),
    /// It comes back with a new session.
    Restart(usize),
    /// Its session is gone from the store: it died, it is stopped, or it cannot reach the store.
    Lapse(usize),
    /// It goes on, and so does its session.
    Revive(usize),
    /// It is told to stop: what it forwarded is marked unknown, nothing new is taken.
    Drain(usize),
    /// The record's retention ends.
    Expire,
    /// An operator has seen the record and sends a command, which lands when it will.
    OperatorRelease,
    OperatorForget,
    OperatorComplete,
    /// The record cannot be read from now on.
    Damage,
}

impl Event {
    /// Whether it is an accident, of which a history has only so many.
    pub(super) fn is_trouble(self, world: &World) -> bool {
        match self {
            Self::Claim(_)
            | Self::Look(_)
            | Self::Reclaim(_)
            | Self::Forward(_)
            | Self::Answer(_)
            | Self::AnswerWithoutBody(_)
            | Self::Refuse(_)
            | Self::Lose(_)
            | Self::TimeOut(_)
            | Self::AnswerLate(_)
            | Self::RefuseLate(_)
            | Self::Settle(_)
            | Self::Restore(_)
            | Self::Land(_)
            | Self::Restart(_)
            | Self::Revive(_) => false,
            // The session of a dead process lapses by itself.
            Self::Lapse(process) => {
                let process = world.processes[process];
                process.up && lapsing(world, process) == Some(process.session)
            }
            Self::Extend(_)
            | Self::Linger(_)
            | Self::Abandon(_)
            | Self::LingerExtending(_)
            | Self::Crash(_)
            | Self::Drain(_)
            | Self::Expire
            | Self::OperatorRelease
            | Self::OperatorForget
            | Self::OperatorComplete
            | Self::Damage => true,
        }
    }
}

/// Fills `events` with all that may happen next.
pub(super) fn possible(scenario: &Scenario, world: &World, events: &mut Vec<Event>) {
    events.clear();
    if world.is_over() {
        return;
    }
    for request in 0..REQUESTS {
        of_request(scenario, world, request, events);
    }
    for at in 0..world.air.len() {
        let is_same_as_before = at > 0 && world.air[at] == world.air[at - 1];
        if world.air[at].is_some() && !is_same_as_before {
            events.push(Event::Land(at));
        }
    }
    for process in 0..PROCESSES {
        of_process(scenario, world, process, events);
    }
    of_record(scenario, world, events);
    events.retain(|event| world.troubles > 0 || !event.is_trouble(world));
}

fn of_request(scenario: &Scenario, world: &World, request: usize, events: &mut Vec<Event>) {
    let process = world.processes[scenario.asks(request).process];
    let can_linger = !world.air_is_full();
    let mut sends = |event| {
        events.push(event);
        if can_linger {
            events.extend([Event::Linger(request), Event::Abandon(request)]);
        }
    };
    match world.requests[request] {
        Stage::Claiming if process.up && !process.draining && is_its_turn(scenario, world, request) => {
            sends(Event::Claim(request));
        }
        Stage::Claiming | Stage::Over => {}
        Stage::Looking(_) => events.push(Event::Look(request)),
        Stage::Reclaiming { .. } => sends(Event::Reclaim(request)),
        Stage::Holding(_) => events.push(Event::Forward(request)),
        Stage::Forwarded(_) => {
            events.extend([Event::Answer(request), Event::Lose(request), Event::TimeOut(request)]);
            if scenario.refusals {
                events.push(Event::Refuse(request));
            }
            if scenario.long_answers {
                events.extend([Event::AnswerWithoutBody(request), Event::Extend(request)]);
                if can_linger {
                    events.push(Event::LingerExtending(request));
                }
            }
        }
        Stage::Settling { .. } => sends(Event::Settle(request)),
        Stage::Restoring { .. } => sends(Event::Restore(request)),
        Stage::Listening(_) => {
            events.push(Event::AnswerLate(request));
            if scenario.refusals {
                events.push(Event::RefuseLate(request));
            }
        }
    }
}

/// Of two requests that are alike in all, the first begins first: the other order is the same history
/// with the names exchanged.
fn is_its_turn(scenario: &Scenario, world: &World, request: usize) -> bool {
    let has_begun = |other: usize| {
        let token = first_token(other);
        let is_in_the_air = |write: &Write| matches!(write, Write::Insert(row) if row.attempt == token);
        world.requests[other] != Stage::Claiming
            || world.truth.landed.has(token)
            || world.air.iter().flatten().any(is_in_the_air)
    };
    (0..request).all(|other| scenario.asks(other) != scenario.asks(request) || has_begun(other))
}

/// Leaves out what cannot be noticed: the death of a process without requests, and a change of a session
/// that nobody is about to look at. Done earlier it would look the same.
fn of_process(scenario: &Scenario, world: &World, process: usize, events: &mut Vec<Event>) {
    let this = world.processes[process];
    let is_first_life = this.session.is_multiple_of(2);
    let stages = || {
        let its_own = |request: &usize| scenario.process_of(*request) == Some(process);
        (0..REQUESTS).filter(its_own).map(|request| world.requests[request])
    };
    if this.up && stages().any(|stage| stage != Stage::Over) {
        events.push(Event::Crash(process));
    }
    if this.up && stages().any(|stage| matches!(stage, Stage::Forwarded(_) | Stage::Listening(_))) {
        events.push(Event::Drain(process));
    }
    if !this.up && is_first_life && stages().any(|stage| stage == Stage::Claiming) {
        events.push(Event::Restart(process));
    }
    let is_looked_at = |session| {
        let looks = |stage: &Stage| matches!(stage, Stage::Looking(row) if row.session == session);
        world.requests.iter().any(looks)
    };
    if lapsing(world, this).is_some_and(is_looked_at) {
        events.push(Event::Lapse(process));
    }
    if this.up && !world.alive.has(this.session) && is_looked_at(this.session) {
        events.push(Event::Revive(process));
    }
}

/// The session of this process that goes next: that of its first life, then that of its second.
pub(super) fn lapsing(world: &World, process: Process) -> Option<u8> {
    [process.session & !1, process.session].into_iter().find(|session| world.alive.has(*session))
}

fn of_record(scenario: &Scenario, world: &World, events: &mut Vec<Event>) {
    let row = match world.cell {
        Cell::Nothing => return,
        Cell::Unreadable => {
            if scenario.expiry && !(0..ATTEMPTS).any(|attempt| world.is_worked_on(attempt)) {
                events.push(Event::Expire);
            }
            return;
        }
        Cell::Row(row) => row,
    };
    // A claim is kept longer than any forward may take: `Policy::claim_keep_for`.
    let may_end = row.phase != RowPhase::InFlight || !world.is_worked_on(row.attempt);
    if scenario.operators && !world.air_is_full() {
        of_operators(scenario, world, row, events);
    }
    if (scenario.expiry && may_end) || (scenario.mistake == Mistake::ShortClaims && !may_end) {
        events.push(Event::Expire);
    }
    if scenario.damage {
        events.push(Event::Damage);
    }
}

/// What the machine lets an operator do, who sits at any of the processes.
fn of_operators(scenario: &Scenario, world: &World, row: Row, events: &mut Vec<Event>) {
    let is_left = world.is_left(row) || scenario.mistake == Mistake::LookAway;
    let owner = if is_left { Owner::Gone } else { Owner::Working };
    let record = row.thaw();
    if machine::resolve(&record, owner, Resolution::Release, NOW).is_ok() {
        events.push(Event::OperatorComplete);
        if scenario.removals {
            events.push(Event::OperatorRelease);
        }
    } else if scenario.removals && machine::forget(outline::Stage::from(&record.phase), owner).is_ok() {
        events.push(Event::OperatorForget);
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(r) => write!(f, "request {r}: its claim reaches the store"),
            Self::Look(r) => write!(f, "request {r}: looks whether the owner lives"),
            Self::Reclaim(r) => write!(f, "request {r}: claims in the place of another"),
            Self::Forward(r) => write!(f, "request {r}: IS FORWARDED"),
            Self::Answer(r) => write!(f, "request {r}: the upstream answers"),
            Self::AnswerWithoutBody(r) => write!(f, "request {r}: the upstream answers at length"),
            Self::Refuse(r) => write!(f, "request {r}: proof that it was not processed"),
            Self::Lose(r) => write!(f, "request {r}: the connection is lost"),
            Self::TimeOut(r) => write!(f, "request {r}: no answer in time"),
            Self::AnswerLate(r) => write!(f, "request {r}: the answer comes late"),
            Self::RefuseLate(r) => write!(f, "request {r}: late proof that it was not processed"),
            Self::Extend(r) => write!(f, "request {r}: renews its claim"),
            Self::Settle(r) => write!(f, "request {r}: writes the outcome"),
            Self::Restore(r) => write!(f, "request {r}: puts the outcome where nothing stands"),
            Self::Linger(r) => write!(f, "request {r}: its command stays in the air, will be sent again"),
            Self::Abandon(r) => write!(f, "request {r}: its command stays in the air, gives up"),
            Self::LingerExtending(r) => write!(f, "request {r}: the renewal of its claim stays in the air"),
            Self::Land(at) => write!(f, "command {at} in the air reaches the store"),
            Self::Crash(p) => write!(f, "process {p}: crashes"),
            Self::Restart(p) => write!(f, "process {p}: starts anew"),
            Self::Lapse(p) => write!(f, "process {p}: its session is gone"),
            Self::Revive(p) => write!(f, "process {p}: its session is back"),
            Self::Drain(p) => write!(f, "process {p}: drains"),
            Self::Expire => f.write_str("the record's retention ends"),
            Self::OperatorRelease => f.write_str("an operator sends word to release the key"),
            Self::OperatorForget => f.write_str("an operator sends word to forget the key"),
            Self::OperatorComplete => f.write_str("an operator sends word to complete the key"),
            Self::Damage => f.write_str("the record is damaged"),
        }
    }
}
