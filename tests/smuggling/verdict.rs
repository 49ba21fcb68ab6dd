//! Was it right? Compares what came back, and what reached the upstream, with the outcomes of a case.

use super::case::{Also, Awaited, Case, Outcome, Status, Wanted};
use super::message::{self, Fields, Message};
use super::play::Seen;
use super::service::{self, Arrived};

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_right: bool,
    /// What happened, in a few letters: the answers, how the connection was left, what reached the upstream.
    pub(crate) happened: String,
}

/// Whether more has to be awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prospect {
    /// What is missing may still come.
    Open,
    /// All has come, or it cannot end well any more.
    Settled,
}

/// Looks at what has come back so far.
pub(super) fn prospect(case: &Case, seen: &Seen) -> Prospect {
    let is_reached =
        |outcome: &Outcome| has_answered(outcome, seen) && (!outcome.is(Also::Closed) || seen.is_closed);
    let is_possible = |outcome: &Outcome| {
        let answers = relevant(outcome, seen);
        answers.len() <= outcome.answers.len() && fits_begin(outcome, &answers)
    };
    let is_decided = seen.begun.is_none() && case.right.iter().any(is_reached);
    if is_decided || !case.right.iter().any(is_possible) { Prospect::Settled } else { Prospect::Open }
}

/// Judges a case. `arrived`: what reached the upstream of it.
pub(crate) fn judge(case: &Case, seen: &Seen, arrived: &[Arrived]) -> Verdict {
    let is_right = seen.fault.is_none()
        && arrived.iter().all(|arrived| arrived.message.is_some())
        && case.right.iter().any(|outcome| is_outcome(outcome, seen, arrived))
        && are_fields_right(case, seen, arrived);
    Verdict { is_right, happened: happened(seen, arrived) }
}

/// Of all that arrived, what belongs to a case.
pub(crate) fn of_case<'a>(case: &Case, arrived: &'a [Arrived]) -> impl Iterator<Item = &'a Arrived> {
    let path = format!("/{}", case.token);
    arrived.iter().filter(move |arrived| message::find(&arrived.raw, path.as_bytes()).is_some())
}

fn is_outcome(outcome: &Outcome, seen: &Seen, arrived: &[Arrived]) -> bool {
    if !has_answered(outcome, seen) || (outcome.is(Also::Closed) && !seen.is_closed) {
        return false;
    }
    let is_interim = |(status, _): &&(u16, Message)| *status < 200;
    if outcome.is(Also::Uninvited) && seen.answers.iter().any(|answer| is_interim(&answer)) {
        return false;
    }
    let Some(wanted) = &outcome.requests else { return true };
    let whole: Vec<_> = arrived.iter().filter(|arrived| arrived.is_whole).collect();
    if whole.len() != wanted.len() || (!outcome.is(Also::Unfinished) && whole.len() != arrived.len()) {
        return false;
    }
    // Requests may take several connections to the upstream; the order of the answers shows which is whose.
    let has_arrived = |wanted: &Wanted| whole.iter().any(|arrived| is_wanted(arrived, wanted));
    wanted.iter().all(has_arrived) && are_answers_theirs(seen, wanted)
}

fn is_wanted(arrived: &Arrived, wanted: &Wanted) -> bool {
    arrived.message.as_ref().is_some_and(|message| {
        let line = [wanted.method.as_bytes(), b" ", &wanted.target, b" "].concat();
        message.start.starts_with(&line) && message.body == wanted.body
    })
}

/// Whether each answer of the service tells the request whose turn it was.
fn are_answers_theirs(seen: &Seen, wanted: &[Wanted]) -> bool {
    let answers = seen.answers.iter().filter(|(status, _)| *status >= 200);
    answers.zip(wanted).all(|((_, answer), wanted)| {
        let told = service::told(&wanted.method, &String::from_utf8_lossy(&wanted.target), wanted.body.len());
        answer.body.is_empty() || answer.body == told.as_bytes()
    })
}

/// The answers that count for an outcome: interim ones do only where it speaks of them.
fn relevant<'a>(outcome: &Outcome, seen: &'a Seen) -> Vec<&'a (u16, Message)> {
    let speaks_of_interim = outcome.answers.iter().any(|awaited| awaited.status.is_interim());
    let mut answers: Vec<_> =
        seen.answers.iter().filter(|(status, _)| speaks_of_interim || *status >= 200).collect();
    if outcome.is(Also::Cut) && seen.is_closed {
        answers.extend(seen.begun.as_ref());
    }
    answers
}

fn has_answered(outcome: &Outcome, seen: &Seen) -> bool {
    let answers = relevant(outcome, seen);
    let is_cut = seen.is_closed && seen.begun.is_some();
    answers.len() == outcome.answers.len() && fits_begin(outcome, &answers) && is_cut == outcome.is(Also::Cut)
}

fn fits_begin(outcome: &Outcome, answers: &[&(u16, Message)]) -> bool {
    outcome.answers.iter().zip(answers).all(|(awaited, (status, message))| fits(awaited, *status, message))
}

fn fits(awaited: &Awaited, status: u16, message: &Message) -> bool {
    awaited.status.is(status) && awaited.body.as_ref().is_none_or(|body| *body == message.body)
}

impl Status {
    fn is(self, status: u16) -> bool {
        match self {
            Self::Exactly(wanted) => status == wanted,
            Self::Class(class) => status / 100 == class,
            Self::Refusal => matches!(status, 400..=499 | 501 | 505),
        }
    }

    fn is_interim(self) -> bool {
        matches!(self, Self::Exactly(100..=199) | Self::Class(1))
    }
}

/// The far side of a caller's bytes is the upstream, that of an upstream's bytes the caller.
fn are_fields_right(case: &Case, seen: &Seen, arrived: &[Arrived]) -> bool {
    let messages: Vec<&Message> = if case.answer.is_some() {
        let finals = seen.answers.iter().filter(|(status, _)| *status >= 200 && *status != 502);
        finals.map(|(_, message)| message).collect()
    } else {
        arrived.iter().filter_map(|arrived| arrived.message.as_ref()).collect()
    };
    let Some(first) = messages.first() else { return true };
    let mut names: Vec<_> = case.with.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let has_all = names.into_iter().all(|name| {
        let values = case.with.iter().filter(|(with, _)| with == name).map(|(_, value)| value.as_slice());
        has_in_order(&first.fields, name, values)
    });
    let has_forbidden = |message: &&Message| case.without.iter().any(|without| has(message, without));
    has_all && !messages.iter().any(has_forbidden)
}

fn has_in_order<'a>(fields: &Fields, name: &str, values: impl Iterator<Item = &'a [u8]>) -> bool {
    let Some(all) = message::joined(fields, name) else { return false };
    let mut left = all.as_slice();
    for value in values.filter(|value| !value.is_empty()) {
        let Some(at) = message::find(left, value) else { return false };
        left = left.get(at + value.len()..).unwrap_or_default();
    }
    true
}

fn has(message: &Message, (name, value): &(String, Vec<u8>)) -> bool {
    let (fields, name) = match name.strip_prefix("trailer ") {
        Some(name) => (&message.trailers, name),
        None => (&message.fields, name.as_str()),
    };
    fields.iter().any(|(found, given)| found == name && (value.is_empty() || value == given))
}

fn happened(seen: &Seen, arrived: &[Arrived]) -> String {
    let mut words = Vec::new();
    for same in seen.answers.chunk_by(|(one, _), (next, _)| one == next) {
        let status = same.first().map(|(status, _)| *status).unwrap_or_default();
        words.push(if same.len() > 3 {
            format!("{status} ×{}", same.len())
        } else {
            vec![status.to_string(); same.len()].join(" ")
        });
    }
    if let Some((status, _)) = &seen.begun {
        words.push(format!("{status} {}", if seen.is_closed { "cut" } else { "unended" }));
    }
    if words.is_empty() {
        words.push(if seen.is_closed { "closed" } else { "silence" }.to_owned());
    } else if seen.is_closed {
        words.push("close".to_owned());
    }
    if seen.fault.is_some() {
        words.push("garbled".to_owned());
    }
    for arrived in arrived {
        words.push(match &arrived.message {
            Some(message) if arrived.is_whole => format!("→ {}", service::start_line(message).0),
            Some(_) => "→ begun".to_owned(),
            None => "→ garbled".to_owned(),
        });
    }
    words.join(" ")
}
