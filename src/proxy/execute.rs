//! Forwards the one request that holds the claim, and settles what came of it.
//!
//! Runs in a task that outlives the caller. At every `.await` here the process may die: the claim then
//! stands as a tombstone and reads as unknown. Must not know how keys are found. Read `guard.rs` before.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Proxy;
use super::answer::{AnswerStream, Piece};
use super::body::WholeBody;
use super::budget::Share;
use super::caller::Caller;
use super::headers;
use super::pass::{frame_anew, log_failure_of};
use super::respond::{self, Rejection, Word};
use super::stream::{FRAMES_WAITING_MAX, Patience, Stream};
use super::trailers;
use crate::clock;
use crate::config::Route;
use crate::ledger::{Claim, LateClaim, Settlement, Unprocessed};
use crate::protocol::policy::{Policy, StatusMeaning};
use crate::protocol::record::UnknownReason;
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::telemetry::course::{Course, Spent};
use crate::upstream::{
    AnswerBody, AnswerBroken, Buffered, Progress, RequestBody, SendError, Trailers, Upstream,
};

/// Bodies shorter than this are copied out of the buffer they were read into.
const COPIED_BELOW: usize = 64 * 1024;

/// How many times the budget for bodies answers may take: they have been executed, and are not to be lost.
const EXCESS_MAX: usize = 2;

/// A request ready to be forwarded under a claim.
pub(super) struct Forward {
    pub(super) proxy: Proxy,
    pub(super) upstream: Upstream,
    pub(super) route: Arc<Route>,
    pub(super) request: Arc<Request<WholeBody>>,
    pub(super) caller: Arc<Caller>,
    pub(super) request_id: String,
}

/// What the caller is told, and what the log should know.
pub(super) struct Answer {
    pub(super) response: Result<Response<AnswerStream>, Rejection>,
    /// Where the time went, as far as the caller waited.
    pub(super) spent: Spent,
    word: Word,
}

/// What came back from the upstream.
enum Received {
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
enum Lost {
    Sending(SendError),
    CutShort(AnswerBroken),
}

impl Answer {
    pub(super) fn rejected(rejection: Rejection) -> Self {
        Self { word: rejection.word(), response: Err(rejection), spent: Spent::default() }
    }

    pub(super) fn replay(response: Response<AnswerStream>, word: Word) -> Self {
        Self { response: Ok(response), spent: Spent::default(), word }
    }

    fn first(response: Response<AnswerStream>, word: Word) -> Self {
        Self { response: Ok(response), spent: Spent::default(), word }
    }

    pub(super) fn by(self, course: &Course) -> Self {
        Self { spent: course.spent(), ..self }
    }

    pub(super) fn word(&self) -> Word {
        self.word
    }
}

impl Forward {
    /// Forwards under `claim`, tells the caller as soon as there is an answer, and sees the record to its
    /// end. `course`: what was spent on the claim.
    pub(super) async fn execute(self, mut claim: Claim, mut course: Course, tell: oneshot::Sender<Answer>) {
        if self.proxy.shared.out_of_time.is_cancelled() {
            return leave_off(claim, Rejection::Draining, course, tell).await;
        }
        if let Err(error) = claim.confirm().await {
            tracing::warn!(%error, request_id = self.request_id, "the claim lapsed before it was used");
            return leave_off(claim, Rejection::StoreUnavailable, course, tell).await;
        }
        let began = clock::monotonic();
        let progress = Progress::licensed_by(Box::new(claim.licence()));
        // Given back when the outcome is settled and told.
        let mut room = self.proxy.shared.buffered.share();
        let exchange = self.exchange(&progress, &mut room);
        tokio::pin!(exchange);
        let lost_to = tokio::select! {
            received = &mut exchange => {
                course.asked_upstream(began, progress.queued());
                return match received {
                    Ok(received) => self.settle(claim, received, course, tell).await,
                    Err(lost) => self.settle_lost(claim, lost, course, tell).await,
                };
            }
            () = progress.stalled_for(self.upstream.timeouts().response) => UnknownReason::ResponseTimeout,
            () = self.proxy.shared.out_of_time.cancelled() => UnknownReason::GatewayStopped,
        };
        // What has not been sent by now never will be, whatever is told next.
        progress.give_up();
        course.asked_upstream(began, progress.queued());
        let began = clock::monotonic();
        let (_, late) = claim.unknown(lost_to).await;
        course.asked_store(began);
        drop(tell.send(Answer::rejected(Rejection::AnswerLost(lost_to)).by(&course)));
        if lost_to == UnknownReason::ResponseTimeout {
            self.upstream.timed_out();
            let until = Instant::now() + self.route.policy.late_answer_window;
            tokio::select! {
                received = &mut exchange => match received {
                    Ok(received) => self.settle_late(late, received, until).await,
                    Err(Lost::Sending(SendError::NotSent(..))) => {
                        late.release(Unprocessed::NeverSent).await;
                    }
                    Err(Lost::Sending(SendError::Unknown(..)) | Lost::CutShort(_)) => {}
                },
                () = tokio::time::sleep_until(until) => {}
                () = self.proxy.shared.out_of_time.cancelled() => {}
            }
        }
    }

    /// One exchange with the upstream, up to the point where its outcome is known or its body streams.
    async fn exchange(&self, progress: &Progress, room: &mut Share) -> Result<Received, Lost> {
        let response =
            self.upstream.send(self.request_to_upstream(), progress).await.map_err(Lost::Sending)?;
        let bytes_max = self.proxy.settings.server.buffered_bytes_max.saturating_mul(EXCESS_MAX);
        receive(response, &self.route.policy, room, bytes_max).await
    }

    fn request_to_upstream(&self) -> Request<RequestBody> {
        let (given, body) = (&*self.request, self.request.body());
        let mut request = Request::new(());
        *request.method_mut() = given.method().clone();
        *request.uri_mut() = given.uri().clone();
        *request.headers_mut() =
            self.proxy.headers_to_upstream(given.headers(), &self.caller, given.version());
        let buffered = Buffered::new(body.data.clone(), body.trailers_after(given.headers()));
        frame_anew(request.headers_mut(), &buffered, given.headers());
        request.map(|()| buffered.into())
    }

    async fn settle(
        &self,
        claim: Claim,
        received: Received,
        mut course: Course,
        tell: oneshot::Sender<Answer>,
    ) {
        let began = clock::monotonic();
        let answer = match received {
            Received::Whole(saved, StatusMeaning::Answer) => {
                let word = word_of(claim.complete(saved.clone()).await, Word::Executed);
                Answer::first(respond::delivered(saved, word), word)
            }
            Received::Whole(saved, meaning) => {
                let word = settle_at_head(claim, saved.head.status, meaning).await;
                Answer::first(respond::delivered(saved, word), word)
            }
            Received::Streaming { head, length, meaning, prefix, body, trailers } => {
                let (frames, stream) = mpsc::channel(FRAMES_WAITING_MAX);
                let mut response = respond::headed(&head, AnswerStream::pumped(stream));
                if let Some(length) = length {
                    response.headers_mut().insert(header::CONTENT_LENGTH, length);
                }
                let claim = if meaning == StatusMeaning::Answer {
                    Word::Executed.mark(&mut response);
                    drop(tell.send(Answer::first(response, Word::Executed).by(&course)));
                    Some(claim)
                } else {
                    let word = settle_at_head(claim, head.status, meaning).await;
                    word.mark(&mut response);
                    course.asked_store(began);
                    drop(tell.send(Answer::first(response, word).by(&course)));
                    None
                };
                return self.stream(claim, frames, trailers).carry(head, prefix, body).await;
            }
            Received::Switched => {
                let (_, _) = claim.unknown(UnknownReason::ProtocolSwitched).await;
                Answer::rejected(Rejection::AnswerLost(UnknownReason::ProtocolSwitched))
            }
        };
        course.asked_store(began);
        drop(tell.send(answer.by(&course)));
    }

    fn stream(&self, claim: Option<Claim>, caller: mpsc::Sender<Piece>, trailers: Trailers) -> Stream {
        Stream {
            caller: Some(caller),
            claim,
            trailers,
            patience: Patience {
                idle: self.upstream.timeouts().response,
                without_caller: self.route.policy.late_answer_window,
            },
            out_of_time: self.proxy.shared.out_of_time.clone(),
        }
    }

    async fn settle_lost(&self, claim: Claim, lost: Lost, mut course: Course, tell: oneshot::Sender<Answer>) {
        let began = clock::monotonic();
        let rejection = match lost {
            Lost::Sending(error) => {
                log_failure_of(&error, &self.request_id);
                match error {
                    SendError::NotSent(cause, _) => {
                        claim.release(Unprocessed::NeverSent).await;
                        Rejection::UpstreamUnreachable(cause)
                    }
                    SendError::Unknown(..) => {
                        let (_, _) = claim.unknown(UnknownReason::ConnectionLost).await;
                        Rejection::AnswerLost(UnknownReason::ConnectionLost)
                    }
                }
            }
            Lost::CutShort(error) => {
                tracing::warn!(%error, request_id = self.request_id, "the upstream's answer was cut short");
                let (_, _) = claim.unknown(UnknownReason::AnswerCutShort).await;
                Rejection::AnswerLost(UnknownReason::AnswerCutShort)
            }
        };
        course.asked_store(began);
        drop(tell.send(Answer::rejected(rejection).by(&course)));
    }

    async fn settle_late(&self, late: LateClaim, received: Received, until: Instant) {
        let settlement = match received {
            Received::Whole(saved, StatusMeaning::Answer) => late.complete(saved).await,
            Received::Whole(saved, StatusMeaning::NotProcessed) => {
                late.release(Unprocessed::SaidByStatus(saved.head.status)).await
            }
            Received::Streaming { head, meaning: StatusMeaning::NotProcessed, .. } => {
                late.release(Unprocessed::SaidByStatus(head.status)).await
            }
            Received::Streaming { head, meaning: StatusMeaning::Answer, body, .. } => {
                if !drained(body, until).await {
                    return;
                }
                late.complete_without_body(head).await
            }
            Received::Whole(_, StatusMeaning::Unknown) | Received::Streaming { .. } | Received::Switched => {
                return;
            }
        };
        if settlement == Settlement::Stored {
            self.proxy.shared.metrics.claims.answered_late();
        }
        tracing::info!(request_id = self.request_id, ?settlement, "the answer came late");
    }
}

/// Gives back a claim for which nothing is sent.
async fn leave_off(claim: Claim, rejection: Rejection, mut course: Course, tell: oneshot::Sender<Answer>) {
    let began = clock::monotonic();
    claim.release(Unprocessed::NeverSent).await;
    course.asked_store(began);
    drop(tell.send(Answer::rejected(rejection).by(&course)));
}

/// Settles an answer that is no answer to keep.
async fn settle_at_head(claim: Claim, status: u16, meaning: StatusMeaning) -> Word {
    match meaning {
        StatusMeaning::NotProcessed => {
            word_of(claim.release(Unprocessed::SaidByStatus(status)).await, Word::Released)
        }
        StatusMeaning::Unknown | StatusMeaning::Answer => {
            let (_, _) = claim.unknown(UnknownReason::ServerError).await;
            Word::Unknown
        }
    }
}

/// Receives an answer: whole if it is within bounds, else up to the point where that is known.
async fn receive(
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
async fn drained(mut body: AnswerBody, until: Instant) -> bool {
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

fn word_of(settlement: Settlement, stored: Word) -> Word {
    match settlement {
        Settlement::Stored => stored,
        Settlement::Unstored | Settlement::Superseded => Word::Unstored,
    }
}
