//! What is kept of a request until it is certain that it left, so that it can go to another server if it did not.
//!
//! A body in memory is copied. One that streams is lent: it can be had back as long as nothing was asked of it.

use http::Request;

use super::body::{Buffered, Loan, RequestBody};

/// What is kept of a request.
pub(super) struct Spare {
    head: Request<()>,
    body: SpareBody,
}

enum SpareBody {
    Copy(Buffered),
    Lent(Loan),
}

impl Spare {
    /// What is kept of this request.
    pub(super) fn of(request: &mut Request<RequestBody>) -> Self {
        let head = head_of(request);
        let body = match request.body().replayable() {
            Some(copy) => SpareBody::Copy(copy),
            None => SpareBody::Lent(request.body_mut().lend()),
        };
        Self { head, body }
    }

    /// The request again, unless something of its body is gone.
    pub(super) fn request(self) -> Option<Box<Request<RequestBody>>> {
        let body = match self.body {
            SpareBody::Copy(copy) => copy.into(),
            SpareBody::Lent(loan) => loan.back()?,
        };
        Some(Box::new(self.head.map(|()| body)))
    }
}

/// All of a request but its body, with what hyper is to do for it.
pub(super) fn head_of<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    *head.extensions_mut() = request.extensions().clone();
    head
}
