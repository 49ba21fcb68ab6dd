//! What must be true of every key, whatever became of the gateway that had it first.
//!
//! * The service has executed it at most once.
//! * Whoever got a whole answer has the answer: every retry gets the same.
//! * A retry is answered in the end; what it gets is the execution's own answer, or the truth that nobody knows.
//! * What was said once in the end holds.
//!
//! Must not know how the gateway was harmed.

use std::time::{Duration, Instant};

use crate::harness::{Answer, Gateway, PATIENCE, Upstream, now};

use super::caller;
use super::site::request;

/// A key that was asked for, while a gateway came to harm.
pub(super) struct Asked {
    key: String,
    /// When, in words: for messages.
    moment: String,
    first: Option<Answer>,
    since: Instant,
    last: Option<Last>,
}

/// What a caller is told in the end.
#[derive(Clone, Debug)]
enum Last {
    Answered(Answer),
    /// Executed, and the answer was too large to be kept.
    NotKept,
    Unknown,
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Calls at which the gateway could be harmed.
    pub(super) places: usize,
    /// Times that it was.
    pub(super) harmed: usize,
    /// Requests whose caller had its answer, whole, in spite of it.
    pub(super) answered: usize,
    /// Retries that got the answer of the first request.
    pub(super) replayed: usize,
    /// Retries that were executed, as nothing had been before.
    pub(super) executed: usize,
    /// Retries that were told that the outcome is unknown.
    pub(super) unknown: usize,
    /// Retries that were told that the answer was not kept.
    pub(super) not_kept: usize,
    /// Keys that were executed more than once.
    pub(super) twice: Vec<String>,
    /// Keys that were not answered in time.
    pub(super) unanswered: Vec<String>,
    /// Everything else that must not be.
    pub(super) wrong: Vec<String>,
    /// From a gateway's end to the last word about its key, at most.
    pub(super) longest: Duration,
}

impl Asked {
    pub(super) fn new(key: String, moment: String, first: Option<Answer>) -> Self {
        Self { key, moment, first, since: now(), last: None }
    }

    /// Asks again, unless there is a last word. Answers whether there is one now.
    pub(super) fn retry(&mut self, gateway: &Gateway, report: &mut Report) -> bool {
        if self.last.is_some() {
            return true;
        }
        let answer = caller::ask(gateway.listen_addr(), &request(&self.key));
        match answer.as_ref().map(last_word) {
            None | Some(Ok(None)) => {}
            Some(Err(what)) => report.wrong.push(format!("{self}: {what}")),
            Some(Ok(Some(last))) => {
                report.longest = report.longest.max(self.since.elapsed());
                report.count(&last);
                self.last = Some(last);
            }
        }
        if self.last.is_none() && self.since.elapsed() > PATIENCE {
            let shown = answer.map_or("nothing".to_owned(), |answer| answer.shown());
            report.unanswered.push(format!("{self}: {shown}"));
            return true;
        }
        self.last.is_some()
    }

    /// Asks once more, and looks at everything that is known of the key.
    pub(super) fn close(self, gateway: &Gateway, upstream: &Upstream, report: &mut Report) {
        let once_more = caller::ask(gateway.listen_addr(), &request(&self.key));
        let once_more = once_more.as_ref().map(last_word).and_then(Result::ok).flatten();
        let executions = upstream.executions_of(&self.key);
        if executions > 1 {
            report.twice.push(format!("{self}: executed {executions} times"));
        }
        let first = self.first.as_ref().filter(|first| first.status == 201 && first.is_whole);
        report.answered += usize::from(first.is_some());
        let answers = [&self.last, &once_more].into_iter().flatten().filter_map(Last::answer);
        for answer in first.into_iter().chain(answers) {
            if !is_of(&self.key, answer, upstream) {
                report.wrong.push(format!("{self}: the answer to another request: {}", answer.shown()));
            }
        }
        if let Some(what) = self.contradiction(first, once_more.as_ref()) {
            report.wrong.push(format!("{self}: {what}"));
        }
    }

    fn contradiction(&self, first: Option<&Answer>, once_more: Option<&Last>) -> Option<&'static str> {
        // Of an answer with this word its caller knows that a retry may not get it.
        let is_stored = |first: &&Answer| first.word().as_deref() != Some("unstored");
        match (first.filter(is_stored), &self.last, once_more) {
            (Some(first), Some(Last::Answered(retry)), _) if !is_replay(first, retry) => {
                Some("the retry got another answer than the first request")
            }
            (Some(_), Some(Last::Unknown), _) => {
                Some("the outcome is unknown, and its caller has the answer")
            }
            (_, Some(Last::Answered(retry)), Some(Last::Answered(again))) if !is_replay(retry, again) => {
                Some("two retries got different answers")
            }
            // Executed by the retry itself.
            (None, Some(Last::Answered(retry)), Some(Last::NotKept))
                if retry.word().as_deref() == Some("executed") =>
            {
                None
            }
            (_, Some(Last::Answered(_)), Some(Last::Unknown | Last::NotKept) | None)
            | (_, Some(Last::NotKept), Some(Last::Unknown | Last::Answered(_)) | None)
            | (_, Some(Last::Unknown), Some(Last::NotKept) | None) => Some("the last word did not hold"),
            // An answer that comes late ends the doubt.
            (_, Some(Last::Unknown), Some(Last::Answered(late)))
                if late.word().as_deref() != Some("replayed") =>
            {
                Some("it was executed though its outcome was unknown")
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.key, self.moment)
    }
}

impl Last {
    fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::NotKept | Self::Unknown => None,
        }
    }
}

impl Report {
    fn count(&mut self, last: &Last) {
        match last {
            Last::Answered(answer) if answer.word().as_deref() == Some("executed") => self.executed += 1,
            Last::Answered(_) => self.replayed += 1,
            Last::NotKept => self.not_kept += 1,
            Last::Unknown => self.unknown += 1,
        }
    }

    pub(super) fn expect_nothing_wrong(&self) {
        let all = [&self.twice, &self.unanswered, &self.wrong].into_iter().flatten();
        let all: Vec<_> = all.map(String::as_str).collect();
        assert!(all.is_empty(), "{} of {} went wrong:\n{}", all.len(), self.harmed, all.join("\n"));
    }
}

/// `None`: ask again.
fn last_word(answer: &Answer) -> Result<Option<Last>, String> {
    if !answer.is_whole {
        return Ok(None);
    }
    if answer.status == 201 {
        return Ok(Some(Last::Answered(answer.clone())));
    }
    match (answer.status, answer.problem().1.as_str()) {
        (409, "outcome-unknown") => Ok(Some(Last::Unknown)),
        (409, "result-unavailable") => Ok(Some(Last::NotKept)),
        (409, "in-flight") | (502..=504, _) => Ok(None),
        _ => Err(format!("no such answer was expected: {}", answer.shown())),
    }
}

/// Whether a retry's answer is the first one, given again.
fn is_replay(first: &Answer, retry: &Answer) -> bool {
    let is_told = retry.word().as_deref() == Some("replayed");
    let same = |name| first.headers(name) == retry.headers(name);
    is_told && first.status == retry.status && first.body == retry.body && same("location")
}

/// Whether the service gave this answer to this key.
fn is_of(key: &str, answer: &Answer, upstream: &Upstream) -> bool {
    let text = answer.text();
    let number = text.split(' ').nth(1).and_then(|number| number.parse().ok());
    number.is_some_and(|number| upstream.request(number).header("idempotency-key").as_deref() == Some(key))
}
