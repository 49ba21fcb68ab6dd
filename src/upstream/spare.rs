//! What is kept of a request until it is certain that it left, so that it can go to another server if it did not.
//!
//! A body in memory is copied. One that streams is lent: it can be had back as long as nothing was asked of it.

use http::Request;
use http::request::Parts;

use super::body::{Buffered, Loan, RequestBody};

/// What is kept of a request.
pub(super) struct Spare {
    head: Parts,
    body: SpareBody,
}

enum SpareBody {
    Copy(Buffered),
    Lent(Loan),
}

/// The request, and what is kept of it.
pub(super) fn kept(request: Request<RequestBody>) -> (Request<RequestBody>, Option<Spare>) {
    let (parts, body) = request.into_parts();
    let head = parts.clone();
    let (body, spare) = if let Some(copy) = body.replayable() {
        (body, SpareBody::Copy(copy))
    } else {
        let (body, loan) = body.lend();
        (body, SpareBody::Lent(loan))
    };
    (Request::from_parts(parts, body), Some(Spare { head, body: spare }))
}

impl Spare {
    /// The request again, unless something of its body is gone.
    pub(super) fn request(self) -> Option<Request<RequestBody>> {
        let body = match self.body {
            SpareBody::Copy(copy) => copy.into(),
            SpareBody::Lent(loan) => loan.back()?,
        };
        Some(Request::from_parts(self.head, body))
    }
}
