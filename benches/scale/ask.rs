//! What is asked and what has to be answered. Bodies are made of a key and a length alone, so that both ends know
//! them to the byte and nobody has to keep them.

use std::sync::OnceLock;

use super::Failure;
use super::wire::Message;

/// The path of payments: guarded, wherever a gateway has but one route.
pub(super) const GUARDED_PATH: &str = "/payments";

/// A path that no route names.
pub(super) const FREE_PATH: &str = "/reports";

/// The host that all ask for who do not care.
pub(super) const HOST: &str = "api.example.com";

/// Small bodies of requests, and small answers.
pub(super) const REQUEST_BYTES: usize = 110;
pub(super) const ANSWER_BYTES: usize = 300;

/// Tells the service how long its answer has to be,
pub(super) const ANSWER_BYTES_FIELD: &str = "x-answer-bytes";

/// and how many milliseconds it has to take.
pub(super) const TAKE_FIELD: &str = "x-take-ms";

/// The longest body.
pub(super) const BODY_BYTES_MAX: usize = 10 * 1024 * 1024;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: &'static str,
    pub(super) host: String,
    pub(super) path: String,
    /// Who asks: each has a credential of its own.
    pub(super) caller: u64,
    pub(super) key: Option<String>,
    pub(super) body_bytes: usize,
    pub(super) answer_bytes: usize,
    /// How long the service takes.
    pub(super) take_ms: u64,
    pub(super) due: Due,
}

/// What has to come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The service's answer, to a request that nobody guards.
    Passed,
    /// The service's answer, the first under this key.
    Executed,
    /// The same again, not from the service.
    Replayed,
    /// A refusal: the key is another request's.
    Mismatch,
}

impl Ask {
    /// A payment under a new key.
    pub(super) fn first(caller: u64, key: String) -> Self {
        Self {
            method: "POST",
            host: HOST.to_owned(),
            path: GUARDED_PATH.to_owned(),
            caller,
            key: Some(key),
            body_bytes: REQUEST_BYTES,
            answer_bytes: ANSWER_BYTES,
            take_ms: 0,
            due: Due::Executed,
        }
    }

    /// Something that no route guards.
    pub(super) fn pass(caller: u64) -> Self {
        let path = FREE_PATH.to_owned();
        Self { method: "PUT", path, key: None, due: Due::Passed, ..Self::first(caller, String::new()) }
    }

    /// The same again, when it has been answered.
    pub(super) fn again(&self) -> Self {
        Self { due: Due::Replayed, ..self.clone() }
    }

    pub(super) fn body(&self) -> Vec<u8> {
        request_body(self.key.as_deref(), self.body_bytes)
    }

    pub(super) fn request(&self) -> Vec<u8> {
        let body = self.body();
        let key = self.key.as_ref().map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
        let mut request = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bench/1\r\nAccept: */*\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\n{key}{ANSWER_BYTES_FIELD}: {}\r\n{TAKE_FIELD}: {}\r\n\
             Content-Length: {}\r\n\r\n",
            self.method,
            self.path,
            self.host,
            credential(self.caller),
            self.answer_bytes,
            self.take_ms,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        request
    }

    /// Holds the answer against what is due.
    pub(super) fn check(&self, answer: &Message<'_>) -> Result<(), Failure> {
        let (status, told) = (answer.second_word(), answer.field("idempotency-status"));
        let is_replay = answer.field("idempotent-replayed") == Some("true");
        let (due_status, word) = match self.due {
            Due::Passed => ("200", None),
            Due::Executed => ("200", Some("executed")),
            Due::Replayed => ("200", Some("replayed")),
            Due::Mismatch => ("422", Some("mismatch")),
        };
        let is_right = self.due == Due::Mismatch
            || answer.body == answer_body(self.key.as_deref(), self.answer_bytes).as_slice();
        if status == due_status && told == word && is_replay == (self.due == Due::Replayed) && is_right {
            return Ok(());
        }
        let body = String::from_utf8_lossy(answer.body.get(..400).unwrap_or(answer.body));
        Err(format!(
            "wrong answer to {} {} with key {:?}: status {status}, Idempotency-Status {told:?} (due: {:?}), \
             {} bytes of {}: {body}",
            self.method,
            self.path,
            self.key,
            self.due,
            answer.body.len(),
            self.answer_bytes,
        )
        .into())
    }
}

impl Due {
    /// Whether the service has to do something for it.
    pub(super) fn is_work(self) -> bool {
        match self {
            Self::Passed | Self::Executed => true,
            Self::Replayed | Self::Mismatch => false,
        }
    }
}

/// What a caller shows of itself.
pub(super) fn credential(caller: u64) -> String {
    format!("Bearer caller-{caller:06}")
}

pub(super) fn request_body(key: Option<&str>, bytes: usize) -> Vec<u8> {
    body("order", key, bytes)
}

pub(super) fn answer_body(key: Option<&str>, bytes: usize) -> Vec<u8> {
    body("payment", key, bytes)
}

/// So many bytes, or a few more where they would not hold the key.
fn body(word: &str, key: Option<&str>, bytes: usize) -> Vec<u8> {
    let mut body = format!("{{\"{word}\":\"{}\",\"note\":\"", key.unwrap_or_default()).into_bytes();
    let filler = bytes.saturating_sub(body.len() + 2);
    body.extend_from_slice(letters().get(..filler).unwrap_or_default());
    body.extend_from_slice(b"\"}");
    body
}

/// A text in which what is moved, lost or doubled is noticed: its period fits into no buffer's size.
fn letters() -> &'static [u8] {
    static LETTERS: OnceLock<Vec<u8>> = OnceLock::new();
    LETTERS.get_or_init(|| {
        let period: Vec<u8> = (0..997_u32).flat_map(|number| format!("{number:03};").into_bytes()).collect();
        period.iter().copied().cycle().take(BODY_BYTES_MAX).collect()
    })
}
