//! Bodies as they travel to and from an upstream.
//!
//! Must not know what they mean.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::http2;
use super::pool::Lease;
use super::progress::Progress;

/// Bytes of a buffered request body that are handed on at once.
const PIECE_MAX: usize = 64 * 1024;

/// A body that is wholly in memory, with its trailers.
#[derive(Clone, Debug, Default)]
pub struct Buffered {
    data: Bytes,
    /// Boxed: hardly any body has them, and every one is moved about with room for them.
    trailers: Option<Box<HeaderMap>>,
}

/// The body of a request to an upstream.
pub struct RequestBody {
    source: Source,
    /// Told of every piece that moves.
    progress: Option<Progress>,
}

/// A caller's body, wherever it comes from.
type Streamed = dyn Body<Data = Bytes, Error = Box<dyn StdError + Send + Sync>> + Send + Sync;

enum Source {
    /// In memory: can be sent again.
    Buffered(Buffered),
    /// Streamed from the caller, after what was read of it already.
    Streamed { prefix: Bytes, rest: Pin<Box<Streamed>>, trailers: Trailers },
    /// Streamed, and not asked for anything yet.
    Lent(Loan),
}

/// A body that can be had back as long as nothing was asked of it.
#[derive(Clone)]
pub(super) struct Loan(Arc<Mutex<Option<Source>>>);

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

/// The body of an upstream's answer. Dropping it before its end ends its exchange.
#[derive(Debug)]
pub struct AnswerBody(Over);

#[derive(Debug)]
enum Over {
    Http1(OverHttp1),
    Http2(Box<http2::Answer>),
}

/// A body over HTTP/1, and the connection that is free again at its end.
#[derive(Debug)]
struct OverHttp1 {
    body: Incoming,
    lease: Option<Lease>,
    is_close_delimited: bool,
}

/// The upstream's answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum AnswerBroken {
    /// Over HTTP/1.
    #[error("read the answer to its end over HTTP/1")]
    Http1(#[source] hyper::Error),
    /// Over HTTP/2.
    #[error("read the answer to its end over HTTP/2")]
    Http2(#[source] h2::Error),
}

impl Buffered {
    /// A body of `data`, and then `trailers` if there are any.
    pub fn new(data: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { data, trailers: trailers.filter(|fields| !fields.is_empty()).map(Box::new) }
    }

    /// The trailers still to be sent.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_deref()
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
        Poll::Ready(self.trailers.take().map(|fields| Ok(Frame::trailers(*fields))))
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

    /// All of it, if it is in memory, within `max` bytes, and without trailers. Then nothing of it is left.
    pub(super) fn take_small(&mut self, max: usize) -> Option<Bytes> {
        match &mut self.source {
            Source::Buffered(body) if body.trailers.is_none() && body.data.len() <= max => {
                Some(std::mem::take(&mut body.data))
            }
            Source::Buffered(_) | Source::Streamed { .. } | Source::Lent(_) => None,
        }
    }

    /// Tells `progress` of every piece that moves.
    pub(super) fn be_watched_by(&mut self, progress: &Progress) {
        self.progress = Some(progress.clone());
    }

    /// What the body can be had back by until something is asked of it.
    pub(super) fn lend(&mut self) -> Loan {
        let loan = match std::mem::replace(&mut self.source, Source::Buffered(Buffered::default())) {
            Source::Lent(loan) => loan,
            source @ (Source::Buffered(_) | Source::Streamed { .. }) => {
                Loan(Arc::new(Mutex::new(Some(source))))
            }
        };
        self.source = Source::Lent(loan.clone());
        loan
    }

    /// A copy, if the body can be sent again.
    pub(super) fn replayable(&self) -> Option<Buffered> {
        match &self.source {
            Source::Buffered(body) => Some(body.clone()),
            Source::Streamed { .. } | Source::Lent(_) => self.is_end_stream().then(Buffered::default),
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
        Self { source, progress: None }
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
        if let Some(progress) = &this.progress {
            progress.moved();
        }
        if let Source::Lent(loan) = &this.source {
            let taken = loan.source().take();
            // Its end here would make a shorter request of it.
            let Some(source) = taken else {
                return Poll::Ready(Some(Err("read a body that was taken back".into())));
            };
            this.source = source;
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
            Source::Streamed { rest, trailers, .. } => rest
                .as_mut()
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| Ok(with_trailers(frame?, trailers)))),
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

impl AnswerBody {
    /// A body over HTTP/1; `lease` is what its connection is given back by. Nothing is given back, and nothing ended,
    /// after a change of protocol.
    pub(super) fn over_http1(body: Incoming, lease: Option<Lease>, is_framed: bool) -> Self {
        let is_close_delimited = !is_framed && !body.is_end_stream();
        let mut over = OverHttp1 { body, lease, is_close_delimited };
        if over.body.is_end_stream() {
            over.give_back();
        }
        Self(Over::Http1(over))
    }

    pub(super) fn over_http2(answer: http2::Answer) -> Self {
        Self(Over::Http2(Box::new(answer)))
    }

    /// Whether it lasts until its connection ends, which cannot be told from its being cut short (RFC 9112 §8).
    pub fn is_close_delimited(&self) -> bool {
        match &self.0 {
            Over::Http1(over) => over.is_close_delimited,
            Over::Http2(_) => false,
        }
    }
}

impl OverHttp1 {
    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Drop for OverHttp1 {
    fn drop(&mut self) {
        match self.lease.take() {
            Some(lease) if self.body.is_end_stream() => lease.give_back(),
            Some(lease) => lease.cut(),
            None => {}
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerBroken>>> {
        match &mut self.get_mut().0 {
            Over::Http1(over) => {
                let frame = Pin::new(&mut over.body).poll_frame(cx);
                if matches!(frame, Poll::Ready(None)) {
                    over.give_back();
                }
                frame.map(|frame| frame.map(|frame| frame.map_err(AnswerBroken::Http1)))
            }
            Over::Http2(answer) => {
                let frame = answer.poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(AnswerBroken::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Over::Http1(over) => over.body.is_end_stream(),
            Over::Http2(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Over::Http1(over) => over.body.size_hint(),
            Over::Http2(answer) => answer.size_hint(),
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
