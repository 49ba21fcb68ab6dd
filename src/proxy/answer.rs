//! An answer's body on its way to the caller, wherever it comes from.
//!
//! Must not know claims. Holds the exchange open until the last byte is delivered, so that a drain waits.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::budget::Share;
use super::headers;
use crate::upstream::{AnswerBody, Buffered, with_trailers};

/// An answer's body on its way to the caller.
#[derive(Debug)]
pub struct AnswerStream {
    source: Source,
    /// Held until the body has been delivered or dropped, so that a drain waits for it.
    exchange: Option<TaskTrackerToken>,
    /// What it takes of the gateway's budgets, given back at the same time.
    shares: Option<[Share; 2]>,
}

#[derive(Debug)]
enum Source {
    Buffered(Buffered),
    Passing(AnswerBody),
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
        Self { source: Source::Buffered(body), exchange: None, shares: None }
    }

    /// An upstream's body, passed through.
    pub(super) fn passing(body: AnswerBody) -> Self {
        Self { source: Source::Passing(body), exchange: None, shares: None }
    }

    /// A body that a task of its own reads from the upstream.
    pub(super) fn pumped(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { source: Source::Pumped(pieces), exchange: None, shares: None }
    }

    /// Keeps the exchange open, and what it takes, until the body is delivered.
    pub(super) fn holding(self, exchange: TaskTrackerToken, shares: [Share; 2]) -> Self {
        Self { exchange: Some(exchange), shares: Some(shares), ..self }
    }

    /// The bytes that it holds in memory.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.source {
            Source::Buffered(body) => body.data().len(),
            Source::Passing(..) | Source::Pumped(_) => 0,
        }
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
                let passed = |frame| with_trailers(frame, headers::trailers);
                Pin::new(body)
                    .poll_frame(cx)
                    .map(|frame| frame.map(|frame| frame.map(passed).map_err(Into::into)))
            }
            Source::Pumped(pieces) => pieces.poll_recv(cx).map(|piece| match piece {
                Some(Piece::Frame(frame)) => Some(Ok(frame)),
                Some(Piece::End) => None,
                None => Some(Err(Aborted.into())),
            }),
        };
        if matches!(frame, Poll::Ready(None)) {
            self.exchange = None;
            self.shares = None;
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
