//! One line per request.
//!
//! The line is written when the answer's head is ready, or when the caller left before that; whichever
//! comes first, and only once. It holds no query, no field but the caller's `X-Request-Id` and the trace it belongs
//! to, and no body. Read `course.rs` for where the time went.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};

use super::course::Course;
use super::metrics::{Finished, RequestMetrics};
use crate::clock;
use crate::protocol::scope::StorageKey;

/// Longest `X-Request-Id` of a caller that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// Longest path that is told whole.
const PATH_BYTES_MAX: usize = 1024;

/// The line of a request under way.
#[derive(Debug)]
pub struct AccessLine {
    began: Instant,
    peer: SocketAddr,
    method: http::Method,
    path: String,
    request_id: String,
    route: Option<usize>,
    operation: Option<StorageKey>,
    word: Option<&'static str>,
    problem: Option<&'static str>,
    would_be: Option<&'static str>,
    /// Where its time went so far.
    pub course: Course,
    counts: Arc<RequestMetrics>,
    is_written: bool,
}

impl AccessLine {
    /// Begins the line of a request, of which `counts` is told too when it ends.
    pub fn begin<B>(request: &Request<B>, peer: SocketAddr, counts: Arc<RequestMetrics>) -> Self {
        Self {
            began: clock::monotonic(),
            peer,
            method: request.method().clone(),
            path: shown_path(request.uri().path()).into_owned(),
            request_id: request_id(request),
            route: None,
            operation: None,
            word: None,
            problem: None,
            would_be: None,
            course: Course::default(),
            counts,
            is_written: false,
        }
    }

    /// The caller's `X-Request-Id` if it has a decent one, else one of ours.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The record the request is about.
    pub fn operation(&self) -> Option<&StorageKey> {
        self.operation.as_ref()
    }

    /// Index of the request's route.
    pub fn route(&self) -> Option<usize> {
        self.route
    }

    /// Notes the route.
    pub fn routed(&mut self, route: usize) {
        self.route = Some(route);
    }

    /// Notes the record.
    pub fn operates_on(&mut self, operation: StorageKey) {
        self.operation = Some(operation);
    }

    /// Notes what became of the request.
    pub fn word(&mut self, word: &'static str) {
        self.word = Some(word);
    }

    /// Notes the problem that the gateway itself answers with, by its code: the status alone could be the upstream's.
    pub fn problem(&mut self, code: &'static str) {
        self.problem = Some(code);
    }

    /// Notes what would have become of it, on a route that only observes.
    pub fn would_be(&mut self, word: &'static str) {
        self.would_be = Some(word);
    }

    /// Writes the line.
    pub fn finish(mut self, status: StatusCode) {
        self.write(Some(status));
    }

    fn write(&mut self, status: Option<StatusCode>) {
        self.is_written = true;
        let spent = self.course.spent();
        let took = clock::monotonic().duration_since(self.began);
        self.counts.finished(&Finished {
            route: self.route,
            word: self.word,
            problem: self.problem,
            would_be: self.would_be,
            is_keyed: self.operation.is_some(),
            has_answer: status.is_some(),
            took,
            spent,
        });
        tracing::info!(
            target: "onceway::access",
            method = %self.method,
            path = self.path,
            status = status.map(|status| status.as_u16()),
            idempotency = self.word,
            problem = self.problem,
            would_be = self.would_be,
            operation = self.operation.map(short),
            duration_us = micros(took),
            queue_us = told(spent.queue),
            store_us = told(spent.store),
            upstream_us = told(spent.upstream),
            wait_us = told(spent.wait),
            peer = %self.peer,
            request_id = self.request_id,
            caller_left = status.is_none().then_some(true),
            "request"
        );
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(None);
        }
    }
}

fn request_id<B>(request: &Request<B>) -> String {
    let given = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_MAX => id.to_owned(),
        Some(_) | None => uuid::Uuid::new_v4().to_string(),
    }
}

/// A path as it may stand in a line: no longer than that, and without characters that move a terminal's cursor.
fn shown_path(path: &str) -> Cow<'_, str> {
    if path.len() <= PATH_BYTES_MAX && path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(path);
    }
    let shown: String = path
        .char_indices()
        .take_while(|(at, _)| *at < PATH_BYTES_MAX)
        .map(|(_, letter)| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect();
    Cow::Owned(if path.len() > PATH_BYTES_MAX { shown + "…" } else { shown })
}

/// Enough of a storage key to find its lines, too little to look anything up by guessing.
fn short(key: StorageKey) -> String {
    let mut text = key.to_string();
    text.truncate(16);
    text
}

/// What took no time did not happen.
fn told(duration: Duration) -> Option<u64> {
    (!duration.is_zero()).then(|| micros(duration))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_cut_and_what_moves_a_cursor_is_replaced() {
        assert_eq!(shown_path("/payments/%0a"), "/payments/%0a");
        assert_eq!(shown_path("/a\u{1b}[2J\u{9b}é"), "/a\u{fffd}[2J\u{fffd}é");
        let long = format!("/{}é", "a".repeat(PATH_BYTES_MAX - 2));
        assert_eq!(shown_path(&long), format!("{long}…"), "a letter is told whole");
        assert_eq!(shown_path(&format!("{long}bcd")), format!("{long}…"));
    }
}
