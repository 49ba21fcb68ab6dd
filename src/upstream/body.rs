//! Bodies as they travel to and from an upstream.
//!
//! Must not know what they mean.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
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
#[derive(Debug)]
pub struct RequestBody {
    source: Source,
    progress: Progress,
}

#[derive(Debug)]
enum Source {
    /// In memory: can be sent again.
    Buffered(Buffered),
    /// Streamed from the caller, after what was read of it already.
    Streamed { prefix: Bytes, rest: Incoming, trailers: Trailers },
    /// Streamed, and not asked for anything yet.
    Lent(Loan),
}

/// A body that can be had back as long as nothing was asked of it.
#[derive(Clone, Debug)]
pub(super) struct Loan(Arc<Mutex<Option<Source>>>);

/// What may travel on of a body's trailers.
pub type Trailers = fn(&HeaderMap) -> HeaderMap;

/// The body of an upstream's answer.
pub(super) type AnswerBody = Incoming;

impl Buffered {
    /// A body of `data`, and then `trailers` if there are any.
    pub fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { data, trailers: trailers.filter(|fields| !fields.is_empty()) }
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
    pub fn streamed(prefix: Bytes, rest: Incoming, trailers: Trailers) -> Self {
        Source::Streamed { prefix, rest, trailers }.into()
    }

    /// Tells `progress` of every piece that moves.
    pub(super) fn watched_by(self, progress: &Progress) -> Self {
        Self { progress: progress.clone(), ..self }
    }

    /// The body, and what it can be had back by until something is asked of it.
    pub(super) fn lend(self) -> (Self, Loan) {
        let loan = match self.source {
            Source::Lent(loan) => loan,
            source @ (Source::Buffered(_) | Source::Streamed { .. }) => {
                Loan(Arc::new(Mutex::new(Some(source))))
            }
        };
        (Self { source: Source::Lent(loan.clone()), progress: self.progress }, loan)
    }

    /// A copy, if the body can be sent again.
    pub(super) fn replayable(&self) -> Option<Buffered> {
        match &self.source {
            Source::Buffered(body) => Some(body.clone()),
            Source::Streamed { .. } | Source::Lent(_) => self.is_end_stream().then(Buffered::default),
        }
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
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        this.progress.moved();
        if let Source::Lent(loan) = &this.source {
            let taken = loan.source().take();
            this.source = taken.unwrap_or_else(|| Source::Buffered(Buffered::default()));
        }
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
            Source::Streamed { rest, trailers, .. } => Pin::new(rest)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| Ok(with_trailers(frame?, *trailers)))),
            Source::Lent(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Buffered(body) => body.is_end_stream(),
            Self::Streamed { prefix, rest, .. } => prefix.is_empty() && rest.is_end_stream(),
            Self::Lent(loan) => loan.source().as_ref().is_none_or(Self::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffered(body) => body.size_hint(),
            Self::Streamed { prefix, rest, .. } if prefix.is_empty() => rest.size_hint(),
            Self::Streamed { .. } => SizeHint::default(),
            Self::Lent(loan) => loan.source().as_ref().map_or_else(SizeHint::default, Self::size_hint),
        }
    }
}

impl Loan {
    /// The body, if nothing was asked of it.
    pub(super) fn back(self) -> Option<RequestBody> {
        let source = self.source().take();
        source.map(Into::into)
    }

    fn source(&self) -> MutexGuard<'_, Option<Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frame with what may travel on of its trailers, if it holds any.
pub fn with_trailers(frame: Frame<Bytes>, trailers: Trailers) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(fields) => Frame::trailers(trailers(&fields)),
        Err(frame) => frame,
    }
}
