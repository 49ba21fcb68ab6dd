//! An answer whose body is not kept: carried to the caller as it comes, and followed to its end for the
//! record's sake if the caller leaves.
//!
//! Must not know how the answer was asked for. Read `execute.rs` before.

use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Piece;
use super::word::Word;
use crate::clock;
use crate::ledger::Claim;
use crate::protocol::record::UnknownReason;
use crate::protocol::saved::SavedHead;
use crate::telemetry::course::{Course, Errand};
use crate::upstream::{AnswerBody, Trailers, with_trailers};

/// Frames that may wait for a slow caller.
pub(super) const FRAMES_WAITING_MAX: usize = 4;

/// How long a caller may take to make room for one more frame. The buffers between hold megabytes, so a slow but
/// steady reader needs its time.
const CALLER_PATIENCE: Duration = Duration::from_mins(1);

/// How long a streamed answer is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Between two reads from the upstream.
    pub(super) idle: Duration,
    /// For the rest of the answer, once the caller has left.
    pub(super) without_caller: Duration,
}

/// A streamed answer under way.
pub(super) struct Stream {
    pub(super) request_id: String,
    /// Where frames go, while the caller is there.
    pub(super) caller: Option<mpsc::Sender<Piece>>,
    /// What is settled at the end, unless it was settled by the answer's head.
    pub(super) claim: Option<Claim>,
    pub(super) patience: Patience,
    /// Which trailers travel on.
    pub(super) trailers: Trailers,
    pub(super) out_of_time: CancellationToken,
    pub(super) course: Course,
    /// What makes the answer whole, by its Content-Length, before its end was seen.
    pub(super) held: Option<Frame<Bytes>>,
}

/// How a streamed answer ended.
enum End {
    Clean,
    Broken(UnknownReason),
}

impl Stream {
    /// Carries what was read already, then the rest, and settles the claim.
    pub(super) async fn carry(mut self, head: SavedHead, prefix: Vec<Bytes>, body: AnswerBody) {
        for data in prefix {
            self.pass_on(Frame::data(data), is_complete(&body)).await;
        }
        let end = self.carry_rest(body).await;
        let began = clock::monotonic();
        match (self.claim.take(), &end) {
            (Some(claim), End::Clean) => {
                claim.complete_without_body(head).await;
                self.course.asked_store(Errand::Settle, began, "without-body");
            }
            (Some(claim), End::Broken(reason)) => {
                let (_, _) = claim.unknown(*reason).await;
                // The line of the request was written with its head, and said something else.
                tracing::warn!(
                    request_id = self.request_id,
                    idempotency = Word::Unknown.as_str(),
                    reason = reason.as_str(),
                    "an answer broke off while it was streamed"
                );
                self.course.asked_store(Errand::Settle, began, reason.as_str());
            }
            (None, _) => {}
        }
        // Told only after the record is settled, so that a retry finds it. A broken answer is told by its
        // pump's going away.
        let End::Clean = end else { return };
        if let Some(held) = self.held.take() {
            self.deliver(held).await;
        }
        if let Some(caller) = self.caller
            && caller.send(Piece::End).await.is_err()
        {
            tracing::debug!("the caller left before its answer ended");
        }
    }

    async fn carry_rest(&mut self, mut body: AnswerBody) -> End {
        let mut extend_at = self.claim.as_ref().map(|claim| Instant::now() + claim.extend_after());
        let mut alone_until = None;
        loop {
            if self.caller.is_none() {
                alone_until.get_or_insert(Instant::now() + self.patience.without_caller);
            }
            if let (Some(claim), Some(at)) = (&mut self.claim, extend_at)
                && Instant::now() >= at
            {
                if let Err(error) = claim.extend().await {
                    tracing::warn!(%error, "the claim of a streaming answer was not extended");
                }
                extend_at = Some(Instant::now() + claim.extend_after());
            }
            let idle_until = Instant::now() + self.patience.idle;
            let until = alone_until.map_or(idle_until, |until| until.min(idle_until));
            // However much there is to read.
            if alone_until.is_some_and(|until| until <= Instant::now()) {
                return End::Broken(UnknownReason::AnswerCutShort);
            }
            tokio::select! {
                biased; // In one order, so that a simulation plays the same twice.
                () = self.out_of_time.cancelled() => return End::Broken(UnknownReason::GatewayStopped),
                frame = body.frame() => match frame {
                    None => return End::Clean,
                    Some(Ok(frame)) => self.pass_on(frame, is_complete(&body)).await,
                    Some(Err(error)) => {
                        let request_id = &self.request_id;
                        tracing::warn!(%error, request_id, "the upstream's answer was cut short");
                        return End::Broken(UnknownReason::AnswerCutShort);
                    }
                },
                () = tokio::time::sleep_until(until) => return End::Broken(UnknownReason::AnswerCutShort),
            }
        }
    }

    /// Hands one frame to the caller, unless it makes the answer whole: whoever has it all may rely on the record, so
    /// that frame waits for it.
    async fn pass_on(&mut self, frame: Frame<Bytes>, is_last: bool) {
        if let Some(held) = self.held.take() {
            self.deliver(held).await;
        }
        if is_last {
            self.held = Some(frame);
        } else {
            self.deliver(frame).await;
        }
    }

    /// Hands one frame to the caller. One that left is forgotten; so is one that does not read, and its
    /// answer is cut short.
    async fn deliver(&mut self, frame: Frame<Bytes>) {
        let Some(caller) = &self.caller else { return };
        let frame = with_trailers(frame, &self.trailers);
        let delivered = tokio::time::timeout(CALLER_PATIENCE, caller.send(Piece::Frame(frame))).await;
        if !matches!(delivered, Ok(Ok(()))) {
            self.caller = None;
        }
    }
}

/// Whether no more data can come. Of a body that is not counted this is known only at its end.
fn is_complete(body: &AnswerBody) -> bool {
    body.is_end_stream() || body.size_hint().upper() == Some(0)
}
