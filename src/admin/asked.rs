//! What an operator asks, read member by member: from a body of JSON, or from a query.
//!
//! Whatever is wrong is told by the name of its member and never by what stood there, which may be somebody's key. A
//! member that is not known is refused: a misspelt `expected_attempt` must not be taken for none.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::problem::Problem;
use crate::protocol::record::Attempt;

/// How long a body may take to come.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Characters of a reason at most.
const REASON_CHARS_MAX: usize = 500;

/// The members of a question that have not been read yet.
#[derive(Default)]
pub(super) struct Members(Map<String, Value>);

/// What is wrong with a member.
pub(super) fn invalid(member: &str, what: &str) -> Problem {
    Problem::RequestInvalid(format!("{member}: {what}."))
}

/// Receives a body of JSON, of `max` bytes at most.
pub(super) async fn document(fields: &HeaderMap, body: Incoming, max: usize) -> Result<Members, Problem> {
    // A page of another origin can have a browser send text or a form without asking first, but not this type.
    let content_type =
        fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Problem::NotJson);
    }
    let received = tokio::time::timeout(BODY_TIME_MAX, receive(body, max));
    Members::of_json(&received.await.map_err(|_elapsed| Problem::TooSlow)??)
}

async fn receive(mut body: Incoming, max: usize) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(Problem::TooLarge(max));
    }
    let mut received = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Nobody is there any more to read what is answered.
        let frame = frame.map_err(|_broken| Problem::TooSlow)?;
        if let Some(data) = frame.data_ref() {
            if received.len().saturating_add(data.len()) > max {
                return Err(Problem::TooLarge(max));
            }
            received.extend_from_slice(data);
        }
    }
    Ok(received.freeze())
}

impl Members {
    fn of_json(bytes: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Err(Problem::RequestInvalid("The body is no JSON object.".to_owned()))
            }
            // The error's text may repeat what stood there.
            Err(error) => {
                let place = format!("line {}, column {}", error.line(), error.column());
                Err(Problem::RequestInvalid(format!("The body is not well-formed JSON: {place}.")))
            }
        }
    }

    /// Those of a document that is read already.
    #[cfg(test)]
    pub(super) fn of_value(document: &Value) -> Self {
        Self(document.as_object().unwrap().clone())
    }

    /// The parameters of a query.
    pub(super) fn of_query(query: Option<&str>) -> Result<Self, Problem> {
        let mut members = Map::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if members.insert(name.to_string(), value.into()).is_some() {
                return Err(invalid(&name, "it stands there twice"));
            }
        }
        Ok(Self(members))
    }

    /// These and others; none may stand in both.
    pub(super) fn and(mut self, others: Self) -> Result<Self, Problem> {
        for (name, value) in others.0 {
            if self.0.contains_key(&name) {
                return Err(invalid(&name, "it stands in the query and in the body"));
            }
            self.0.insert(name, value);
        }
        Ok(self)
    }

    /// A member that is an object, with its members yet to be read.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Err(invalid(name, "it is no object"))
            }
        }
    }

    /// A member that is text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Array(_)) => {
                Err(invalid(name, "it is no string"))
            }
        }
    }

    /// A member that is text and has to be there.
    pub(super) fn needed_text(&mut self, name: &str) -> Result<String, Problem> {
        self.text(name)?.ok_or_else(|| invalid(name, "it is missing"))
    }

    /// A member that is a whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| invalid(name, "it is no whole number")),
        }
    }

    /// An attempt.
    pub(super) fn attempt(&mut self, name: &str) -> Result<Option<Attempt>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match Uuid::try_parse(&text) {
            Ok(token) => Ok(Some(Attempt(token.into_bytes()))),
            Err(_) => Err(invalid(name, "it is no UUID")),
        }
    }

    /// Why an operator asks for a change.
    pub(super) fn reason(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let is_short = (1..=REASON_CHARS_MAX).contains(&text.chars().count());
        // In a terminal these could make a line of the audit log look like another.
        if is_short && !text.chars().any(char::is_control) {
            return Ok(Some(text));
        }
        Err(invalid(name, "it has 1 to 500 characters, none of them a control character"))
    }

    /// Says that nothing else was to be read.
    pub(super) fn end(self) -> Result<(), Problem> {
        let Some(name) = self.0.keys().next() else { return Ok(()) };
        // What looks like no name may be a value that slipped.
        let is_name = name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        Err(invalid(if is_name { name } else { "a member" }, "nobody reads it here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Result<Members, Problem> {
        Members::of_json(text.as_bytes())
    }

    fn told(problem: Option<Problem>) -> String {
        let Some(Problem::RequestInvalid(text)) = problem else { panic!("{problem:?}") };
        text
    }

    #[test]
    fn what_is_wrong_is_told_by_its_member_and_never_repeated() {
        for wrong in ["[]", "null", "{", "{\"secret\"}", "{\"key\":\"secret\u{0}", ""] {
            let Err(Problem::RequestInvalid(text)) = members(wrong) else { panic!("{wrong}") };
            assert!(!text.contains("secret"), "{text}");
        }
        let mut asked = members(r#"{"key":["secret"],"attempt":"secret","SECRET":1}"#).unwrap();
        assert_eq!(told(asked.text("key").err()), "key: it is no string.");
        assert_eq!(told(asked.attempt("attempt").err()), "attempt: it is no UUID.");
        assert_eq!(told(asked.needed_text("route").err()), "route: it is missing.");
        assert_eq!(told(asked.end().err()), "a member: nobody reads it here.");
    }

    #[test]
    fn a_query_is_decoded_and_says_each_thing_once() {
        let mut asked = Members::of_query(Some("route=%2Fpayments%2F%7Bid%7D&state=")).unwrap();
        assert_eq!(asked.text("route").unwrap().as_deref(), Some("/payments/{id}"));
        assert_eq!(asked.text("state").unwrap().as_deref(), Some(""));
        assert!(asked.end().is_ok());
        assert!(matches!(Members::of_query(Some("a=1&a=2")), Err(Problem::RequestInvalid(_))));
    }

    #[test]
    fn a_reason_is_a_line_of_text() {
        let reason = |text: &str| {
            let mut asked = Members::default();
            asked.0.insert("reason".to_owned(), text.into());
            asked.reason("reason").is_ok()
        };
        assert!(reason("é") && reason(&"é".repeat(500)));
        assert!(!reason("") && !reason(&"é".repeat(501)) && !reason("a\nb") && !reason("\u{1b}[2J"));
    }
}
