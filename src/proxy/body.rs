//! Bodies: a request's, read whole and within bounds before its key is claimed; an answer's, on its way to
//! the caller; and the canonical form of JSON.
//!
//! Must not know claims.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::respond::Rejection;
use crate::upstream::{AnswerBody, Buffered};

/// How deep canonical JSON may nest; deeper bodies are compared byte by byte.
const JSON_DEPTH_MAX: usize = 32;

/// A request's body, whole.
#[derive(Clone, Debug, Default)]
pub(super) struct WholeBody {
    pub(super) data: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// Why a body was not received.
pub(super) enum NotReceived {
    /// The caller is told.
    Rejected(Rejection),
    /// The caller has gone: nobody is left to be told.
    CallerGone,
}

/// An answer's body on its way to the caller.
#[derive(Debug)]
pub struct AnswerStream {
    source: Source,
    /// Held until the body has been delivered or dropped, so that a drain waits for it.
    exchange: Option<TaskTrackerToken>,
}

#[derive(Debug)]
enum Source {
    Buffered(Buffered),
    Passing(AnswerBody),
    Pumped(mpsc::Receiver<Result<Frame<Bytes>, Aborted>>),
}

/// The upstream's answer broke off: the caller's must, too.
#[derive(Debug, thiserror::Error)]
#[error("pass on the upstream's answer to its end")]
pub(super) struct Aborted;

/// Receives a body of at most `max` bytes within `limit`. Nothing has been claimed or forwarded yet.
pub(super) async fn receive(incoming: Incoming, max: u64, limit: Duration) -> Result<WholeBody, NotReceived> {
    let too_large = || NotReceived::Rejected(Rejection::RequestTooLarge { max });
    // Refused before it is read, so that no "100 Continue" invites it.
    if incoming.size_hint().lower() > max {
        return Err(too_large());
    }
    let receiving = async {
        let mut incoming = incoming;
        let mut first = Bytes::new();
        let mut more: Option<BytesMut> = None;
        let mut trailers = None;
        while let Some(frame) = incoming.frame().await {
            let frame = frame.map_err(|error| broken_off(&error))?;
            match frame.into_data() {
                Ok(data) => {
                    let so_far = more.as_ref().map_or(first.len(), BytesMut::len);
                    if u64::try_from(so_far.saturating_add(data.len())).unwrap_or(u64::MAX) > max {
                        return Err(too_large());
                    }
                    match &mut more {
                        Some(more) => more.extend_from_slice(&data),
                        None if first.is_empty() => first = data,
                        None => {
                            let mut joined = BytesMut::with_capacity(first.len() + data.len());
                            joined.extend_from_slice(&first);
                            joined.extend_from_slice(&data);
                            more = Some(joined);
                        }
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(WholeBody { data: more.map_or(first, BytesMut::freeze), trailers })
    };
    tokio::time::timeout(limit, receiving)
        .await
        .unwrap_or(Err(NotReceived::Rejected(Rejection::BodyTooSlow(limit))))
}

fn broken_off(error: &hyper::Error) -> NotReceived {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return NotReceived::CallerGone;
    }
    NotReceived::Rejected(Rejection::Malformed("the body's framing is broken"))
}

/// JSON with members in order and without white space, or `None` if the text is not JSON, nests too deep,
/// or names a member twice (readers disagree on which one counts, so only the bytes can be compared).
///
/// Numbers stay as they are written: `1.0` and `1` are two requests.
pub(super) fn canonical_json(text: &[u8]) -> Option<Vec<u8>> {
    let root: &RawValue = serde_json::from_slice(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    write_canonical(root, JSON_DEPTH_MAX, &mut out)?;
    Some(out)
}

fn write_canonical(value: &RawValue, depth_left: usize, out: &mut Vec<u8>) -> Option<()> {
    let depth_left = depth_left.checked_sub(1)?;
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let Members(members) = serde_json::from_str(text).ok()?;
            out.push(b'{');
            for (number, (name, member)) in members.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name).ok()?;
                out.push(b':');
                write_canonical(member, depth_left, out)?;
            }
            out.push(b'}');
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push(b'[');
            for (number, element) in elements.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                write_canonical(element, depth_left, out)?;
            }
            out.push(b']');
        }
        b'"' => {
            let string: String = serde_json::from_str(text).ok()?;
            serde_json::to_writer(&mut *out, &string).ok()?;
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Some(())
}

/// The members of an object, in order; refuses a name that stands twice.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object without repeated names")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("repeated name"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl AnswerStream {
    /// A body in memory.
    pub(super) fn buffered(body: Buffered) -> Self {
        Self { source: Source::Buffered(body), exchange: None }
    }

    /// An upstream's body, passed through.
    pub(super) fn passing(body: AnswerBody) -> Self {
        Self { source: Source::Passing(body), exchange: None }
    }

    /// A body that a task of its own reads from the upstream.
    pub(super) fn pumped(frames: mpsc::Receiver<Result<Frame<Bytes>, Aborted>>) -> Self {
        Self { source: Source::Pumped(frames), exchange: None }
    }

    /// Keeps the exchange open until the body is delivered.
    pub(super) fn holding(self, exchange: TaskTrackerToken) -> Self {
        Self { exchange: Some(exchange), ..self }
    }
}

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match &mut self.source {
            Source::Buffered(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Source::Passing(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Source::Pumped(frames) => {
                frames.poll_recv(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        };
        if matches!(frame, Poll::Ready(None)) {
            self.exchange = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Buffered(body) => body.is_end_stream(),
            Source::Passing(body) => body.is_end_stream(),
            Source::Pumped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Buffered(body) => body.size_hint(),
            Source::Passing(body) => body.size_hint(),
            Source::Pumped(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        canonical_json(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn order_of_members_white_space_and_escapes_do_not_count() {
        let plain = canonical(r#"{"a":1,"b":[true,null,"\u00e9"]}"#);
        assert!(plain.is_some());
        assert_eq!(canonical("{ \"b\" : [ true , null , \"é\" ] ,\n \"a\" : 1 }"), plain);
    }

    #[test]
    fn numbers_stay_as_written() {
        assert_ne!(canonical("[1]"), canonical("[1.0]"));
        assert_ne!(canonical("[12345678901234567890123]"), canonical("[12345678901234567890124]"));
    }

    #[test]
    fn a_repeated_member_broken_text_or_deep_nesting_has_no_canonical_form() {
        assert_eq!(canonical(r#"{"amount":1,"amount":2}"#), None);
        assert_eq!(canonical(r#"{"x":{"amount":1,"\u0061mount":2}}"#), None);
        assert_eq!(canonical("{"), None);
        assert_eq!(canonical(&format!("{}{}", "[".repeat(100), "]".repeat(100))), None);
    }
}
