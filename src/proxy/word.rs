//! The one word by which `Idempotency-Status` says what the gateway had to do with an answer.
//!
//! Must not know why a request has which word; read `respond.rs` for that.

use http::Response;
use http::header::HeaderValue;

use super::headers::IDEMPOTENCY_STATUS;

/// What the gateway has to do with an answer, as `Idempotency-Status` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Not protected: no key, or refused before a claim.
    None,
    /// Forwarded under a claim, and kept.
    Executed,
    /// The first answer again.
    Replayed,
    /// The first request is still at work.
    InFlight,
    /// The key belongs to another request.
    Mismatch,
    /// Nobody knows the outcome.
    Unknown,
    /// Not processed; the key is free again.
    Released,
    /// Executed, but the store has not taken the answer yet.
    Unstored,
    /// Forwarded without a claim, because the store was out of reach or the route only observes.
    Unprotected,
    /// Executed, but the body was not kept.
    BodyNotKept,
}

impl Word {
    /// As it stands in the header and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Executed => "executed",
            Self::Replayed => "replayed",
            Self::InFlight => "in-flight",
            Self::Mismatch => "mismatch",
            Self::Unknown => "unknown",
            Self::Released => "released",
            Self::Unstored => "unstored",
            Self::Unprotected => "unprotected",
            Self::BodyNotKept => "body-not-kept",
        }
    }

    /// Whether the answer tells of a record that stands, or may stand.
    pub(super) fn tells_of_a_record(self) -> bool {
        match self {
            Self::None | Self::Released | Self::Unprotected => false,
            Self::Executed
            | Self::Replayed
            | Self::InFlight
            | Self::Mismatch
            | Self::Unknown
            | Self::Unstored
            | Self::BodyNotKept => true,
        }
    }

    /// Puts the word on an answer.
    pub(super) fn mark<B>(self, response: &mut Response<B>) {
        response.headers_mut().insert(IDEMPOTENCY_STATUS, HeaderValue::from_static(self.as_str()));
    }
}
