//! What may happen next.

use std::fmt;

use super::super::machine::{self, Owner, Resolution};
use super::super::mistake::Mistake;
use super::super::outline;
use super::scenario::{Planted, Scenario};
use super::store::can_acknowledge;
use super::world::{
    ATTEMPTS, Cell, Flying, NOW, PROCESSES, Place, Process, REQUESTS, Row, RowPhase, Stage, World, Write,
    first_token, request_of,
};

/// One step of a history. The number is that of a request, a process, a place in the air, a key or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    // The road of a request.
    /// Its claim reaches the store, and the store's answer reaches it.
    Claim(usize),
    /// It asks whether the owner of the claim that it met lives.
    Look(usize),
    /// What it waits for has changed, or looks left, and it looks again: it was woken, or it polls.
    Wake(usize),
    /// It has waited long enough.
    GiveUpWaiting(usize),
    /// It puts its own claim in the place of the one that it may replace.
    Reclaim(usize),
    /// It asks whether its claim still stands, since its process stood still.
    Confirm(usize),
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
    /// The same, and it will reach it once more.
    LandAndStay(usize),

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
    /// It stands still, as after SIGSTOP.
    Stop(usize),
    GoOn(usize),
    /// A replica has got all that the master holds.
    CatchUp(u8),
    /// A replica becomes the master, with what it has.
    FailOver(u8),
    /// A process finds out who is master now.
    Follow(usize),
    /// The record's retention ends.
    Expire(usize),
    /// An operator has seen the record and sends a command, which lands when it will.
    OperatorRelease(usize),
    OperatorForget(usize),
    OperatorComplete(usize),
    /// The record cannot be read from now on.
    Damage(usize),
}

impl Event {
    /// Whether it is an accident, of which a history has only so many.
    pub(super) fn is_trouble(self, world: &World) -> bool {
        match self {
            Self::Claim(_)
            | Self::Look(_)
            | Self::Wake(_)
            | Self::GiveUpWaiting(_)
            | Self::Reclaim(_)
            | Self::Confirm(_)
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
            | Self::Revive(_)
            | Self::GoOn(_)
            | Self::CatchUp(_)
            | Self::Follow(_) => false,
            // The session of a process that is dead, or stands still, lapses by itself.
            Self::Lapse(process) => {
                let process = world.processes[process];
                process.up && !process.stopped && lapsing(world, process) == Some(process.session)
            }
            Self::Extend(_)
            | Self::Linger(_)
            | Self::Abandon(_)
            | Self::LingerExtending(_)
            | Self::LandAndStay(_)
            | Self::Crash(_)
            | Self::Drain(_)
            | Self::Stop(_)
            | Self::FailOver(_)
            | Self::Expire(_)
            | Self::OperatorRelease(_)
            | Self::OperatorForget(_)
            | Self::OperatorComplete(_)
            | Self::Damage(_) => true,
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
        if !world.processes[scenario.asks(request).process].stopped {
            of_request(scenario, world, request, events);
        }
    }
    for at in 0..world.air.len() {
        let is_same_as_before = at > 0 && world.air[at] == world.air[at - 1];
        if world.air[at].is_some() && !is_same_as_before {
            events.push(Event::Land(at));
            if scenario.repeats {
                events.push(Event::LandAndStay(at));
            }
        }
    }
    for process in 0..PROCESSES {
        of_process(scenario, world, process, events);
    }
    of_servers(scenario, world, events);
    for key in 0..=scenario.last_key() {
        of_record(scenario, world, key, events);
    }
    events.retain(|event| world.troubles > 0 || !event.is_trouble(world));
}

fn of_request(scenario: &Scenario, world: &World, request: usize, events: &mut Vec<Event>) {
    let process = world.processes[scenario.asks(request).process];
    let at = Place { server: process.follows, key: u8::try_from(scenario.key(request)).unwrap() };
    let can_linger = !world.air_is_full();
    let is_acknowledged = can_acknowledge(scenario, world, process.follows);
    let mut sends = |event, is_answered| {
        if is_answered {
            events.push(event);
        }
        if can_linger {
            events.extend([Event::Linger(request), Event::Abandon(request)]);
        }
    };
    match world.requests[request] {
        Stage::Claiming if process.up && !process.draining && is_its_turn(scenario, world, request) => {
            // What stands there is told, whoever else has it.
            let is_other = matches!(world.stands(at), Cell::Row(row) if row.attempt != first_token(request));
            sends(Event::Claim(request), is_acknowledged || is_other);
        }
        Stage::Claiming | Stage::Over => {}
        Stage::Looking(_) => events.push(Event::Look(request)),
        Stage::Waiting(row) => of_waiting(scenario, world, request, (at, row), events),
        Stage::Reclaiming { .. } => sends(Event::Reclaim(request), is_acknowledged),
        Stage::Holding(_) => events.push(Event::Forward(request)),
        Stage::Doubting(_) if scenario.planted == Planted::ForwardUnconfirmed => {
            events.push(Event::Forward(request));
        }
        Stage::Doubting(_) => events.push(Event::Confirm(request)),
        Stage::Forwarded(_) => {
            events.extend([Event::Answer(request), Event::Lose(request), Event::TimeOut(request)]);
            if scenario.refusals {
                events.push(Event::Refuse(request));
            }
            if scenario.long_answers {
                events.push(Event::AnswerWithoutBody(request));
                if is_acknowledged {
                    events.push(Event::Extend(request));
                }
                if can_linger {
                    events.push(Event::LingerExtending(request));
                }
            }
        }
        Stage::Settling { .. } => sends(Event::Settle(request), is_acknowledged),
        Stage::Restoring { .. } => sends(Event::Restore(request), is_acknowledged),
        Stage::Listening(_) => {
            events.push(Event::AnswerLate(request));
            if scenario.refusals {
                events.push(Event::RefuseLate(request));
            }
        }
    }
}

/// Whoever waits polls once a second, so a change is seen before the wait is over.
fn of_waiting(
    scenario: &Scenario,
    world: &World,
    request: usize,
    (at, row): (Place, Row),
    events: &mut Vec<Event>,
) {
    let process = scenario.asks(request).process;
    let has_changed = world.stands(at) != Cell::Row(row);
    let is_woken_here = scenario.process_of(request_of(row.attempt)) == Some(process);
    let looks = if scenario.makes(Mistake::StaleWaiter) {
        false
    } else if scenario.planted == Planted::DeafWaiter {
        has_changed && is_woken_here
    } else {
        has_changed || world.owner_by(process, row) != Owner::Working
    };
    if looks {
        events.push(Event::Wake(request));
    }
    let may_give_up = scenario.makes(Mistake::StaleWaiter) || !has_changed;
    if may_give_up && scenario.planted != Planted::DeafWaiter {
        events.push(Event::GiveUpWaiting(request));
    }
}

fn of_servers(scenario: &Scenario, world: &World, events: &mut Vec<Event>) {
    for server in 0..=scenario.replication.replicas {
        let is_followed = world.processes.iter().any(|process| process.follows == server);
        if server == world.master {
            continue;
        }
        events.push(Event::FailOver(server));
        if !is_followed && world.is_behind(server) {
            events.push(Event::CatchUp(server));
        }
    }
    for (process, this) in world.processes.iter().enumerate() {
        if this.follows != world.master && this.up && !this.stopped {
            events.push(Event::Follow(process));
        }
    }
}

/// Of two requests that are alike in all, the first begins first: the other order is the same history
/// with the names exchanged.
fn is_its_turn(scenario: &Scenario, world: &World, request: usize) -> bool {
    let has_begun = |other: usize| {
        let token = first_token(other);
        let is_in_the_air =
            |flying: &Flying| matches!(flying.write, Write::Insert(row) if row.attempt == token);
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
    let may_end = scenario.crashes && this.up && !this.stopped;
    if may_end && stages().any(|stage| stage != Stage::Over) {
        events.push(Event::Crash(process));
    }
    let is_at_work = |stage| matches!(stage, Stage::Forwarded(_) | Stage::Listening(_));
    if may_end && stages().any(is_at_work) {
        events.push(Event::Drain(process));
    }
    if !this.up && is_first_life && stages().any(|stage| stage == Stage::Claiming) {
        events.push(Event::Restart(process));
    }
    let is_looked_at = |session| {
        let looks = |stage: &Stage| match stage {
            Stage::Looking(row) | Stage::Waiting(row) | Stage::Doubting(row) => row.session == session,
            Stage::Claiming
            | Stage::Reclaiming { .. }
            | Stage::Holding(_)
            | Stage::Forwarded(_)
            | Stage::Settling { .. }
            | Stage::Restoring { .. }
            | Stage::Listening(_)
            | Stage::Over => false,
        };
        world.requests.iter().any(looks)
    };
    if lapsing(world, this).is_some_and(is_looked_at) {
        events.push(Event::Lapse(process));
    }
    if this.up && !this.stopped && !world.alive.has(this.session) && is_looked_at(this.session) {
        events.push(Event::Revive(process));
    }
    if this.stopped {
        events.push(Event::GoOn(process));
    } else if scenario.stops && this.up && stages().any(is_stopped_to_effect) {
        events.push(Event::Stop(process));
    }
}

/// The session of this process that goes next: that of its first life, then that of its second.
pub(super) fn lapsing(world: &World, process: Process) -> Option<u8> {
    [process.session & !1, process.session].into_iter().find(|session| world.alive.has(*session))
}

/// Standing still is noticed where a claim is held or its record waited for: other steps may wait anyway.
fn is_stopped_to_effect(stage: Stage) -> bool {
    match stage {
        Stage::Holding(_) | Stage::Forwarded(_) | Stage::Settling { .. } | Stage::Restoring { .. } => true,
        Stage::Claiming
        | Stage::Looking(_)
        | Stage::Waiting(_)
        | Stage::Reclaiming { .. }
        | Stage::Doubting(_)
        | Stage::Listening(_)
        | Stage::Over => false,
    }
}

/// Whether the process of an attempt stands still.
pub(super) fn is_stopped(scenario: &Scenario, world: &World, attempt: u8) -> bool {
    scenario.process_of(request_of(attempt)).is_some_and(|process| world.processes[process].stopped)
}

fn of_record(scenario: &Scenario, world: &World, key: usize, events: &mut Vec<Event>) {
    let row = match world.stands(world.place_at_master(key)) {
        Cell::Nothing => return,
        Cell::Unreadable => {
            if scenario.expiry && !(0..ATTEMPTS).any(|attempt| world.is_worked_on(attempt)) {
                events.push(Event::Expire(key));
            }
            return;
        }
        Cell::Row(row) => row,
    };
    // A claim is kept longer than any forward may take, unless its process stands still: `Policy::claim_keep_for`.
    let may_end = row.phase != RowPhase::InFlight
        || !world.is_worked_on(row.attempt)
        || is_stopped(scenario, world, row.attempt);
    if scenario.operators && !world.air_is_full() {
        of_operators(scenario, world, (key, row), events);
    }
    if (scenario.expiry && may_end) || (scenario.planted == Planted::ShortClaims && !may_end) {
        events.push(Event::Expire(key));
    }
    if scenario.damage {
        events.push(Event::Damage(key));
    }
}

/// What the machine lets an operator do, who sits at any of the processes.
fn of_operators(scenario: &Scenario, world: &World, (key, row): (usize, Row), events: &mut Vec<Event>) {
    let is_left = world.is_left(row) || scenario.planted == Planted::LookAway;
    let owner = if is_left { Owner::Gone } else { Owner::Working };
    let record = row.thaw();
    if machine::resolve(&record, owner, Resolution::Release, NOW).is_ok() {
        events.push(Event::OperatorComplete(key));
        if scenario.removals {
            events.push(Event::OperatorRelease(key));
        }
    } else if scenario.removals && machine::forget(outline::Stage::from(&record.phase), owner).is_ok() {
        events.push(Event::OperatorForget(key));
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(r) => write!(f, "request {r}: its claim reaches the store"),
            Self::Look(r) => write!(f, "request {r}: looks whether the owner lives"),
            Self::Wake(r) => write!(f, "request {r}: waited, and looks again"),
            Self::GiveUpWaiting(r) => {
                write!(f, "request {r}: has waited long enough; told that it is in flight")
            }
            Self::Confirm(r) => write!(f, "request {r}: asks whether its claim still stands"),
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
            Self::LingerExtending(r) => {
                write!(f, "request {r}: the renewal of its claim stays in the air")
            }
            Self::Land(at) => write!(f, "command {at} in the air reaches the store"),
            Self::LandAndStay(at) => {
                write!(f, "command {at} in the air reaches the store, and will once more")
            }
            Self::Crash(p) => write!(f, "process {p}: crashes"),
            Self::Restart(p) => write!(f, "process {p}: starts anew"),
            Self::Lapse(p) => write!(f, "process {p}: its session is gone"),
            Self::Revive(p) => write!(f, "process {p}: its session is back"),
            Self::Drain(p) => write!(f, "process {p}: drains"),
            Self::Stop(p) => write!(f, "process {p}: is stopped"),
            Self::GoOn(p) => write!(f, "process {p}: goes on"),
            Self::CatchUp(s) => write!(f, "server {s}: catches up with the master"),
            Self::FailOver(s) => write!(f, "the master is lost, server {s} takes its place"),
            Self::Follow(p) => write!(f, "process {p}: turns to the new master"),
            Self::Expire(k) => write!(f, "key {k}: the record's retention ends"),
            Self::OperatorRelease(k) => write!(f, "key {k}: an operator sends word to release it"),
            Self::OperatorForget(k) => write!(f, "key {k}: an operator sends word to forget it"),
            Self::OperatorComplete(k) => {
                write!(f, "key {k}: an operator sends word to complete it")
            }
            Self::Damage(k) => write!(f, "key {k}: the record is damaged"),
        }
    }
}
