//! An answer's body on its way to the caller, wherever it comes from.
//!
//! Must not know claims. Holds the exchange open until the last byte is delivered, so that a drain waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::aside::Aside;
use super::budget::Share;
use super::quota::Seat;
use crate::upstream::{AnswerBody, Buffered, Trailers, with_trailers};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body on its way to the caller.
#[derive(Debug)]
pub struct AnswerStream {
    source: Source,
    /// Held until the body has been delivered or dropped, so that a drain waits for it.
    exchange: Option<TaskTrackerToken>,
    /// What it takes of the gateway's budgets, given back at the same time.
    shares: Option<[Share; 2]>,
    /// What it takes of its caller's quota, given back at the same time.
    seat: Option<Arc<Seat>>,
    /// Of the connection's exchanges, this one.
    within: Option<Arc<()>>,
    /// Takes trailers, announced or not.
    aside: Option<Aside>,
    ending: Ending,
}

/// How far a body is that may end with trailers through an [`Aside`].
#[derive(Debug, Default)]
enum Ending {
    #[default]
    None,
    /// They came, and the end of the source has not.
    Known(Box<HeaderMap>),
    /// Nothing but them is left.
    Due(Box<HeaderMap>),
}

#[derive(Debug)]
enum Source {
    Buffered(Buffered),
    Passing(AnswerBody, Trailers),
    Pumped(mpsc::Receiver<Piece>),
}

/// A piece of a pumped body. A body whose pump goes without an [`Piece::End`] was cut short, and is cut short
/// for the caller too.
#[derive(Debug)]
pub(super) enum Piece {
    Frame(Frame<Bytes>),
    End,
}

/// The upstream's answer broke off: the caller's must, too.
#[derive(Debug, thiserror::Error)]
#[error("pass on the upstream's answer to its end")]
struct Aborted;

impl AnswerStream {
    /// A body in memory.
    pub(super) fn buffered(body: Buffered) -> Self {
        Source::Buffered(body).into()
    }

    /// An upstream's body, passed through.
    pub(super) fn passing(body: AnswerBody, trailers: Trailers) -> Self {
        Source::Passing(body, trailers).into()
    }

    /// A body that a task of its own reads from the upstream.
    pub(super) fn pumped(pieces: mpsc::Receiver<Piece>) -> Self {
        Source::Pumped(pieces).into()
    }

    /// Ends with its trailers through `aside`, if there is one, instead of by hyper's hand.
    pub(super) fn ending_with_trailers(self, aside: Option<Aside>) -> Self {
        Self { aside, ..self }
    }

    /// Keeps the exchange open, and what it takes, until the body is delivered.
    pub(super) fn holding(self, exchange: TaskTrackerToken, shares: [Share; 2]) -> Self {
        Self { exchange: Some(exchange), shares: Some(shares), ..self }
    }

    /// Holds `exchange`, by which the connection knows that something is under way, until the body is delivered.
    #[must_use]
    pub fn within(self, exchange: Arc<()>) -> Self {
        Self { within: Some(exchange), ..self }
    }

    /// Keeps its caller's place until the body is delivered.
    pub(super) fn seated(self, seat: Option<Arc<Seat>>) -> Self {
        Self { seat, ..self }
    }

    /// The bytes that it holds in memory.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.source {
            Source::Buffered(body) => body.data().len(),
            Source::Passing(..) | Source::Pumped(_) => 0,
        }
    }
}

impl From<Source> for AnswerStream {
    fn from(source: Source) -> Self {
        Self {
            source,
            exchange: None,
            shares: None,
            seat: None,
            within: None,
            aside: None,
            ending: Ending::None,
        }
    }
}

impl AnswerStream {
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Buffered(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Source::Passing(body, trailers) => {
                let passed = |frame| with_trailers(frame, trailers);
                Pin::new(body)
                    .poll_frame(cx)
                    .map(|frame| frame.map(|frame| frame.map(passed).map_err(Into::into)))
            }
            Source::Pumped(pieces) => pieces.poll_recv(cx).map(|piece| match piece {
                Some(Piece::Frame(frame)) => Some(Ok(frame)),
                Some(Piece::End) => None,
                None => Some(Err(Aborted.into())),
            }),
        }
    }
}

impl Body for AnswerStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Ending::Due(trailers) = &self.ending
                && let Some(aside) = &self.aside
            {
                std::task::ready!(aside.poll_end_with(trailers, cx));
                (self.exchange, self.shares, self.seat, self.within) = (None, None, None, None);
                return Poll::Ready(None);
            }
            let frame = std::task::ready!(self.poll_source(cx));
            match (frame, std::mem::take(&mut self.ending)) {
                (Some(Ok(frame)), _) if self.aside.is_some() => match frame.into_trailers() {
                    Ok(trailers) if trailers.is_empty() => {}
                    Ok(trailers) => self.ending = Ending::Known(Box::new(trailers)),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                (None, Ending::Known(trailers)) => self.ending = Ending::Due(trailers),
                (None, Ending::None | Ending::Due(_)) => {
                    (self.exchange, self.shares, self.seat, self.within) = (None, None, None, None);
                    return Poll::Ready(None);
                }
                (frame @ Some(_), _) => return Poll::Ready(frame),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Buffered(body) => body.is_end_stream(),
            Source::Passing(body, _) => body.is_end_stream(),
            Source::Pumped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Buffered(body) => body.size_hint(),
            Source::Passing(body, _) => body.size_hint(),
            Source::Pumped(_) => SizeHint::default(),
        }
    }
}
