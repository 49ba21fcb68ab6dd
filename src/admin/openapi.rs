//! The description of this listener for programs.
//!
//! Written by hand, and held to what is really answered by `tests/it/admin/document.rs`.

use http::StatusCode;

use super::answers::{self, Answer};

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /v1/openapi.json`
pub(super) fn document() -> Answer {
    answers::of(StatusCode::OK, "application/json", DOCUMENT)
}
