//! An operations API that says what a test tells it to say, and serves the console as the gateway does.

use std::sync::{Arc, Mutex, MutexGuard};

use onceway::admin::console;
use serde_json::{Map, Value, json};

use crate::harness::{Reply, Upstream};

/// What changes need.
pub(crate) const TOKEN: &str = "correct-horse-battery";

/// Runs until it is dropped.
pub(crate) struct Api {
    server: Upstream,
    state: Arc<Mutex<State>>,
}

/// What it says.
pub(crate) struct State {
    pub(crate) operations: Vec<Value>,
    /// Operations in a page.
    pub(crate) page: usize,
    /// What `/v1/status` says.
    pub(crate) status: Value,
    /// What `/v1/operations/find` says.
    pub(crate) found: Value,
    /// Instead of making a change: a status and a problem document.
    pub(crate) refusal: Option<(u16, Value)>,
    /// Instead of any answer: the end of the connection.
    pub(crate) is_silent: bool,
    /// The same, for changes.
    pub(crate) is_silent_to_changes: bool,
}

/// A request, as far as anybody looks at it here.
pub(crate) struct Question {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// An unknown outcome, opened so many minutes ago.
pub(crate) fn unknown(number: u64, minutes: u64, route: &str) -> Value {
    json!({
        "ref": reference(number), "state": "unknown", "reason": "response-timeout", "route": route,
        "attempt": format!("6f98bca3-5b17-4966-8f07-{number:012}"), "attempts": 1,
        "session": "a26a25c8-5217-4b7a-96b9-8b5fbf37a2be", "opened_at": ago(minutes), "settled_at": null,
        "expires_at": "2099-01-01T00:00:00.000Z", "status": null, "body_bytes": null,
    })
}

/// The reference of an operation.
pub(crate) fn reference(number: u64) -> String {
    format!("{number:08x}{:056}", 0)
}

#[expect(clippy::disallowed_methods, reason = "the page tells ages by the wall clock")]
fn ago(minutes: u64) -> String {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60 * minutes);
    humantime::format_rfc3339_millis(then).to_string()
}

/// A problem document.
pub(crate) fn problem(code: &str, status: u16, title: &str, detail: &str) -> (u16, Value) {
    let kind = format!("urn:onceway:problem:{code}");
    (status, json!({ "type": kind, "title": title, "status": status, "detail": detail, "code": code }))
}

impl Api {
    /// With these operations, before one service on one route.
    pub(crate) fn with(operations: Vec<Value>) -> Self {
        let state = State {
            operations,
            page: 500,
            status: json!({
                "version": "1.2.3", "started_at": ago(90), "readiness": "ready",
                "store": { "name": "redis", "reachable": true },
                "verdicts": { "executed": 1000, "replayed": 20, "unknown": 3, "unstored": 0 },
                "claims_in_flight": 4, "waiters": 2, "requests_in_flight": 7,
                "upstreams": [{ "name": "default", "servers": [
                    { "address": "127.0.0.1:9000", "healthy": true, "in_flight": 1 },
                    { "address": "127.0.0.1:9001", "healthy": false, "in_flight": 0 },
                ] }],
                "routes": [{ "path": "/payments", "host": null, "guarded": true, "scope": ["header:Authorization"] }],
                "changes": "token",
            }),
            found: json!([]),
            refusal: None,
            is_silent: false,
            is_silent_to_changes: false,
        };
        let state = Arc::new(Mutex::new(state));
        let told = Arc::clone(&state);
        let server = Upstream::by(move |request| {
            let (method, target) = (request.method.clone(), request.target.clone());
            let authorization = request.header("authorization");
            told.lock().unwrap().answer(&Question { method, target, authorization, body: Vec::new() })
        });
        Self { server, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/", self.server.url())
    }

    /// What it says, to be changed.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Every request with this method whose target begins so.
    pub(crate) fn requests(&self, method: &str, target: &str) -> Vec<Question> {
        let is_meant = |request: &Question| request.method == method && request.target.starts_with(target);
        let all = (1..=self.server.executions()).map(|number| {
            let request = self.server.request(number);
            let authorization = request.header("authorization");
            Question { method: request.method, target: request.target, authorization, body: request.body }
        });
        all.filter(is_meant).collect()
    }

    /// The body of the only request that resolved something.
    pub(crate) fn resolution(&self) -> Value {
        let sent: Vec<_> = self.requests("POST", "/v1/operations/");
        let sent: Vec<_> = sent.iter().filter(|request| request.target.ends_with("/resolve")).collect();
        assert_eq!(sent.len(), 1, "resolved once");
        serde_json::from_slice(&sent[0].body).unwrap()
    }

    /// Every target that was asked for.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.server.targets()
    }
}

impl State {
    fn answer(&mut self, request: &Question) -> Reply {
        let is_change =
            matches!(request.method.as_str(), "DELETE" | "PUT") || request.target.ends_with("/resolve");
        if self.is_silent || (self.is_silent_to_changes && is_change) {
            return Reply::default().close();
        }
        if is_change {
            return self.change(request);
        }
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        match (request.method.as_str(), path) {
            ("GET", "/") => page(),
            ("GET", "/v1/status") => said(200, &self.status),
            ("GET", "/v1/log-level") => said(200, &json!({ "level": "info" })),
            ("GET", "/v1/operations") => said(200, &self.list(query)),
            ("POST", "/v1/operations/find") => said(200, &json!({ "found": self.found })),
            ("GET", path) => match self.place(path.trim_start_matches("/v1/operations/")) {
                Some(place) => said(200, &self.operations[place]),
                None => refused(&absent()),
            },
            _ => refused(&absent()),
        }
    }

    fn list(&self, query: &str) -> Value {
        let cursor = query.split('&').find_map(|part| part.strip_prefix("cursor="));
        let from: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let to = (from + self.page).min(self.operations.len());
        let next = (to < self.operations.len()).then(|| to.to_string());
        json!({ "operations": self.operations[from..to], "next": next, "looked_through": 1000 })
    }

    fn place(&self, reference: &str) -> Option<usize> {
        self.operations.iter().position(|operation| operation["ref"] == reference)
    }

    fn change(&mut self, request: &Question) -> Reply {
        if let Some(refusal) = &self.refusal {
            return refused(refusal);
        }
        if request.authorization != Some(format!("Bearer {TOKEN}")) {
            return refused(&problem(
                "token-wrong",
                401,
                "The token is wrong",
                "It is not the one of token_file.",
            ));
        }
        let path = request.target.split('?').next().unwrap();
        if path == "/v1/log-level" {
            return Reply::answer(204).end_of_head();
        }
        let reference = path.trim_start_matches("/v1/operations/").trim_end_matches("/resolve");
        let Some(place) = self.place(reference) else { return refused(&absent()) };
        self.operations.remove(place);
        match request.method.as_str() {
            "DELETE" => Reply::answer(204).end_of_head(),
            _ => said(200, &json!({ "operation": null })),
        }
    }
}

fn absent() -> (u16, Value) {
    problem("operation-not-found", 404, "There is no such operation", "No record stands there.")
}

fn page() -> Reply {
    let (headers, text) = console::page();
    let head = headers.iter().fold(Reply::answer(200), |reply, (name, value)| reply.header(name, value));
    head.body(text)
}

fn said(status: u16, value: &Value) -> Reply {
    Reply::answer(status).header("Content-Type", "application/json").body(value.to_string())
}

fn refused((status, problem): &(u16, Value)) -> Reply {
    Reply::answer(*status).header("Content-Type", "application/problem+json").body(problem.to_string())
}

/// The members of an object, for a test to change.
pub(crate) fn members(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("an object")
}
