//! The true answer of an upstream, as an operator gives it: what its callers will be told again and again.
//!
//! Held to what the gateway itself would have kept of an answer: final, no field that belongs to one connection, no
//! framing, which is made anew at each delivery. Read `../proxy/headers.rs` for what it keeps.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::asked::{Members, invalid};
use super::problem::Problem;
use crate::clock;
use crate::protocol::saved::{FieldLines, SavedHead, SavedResponse};

/// Field lines of an answer at most, and bytes of them.
const LINES_MAX: usize = 100;
const LINES_BYTES_MAX: usize = 32 * 1024;

/// Fields that belong to a connection (RFC 9110 §7.6.1), that frame a body, or that the gateway says itself.
const NOT_KEPT: [&str; 13] = [
    "age",
    "connection",
    "content-length",
    "idempotency-status",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Reads an answer whose body has `body_max` bytes at most.
pub(super) fn answer(members: &mut Members, body_max: u64) -> Result<SavedResponse, Problem> {
    let status = members.number("status")?.ok_or_else(|| invalid("status", "it is missing"))?;
    let status = u16::try_from(status).ok().filter(|status| (200..=599).contains(status));
    let status = status.ok_or_else(|| invalid("status", "it is no final status, 200 to 599"))?;
    let headers = field_lines(members.object("headers")?.unwrap_or_default())?;
    let body = body(members)?;
    if u64::try_from(body.len()).unwrap_or(u64::MAX) > body_max {
        return Err(invalid("body", &format!("the route keeps bodies of {body_max} bytes at most")));
    }
    // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these have none.
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        return Err(invalid("body", "an answer of this status has none"));
    }
    Ok(SavedResponse { head: SavedHead { status, headers }, body, trailers: [].into() })
}

fn body(members: &mut Members) -> Result<Bytes, Problem> {
    match (members.text("body")?, members.text("body_base64")?) {
        (Some(_), Some(_)) => Err(invalid("body_base64", "it stands beside body, and only one of them may")),
        (Some(text), None) => Ok(text.into()),
        (None, Some(text)) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(bytes.into()),
            Err(_) => Err(invalid("body_base64", "it is no base64 (RFC 4648 §4)")),
        },
        (None, None) => Ok(Bytes::new()),
    }
}

fn field_lines(members: Map<String, Value>) -> Result<FieldLines, Problem> {
    const NAME: &str = "headers";
    let mut lines = Vec::new();
    for (name, values) in members {
        let name = match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => name.as_str().to_owned(),
            Err(_) => return Err(invalid(NAME, "one of the names is no field name")),
        };
        if NOT_KEPT.contains(&name.as_str()) {
            return Err(invalid(NAME, &format!("{name} is made anew at each delivery, leave it out")));
        }
        let wrong =
            || invalid(NAME, &format!("{name} is no string or list of strings that a field can hold"));
        for value in texts(values).ok_or_else(wrong)? {
            let value = value.trim_matches([' ', '\t']);
            if HeaderValue::from_str(value).is_err() {
                return Err(wrong());
            }
            lines.push((name.clone(), Bytes::from(value.to_owned())));
        }
    }
    let bytes: usize = lines.iter().map(|(name, value)| name.len() + value.len()).sum();
    if lines.len() > LINES_MAX || bytes > LINES_BYTES_MAX {
        return Err(invalid(NAME, "there may be 100 field lines of 32 KiB together"));
    }
    // RFC 9110 §6.6.1: the first answer and its replays carry the same date.
    if !lines.iter().any(|(name, _)| name == "date") {
        lines.push(("date".to_owned(), httpdate::fmt_http_date(clock::wall()).into()));
    }
    Ok(lines.into())
}

/// A string, or a list of them.
pub(super) fn texts(value: Value) -> Option<Vec<String>> {
    let text = |value| match value {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            text(value).map(|text| vec![text])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(document: &Value) -> Result<SavedResponse, String> {
        let mut members = Members::of_value(document);
        let answer = answer(&mut members, 8);
        answer.and_then(|answer| members.end().map(|()| answer)).map_err(|problem| {
            let Problem::RequestInvalid(text) = problem else { panic!("{problem:?}") };
            text
        })
    }

    #[test]
    fn an_answer_is_taken_with_its_fields_in_lower_case_and_a_date() {
        let headers = serde_json::json!({ "Content-Type": "text/plain", "Set-Cookie": ["a=1", "b=2 "] });
        let answer =
            given(&serde_json::json!({ "status": 201, "headers": headers, "body_base64": "AP8=" })).unwrap();
        assert_eq!((answer.head.status, &answer.body[..]), (201, &[0, 255][..]));
        let lines: Vec<_> =
            answer.head.headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
        assert_eq!(lines[0], ("content-type", &b"text/plain"[..]));
        assert_eq!(lines[1..3], [("set-cookie", &b"a=1"[..]), ("set-cookie", &b"b=2"[..])]);
        assert_eq!(lines[3].0, "date");
    }

    #[test]
    fn what_no_upstream_could_have_answered_is_refused() {
        let one = |name: &str, value: Value| serde_json::json!({ "status": 200, "headers": { name: value } });
        for (document, member) in [
            (serde_json::json!({}), "status"),
            (serde_json::json!({ "status": 101 }), "status"),
            (serde_json::json!({ "status": 600 }), "status"),
            (serde_json::json!({ "status": 200.5 }), "status"),
            (serde_json::json!({ "status": "200" }), "status"),
            (serde_json::json!({ "status": 204, "body": "a" }), "body"),
            (serde_json::json!({ "status": 200, "body": "123456789" }), "body"),
            (serde_json::json!({ "status": 200, "body": "a", "body_base64": "" }), "body_base64"),
            (serde_json::json!({ "status": 200, "body_base64": "=" }), "body_base64"),
            (serde_json::json!({ "status": 200, "headers": [] }), "headers"),
            (one("Content-Length", "1".into()), "headers"),
            (one("transfer-encoding", "chunked".into()), "headers"),
            (one("Connection", "x".into()), "headers"),
            (one("a b", "x".into()), "headers"),
            (one("x", "a\r\nb: c".into()), "headers"),
            (one("x", 1.into()), "headers"),
        ] {
            let told = given(&document).unwrap_err();
            assert!(told.starts_with(member), "{document}: {told}");
        }
    }
}
