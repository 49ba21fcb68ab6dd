//! A request's body, received whole and within bounds before its key is claimed.
//!
//! Must not know claims. `canonical.rs` compares JSON bodies; `answer.rs` carries answers the other way.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::budget::{Budget, Exhausted, Share};
use super::pace::{Paced, TooSlow};
use super::respond::Rejection;
use super::trailers;
use crate::telemetry::metrics::{Limit, LimitMetrics};

/// A request's body, whole.
#[derive(Clone, Debug, Default)]
pub(super) struct WholeBody {
    pub(super) data: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// What it takes of the gateway's budget.
    pub(super) _room: Option<Arc<Share>>,
}

impl WholeBody {
    /// The trailers that travel on, if there are any, after a head of these fields.
    pub(super) fn trailers_after(&self, head: &HeaderMap) -> Option<HeaderMap> {
        let trailers = self.trailers.as_ref().map(|fields| trailers::after(head).of(fields));
        trailers.filter(|fields| !fields.is_empty())
    }
}

/// Why a body was not received.
pub(super) enum NotReceived {
    /// It is larger than allowed; `prefix` was read of it.
    TooLarge { prefix: Bytes, rest: Paced },
    /// The caller is told.
    Rejected(Rejection),
    /// The caller has gone: nobody is left to be told.
    CallerGone,
}

/// Where a body finds room.
#[derive(Clone, Copy)]
pub(super) struct Room<'a> {
    pub(super) budget: &'a Arc<Budget>,
    /// Bytes in use at which there is none.
    pub(super) max: usize,
    pub(super) limits: &'a LimitMetrics,
}

/// Receives a body of at most `max` bytes. Nothing has been claimed or forwarded yet.
pub(super) async fn receive(mut incoming: Paced, max: u64, room: Room<'_>) -> Result<WholeBody, NotReceived> {
    // Refused before it is read, so that no "100 Continue" invites it.
    if incoming.size_hint().lower() > max {
        return Err(NotReceived::TooLarge { prefix: Bytes::new(), rest: incoming });
    }
    let mut first = Bytes::new();
    let mut more: Option<BytesMut> = None;
    let mut trailers = None;
    let mut share = room.budget.share();
    room.take(&mut share, 0).map_err(NotReceived::Rejected)?;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| broken_off(error.as_ref()))?;
        match frame.into_data() {
            Ok(data) => {
                match &mut more {
                    Some(more) => more.extend_from_slice(&data),
                    None if first.is_empty() => first = data,
                    None => more = Some(joined(&first, &data)),
                }
                let size = more.as_ref().map_or(first.len(), BytesMut::len);
                room.take(&mut share, size).map_err(NotReceived::Rejected)?;
                if u64::try_from(size).unwrap_or(u64::MAX) > max {
                    let prefix = more.map_or(first, BytesMut::freeze);
                    return Err(NotReceived::TooLarge { prefix, rest: incoming });
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let data = more.map_or(first, BytesMut::freeze);
    Ok(WholeBody { data, trailers, _room: Some(Arc::new(share)) })
}

/// Lets the connection see, before it is given the answer, what becomes of a body that was dropped before its end.
///
/// Over HTTP/1 hyper takes what has come of such a body. If that is not all of it, hyper reads nothing more, closes the
/// connection after the answer, and says so in its head (RFC 9112 §9.6). It looks at the body each time before it asks
/// for the answer, so it is made to ask once more. Only hyper knows which of the two it will be.
///
/// Cancel safety: dropping the future means that the caller has gone. Nothing has been claimed.
pub(super) async fn left_unread() {
    tokio::task::yield_now().await;
}

impl Room<'_> {
    fn take(&self, share: &mut Share, size: usize) -> Result<(), Rejection> {
        share.grow_to(size, self.max).map_err(|Exhausted| {
            self.limits.hit(Limit::BufferedBytes);
            self.budget.tell_refusal("bytes of bodies held whole", self.max);
            Rejection::Overloaded
        })
    }
}

fn joined(first: &[u8], next: &[u8]) -> BytesMut {
    let mut joined = BytesMut::with_capacity(first.len() + next.len());
    joined.extend_from_slice(first);
    joined.extend_from_slice(next);
    joined
}

fn broken_off(error: &(dyn std::error::Error + 'static)) -> NotReceived {
    if let Some(TooSlow(limit)) = error.downcast_ref() {
        return NotReceived::Rejected(Rejection::BodyTooSlow(*limit));
    }
    let has_gone =
        |error: &hyper::Error| error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    if error.downcast_ref().is_some_and(has_gone) {
        return NotReceived::CallerGone;
    }
    NotReceived::Rejected(Rejection::Malformed("the body's framing is broken"))
}
