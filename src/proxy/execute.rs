//! Forwards the one request that holds the claim, and settles what came of it.
//!
//! Runs in a task that outlives the caller. At every `.await` here the process may die: the claim then
//! stands as a tombstone and reads as unknown. Must not know how keys are found. Read `guard.rs` before.

use std::sync::Arc;

use http::header;
use http::{Request, Response};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Proxy;
use super::answer::{AnswerStream, Piece};
use super::body::WholeBody;
use super::budget::Share;
use super::caller::Caller;
use super::pass::{frame_anew, log_failure_of, tells_a_length};
use super::quota::Seat;
use super::received::{Lost, Received, drained, how_it_fared, receive};
use super::respond::{self, Rejection};
use super::stream::{FRAMES_WAITING_MAX, Patience, Stream};
use super::word::Word;
use crate::clock;
use crate::config::Route;
use crate::ledger::{Claim, LateClaim, Settlement, Unprocessed};
use crate::protocol::policy::StatusMeaning;
use crate::protocol::record::UnknownReason;
use crate::telemetry::course::{Course, Errand, Fared, Spent};
use crate::telemetry::trace::Facts;
use crate::upstream::{Buffered, Progress, RequestBody, SendError, Trailers, Upstream};

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
    /// Its caller's, held until the outcome is settled: whoever leaves goes on taking it up.
    pub(super) seat: Option<Arc<Seat>>,
}

/// What the caller is told, and what the log should know.
pub(super) struct Answer {
    pub(super) response: Result<Response<AnswerStream>, Rejection>,
    /// Where the time went, as far as the caller waited.
    pub(super) spent: Spent,
    word: Word,
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
    pub(super) async fn execute(
        self: Box<Self>,
        mut claim: Box<Claim>,
        mut course: Course,
        tell: oneshot::Sender<Answer>,
    ) {
        if self.proxy.shared.out_of_time.is_cancelled() {
            return Box::pin(leave_off(*claim, Rejection::Draining, course, tell)).await;
        }
        if let Err(error) = claim.confirm().await {
            tracing::warn!(%error, request_id = self.request_id, "the claim lapsed before it was used");
            return Box::pin(leave_off(*claim, Rejection::StoreUnavailable, course, tell)).await;
        }
        let leg = course.leg();
        let attempt = claim.attempt();
        let tell_attempt = |facts: &mut Facts| facts.id("onceway.attempt", attempt.0);
        let progress = Progress::licensed_by(Box::new(claim.licence()));
        // Given back when the outcome is settled and told.
        let mut room = self.proxy.shared.buffered.share();
        let mut request = self.request_to_upstream();
        course.mark(&leg, request.headers_mut());
        let mut exchange = Box::pin(self.exchange(request, &progress, &mut room));
        let lost_to = tokio::select! {
            biased; // In one order, so that a simulation plays the same twice.
            received = &mut exchange => {
                let fared = how_it_fared(&received);
                course.forwarded(&leg, progress.queued(), self.upstream.name(), fared, tell_attempt);
                return match received {
                    Ok(received) => Box::pin(self.settle(claim, received, course, tell)).await,
                    Err(lost) => Box::pin(self.settle_lost(claim, lost, course, tell)).await,
                };
            }
            () = progress.stalled_for(self.upstream.timeouts().response) => UnknownReason::ResponseTimeout,
            () = self.proxy.shared.out_of_time.cancelled() => UnknownReason::GatewayStopped,
        };
        // What has not been sent by now never will be, whatever is told next.
        progress.give_up();
        let fared = Fared::Failed(lost_to.as_str());
        course.forwarded(&leg, progress.queued(), self.upstream.name(), fared, tell_attempt);
        let began = clock::monotonic();
        let (_, late) = Box::pin(claim.unknown(lost_to)).await;
        course.asked_store(Errand::Settle, began, Word::Unknown.as_str());
        drop(tell.send(Answer::rejected(Rejection::AnswerLost(lost_to)).by(&course)));
        if lost_to == UnknownReason::ResponseTimeout {
            self.upstream.timed_out();
            let until = Instant::now() + self.route.policy.late_answer_window;
            tokio::select! {
                biased; // In one order, so that a simulation plays the same twice.
                received = &mut exchange => match received {
                    Ok(received) => Box::pin(self.settle_late(late, received, course, until)).await,
                    Err(Lost::Sending(SendError::NotSent(..))) => {
                        Box::pin(late.release(Unprocessed::NeverSent)).await;
                    }
                    Err(Lost::Sending(SendError::Unknown(..)) | Lost::CutShort(_)) => {}
                },
                () = tokio::time::sleep_until(until) => {}
                () = self.proxy.shared.out_of_time.cancelled() => {}
            }
        }
    }

    /// One exchange with the upstream, up to the point where its outcome is known or its body streams.
    async fn exchange(
        &self,
        request: Box<Request<RequestBody>>,
        progress: &Progress,
        room: &mut Share,
    ) -> Result<Received, Lost> {
        let response = self.upstream.send(request, progress).await.map_err(Lost::Sending)?;
        let bytes_max = self.proxy.settings.server.buffered_bytes_max.saturating_mul(EXCESS_MAX);
        receive(response, &self.route.policy, room, bytes_max).await
    }

    fn request_to_upstream(&self) -> Box<Request<RequestBody>> {
        let (given, body) = (&*self.request, self.request.body());
        let mut request = Request::new(());
        *request.method_mut() = given.method().clone();
        *request.uri_mut() = given.uri().clone();
        *request.headers_mut() =
            self.proxy.headers_to_upstream(given.headers().clone(), &self.caller, given.version());
        let buffered = Buffered::new(body.data.clone(), body.trailers_after(given.headers()));
        frame_anew(request.headers_mut(), &buffered, tells_a_length(given.headers()));
        Box::new(request.map(|()| buffered.into()))
    }

    async fn settle(
        &self,
        claim: Box<Claim>,
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
                let word = Box::pin(settle_at_head(*claim, saved.head.status, meaning)).await;
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
                    Some(*claim)
                } else {
                    let word = Box::pin(settle_at_head(*claim, head.status, meaning)).await;
                    word.mark(&mut response);
                    course.asked_store(Errand::Settle, began, word.as_str());
                    drop(tell.send(Answer::first(response, word).by(&course)));
                    None
                };
                let stream = self.stream(claim, frames, trailers, course);
                return Box::pin(stream.carry(head, prefix, body)).await;
            }
            Received::Switched => {
                let (_, _) = claim.unknown(UnknownReason::ProtocolSwitched).await;
                Answer::rejected(Rejection::AnswerLost(UnknownReason::ProtocolSwitched))
            }
        };
        course.asked_store(Errand::Settle, began, answer.word.as_str());
        drop(tell.send(answer.by(&course)));
    }

    fn stream(
        &self,
        claim: Option<Claim>,
        caller: mpsc::Sender<Piece>,
        trailers: Trailers,
        course: Course,
    ) -> Stream {
        Stream {
            request_id: self.request_id.clone(),
            course,
            caller: Some(caller),
            held: None,
            claim,
            trailers,
            patience: Patience {
                idle: self.upstream.timeouts().response,
                without_caller: self.route.policy.late_answer_window,
            },
            out_of_time: self.proxy.shared.out_of_time.clone(),
        }
    }

    async fn settle_lost(
        &self,
        claim: Box<Claim>,
        lost: Lost,
        mut course: Course,
        tell: oneshot::Sender<Answer>,
    ) {
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
        course.asked_store(Errand::Settle, began, rejection.word().as_str());
        drop(tell.send(Answer::rejected(rejection).by(&course)));
    }

    async fn settle_late(&self, late: LateClaim, received: Received, mut course: Course, until: Instant) {
        let began = clock::monotonic();
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
        course.asked_store(Errand::Settle, began, "late");
        tracing::info!(request_id = self.request_id, ?settlement, "the answer came late");
    }
}

/// Gives back a claim for which nothing is sent.
async fn leave_off(claim: Claim, rejection: Rejection, mut course: Course, tell: oneshot::Sender<Answer>) {
    let began = clock::monotonic();
    claim.release(Unprocessed::NeverSent).await;
    course.asked_store(Errand::Settle, began, Word::Released.as_str());
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

fn word_of(settlement: Settlement, stored: Word) -> Word {
    match settlement {
        Settlement::Stored => stored,
        Settlement::Unstored | Settlement::Superseded => Word::Unstored,
    }
}
