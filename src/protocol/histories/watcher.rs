//! What must hold in every history, and the onlooker's knowledge that it is held against.
//!
//! Every function here is told of something that has just happened and notes whether it was allowed.

use super::super::machine::Verdict;
use super::super::policy::OnUnknown;
use super::super::record::UnknownReason;
use super::scenario::{Heed, Scenario};
use super::world::{
    BY_OPERATOR, Cell, NONE, Place, Row, RowPhase, SEVERAL, Set, Stage, World, answered_attempt, request_of,
};

/// A property that does not hold, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Broken(pub(super) &'static str);

/// The promises made to callers.
pub(super) const ONE_FORWARD: &str = "at most one forward per key unless told to retry";
pub(super) const FIRST_ANSWER: &str = "a replay equals the first answer";
pub(super) const OWN_ANSWER: &str = "no caller sees another's answer";
pub(super) const ANSWERED: &str = "a retry is always answered";
pub(super) const PROMISES: [&str; 4] = [ONE_FORWARD, FIRST_ANSWER, OWN_ANSWER, ANSWERED];

/// Who changes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    /// A command of a gateway.
    Gateway,
    /// An operator, who may do anything.
    Operator,
}

/// The one who sees everything.
pub(super) struct Watcher<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) world: &'a mut World,
}

impl Watcher<'_> {
    fn must(&mut self, holds: bool, property: &'static str) {
        let is_heeded = || self.scenario.heed == Heed::Everything || PROMISES.contains(&property);
        if !holds && self.world.truth.broken.is_none() && is_heeded() {
            self.world.truth.broken = Some(Broken(property));
        }
    }

    /// Every write and removal goes through here: the record changes, and only in ways that are allowed.
    pub(super) fn put(&mut self, at: Place, new: Cell, hand: Hand) {
        let stood = self.world.stands(at);
        match hand {
            // The same write once more changes nothing.
            Hand::Gateway if new != stood => self.written_by_gateway(stood, new),
            // Of an operator too: a removal is the only way to undo an answer.
            Hand::Operator if answer_of(stood).is_some() && answer_of(new).is_some() => {
                self.must(answer_of(new) == answer_of(stood), "an operator never completes what is answered");
            }
            Hand::Gateway | Hand::Operator => {}
        }
        if let Cell::Row(row) = new {
            let truth = &mut self.world.truth;
            truth.landed = truth.landed.with(row.attempt);
            if answer_of(new).is_some() && hand == Hand::Gateway {
                truth.recorded = truth.recorded.with(row.attempt);
            }
        }
        self.world.set(at, new);
    }

    fn written_by_gateway(&mut self, stood: Cell, new: Cell) {
        if let Some(answer) = answer_of(stood) {
            self.must(answer_of(new) == Some(answer), "an answer never changes");
        }
        if let (Cell::Row(old), Cell::Row(new)) = (stood, new)
            && old.attempt == new.attempt
        {
            self.must(new.revision > old.revision, "an older write never undoes a newer one");
            let reopens = old.phase == RowPhase::Unknown && new.phase == RowPhase::InFlight;
            self.must(!reopens, "an unknown outcome does not become a claim of the same attempt again");
        }
        if let Cell::Row(Row { attempt, phase: RowPhase::Done(of) | RowPhase::DoneWithoutBody(of), .. }) = new
        {
            let is_the_attempts_own = of == attempt && self.world.truth.answered.has(of);
            self.must(is_the_attempts_own, "what is recorded is the answer of an executed forward");
        }
    }

    /// A request was told what it may do.
    pub(super) fn told(&mut self, request: usize, seen: Cell, verdict: &Verdict) {
        let asks = self.scenario.asks(request);
        if seen == Cell::Unreadable {
            let is_refused = *verdict == Verdict::Unknown(UnknownReason::Unreadable);
            return self.must(is_refused, "an unreadable record leads to nothing but `unknown`");
        }
        match verdict {
            Verdict::Replay(saved, _) => self.shown(request, answered_attempt(&saved.head)),
            Verdict::BodyNotKept(head) => self.shown(request, answered_attempt(head)),
            Verdict::Mismatch => {
                let is_another = matches!(seen, Cell::Row(row) if row.fingerprint != asks.fingerprint);
                self.must(is_another, "only another request is told that its key is reused");
            }
            Verdict::Execute | Verdict::Reclaim(_) | Verdict::InFlight(_) | Verdict::Unknown(_) => {}
        }
    }

    /// A request was shown an answer that is kept: its own, or a replay.
    pub(super) fn shown(&mut self, request: usize, of: u8) {
        let asks = self.scenario.asks(request);
        let first = self.world.truth.first_answer[self.scenario.key(request)];
        if of != BY_OPERATOR {
            let asked = self.scenario.asks(request_of(of));
            let is_alike = (asked.caller, asked.fingerprint) == (asks.caller, asks.fingerprint);
            self.must(is_alike, OWN_ANSWER);
            self.must(self.world.truth.recorded.has(of), "what is replayed was recorded");
        }
        if first != SEVERAL {
            self.must(first == NONE || first == of, FIRST_ANSWER);
            self.world.truth.first_answer[self.scenario.key(request)] = of;
        }
    }

    /// A request goes on to forward: it needs the claim, and a licence if another may have run before it.
    pub(super) fn won(&mut self, request: usize, row: Row, how: Won) {
        let (asks, key) = (self.scenario.asks(request), self.scenario.key(request));
        let has_landed = self.world.truth.landed.has(row.attempt);
        self.must(has_landed, "nobody forwards without a claim of its own in the store");
        for other in self.standing_under(key).without(row.attempt).members() {
            let same = self.scenario.asks(request_of(other)).fingerprint == asks.fingerprint;
            self.must(same, "another request never takes a key whose request may have run");
            let licensed = how != Won::First && asks.on_unknown == OnUnknown::Retry;
            self.must(
                licensed,
                "no second claim while an earlier request may have run, unless the policy permits it",
            );
        }
        let truth = &mut self.world.truth;
        if asks.on_unknown == OnUnknown::Retry && how == (Won::Over { ran_perhaps: true }) {
            truth.forwards_allowed[key] += 1;
            truth.first_answer[key] = NONE;
        }
        truth.standing = truth.standing.with(row.attempt);
        self.world.requests[request] = Stage::Holding(row);
    }

    /// A request reached the upstream.
    pub(super) fn forwarded(&mut self, request: usize) {
        let allowed = &mut self.world.truth.forwards_allowed[self.scenario.key(request)];
        *allowed -= 1;
        let is_allowed = *allowed >= 0;
        self.must(is_allowed, ONE_FORWARD);
    }

    /// The upstream proved that it did not process an attempt.
    pub(super) fn refused(&mut self, request: usize, attempt: u8) {
        self.never_sent(attempt);
        self.world.truth.forwards_allowed[self.scenario.key(request)] += 1;
    }

    /// An attempt was given up before anything of it was sent.
    pub(super) fn never_sent(&mut self, attempt: u8) {
        self.world.truth.standing = self.world.truth.standing.without(attempt);
    }

    /// Retention ended, or an operator took the key's past upon himself.
    pub(super) fn forgiven(&mut self, key: usize) {
        self.outlived(key);
        self.world.truth.forwards_allowed[key] += 1;
    }

    /// Retention ended before the last claim was used.
    pub(super) fn outlived(&mut self, key: usize) {
        let past = self.standing_under(key);
        let truth = &mut self.world.truth;
        for attempt in past.members() {
            truth.standing = truth.standing.without(attempt);
        }
        truth.first_answer[key] = NONE;
    }

    /// The store acknowledged a claim and has it no more, or will not have it.
    pub(super) fn lost(&mut self, key: usize) {
        if self.scenario.losses_forgiven {
            self.forgiven(key);
            self.world.truth.first_answer[key] = SEVERAL;
        }
    }

    /// Somebody who waited is told that the request is still at work.
    pub(super) fn waited_in_vain(&mut self, is_still_at_work: bool) {
        self.must(is_still_at_work, ANSWERED);
    }

    /// What must hold between any two steps.
    pub(super) fn between(&mut self) {
        if self.scenario.heed != Heed::Everything || self.world.truth.standing.is_empty() {
            return;
        }
        for key in 0..=self.scenario.last_key() {
            let is_kept = self.world.stands(self.world.place_at_master(key)) != Cell::Nothing;
            let may_have_run = !self.standing_under(key).is_empty();
            self.must(is_kept || !may_have_run, "a record stands as long as its request may have run");
        }
    }

    fn standing_under(&self, key: usize) -> Set {
        let all = self.world.truth.standing;
        if self.scenario.last_key() == 0 {
            return all;
        }
        let others = all.members().filter(|attempt| self.scenario.key(request_of(*attempt)) != key);
        others.fold(all, Set::without)
    }
}

/// What a record says of the first answer.
fn answer_of(cell: Cell) -> Option<RowPhase> {
    match cell {
        Cell::Row(Row { phase: phase @ (RowPhase::Done(_) | RowPhase::DoneWithoutBody(_)), .. }) => {
            Some(phase)
        }
        Cell::Row(Row { phase: RowPhase::InFlight | RowPhase::Unknown, .. })
        | Cell::Nothing
        | Cell::Unreadable => None,
    }
}

/// How a claim was won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Won {
    /// Nothing stood there.
    First,
    /// In the place of another, which perhaps ran, or surely did not.
    Over { ran_perhaps: bool },
}
