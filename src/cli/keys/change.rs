//! `onceway keys resolve` and `forget`: a change of one record, guarded by the attempt that its operator has seen.
//!
//! No change without an attempt: it is named, or the record is shown and a person says yes. Whatever leaves open
//! whether the change was made says so. Read `../../admin/` for what the gateway does with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use clap::{ArgGroup, Args};
use http::{HeaderName, HeaderValue, Method};
use url::form_urlencoded::Serializer;

use super::call::{Call, CallError, Caller, Carries};
use super::given::Reader;
use super::operation::{Answer, Forgotten, Operation, Resolution, Resolved};
use super::place::Unusable;
use super::show::{fetch, reference};
use super::{KeysError, Seat, shown, while_asking, write_json};
use crate::clock;

/// Largest body of an answer that is read; the gateway may take less.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Digits by which an attempt may be named, if not by all.
const ATTEMPT_DIGITS_MIN: usize = 8;
/// Characters of a reason at most, as the gateway has it.
const REASON_MAX: usize = 500;

/// What `resolve` can be told.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("outcome").args(["release", "complete"]).required(true))]
pub struct ResolveArgs {
    /// The operation's ref, 64 hexadecimal digits
    #[arg(value_name = "REF", value_parser = reference)]
    reference: String,
    /// The upstream did nothing: the next request with the key runs
    #[arg(long)]
    release: bool,
    /// The upstream did it: every retry gets the answer described here
    #[arg(long, requires = "status")]
    complete: bool,
    /// Status of the true answer
    #[arg(long, value_name = "STATUS", conflicts_with = "release", value_parser = clap::value_parser!(u16).range(200..=599))]
    status: Option<u16>,
    /// A header of the true answer, such as 'content-type: application/json'; several: one each
    #[arg(long, value_name = "NAME: VALUE", conflicts_with = "release")]
    header: Vec<String>,
    /// File with the body of the true answer; - is standard input; left out: it has none
    #[arg(long, value_name = "FILE", conflicts_with = "release")]
    body_file: Option<PathBuf>,
    #[command(flatten)]
    guard: GuardArgs,
}

/// What `forget` can be told.
#[derive(Args, Debug)]
pub struct ForgetArgs {
    /// The operation's ref, 64 hexadecimal digits
    #[arg(value_name = "REF", value_parser = reference)]
    reference: String,
    #[command(flatten)]
    guard: GuardArgs,
}

/// What every change is told.
#[derive(Args, Debug)]
struct GuardArgs {
    /// Only if this attempt still stands, by its first eight digits or all; left out: the record is shown and you are asked
    #[arg(long, value_name = "ATTEMPT", value_parser = attempt)]
    attempt: Option<String>,
    /// Why, for the audit log: up to 500 characters
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn attempt(text: &str) -> Result<String, &'static str> {
    let is_start = (ATTEMPT_DIGITS_MIN..=36).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_start {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("expected an attempt, or its first eight digits or more")
    }
}

fn reason(text: &str) -> Result<String, &'static str> {
    let is_told =
        !text.trim().is_empty() && text.chars().count() <= REASON_MAX && !text.chars().any(char::is_control);
    if is_told { Ok(text.to_owned()) } else { Err("expected 1 to 500 characters on one line") }
}

impl ResolveArgs {
    pub(super) async fn run(
        &self,
        caller: &Caller,
        json: bool,
        seat: &mut Seat<'_>,
    ) -> Result<(), KeysError> {
        let answer = self.answer(seat)?;
        let question = match &answer {
            None => "Release it? The next request with this key will run.".to_owned(),
            Some(answer) => {
                format!("Complete it? Every retry will get this answer, status {}.", answer.status)
            }
        };
        let must = |operation: &Operation| {
            if operation.is_unknown() { Ok(()) } else { Err(KeysError::NotUnknown(operation.state.clone())) }
        };
        let attempt = self.guard.attempt(caller, &self.reference, &question, must, seat).await?;
        let outcome = if self.release { "release" } else { "complete" };
        let told = match &answer {
            None => "released: the next request with this key is a first one\n".to_owned(),
            Some(answer) => format!("completed: every retry gets this answer, status {}\n", answer.status),
        };
        let resolution =
            Resolution { outcome, expected_attempt: &attempt, reason: &self.guard.reason, answer };
        let body = serde_json::to_vec(&resolution)?;
        let target = format!("/v1/operations/{}/resolve", self.reference);
        let call = Call { method: Method::POST, target, body, carries: Carries::Token };
        let resolved: Resolved =
            caller.read(call).await.map_err(while_changing("resolve it", &self.reference))?;
        if json { write_json(seat, &resolved) } else { Ok(seat.out.write_all(told.as_bytes())?) }
    }

    /// The true answer, if there is one.
    fn answer(&self, seat: &mut Seat<'_>) -> Result<Option<Answer>, Unusable> {
        let Some(status) = self.status.filter(|_| self.complete) else { return Ok(None) };
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &self.header {
            let (name, value) = field(line).ok_or(Unusable::Header)?;
            headers.entry(name).or_default().push(value);
        }
        let body = match &self.body_file {
            Some(file) => Reader::of(&mut *seat.input).bytes("--body-file", file, BODY_BYTES_MAX)?,
            None => Vec::new(),
        };
        let (body, body_base64) = match String::from_utf8(body) {
            Ok(text) => (Some(text), None),
            Err(bytes) => (None, Some(base64::engine::general_purpose::STANDARD.encode(bytes.as_bytes()))),
        };
        Ok(Some(Answer { status, headers, body, body_base64 }))
    }
}

fn field(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let name: HeaderName = name.trim().parse().ok()?;
    let value = value.trim();
    HeaderValue::from_str(value).ok()?;
    Some((name.as_str().to_owned(), value.to_owned()))
}

impl ForgetArgs {
    pub(super) async fn run(
        &self,
        caller: &Caller,
        json: bool,
        seat: &mut Seat<'_>,
    ) -> Result<(), KeysError> {
        let question =
            "Forget it? Its answer, if there is one, is lost, and the next request with this key will run.";
        let attempt = self.guard.attempt(caller, &self.reference, question, |_| Ok(()), seat).await?;
        let mut query = Serializer::new(String::new());
        query.append_pair("expected_attempt", &attempt);
        let target = format!("/v1/operations/{}?{}", self.reference, query.finish());
        // Not in the address, which others may log.
        let body = serde_json::json!({ "reason": self.guard.reason }).to_string().into_bytes();
        let call = Call { method: Method::DELETE, target, body, carries: Carries::Token };
        caller.tell(call).await.map_err(while_changing("forget it", &self.reference))?;
        if json {
            return write_json(seat, &Forgotten { forgotten: &self.reference });
        }
        Ok(writeln!(seat.out, "forgotten: the next request with this key is a first one")?)
    }
}

impl GuardArgs {
    /// The attempt that the change is guarded by, whole. Where none was named, a person has seen it and said yes.
    async fn attempt(
        &self,
        caller: &Caller,
        reference: &str,
        question: &str,
        must: impl Fn(&Operation) -> Result<(), KeysError>,
        seat: &mut Seat<'_>,
    ) -> Result<String, KeysError> {
        if let Some(named) = &self.attempt
            && uuid::Uuid::try_parse(named).is_ok()
        {
            return Ok(named.clone());
        }
        if self.attempt.is_none() && !seat.is_attended {
            return Err(Unusable::Unattended(reference.to_owned()).into());
        }
        let operation = fetch(caller, reference).await.map_err(while_asking("look at the operation"))?;
        let stands = operation.attempt.clone().ok_or(KeysError::Unreadable)?;
        match &self.attempt {
            Some(named) if stands.starts_with(named.as_str()) => return Ok(stands),
            Some(named) => {
                let reference = reference.to_owned();
                return Err(KeysError::Changed { expected: named.clone(), found: stands, reference });
            }
            None => must(&operation)?,
        }
        seat.questions.write_all(shown::sheet(&operation, clock::wall()).as_bytes())?;
        write!(seat.questions, "\n{question} [y/N] ")?;
        seat.questions.flush()?;
        let mut said = String::new();
        seat.input.read_line(&mut said)?;
        let is_yes = ["y", "yes"].contains(&said.trim().to_ascii_lowercase().as_str());
        if is_yes { Ok(stands) } else { Err(KeysError::Declined) }
    }
}

/// Wraps what went wrong with a change.
fn while_changing(what: &'static str, reference: &str) -> impl Fn(CallError) -> KeysError {
    move |source| {
        if source.leaves_doubt() {
            KeysError::Doubtful { what, reference: reference.to_owned(), source }
        } else {
            while_asking(what)(source)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_named_by_its_first_eight_digits_or_more() {
        assert!(attempt("6F1D2C3B").is_ok_and(|attempt| attempt == "6f1d2c3b"));
        assert!(attempt("6f1d2c3b-0000-4000-8000-000000000000").is_ok());
        assert!(attempt("6f1d2c3").is_err() && attempt("latest-attempt").is_err());
    }

    #[test]
    fn a_field_is_a_name_and_a_value() {
        assert_eq!(field("Content-Type: text/plain"), Some(("content-type".into(), "text/plain".into())));
        for line in ["text/plain", ": x", "a b: x", "a: \n"] {
            assert_eq!(field(line).filter(|(_, value)| !value.is_empty()), None, "{line}");
        }
    }
}
