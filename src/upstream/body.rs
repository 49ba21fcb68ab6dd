//! Bodies as they travel to and from an upstream.
//!
//! Must not know what they mean.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::progress::Progress;

/// Bytes of a buffered request body that are handed on at once.
const PIECE_MAX: usize = 64 * 1024;

/// A body that is wholly in memory, with its trailers.
#[derive(Clone, Debug, Default)]
pub struct Buffered {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

/// The body of a request to an upstream.
pub struct RequestBody {
    source: Source,
    progress: Progress,
}

/// A caller's body, wherever it comes from.
type Streamed = dyn Body<Data = Bytes, Error = Box<dyn StdError + Send + Sync>> + Send + Sync;

enum Source {
    /// In memory: can be sent again.
    Buffered(Buffered),
    /// Streamed from the caller, after what was read of it already.
    Streamed { prefix: Bytes, rest: Pin<Box<Streamed>>, trailers: Trailers },
}

/// Which of a body's trailers travel on.
#[derive(Clone, Debug)]
pub struct Trailers {
    /// Picks them, given those that end here.
    pub pick: fn(&HeaderMap, &[HeaderName]) -> HeaderMap,
    /// Fields that end here because the head says so.
    pub ending: Vec<HeaderName>,
}

impl Trailers {
    /// Those of `fields` that travel on.
    pub fn of(&self, fields: &HeaderMap) -> HeaderMap {
        (self.pick)(fields, &self.ending)
    }
}

/// The body of an upstream's answer.
pub type AnswerBody = Incoming;

impl Buffered {
    /// A body of `data`, and then `trailers` if there are any.
    pub fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { data, trailers: trailers.filter(|fields| !fields.is_empty()) }
    }

    /// The trailers still to be sent.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The bytes still to be sent.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

impl Body for Buffered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
        }
        Poll::Ready(self.trailers.take().map(|fields| Ok(Frame::trailers(fields))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.trailers.is_some() {
            // An exact size would be sent as Content-Length, after which no trailers can follow.
            return SizeHint::default();
        }
        SizeHint::with_exact(u64::try_from(self.data.len()).unwrap_or(u64::MAX))
    }
}

impl RequestBody {
    /// A caller's body, streamed, after the `prefix` that was read of it already.
    pub fn streamed<B>(prefix: Bytes, rest: B, trailers: Trailers) -> Self
    where
        B: Body<Data = Bytes, Error = Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    {
        if prefix.is_empty() && rest.is_end_stream() {
            return Buffered::default().into();
        }
        Source::Streamed { prefix, rest: Box::pin(rest), trailers }.into()
    }

    /// Tells `progress` of every piece that moves.
    pub(super) fn watched_by(self, progress: &Progress) -> Self {
        Self { progress: progress.clone(), ..self }
    }

    /// A copy, if the body can be sent again.
    pub(super) fn replayable(&self) -> Option<Buffered> {
        match &self.source {
            Source::Buffered(body) => Some(body.clone()),
            Source::Streamed { .. } => self.is_end_stream().then(Buffered::default),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl From<Buffered> for RequestBody {
    fn from(body: Buffered) -> Self {
        Source::Buffered(body).into()
    }
}

impl From<Source> for RequestBody {
    fn from(source: Source) -> Self {
        Self { source, progress: Progress::default() }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        this.progress.moved();
        match &mut this.source {
            // In pieces, so that progress is seen while a large body moves.
            Source::Buffered(body) if body.data.len() > PIECE_MAX => {
                Poll::Ready(Some(Ok(Frame::data(body.data.split_to(PIECE_MAX)))))
            }
            Source::Buffered(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Source::Streamed { prefix, .. } if !prefix.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(prefix)))))
            }
            Source::Streamed { rest, trailers, .. } => rest
                .as_mut()
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| Ok(with_trailers(frame?, trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Buffered(body) => body.is_end_stream(),
            Source::Streamed { prefix, rest, .. } => prefix.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Buffered(body) => body.size_hint(),
            Source::Streamed { prefix, rest, .. } if prefix.is_empty() => rest.size_hint(),
            Source::Streamed { .. } => SizeHint::default(),
        }
    }
}

/// The frame with what may travel on of its trailers, if it holds any.
pub fn with_trailers(frame: Frame<Bytes>, trailers: &Trailers) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(fields) => Frame::trailers(trailers.of(&fields)),
        Err(frame) => frame,
    }
}
