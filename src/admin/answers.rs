//! Answers that say that all is well.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// An answer of this listener: whole, and in memory.
pub(super) type Answer = Response<Full<Bytes>>;

/// A document.
pub(super) fn json(document: &Value) -> Answer {
    of(StatusCode::OK, "application/json", Bytes::from(document.to_string()))
}

/// A change was made, and there is nothing to say.
pub(super) fn nothing() -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Any content.
pub(super) fn of(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A page for people, with the fields that it has to be served with.
pub(super) fn page((fields, text): (&'static [(&'static str, &'static str)], &'static str)) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    for (name, value) in fields {
        let line = (HeaderName::from_static(name), HeaderValue::from_static(value));
        response.headers_mut().insert(line.0, line.1);
    }
    response
}

/// What stands on every answer of this listener.
pub(super) fn sealed(mut response: Answer) -> Answer {
    const NOWHERE_ELSE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let fields = response.headers_mut();
    // It changes from one moment to the next, and is nobody else's to keep.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // No page of another origin may so much as embed it.
    fields.insert(NOWHERE_ELSE, HeaderValue::from_static("same-origin"));
    response
}
