//! For whoever reaches the port: does the process live, can it do its work, what has it counted.
//!
//! No probe asks the store: whether it is within reach is known from the heartbeat.

use http::{HeaderMap, StatusCode, header};

use super::answers::{self, Answer};
use super::desk::{Desk, Readiness};

const TEXT: &str = "text/plain; charset=utf-8";

/// `GET /livez`
pub(super) fn live() -> Answer {
    answers::of(StatusCode::OK, TEXT, "alive\n")
}

/// `GET /readyz`
pub(super) fn ready(desk: &Desk) -> Answer {
    let (status, text) = match (desk.readiness)() {
        Readiness::Ready => (StatusCode::OK, "ready\n"),
        Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Readiness::StoreUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "the store is out of reach\n"),
    };
    answers::of(status, TEXT, text)
}

/// `GET /metrics`
pub(super) fn metrics(desk: &Desk, fields: &HeaderMap) -> Answer {
    let accept = fields.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (content_type, page) = desk.metrics.page(accept);
    let mut answer = answers::of(StatusCode::OK, content_type, page);
    answer.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    answer
}
