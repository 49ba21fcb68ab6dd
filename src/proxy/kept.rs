//! Whether an answer from the store is one that this gateway could have kept.
//!
//! Whoever can write to a store whose records are not sealed can put any bytes there, and they would be sent to a
//! caller as the head of an answer. One that frames the body otherwise than it is framed takes the connection out of
//! step: the caller's next answer would be what stands in the body of this one, and behind a proxy that next caller is
//! somebody else. So what could never have been kept is not said; its outcome counts as unknown.
//!
//! Read `headers.rs` for what is kept of a head, `trailers.rs` for what follows a body.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{self, HeaderName, HeaderValue};

use super::headers::{IDEMPOTENCY_STATUS, is_hop_by_hop};
use super::trailers;
use crate::clock;
use crate::ledger::Known;
use crate::protocol::saved::{FieldLines, SavedHead};
use crate::protocol::scope::StorageKey;

/// Field lines of an answer at most: several times what an upstream's head may have.
const LINES_MAX: usize = 4096;

/// How often it is logged at most.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Tells, not too often, of answers that were never kept here.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<Option<Instant>>);

impl Strangers {
    /// Logs one, unless one was logged a moment ago.
    pub(super) fn tell(&self, key: &StorageKey) {
        let now = clock::monotonic();
        let mut told_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            *told_at = Some(now);
            tracing::error!(
                operation_ref = %key,
                "a record holds an answer that no gateway would have kept, so its outcome counts as unknown: who else \
                 writes to the store?"
            );
        }
    }
}

/// Whether what is known holds only what could have been kept.
pub(super) fn could_be(known: &Known) -> bool {
    match known {
        Known::Replay(saved, _) | Known::Unstored(saved, _) => {
            could_be_head(&saved.head) && could_be_lines(&saved.trailers, trailers::may_follow)
        }
        Known::BodyNotKept(head) => could_be_head(head),
        Known::Mismatch | Known::InFlight | Known::Unknown(_) => true,
    }
}

/// A final status, and fields that are no one connection's, do not frame, and say nothing that the gateway says.
fn could_be_head(head: &SavedHead) -> bool {
    let is_made_anew = |name: &HeaderName| {
        is_hop_by_hop(name) || name == header::CONTENT_LENGTH || name == IDEMPOTENCY_STATUS
    };
    (200..=999).contains(&head.status) && could_be_lines(&head.headers, |name| !is_made_anew(name))
}

fn could_be_lines(lines: &FieldLines, is_kept: impl Fn(&HeaderName) -> bool) -> bool {
    let could_be = |(name, value): &(String, bytes::Bytes)| {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        // In lower case, as fields are kept.
        parsed.is_ok_and(|parsed| parsed.as_str() == name && is_kept(&parsed))
            && HeaderValue::from_maybe_shared(value.clone()).is_ok()
    };
    lines.len() <= LINES_MAX && lines.iter().all(could_be)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, lines: &[(&str, &'static str)]) -> SavedHead {
        let line = |(name, value): &(&str, &'static str)| ((*name).to_owned(), bytes::Bytes::from(*value));
        SavedHead { status, headers: lines.iter().map(line).collect() }
    }

    #[test]
    fn what_upstreams_answer_could_have_been_kept() {
        for status in [200, 204, 304, 404, 599, 700, 999] {
            assert!(could_be_head(&head(status, &[])), "{status}");
        }
        let usual =
            [("content-type", "text/plain"), ("set-cookie", "a=1"), ("trailer", "x-sum"), ("x-empty", "")];
        assert!(could_be_head(&head(200, &usual)));
        assert!(could_be_head(&head(200, &[("x-odd", "\u{e9}\t")])));
    }

    #[test]
    fn fields_that_are_made_anew_were_never_kept() {
        for name in
            ["connection", "content-length", "transfer-encoding", "upgrade", "te", "idempotency-status"]
        {
            assert!(!could_be_head(&head(200, &[(name, "1")])), "{name}");
        }
        for (name, value) in [("x a", "1"), ("", "1"), ("X-A", "1"), ("x-a", "1\r\n2"), ("x-a", "\0")] {
            assert!(!could_be_head(&head(200, &[(name, value)])), "{name:?} {value:?}");
        }
        for status in [0, 20, 100, 101, 103, 1000] {
            assert!(!could_be_head(&head(status, &[])), "{status}");
        }
    }
}
