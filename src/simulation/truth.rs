//! What really happened, as only the world can know it, and whether that is what the contract says.
//!
//! Whatever breaks a promise is put down as a fault of the run, in words. Must not know how anything came about.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Answer, field};
use super::process::Moment;
use super::shelf::Change;
use crate::protocol::record::{Phase, Session};

/// Paths of the routes, in the order in which they are numbered.
pub(super) const ROUTES: [&str; 5] = ["/reject", "/wait", "/retry", "/release", "/unknown"];

/// The route on which an unknown outcome may be run again.
const RETRIES: usize = 2;

/// The route on which a 5xx answer says that nothing was processed.
const RELEASES: usize = 3;

/// The route on which it leaves the outcome unknown.
const DOUBTS: usize = 4;

/// The routes on which a duplicate waits.
const WAITS: [usize; 2] = [1, 4];

/// By which callers are told apart.
pub(super) const SCOPES: [&str; 2] = ["Bearer alice", "Bearer bob"];

/// How long after an answer stands in the store a waiter may still be told that there is none: it looks every second.
const NOTICED_WITHIN: Moment = 1_500;

/// One caller's key on one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) route: usize,
    pub(super) scope: usize,
    pub(super) number: usize,
}

/// What a service did with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It did what was asked.
    Executed,
    /// It did nothing, and says so by its status.
    Refused,
    /// It did nothing, and does not say so.
    Dropped,
}

/// One request that came to a service.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) key: Key,
    pub(super) payload: usize,
    pub(super) done: Done,
    pub(super) answer: Answer,
    /// The answer is such that the gateway keeps all of it.
    pub(super) is_kept_whole: bool,
    /// The answer comes soon and whole, and says what became of the request.
    pub(super) is_plain: bool,
}

/// What a caller got.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) key: Key,
    pub(super) payload: usize,
    pub(super) asked_at: Moment,
    pub(super) at: Moment,
    pub(super) answer: Answer,
    /// It was asked when everything had healed.
    pub(super) is_last: bool,
}

/// What is known of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Story {
    pub(super) runs: Vec<usize>,
    payloads: BTreeSet<usize>,
    /// Runs that callers were given as the answer that is kept.
    kept: BTreeSet<usize>,
    /// Runs whose answer somebody got whole and is kept whole.
    durable: BTreeSet<usize>,
    /// An operator has said that nothing was processed.
    pub(super) freed: usize,
    /// Its record was damaged.
    pub(super) is_damaged: bool,
    /// The store forgot what it had acknowledged.
    pub(super) is_forgotten: bool,
    /// Since when an answer has stood in the store.
    pub(super) answered_at: Option<Moment>,
}

/// Everything that is known.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) runs: Vec<Run>,
    pub(super) stories: BTreeMap<Key, Story>,
    pub(super) replies: usize,
    pub(super) words: BTreeMap<String, usize>,
    /// What broke a promise.
    pub(super) faults: Vec<String>,
    /// Second executions that a store made which lost what it had acknowledged.
    pub(super) losses: usize,
    /// Nothing but the services misbehaves.
    pub(super) is_calm: bool,
}

impl Key {
    pub(super) fn header(self) -> String {
        format!("key-{}-{}", self.route, self.number)
    }

    /// Whether a 5xx answer frees the key.
    pub(super) fn releases(self) -> bool {
        self.route == RELEASES
    }

    /// Whether a 5xx answer leaves the outcome unknown.
    pub(super) fn doubts(self) -> bool {
        self.route == DOUBTS
    }

    /// Whether an unknown outcome may be run again.
    pub(super) fn retries(self) -> bool {
        self.route == RETRIES
    }
}

impl Truth {
    /// A caller asks with a key.
    pub(super) fn asked(&mut self, key: Key, payload: usize) {
        self.stories.entry(key).or_default().payloads.insert(payload);
    }

    /// A request came to a service.
    pub(super) fn ran(&mut self, run: Run) -> usize {
        let (number, key) = (self.runs.len(), run.key);
        let before = self.sent_before(key);
        self.runs.push(run);
        let story = self.stories.entry(key).or_default();
        story.runs.push(number);
        if before > story.freed && !key.retries() {
            let told = format!("{key:?} was sent {} times: runs {:?}", before + 1, story.runs);
            if story.is_forgotten {
                self.losses += 1;
            } else {
                self.faults.push(told);
            }
        }
        number
    }

    /// How often it was sent, where the service has not said that it did nothing.
    fn sent_before(&self, key: Key) -> usize {
        let Some(story) = self.stories.get(&key) else { return 0 };
        story.runs.iter().filter(|run| self.runs[**run].done != Done::Refused).count()
    }

    /// Something was done to a record, by the process whose session is `by`.
    pub(super) fn changed(
        &mut self,
        key: Key,
        change: &Change,
        by: Option<Session>,
        is_operator: bool,
        now: Moment,
    ) {
        let sent = self.sent_before(key);
        let story = self.stories.entry(key).or_default();
        let excuse = story.is_forgotten;
        let wrong = match change {
            Change::Claimed => {
                (sent > story.freed).then(|| "claimed anew though it was sent before".to_owned())
            }
            Change::Reclaimed { over, owner_lives, session, .. } => {
                let is_of_another = over.session != *session;
                match over.phase {
                    Phase::Done { .. } | Phase::DoneWithoutBody { .. } => {
                        Some("claimed over an answer".to_owned())
                    }
                    Phase::InFlight if *owner_lives && is_of_another => {
                        Some("taken from a living owner".to_owned())
                    }
                    Phase::InFlight | Phase::Unknown { .. } => None,
                }
            }
            Change::Settled { before, after } => (is_answered(&before.phase) && before.phase != after.phase)
                .then(|| "its answer was changed".to_owned()),
            Change::Overwritten { before, .. } => {
                Some(format!("another attempt wrote over {}", before.phase_name()))
            }
            Change::Removed { before } if !is_operator => {
                let is_of_another = by.is_some_and(|by| by != before.session);
                if is_answered(&before.phase) {
                    Some("its answer was taken away".to_owned())
                } else if is_of_another {
                    Some("another's claim was taken away".to_owned())
                } else {
                    None
                }
            }
            Change::Removed { .. } | Change::Restored { .. } => None,
        };
        story.answered_at = match change {
            Change::Settled { after, .. }
            | Change::Restored { after }
            | Change::Overwritten { after, .. }
                if is_answered(&after.phase) =>
            {
                Some(now)
            }
            Change::Claimed
            | Change::Reclaimed { .. }
            | Change::Settled { .. }
            | Change::Restored { .. }
            | Change::Overwritten { .. }
            | Change::Removed { .. } => None,
        };
        if let Some(wrong) = wrong {
            if excuse {
                self.losses += 1;
            } else {
                self.faults.push(format!("{key:?}: {wrong}"));
            }
        }
    }

    /// A caller got a whole answer.
    pub(super) fn replied(&mut self, reply: &Reply) {
        self.replies += 1;
        let word = field(&reply.answer.fields, "idempotency-status").unwrap_or("-").to_owned();
        *self.words.entry(word.clone()).or_default() += 1;
        let found = match word.as_str() {
            "unstored" if self.is_calm => {
                Err("told that it is not stored, by a store that is well".to_owned())
            }
            "executed" | "replayed" | "unstored" => self.given(reply, &word),
            // By the service's word, or because nothing was sent.
            "released" if is_of_gateway(&reply.answer) => Ok(()),
            "released" => self.is_of(reply).map(drop),
            "in-flight" => self.told_in_flight(reply),
            "mismatch" => self.told_mismatch(reply),
            "unknown" => self.told_unknown(reply),
            "body-not-kept" => self.told_not_kept(reply),
            _ if reply.answer.status >= 500 && !self.is_calm => Ok(()),
            _ => Err(format!("answered {} with {word:?}", reply.answer.status)),
        };
        if let Err(wrong) = found {
            let key = reply.key;
            let is_forgotten = self.stories.get(&key).is_some_and(|story| story.is_forgotten);
            if is_forgotten {
                self.losses += 1;
            } else {
                self.faults.push(format!("{key:?} at {}: {wrong}", reply.at));
            }
        }
    }

    /// The run that an answer is of: byte for byte, and of this very caller, key and payload.
    fn is_of(&self, reply: &Reply) -> Result<usize, String> {
        let answer = &reply.answer;
        let run = field(&answer.fields, "x-run").and_then(|run| run.parse::<usize>().ok());
        let Some((number, run)) = run.and_then(|run| Some((run, self.runs.get(run)?))) else {
            return Err(format!("an answer that no service gave: {} {:?}", answer.status, answer.fields));
        };
        if run.key != reply.key {
            return Err(format!("the answer to {:?} was given", run.key));
        }
        if run.payload != reply.payload {
            return Err("the answer to another request was given".to_owned());
        }
        let given = run.answer.fields.iter().all(|(name, _)| {
            let all = |fields: &[(String, String)]| -> Vec<String> {
                fields.iter().filter(|(at, _)| at == name).map(|(_, value)| value.clone()).collect()
            };
            all(&run.answer.fields) == all(&answer.fields)
        });
        if run.answer.status != answer.status || run.answer.body != answer.body || !given {
            return Err(format!("run {number} was not answered so: {answer:?}"));
        }
        Ok(number)
    }

    fn given(&mut self, reply: &Reply, word: &str) -> Result<(), String> {
        let number = self.is_of(reply)?;
        let run = &self.runs[number];
        if run.done == Done::Refused && word == "unstored" {
            return Ok(());
        }
        if run.done == Done::Refused {
            return Err(format!("run {number} was refused, and is told as {word}"));
        }
        let is_kept_whole = run.is_kept_whole;
        let story = self.stories.entry(reply.key).or_default();
        // What streams through is told before its record is settled, and what is not stored is no promise: on a route
        // that retries, another may follow.
        let is_firm = is_kept_whole && word != "unstored";
        if is_firm || !reply.key.retries() {
            story.kept.insert(number);
        }
        if is_firm {
            story.durable.insert(number);
        }
        if story.kept.len() > story.freed + 1 {
            return Err(format!("several answers were given as the first: runs {:?}", story.kept));
        }
        Ok(())
    }

    fn told_in_flight(&self, reply: &Reply) -> Result<(), String> {
        let Some(story) = self.stories.get(&reply.key) else { return Ok(()) };
        let Some(answered_at) = story.answered_at else { return Ok(()) };
        let noticed_by = answered_at.max(reply.asked_at) + NOTICED_WITHIN;
        if self.is_calm && WAITS.contains(&reply.key.route) && noticed_by < reply.at {
            return Err(format!(
                "told that it is in flight, answered since {answered_at}, asked at {}",
                reply.asked_at
            ));
        }
        Ok(())
    }

    fn told_mismatch(&self, reply: &Reply) -> Result<(), String> {
        let story = &self.stories[&reply.key];
        if story.payloads.len() < 2 {
            return Err("told of a mismatch where nobody asked for anything else".to_owned());
        }
        if story.durable.iter().any(|run| self.runs[*run].payload == reply.payload) {
            return Err("told of a mismatch with what was answered".to_owned());
        }
        Ok(())
    }

    fn told_unknown(&self, reply: &Reply) -> Result<(), String> {
        let story = &self.stories[&reply.key];
        if self.is_calm && story.runs.iter().all(|run| self.runs[*run].is_plain) {
            return Err("told that the outcome is unknown of what was answered, or never sent".to_owned());
        }
        if reply.is_last && !story.durable.is_empty() && !story.is_damaged {
            return Err(format!("the answer of run {:?} was lost: told that it is unknown", story.durable));
        }
        Ok(())
    }

    fn told_not_kept(&self, reply: &Reply) -> Result<(), String> {
        let story = &self.stories[&reply.key];
        if story.durable.is_empty() {
            Ok(())
        } else {
            Err("the body of an answer that was kept is gone".to_owned())
        }
    }
}

/// Whether an answer is a gateway's own.
fn is_of_gateway(answer: &Answer) -> bool {
    field(&answer.fields, "content-type") == Some("application/problem+json")
}

fn is_answered(phase: &Phase) -> bool {
    matches!(phase, Phase::Done { .. } | Phase::DoneWithoutBody { .. })
}

trait Named {
    fn phase_name(&self) -> &'static str;
}

impl Named for crate::protocol::record::Record {
    fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::InFlight => "a claim",
            Phase::Done { .. } | Phase::DoneWithoutBody { .. } => "an answer",
            Phase::Unknown { .. } => "an unknown outcome",
        }
    }
}
