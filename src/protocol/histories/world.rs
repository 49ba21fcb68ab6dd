//! One moment of the model: what stands in the store, what is in the air, who is at which step.
//!
//! Everything is a few bytes and `Copy`, so that millions of moments fit in memory and hash quickly. [`Row`] is a
//! record in short; [`Row::thaw`] and [`Row::of`] lead to the real one and back.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::super::fingerprint::Fingerprint;
use super::super::machine::{Asked, Outcome, Owner, Token};
use super::super::policy::{OnUnknown, Retention};
use super::super::record::{
    Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, UnknownReason, Version,
};
use super::super::saved::{SavedHead, SavedResponse};
use super::scenario::Scenario;
use super::watcher::Broken;

pub(super) const REQUESTS: usize = 3;
pub(super) const PROCESSES: usize = 2;
/// Storage keys, one for each caller.
pub(super) const KEYS: usize = 2;
/// A master and two that may take its place.
pub(super) const SERVERS: usize = 3;
/// Each request has one token for a first claim and one for a claim over another's.
const TOKENS: usize = 2;
/// All tokens there are.
pub(super) const ATTEMPTS: u8 = 6;
/// The answer of an operator who completes a key by hand; all others carry their attempt.
pub(super) const BY_OPERATOR: u8 = 255;
/// No answer.
pub(super) const NONE: u8 = 254;
/// More than one, each the first since the store lost what it had.
pub(super) const SEVERAL: u8 = 253;
/// Most commands in the air at once.
const AIR: usize = 3;

pub(super) const NOW: UnixMillis = UnixMillis(0);
pub(super) const RETENTION: Retention = Retention { answer: Duration::ZERO, unknown: Duration::ZERO };
const SETTLED: Settled = Settled { at: NOW, keep_for: Duration::ZERO };

/// A record in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Row {
    pub(super) attempt: u8,
    pub(super) revision: u8,
    pub(super) session: u8,
    pub(super) fingerprint: u8,
    pub(super) attempts: u8,
    pub(super) phase: RowPhase,
}

/// A phase in short: an answer is the number of the attempt that it answers. The reason of an unknown
/// outcome is left out, since the machine never looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum RowPhase {
    InFlight,
    Done(u8),
    DoneWithoutBody(u8),
    Unknown,
}

/// What stands under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cell {
    Nothing,
    Unreadable,
    Row(Row),
}

/// A version in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    pub(super) attempt: u8,
    pub(super) revision: u8,
}

/// A command to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Write {
    Insert(Row),
    Swap {
        seen: Mark,
        next: Row,
    },
    Remove {
        seen: Mark,
    },
    /// An operator's removal; rightful, if the operator saw that nobody works on it.
    Forget {
        seen: Mark,
        is_rightful: bool,
    },
    /// An operator's completion.
    Complete {
        seen: Mark,
        next: Row,
    },
}

/// A command whose sender waits for its answer no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Flying {
    pub(super) to: Place,
    pub(super) write: Write,
}

/// Where a record stands: under which key, on which server of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) server: u8,
    pub(super) key: u8,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Has no answer to its claim yet; may have sent it.
    Claiming,
    /// Has seen a claim in flight, and is about to ask whether its owner lives.
    Looking(Row),
    /// Waits for the end of a claim in flight whose owner lives.
    Waiting(Row),
    /// May take the place of `over`, which perhaps ran.
    Reclaiming { over: Row, next: Row, ran_perhaps: bool },
    /// The claim is its own; nothing is sent yet.
    Holding(Row),
    /// The claim was its own before its process stood still; whether it still is has to be asked.
    Doubting(Row),
    /// Counted at the upstream.
    Forwarded(Row),
    /// Knows how it ended and is about to write it over `row`.
    Settling { row: Row, ending: Ending },
    /// Found nothing in the place of `row`, and is about to put what it knows of the outcome there.
    Restoring { row: Row, ending: Ending, restored: Row },
    /// Settled as unknown after a timeout; the answer may still come.
    Listening(Row),
    /// Has its answer, or its process is gone.
    Over,
}

/// How a forward ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    Answered,
    AnsweredWithoutBody,
    /// Proof that nothing was processed: not sent, or a status of the release set.
    Refused,
    /// Reset, cut short, or given up by a drain.
    Lost,
    TimedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) up: bool,
    pub(super) draining: bool,
    /// Stands still, as after SIGSTOP, for as long as it will.
    pub(super) stopped: bool,
    /// The server of the store that it takes for the master.
    pub(super) follows: u8,
    pub(super) session: u8,
    /// Attempts whose claim this process gave up on before it sent anything. Lost in a crash.
    pub(super) never_sent: Set,
}

/// A set of attempts or of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Set(u8);

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// What stands under each key, on each server.
    cells: [[Cell; KEYS]; SERVERS],
    /// The server whose word counts.
    pub(super) master: u8,
    /// Commands whose sender gave up on the answer and which may still land. Sorted: their order says
    /// nothing.
    pub(super) air: [Option<Flying>; AIR],
    pub(super) requests: [Stage; REQUESTS],
    pub(super) processes: [Process; PROCESSES],
    /// Sessions that the store knows.
    pub(super) alive: Set,
    /// How many mishaps may still happen.
    pub(super) troubles: u8,
    /// What an onlooker who sees everything knows; no decision is made from it.
    pub(super) truth: Truth,
}

/// What really happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Truth {
    /// Claims that stood in the store at some time.
    pub(super) landed: Set,
    /// Claims that were won and that may have run, or may yet run, and that nobody has forgiven since.
    pub(super) standing: Set,
    /// Attempts that the upstream answered.
    pub(super) answered: Set,
    /// Attempts whose answer stood in the store as done.
    pub(super) recorded: Set,
    /// Of each key, forwards that are still allowed: 1, plus one for each retry that a policy permits, operator's
    /// release, end of retention and proof that nothing was processed, less the forwards made.
    pub(super) forwards_allowed: [i8; KEYS],
    /// Of each key, the answer that was kept and shown first, as long as nothing of the former allowed another.
    pub(super) first_answer: [u8; KEYS],
    /// The first property that a step broke.
    pub(super) broken: Option<Broken>,
}

/// One of the requests of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asks {
    pub(super) process: usize,
    /// Who sends it. All callers choose the same key.
    pub(super) caller: u8,
    pub(super) fingerprint: u8,
    pub(super) on_unknown: OnUnknown,
}

impl Asks {
    pub(super) fn asked(self) -> Asked {
        Asked {
            fingerprint: Fingerprint::from_bytes([self.fingerprint; 32]),
            earlier: None,
            on_unknown: self.on_unknown,
            route: String::new(),
        }
    }
}

impl World {
    pub(super) fn start(requests: usize, troubles: u8) -> Self {
        let process = |session| Process {
            up: true,
            draining: false,
            stopped: false,
            follows: 0,
            session,
            never_sent: Set::default(),
        };
        let mut world = Self {
            cells: [[Cell::Nothing; KEYS]; SERVERS],
            master: 0,
            air: [None; AIR],
            requests: [Stage::Over; REQUESTS],
            processes: [process(0), process(2)],
            alive: Set::default().with(0).with(2),
            troubles,
            truth: Truth {
                landed: Set::default(),
                standing: Set::default(),
                answered: Set::default(),
                recorded: Set::default(),
                forwards_allowed: [1; KEYS],
                first_answer: [NONE; KEYS],
                broken: None,
            },
        };
        world.requests[..requests].fill(Stage::Claiming);
        world
    }

    pub(super) fn stands(&self, at: Place) -> Cell {
        self.cells[usize::from(at.server)][usize::from(at.key)]
    }

    pub(super) fn set(&mut self, at: Place, cell: Cell) {
        self.cells[usize::from(at.server)][usize::from(at.key)] = cell;
    }

    /// What the master holds under a key.
    pub(super) fn place_at_master(&self, key: usize) -> Place {
        Place { server: self.master, key: u8::try_from(key).unwrap() }
    }

    /// Whether a server holds something else than the master.
    pub(super) fn is_behind(&self, server: u8) -> bool {
        self.cells[usize::from(server)] != self.cells[usize::from(self.master)]
    }

    pub(super) fn copy(&mut self, from: u8, to: u8) {
        self.cells[usize::from(to)] = self.cells[usize::from(from)];
    }

    /// What the store holds, in words.
    pub(super) fn told(&self, scenario: &Scenario) -> String {
        let keys = 0..=scenario.last_key();
        let servers = 0..=scenario.replication.replicas;
        let mut told = Vec::new();
        for server in servers.clone() {
            for key in keys.clone() {
                let cell = self.stands(Place { server, key: u8::try_from(key).unwrap() });
                let mut words = cell.to_string();
                if scenario.last_key() > 0 {
                    words = format!("key {key}: {words}");
                }
                if scenario.replication.replicas > 0 {
                    let role = if server == self.master { "master" } else { "replica" };
                    words = format!("server {server} ({role}): {words}");
                }
                told.push(words);
            }
        }
        told.join("; ")
    }

    /// Whether a request has no answer yet, of a process that is there and takes requests, and none takes a step that
    /// needs nobody else.
    pub(super) fn may_be_stuck(&self, scenario: &Scenario) -> bool {
        let mut is_waited_for = false;
        for (request, stage) in self.requests.iter().enumerate() {
            let process = self.processes[scenario.asks(request).process];
            match stage {
                Stage::Over | Stage::Listening(_) => {}
                Stage::Claiming => is_waited_for |= process.up && !process.draining,
                Stage::Waiting(_)
                | Stage::Reclaiming { .. }
                | Stage::Doubting(_)
                | Stage::Settling { .. }
                | Stage::Restoring { .. } => is_waited_for = true,
                Stage::Looking(_) | Stage::Holding(_) | Stage::Forwarded(_) => {
                    if !process.stopped {
                        return false;
                    }
                    is_waited_for = true;
                }
            }
        }
        is_waited_for
    }

    pub(super) fn air_is_full(&self) -> bool {
        self.air[0].is_some()
    }

    /// Leaves a command in the air. `None` sorts first, so the first place is the free one.
    pub(super) fn leave_in_the_air(&mut self, to: Place, write: Write) {
        assert!(!self.air_is_full(), "guarded by events.rs");
        self.air[0] = Some(Flying { to, write });
        self.air.sort_unstable();
    }

    pub(super) fn take_from_the_air(&mut self, at: usize) -> Flying {
        let flying = self.air[at].take().unwrap();
        self.air.sort_unstable();
        flying
    }

    /// Whether nothing can come of it any more: every request has its answer, and no command is left.
    pub(super) fn is_over(&self) -> bool {
        self.requests == [Stage::Over; REQUESTS] && self.air == [None; AIR]
    }

    /// Whether a request of a living process works on this claim.
    pub(super) fn is_worked_on(&self, attempt: u8) -> bool {
        self.requests.iter().enumerate().any(|(request, stage)| match stage {
            Stage::Claiming => first_token(request) == attempt,
            Stage::Reclaiming { next, .. } => next.attempt == attempt,
            Stage::Holding(row)
            | Stage::Doubting(row)
            | Stage::Forwarded(row)
            | Stage::Settling { row, .. }
            | Stage::Restoring { row, .. } => row.attempt == attempt,
            Stage::Looking(_) | Stage::Waiting(_) | Stage::Listening(_) | Stage::Over => false,
        })
    }
}

impl World {
    /// What a process takes the owner of a claim in flight for.
    pub(super) fn owner_by(&self, process: usize, row: Row) -> Owner {
        let process = self.processes[process];
        if row.session != process.session {
            return if self.alive.has(row.session) { Owner::Working } else { Owner::Gone };
        }
        if process.never_sent.has(row.attempt) {
            Owner::NeverSent
        } else if self.is_worked_on(row.attempt) {
            Owner::Working
        } else {
            Owner::Gone
        }
    }

    /// Whether anybody may take the record for one that nobody works on.
    pub(super) fn is_left(&self, row: Row) -> bool {
        let takes_it_so =
            |process: usize| self.processes[process].up && self.owner_by(process, row) != Owner::Working;
        row.phase != RowPhase::InFlight || (0..PROCESSES).any(takes_it_so)
    }
}

pub(super) fn first_token(request: usize) -> u8 {
    u8::try_from(request * TOKENS).unwrap()
}

pub(super) fn second_token(request: usize) -> u8 {
    first_token(request) + 1
}

/// The request that an attempt belongs to.
pub(super) fn request_of(attempt: u8) -> usize {
    usize::from(attempt) / TOKENS
}

pub(super) fn token(attempt: u8, session: u8) -> Token {
    Token { attempt: Attempt([attempt; 16]), session: Session([session; 16]) }
}

impl Row {
    pub(super) fn mark(self) -> Mark {
        Mark { attempt: self.attempt, revision: self.revision }
    }

    /// The record in full.
    pub(super) fn thaw(self) -> Record {
        Record {
            version: Version { attempt: Attempt([self.attempt; 16]), revision: self.revision.into() },
            session: Session([self.session; 16]),
            fingerprint: Fingerprint::from_bytes([self.fingerprint; 32]),
            attempts: self.attempts.into(),
            opened_at: NOW,
            route: String::new(),
            phase: match self.phase {
                RowPhase::InFlight => Phase::InFlight,
                RowPhase::Done(of) => Phase::Done { saved: answer(of), settled: SETTLED },
                RowPhase::DoneWithoutBody(of) => Phase::DoneWithoutBody { head: head(of), settled: SETTLED },
                RowPhase::Unknown => Phase::Unknown { reason: UnknownReason::ConnectionLost },
            },
        }
    }

    /// The record in short.
    pub(super) fn of(record: &Record) -> Self {
        Self {
            attempt: record.version.attempt.0[0],
            revision: u8::try_from(record.version.revision).unwrap(),
            session: record.session.0[0],
            fingerprint: record.fingerprint.as_bytes()[0],
            attempts: u8::try_from(record.attempts).unwrap(),
            phase: match &record.phase {
                Phase::InFlight => RowPhase::InFlight,
                Phase::Done { saved, .. } => RowPhase::Done(answered_attempt(&saved.head)),
                Phase::DoneWithoutBody { head, .. } => RowPhase::DoneWithoutBody(answered_attempt(head)),
                Phase::Unknown { .. } => RowPhase::Unknown,
            },
        }
    }
}

impl Cell {
    pub(super) fn thaw(self) -> Seen {
        match self {
            Self::Nothing => Seen::Nothing,
            Self::Unreadable => Seen::Unreadable,
            Self::Row(row) => Seen::Record(Box::new(row.thaw())),
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Unreadable => f.write_str("something that cannot be read"),
            Self::Row(row) => {
                let (of, revision) = (request_of(row.attempt), row.revision);
                let claim = if row.attempt == first_token(of) { "the claim" } else { "the second claim" };
                let claim = format!("{claim} of request {of} (revision {revision})");
                match row.phase {
                    RowPhase::InFlight => write!(f, "{claim}, in flight"),
                    RowPhase::Unknown => write!(f, "{claim}, outcome unknown"),
                    RowPhase::Done(BY_OPERATOR) => write!(f, "{claim}, done by an operator's word"),
                    RowPhase::Done(by) => {
                        write!(f, "{claim}, done with the answer to request {}", request_of(by))
                    }
                    RowPhase::DoneWithoutBody(_) => write!(f, "{claim}, done without body"),
                }
            }
        }
    }
}

impl Ending {
    /// What the machine is told of it.
    pub(super) fn outcome(self, attempt: u8) -> Outcome {
        match self {
            Self::Answered => Outcome::Completed(answer(attempt)),
            Self::AnsweredWithoutBody => Outcome::CompletedWithoutBody(head(attempt)),
            Self::Refused => Outcome::Unprocessed,
            Self::Lost => Outcome::Unknown(UnknownReason::ConnectionLost),
            Self::TimedOut => Outcome::Unknown(UnknownReason::ResponseTimeout),
        }
    }
}

/// The upstream's answer to one attempt: no two are alike.
pub(super) fn answer(attempt: u8) -> SavedResponse {
    SavedResponse { head: head(attempt), body: Bytes::new(), trailers: [].into() }
}

fn head(attempt: u8) -> SavedHead {
    SavedHead { status: 200 + u16::from(attempt), headers: [].into() }
}

pub(super) fn answered_attempt(head: &SavedHead) -> u8 {
    u8::try_from(head.status - 200).unwrap()
}

impl Set {
    pub(super) fn with(self, member: u8) -> Self {
        Self(self.0 | 1 << member)
    }

    pub(super) fn without(self, member: u8) -> Self {
        Self(self.0 & !(1 << member))
    }

    pub(super) fn has(self, member: u8) -> bool {
        self.0 & (1 << member) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn members(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |member| self.has(*member))
    }
}
