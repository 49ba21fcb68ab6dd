//! A request's place at a server, from when it may be sent to the end of its answer.
//!
//! Whoever holds it is counted; dropping it gives it up, wherever the request ends. Must not know which server is
//! chosen (`balance.rs`).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::admission::Sample;
use super::balance::{Granted, Outcome};
use super::body::AnswerBody;
use super::fleet::Fleet;
use super::kind::Kind;
use super::progress::Progress;

/// A place at a server.
#[derive(Debug)]
pub(super) struct Place {
    fleet: Arc<Fleet>,
    granted: Granted,
    kind: Kind,
    began: Instant,
    /// Of the request that is sent, while its answer has not begun.
    progress: Option<Progress>,
    is_heard: bool,
    is_left: bool,
}

/// An answer's body, which holds its place until it ends.
#[derive(Debug)]
pub struct HeldBody {
    body: AnswerBody,
    place: Option<Place>,
}

impl Place {
    pub(super) fn new(fleet: Arc<Fleet>, granted: Granted, kind: Kind, began: Instant) -> Self {
        Self { fleet, granted, kind, began, progress: None, is_heard: false, is_left: false }
    }

    /// Which server it is at.
    pub(super) fn server(&self) -> usize {
        self.granted.server
    }

    /// The request that is sent tells this how it gets on.
    pub(super) fn follow(&mut self, progress: &Progress) {
        self.progress = Some(progress.clone());
    }

    /// The head of an answer has come. `is_telling`: whether the time it took tells how the server bears its load.
    pub(super) fn answered(&mut self, is_telling: bool) {
        let outcome = match self.took() {
            Some(took) if is_telling => Outcome::Answered(self.sample(took)),
            Some(_) | None => Outcome::Refused,
        };
        self.tell(&outcome);
    }

    /// The server could not be reached, or cut the request off.
    pub(super) fn failed(mut self) {
        self.is_left = true;
        self.tell(&Outcome::Failed);
    }

    /// Nothing is to be learnt from what became of the request.
    pub(super) fn ended(mut self) {
        self.is_left = true;
        self.tell(&Outcome::Nothing);
    }

    fn tell(&mut self, outcome: &Outcome) {
        self.is_heard = true;
        self.fleet.heard(self.granted.server, outcome, self.is_left);
    }

    /// Since the last byte of the request moved; `None` before there was a connection.
    fn took(&self) -> Option<Duration> {
        Some(self.progress.as_ref()?.moved_at()?.elapsed())
    }

    fn sample(&self, took: Duration) -> Sample {
        Sample { kind: self.kind, under_way: self.granted.under_way, began: self.began, took }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match (self.is_heard, self.is_left) {
            (_, true) => {}
            (true, false) => self.fleet.left(self.granted.server),
            (false, false) => {
                self.is_left = true;
                let outcome =
                    self.took().map_or(Outcome::Nothing, |took| Outcome::GivenUp(self.sample(took)));
                self.tell(&outcome);
            }
        }
    }
}

impl HeldBody {
    pub(super) fn new(body: AnswerBody, place: Place) -> Self {
        let place = (!body.is_end_stream()).then_some(place);
        Self { body, place }
    }
}

impl HeldBody {
    /// Whether it lasts until its connection ends, which cannot be told from its being cut short (RFC 9112 §8).
    pub fn is_close_delimited(&self) -> bool {
        self.body.is_close_delimited()
    }
}

impl Body for HeldBody {
    type Data = Bytes;
    type Error = <AnswerBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.place = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
