//! One line per request.
//!
//! The line is written when the answer's head is ready, or when the caller left before that; whichever
//! comes first, and only once. It holds no query, no field but the caller's `X-Request-Id` and the trace it belongs
//! to, and no body. Read `course.rs` for where the time went, `access/line.rs` for how the line reads.

mod line;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, StatusCode};

use line::Line;

use super::course::{Course, Spent};
use super::log;
use super::metrics::{Finished, RequestMetrics};
use super::trace::context::{Told, TraceId};
use super::trace::{Facts, Tracer};
use crate::clock;
use crate::config::Route;
use crate::protocol::policy::{KeySource, Policy, ScopeSource};
use crate::protocol::scope::StorageKey;

/// Longest `X-Request-Id` of a caller that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// By what the lines of requests are told from others, and asked for.
const TARGET: &str = "onceway::access";

/// Longest path that is told whole.
const PATH_BYTES_MAX: usize = 1024;

/// Which of a caller's own names for its request may stand in a line: those that no route takes for a key or a
/// credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Its `X-Request-Id`.
    pub request_id: bool,
    /// Its `traceparent`.
    pub trace: bool,
}

/// The line of a request under way.
#[derive(Debug)]
pub struct AccessLine {
    began: Instant,
    peer: SocketAddr,
    method: http::Method,
    path: String,
    request_id: String,
    trace_id: Option<TraceId>,
    route: Option<(usize, Arc<Route>)>,
    operation: Option<StorageKey>,
    word: Option<&'static str>,
    problem: Option<&'static str>,
    would_be: Option<&'static str>,
    /// Where its time went so far.
    pub course: Course,
    counts: Arc<RequestMetrics>,
    is_written: bool,
}

impl Names {
    /// Those that may stand in lines where these are the routes.
    pub fn by(routes: &[Route]) -> Self {
        let takes = |policy: &Policy, header: &str| {
            let is_key = |source: &KeySource| match source {
                KeySource::Header(name) => name == header,
                KeySource::Json(_) => false,
            };
            let is_credential = |source: &ScopeSource| match source {
                ScopeSource::Header(name) => name == header,
                ScopeSource::ClientCertificate => false,
            };
            policy.key_from.iter().any(is_key) || policy.scope.iter().any(is_credential)
        };
        let may_stand = |header| {
            routes.iter().all(|route| {
                let previous = route.policy.previous.as_deref();
                !takes(&route.policy, header) && previous.is_none_or(|previous| !takes(previous, header))
            })
        };
        Self { request_id: may_stand("x-request-id"), trace: may_stand("traceparent") }
    }
}

impl AccessLine {
    /// Begins the line of a request. `names`: whose names for it are taken over. `tracer`: where traces are recorded.
    /// `counts`: where it is counted when it ends.
    pub fn begin<B>(
        request: &Request<B>,
        peer: SocketAddr,
        names: Names,
        tracer: Option<&Arc<Tracer>>,
        counts: Arc<RequestMetrics>,
    ) -> Self {
        // One that is a key is neither told nor changed.
        let told = if names.trace { Told::by(request.headers()) } else { Told::Unreadable };
        let trace = tracer.and_then(|tracer| tracer.begin(told));
        let trace_id = match (&trace, told) {
            (Some(trace), _) => Some(trace.id()),
            (None, Told::Context(context)) => Some(context.trace()),
            (None, Told::Nothing | Told::Unreadable) => None,
        };
        Self {
            began: clock::monotonic(),
            peer,
            method: request.method().clone(),
            path: shown_path(request.uri().path()).into_owned(),
            request_id: request_id(request, names),
            trace_id,
            route: None,
            operation: None,
            word: None,
            problem: None,
            would_be: None,
            course: Course::traced(trace),
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
        self.route.as_ref().map(|(index, _)| *index)
    }

    /// Notes the route, and its index.
    pub fn routed(&mut self, index: usize, route: &Arc<Route>) {
        self.route = Some((index, Arc::clone(route)));
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
            route: self.route.as_ref().map(|(index, _)| *index),
            word: self.word,
            problem: self.problem,
            would_be: self.would_be,
            is_keyed: self.operation.is_some(),
            has_answer: status.is_some(),
            took,
            spent,
        });
        if let Some(trace) = self.course.trace() {
            trace.answered(self.began, |facts| self.tell(facts, status));
        }
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            log::write_line(|format| {
                self.told(Line::begin(format, clock::wall(), "request"), status, took, spent)
            });
        }
    }

    fn told(&self, mut line: Line, status: Option<StatusCode>, took: Duration, spent: Spent) -> String {
        line.word("method", self.method.as_str());
        line.text("path", &self.path);
        if let Some(status) = status {
            line.number("status", status.as_u16().into());
        }
        let words = [
            ("idempotency", self.word),
            ("problem", self.problem),
            ("would_be", self.would_be),
            ("route", self.route.as_ref().map(|(_, route)| route.path.as_str())),
        ];
        for (name, word) in words {
            if let Some(word) = word {
                line.text(name, word);
            }
        }
        if let Some(operation) = self.operation {
            line.text("operation", &short(operation));
        }
        line.number("duration_us", micros(took));
        let stretches = [
            ("queue_us", spent.queue),
            ("store_us", spent.store),
            ("upstream_us", spent.upstream),
            ("wait_us", spent.wait),
        ];
        // What took no time did not happen.
        for (name, stretch) in stretches.into_iter().filter(|(_, stretch)| !stretch.is_zero()) {
            line.number(name, micros(stretch));
        }
        line.address("peer", self.peer);
        line.text("request_id", &self.request_id);
        if let Some(trace_id) = self.trace_id {
            line.word("trace_id", &trace_id.to_string());
        }
        if status.is_none() {
            line.yes("caller_left");
        }
        line.end(TARGET)
    }

    /// What is told of the span that stands for the request; answers its name, and whether it failed.
    fn tell(&self, facts: &mut Facts, status: Option<StatusCode>) -> (String, bool) {
        // Any word is a method, and names of spans are to be few.
        let method = if is_common(&self.method) { self.method.as_str() } else { "HTTP" };
        facts.text("http.request.method", method);
        facts.text("url.path", self.path.as_str());
        facts.text("client.address", self.peer.ip().to_string());
        facts.text("onceway.request_id", self.request_id.as_str());
        match status {
            Some(status) => facts.count("http.response.status_code", status.as_u16()),
            None => facts.is("onceway.caller_left"),
        }
        let words = [
            ("onceway.idempotency", self.word),
            ("onceway.problem", self.problem),
            ("onceway.would_be", self.would_be),
        ];
        for (name, word) in words {
            if let Some(word) = word {
                facts.word(name, word);
            }
        }
        if let Some(operation) = self.operation {
            facts.text("onceway.operation", operation.to_string());
        }
        let name = match &self.route {
            Some((_, route)) => {
                facts.text("http.route", route.path.as_str());
                format!("{method} {}", route.path)
            }
            None => method.to_owned(),
        };
        (name, status.is_some_and(|status| status.is_server_error()))
    }
}

fn is_common(method: &http::Method) -> bool {
    const COMMON: [http::Method; 7] = [
        http::Method::GET,
        http::Method::POST,
        http::Method::PUT,
        http::Method::PATCH,
        http::Method::DELETE,
        http::Method::HEAD,
        http::Method::OPTIONS,
    ];
    COMMON.contains(method)
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(None);
        }
    }
}

fn request_id<B>(request: &Request<B>, names: Names) -> String {
    let given = request.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    match given {
        Some(id) if names.request_id && !id.is_empty() && id.len() <= REQUEST_ID_MAX => id.to_owned(),
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
