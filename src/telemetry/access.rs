//! One line per request.
//!
//! The line is written when the answer's head is ready, or when the caller left before that; whichever
//! comes first, and only once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};

use crate::clock;
use crate::protocol::scope::StorageKey;

/// Longest `X-Request-Id` of a caller that is taken over.
const REQUEST_ID_MAX: usize = 128;

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
    upstream_time: Option<Duration>,
    is_written: bool,
}

impl AccessLine {
    /// Begins the line of a request.
    pub fn begin<B>(request: &Request<B>, peer: SocketAddr) -> Self {
        Self {
            began: clock::monotonic(),
            peer,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            request_id: request_id(request),
            route: None,
            operation: None,
            word: None,
            problem: None,
            would_be: None,
            upstream_time: None,
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

    /// Notes how long the upstream took to answer.
    pub fn upstream_took(&mut self, time: Duration) {
        self.upstream_time = Some(time);
    }

    /// Writes the line.
    pub fn finish(mut self, status: StatusCode) {
        self.write(Some(status));
    }

    fn write(&mut self, status: Option<StatusCode>) {
        self.is_written = true;
        tracing::info!(
            target: "onceway::access",
            method = %self.method,
            path = self.path,
            status = status.map(|status| status.as_u16()),
            idempotency = self.word,
            problem = self.problem,
            would_be = self.would_be,
            operation = self.operation.map(short),
            duration_us = micros(clock::monotonic().duration_since(self.began)),
            upstream_us = self.upstream_time.map(micros),
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

/// Enough of a storage key to find its lines, too little to look anything up by guessing.
fn short(key: StorageKey) -> String {
    let mut text = key.to_string();
    text.truncate(16);
    text
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
