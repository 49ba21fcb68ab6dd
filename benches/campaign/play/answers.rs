//! Requests and answers as bytes. An answer is made from what it is the answer to, so that whoever reads one can tell
//! whether a byte of it is another's.

use super::history::{Deed, Name, Path, Problem, Told, Word};
use super::wire::Message;

/// Longer than `response_body_max` of the gateways.
const LARGE_BYTES: usize = 12_000;

/// A request.
pub(crate) fn request(name: Name, variant: u8) -> Vec<u8> {
    let Name { scope, key } = name;
    let (path, body) = (Path::of(key).text(), body(variant));
    format!(
        "POST {path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: caller-{scope}\r\nIdempotency-Key: key-{key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The same for both callers: different bodies would be told apart by their fingerprints, and hide it if the callers
/// were not.
fn body(variant: u8) -> &'static str {
    if variant == 0 { r#"{"amount":100}"# } else { r#"{"amount":999}"# }
}

pub(crate) fn variant_of(found: &[u8]) -> Option<u8> {
    (0..=1).find(|variant| body(*variant).as_bytes() == found)
}

/// The service's answer.
pub(crate) fn answer(number: u64, name: Name, variant: u8, deed: Deed, status: u16) -> Vec<u8> {
    let text = text(number, name, variant, deed == Deed::AnsweredLarge);
    let more = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} Told\r\nX-Execution: {number}\r\nX-Status: {status}\r\n{more}Content-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}

fn text(number: u64, name: Name, variant: u8, is_large: bool) -> String {
    let Name { scope, key } = name;
    let mut text = format!("execution {number} of key {key} for caller {scope} with body {variant}; ");
    if is_large {
        text.push_str(&"large ".repeat(LARGE_BYTES / 6));
    }
    text
}

/// What an answer tells the caller of `name`.
pub(crate) fn told(message: &Message<'_>) -> Told {
    let status = message.second_word().parse().unwrap_or_default();
    let number = message.field("x-execution").and_then(|number| number.parse().ok());
    match number {
        Some(execution) => told_by_service(message, status, execution),
        None => told_by_gateway(message, status),
    }
}

fn told_by_service(message: &Message<'_>, status: u16, execution: u64) -> Told {
    if matches!(status, 429 | 503) {
        return Told::Refused { execution };
    }
    let is_sound = message.field("x-status") == Some(&status.to_string())
        && std::str::from_utf8(message.body).is_ok_and(|body| is_of(body, execution));
    let word = match message.field("idempotency-status") {
        Some("executed") => Word::Executed,
        Some("replayed") => Word::Replayed,
        Some("unstored") => Word::Unstored,
        Some("body-not-kept") => Word::BodyNotKept,
        _ => Word::Other,
    };
    Told::Answer { execution, word, is_sound }
}

/// Whether every byte of `body` is what the service says for an execution.
fn is_of(body: &str, execution: u64) -> bool {
    let numbers: Vec<u32> = body.split([' ', ';']).skip(2).filter_map(|word| word.parse().ok()).collect();
    let [key, scope, variant] = numbers[..] else { return false };
    let (Ok(scope), Ok(variant)) = (u8::try_from(scope), u8::try_from(variant)) else { return false };
    body == text(execution, Name { scope, key }, variant, body.len() >= LARGE_BYTES)
}

fn told_by_gateway(message: &Message<'_>, status: u16) -> Told {
    if message.field("content-type") != Some("application/problem+json") {
        return Told::Nonsense(status);
    }
    let text = std::str::from_utf8(message.body).unwrap_or_default();
    let is = |code: &str| text.contains(&format!("\"code\":\"{code}\""));
    Told::Problem(match status {
        409 if is("in-flight") => Problem::InFlight,
        409 if is("outcome-unknown") => Problem::OutcomeUnknown,
        409 if is("result-unavailable") => Problem::ResultUnavailable,
        502 | 504 if is("outcome-unknown") => Problem::OutcomeUnknownNow,
        422 if is("key-reused") => Problem::KeyReused,
        502 | 504 if is("upstream-unreachable") => Problem::UpstreamUnreachable,
        503 if is("store-unavailable") => Problem::StoreUnavailable,
        503 if is("draining") => Problem::Draining,
        503 if is("overloaded") => Problem::Overloaded,
        _ => Problem::Unexpected(status),
    })
}
