//! What comes back from an upstream for a request under a claim: an answer that is whole, or streams, or none.
//!
//! Must not know what becomes of the claim. Read `execute.rs` before.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::budget::Share;
use super::headers;
use super::trailers;
use crate::clock;
use crate::protocol::policy::{Policy, StatusMeaning};
use crate::protocol::record::UnknownReason;
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::telemetry::course::Fared;
use crate::upstream::{AnswerBody, AnswerBroken, SendError, Trailers};

/// Bodies shorter than this are copied out of the buffer they were read into.
const COPIED_BELOW: usize = 64 * 1024;

/// What came back from the upstream.
#[expect(clippy::large_enum_variant, reason = "lives for one step; nearly all are whole")]
pub(super) enum Received {
    /// An answer within bounds, whole.
    Whole(SavedResponse, StatusMeaning),
    /// An answer whose body is not kept; `prefix` was read while it still looked small.
    Streaming {
        head: SavedHead,
        length: Option<HeaderValue>,
        meaning: StatusMeaning,
        prefix: Vec<Bytes>,
        body: AnswerBody,
        trailers: Trailers,
    },
    /// A change of protocol that nobody asked for.
    Switched,
}

/// Why no whole answer came back.
pub(super) enum Lost {
    Sending(SendError),
    CutShort(AnswerBroken),
}

/// How a request fared of which this came.
pub(super) fn how_it_fared(received: &Result<Received, Lost>) -> Fared {
    match received {
        Ok(Received::Whole(saved, _)) => Fared::Answered(saved.head.status),
        Ok(Received::Streaming { head, .. }) => Fared::Answered(head.status),
        Ok(Received::Switched) => Fared::Failed(UnknownReason::ProtocolSwitched.as_str()),
        Err(Lost::Sending(error)) => Fared::Failed(error.word()),
        Err(Lost::CutShort(_)) => Fared::Failed(UnknownReason::AnswerCutShort.as_str()),
    }
}

/// Receives an answer: whole if it is within bounds, else up to the point where that is known.
pub(super) async fn receive(
    response: Response<AnswerBody>,
    policy: &Policy,
    room: &mut Share,
    bytes_max: usize,
) -> Result<Received, Lost> {
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Received::Switched);
    }
    let has_retry_after = response.headers().contains_key(header::RETRY_AFTER);
    let meaning = policy.meaning_of(response.status().as_u16(), has_retry_after);
    let head = headers::saved_head(&response, clock::wall());
    let streams = is_to_be_streamed(&response, policy.response_body_max);
    let length = response.headers().get(header::CONTENT_LENGTH).cloned();
    let rule = trailers::after(response.headers());
    let mut body = response.into_body();
    let (mut pieces, mut size, mut trailers) = (Vec::new(), 0_u64, HeaderMap::new());
    if streams {
        return Ok(Received::Streaming { head, length, meaning, prefix: pieces, body, trailers: rule });
    }
    while let Some(frame) = body.frame().await {
        match frame.map_err(Lost::CutShort)?.into_data() {
            Ok(data) => {
                size = size.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
                pieces.push(data);
            }
            Err(frame) => {
                if let Ok(fields) = frame.into_trailers() {
                    trailers = rule.of(&fields);
                }
            }
        }
        let bytes = usize::try_from(size).unwrap_or(usize::MAX);
        if size > policy.response_body_max || room.grow_to(bytes, bytes_max).is_err() {
            return Ok(Received::Streaming { head, length, meaning, prefix: pieces, body, trailers: rule });
        }
    }
    let saved = SavedResponse { head, body: joined(pieces), trailers: headers::field_lines(&trailers) };
    Ok(Received::Whole(saved, meaning))
}

/// Whether an answer goes through without being kept: declared too large, an event stream, or ended only by
/// the end of its connection, which cannot be told from its being cut short (RFC 9112 §8).
fn is_to_be_streamed(response: &Response<AnswerBody>, max: u64) -> bool {
    let body = response.body();
    if body.is_end_stream() {
        return false;
    }
    let fields = response.headers();
    let is_event_stream = fields
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
    is_event_stream || body.is_close_delimited() || body.size_hint().lower() > max
}

/// Reads a body to its end; answers whether it came in time.
pub(super) async fn drained(mut body: AnswerBody, until: Instant) -> bool {
    let reading = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout_at(until, reading).await.unwrap_or(false)
}

/// The pieces as one. Small ones are copied: a piece is a slice of a read buffer many times its size, which a
/// record kept for a day would hold on to.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.as_slice() {
        [large] if large.len() >= COPIED_BELOW => pieces.remove(0),
        _ => pieces.concat().into(),
    }
}
