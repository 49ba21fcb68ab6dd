//! The guarded road up to the verdict: key, caller, body, fingerprint, ledger.
//!
//! Must not know how a claim is executed (`execute.rs`). Read `admit.rs` before.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Request, Response};
use tokio::sync::oneshot;

use super::Proxy;
use super::admit::{self, Keys};
use super::answer::AnswerStream;
use super::body::{self, NotReceived, Room, WholeBody};
use super::caller::Caller;
use super::execute::{Answer, Forward};
use super::pace::Paced;
use super::quota::{self, Quota, Seat};
use super::respond::Rejection;
use super::told::{how_it_ended, what_was_found};
use super::word::Word;
use super::{pass, trailers};
use crate::clock;
use crate::config::Route;
use crate::ledger::{Claim, Opened, Question, Terms, Unavailable, Waited};
use crate::protocol::key::IdempotencyKey;
use crate::protocol::machine::Asked;
use crate::protocol::policy::{InFlightMode, Mode, OnStoreError, Policy};
use crate::protocol::scope::StorageKey;
use crate::telemetry::access::AccessLine;
use crate::telemetry::course::{Course, Errand, Spent};
use crate::telemetry::metrics::Limit;
use crate::upstream::{Buffered, RequestBody, Timeouts, Upstream};

/// A store may be away for so long while an answer waits to be kept, however short a route's retention: until then the
/// claim holds its key.
const STORE_OUTAGE_MAX: Duration = Duration::from_mins(10);

/// What became of one question to the ledger, and where the time went.
type Timed = (Asking, Spent);

/// What became of one question to the ledger.
#[expect(clippy::large_enum_variant, reason = "lives for one step; nearly all are answers")]
pub(super) enum Asking {
    Answered(Answer),
    InFlight,
    Unavailable,
    /// The route only observes: forward, and log what would have been.
    Observed(&'static str),
}

/// A request with a key, received whole, and what is asked of the ledger for it.
struct Guarded<'a> {
    route: &'a Arc<Route>,
    question: Arc<Question>,
    request: Arc<Request<WholeBody>>,
    caller: &'a Arc<Caller>,
    /// Its caller's, where the route counts what callers take.
    seat: Option<Arc<Seat>>,
}

impl Proxy {
    /// Takes a request down the guarded road.
    ///
    /// Cancel safety: until the ledger is asked nothing has been claimed or sent; from then on a task of its
    /// own does the work, and only the answer is lost with the caller.
    pub(super) async fn guard(
        &self,
        route: &Arc<Route>,
        request: Request<Paced>,
        caller: &Arc<Caller>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        let (policy, upstream) = (&route.policy, self.upstream_of(route)?);
        let admissions = match admit::admit_both(policy, request.headers(), caller) {
            Ok(admissions) if admissions.are_unkeyed() => {
                let request = pass::streamed(request);
                return Box::pin(self.pass_marked(upstream, request, caller, Word::None, line)).await;
            }
            Ok(admissions) => self.seat(policy, request.headers(), caller).map(|seat| (admissions, seat)),
            Err(rejection) => Err(rejection),
        };
        let (admissions, seat) = match admissions {
            Ok(admitted) => admitted,
            Err(rejection) => {
                let request = pass::streamed(request);
                return Box::pin(self.refuse(route, rejection, request, caller, line)).await;
            }
        };
        let (parts, incoming) = request.into_parts();
        let began = clock::monotonic();
        let received = body::receive(incoming, policy.request_body_max, self.room()).await;
        line.course.received(began);
        let body = match received {
            Ok(body) => body,
            Err(NotReceived::TooLarge { prefix, rest }) => {
                self.shared.metrics.limits.hit(Limit::RequestBody);
                let rejection = Rejection::RequestTooLarge { max: policy.request_body_max };
                let trailers = trailers::after(&parts.headers);
                let request = Request::from_parts(parts, RequestBody::streamed(prefix, rest, trailers));
                return Box::pin(self.refuse(route, rejection, request, caller, line)).await;
            }
            Err(NotReceived::Rejected(rejection)) => return Err(rejection),
            // Nobody reads this answer; nothing was claimed and nothing is forwarded.
            Err(NotReceived::CallerGone) => return Err(Rejection::Malformed("the body is not complete")),
        };
        let keys = match admit::keys_with_body(policy, admissions, &body.data) {
            Ok(Some(keys)) => keys,
            Ok(None) => {
                let request = Request::from_parts(parts, body);
                return Box::pin(self.pass_buffered(upstream, request, caller, Word::None, line)).await;
            }
            Err(rejection) => {
                let body = Buffered::new(body.data.clone(), body.trailers_after(&parts.headers));
                let request = Request::from_parts(parts, body.into());
                return Box::pin(self.refuse(route, rejection, request, caller, line)).await;
            }
        };
        let question = self.question(route, &parts, &body, caller, &keys, upstream);
        line.operates_on(question.key);
        let request = Arc::new(Request::from_parts(parts, body));
        let question = Arc::new(question);
        let guarded = Guarded { route, question, request, caller, seat: seat.clone() };
        let answer = self.ask_until_answered(guarded, line).await?;
        // Until its last byte has been taken: a slow caller takes up as much as a quick one with many requests.
        Ok(answer.map(|body| body.seated(seat)))
    }

    /// A place for another request of this caller, where its route counts them.
    fn seat(
        &self,
        policy: &Policy,
        fields: &HeaderMap,
        caller: &Caller,
    ) -> Result<Option<Arc<Seat>>, Rejection> {
        if !quota::counts(policy) {
            return Ok(None);
        }
        let tag = admit::scope_tag(&self.settings.hash_key, &self.settings.namespace, policy, fields, caller);
        let seat = self.shared.quotas.seat(tag, policy).map_err(|quota| self.exceeded(quota))?;
        Ok(Some(Arc::new(seat)))
    }

    fn exceeded(&self, quota: Quota) -> Rejection {
        self.shared.metrics.limits.hit(match quota {
            Quota::InFlight { .. } => Limit::InFlightPerScope,
            Quota::Claims { .. } => Limit::ClaimsPerScope,
        });
        Rejection::QuotaExceeded(quota)
    }

    fn room(&self) -> Room<'_> {
        Room {
            budget: &self.shared.buffered,
            max: self.settings.server.buffered_bytes_max,
            limits: &self.shared.metrics.limits,
        }
    }

    /// Refuses a request, or, on a route that only observes, notes what it would have been told.
    async fn refuse(
        &self,
        route: &Route,
        rejection: Rejection,
        request: Request<RequestBody>,
        caller: &Arc<Caller>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        if route.policy.mode == Mode::Enforce {
            return Err(rejection);
        }
        line.would_be(rejection.code());
        self.pass_marked(self.upstream_of(route)?, request, caller, Word::Unprotected, line).await
    }

    async fn pass_marked(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
        caller: &Arc<Caller>,
        word: Word,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        let mut response = self.pass(upstream, request, caller, line).await?;
        line.word(word.as_str());
        word.mark(&mut response);
        Ok(response)
    }

    /// What the ledger is asked. Where the route tells how its keys were made before, the request is put in both
    /// ways; where both give one key, only the fingerprint may be another.
    fn question(
        &self,
        route: &Route,
        parts: &Parts,
        body: &WholeBody,
        caller: &Caller,
        keys: &Keys<'_>,
        upstream: &Upstream,
    ) -> Question {
        let policy = &route.policy;
        let hash_key = &self.settings.hash_key;
        let ask = |policy: &Policy, key: &IdempotencyKey| Question {
            key: admit::storage_key(hash_key, &self.settings.namespace, policy, &parts.headers, caller, key),
            asked: Asked {
                fingerprint: admit::fingerprint(hash_key, policy, parts, body),
                earlier: None,
                on_unknown: policy.on_unknown,
                route: route.path.clone(),
            },
            terms: terms(policy, upstream.timeouts()),
            earlier: None,
        };
        let (now, earlier) = match keys {
            Keys::Now(key) => return ask(policy, key),
            Keys::Earlier(previous, key) => return ask(previous, key),
            Keys::Both(now, previous, earlier) => (ask(policy, now), ask(previous, earlier)),
        };
        if now.key != earlier.key {
            return Question { earlier: Some(Box::new(earlier)), ..now };
        }
        let fingerprint = earlier.asked.fingerprint;
        let earlier = (fingerprint != now.asked.fingerprint).then_some(fingerprint);
        Question { asked: Asked { earlier, ..now.asked }, ..now }
    }

    async fn ask_until_answered(
        &self,
        guarded: Guarded<'_>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        let policy = &guarded.route.policy;
        let wait_until = clock::monotonic() + policy.wait_timeout;
        loop {
            let (asking, spent) = self.ask(&guarded, line).await;
            line.course.join(spent);
            match asking {
                Asking::Answered(answer) => {
                    line.word(answer.word().as_str());
                    return answer.response;
                }
                Asking::InFlight if policy.in_flight == InFlightMode::Reject => {
                    return Err(Rejection::InFlight);
                }
                Asking::InFlight => {
                    let began = clock::monotonic();
                    let waited = self.ledger.wait(&guarded.question, wait_until).await;
                    line.course.waited(began, how_it_ended(&waited));
                    match waited {
                        Ok(Waited::Settled) => {}
                        Ok(Waited::TimedOut) => return Err(Rejection::InFlight),
                        Err(error) => {
                            log_unavailable(&error);
                            return Err(Rejection::StoreUnavailable);
                        }
                    }
                }
                Asking::Unavailable if policy.on_store_error == OnStoreError::Forward => {
                    tracing::warn!(
                        request_id = line.request_id(),
                        "forwarded unprotected: the store is out of reach"
                    );
                    return Box::pin(self.pass_again(guarded, line)).await;
                }
                Asking::Unavailable => return Err(Rejection::StoreUnavailable),
                Asking::Observed(would_be) => {
                    line.would_be(would_be);
                    return Box::pin(self.pass_again(guarded, line)).await;
                }
            }
        }
    }

    /// Asks the ledger, and executes the claim if there is one, in a task that outlives the caller. From
    /// the moment the ledger is asked a claim may stand in the store, so nobody may walk away.
    async fn ask(&self, guarded: &Guarded<'_>, line: &AccessLine) -> Timed {
        let Guarded { route, question, request, caller, seat } = guarded;
        let (nothing, began) = (Spent::default(), clock::monotonic());
        if let Some(known) = self.ledger.recall(question) {
            let asking = self.told(known, &question.key, &route.policy);
            line.course.recalled(began);
            return (asking, nothing);
        }
        if let Some(Err(quota)) = seat.as_ref().map(|seat| seat.claims(&route.policy, began)) {
            let rejection = self.exceeded(quota);
            return match route.policy.mode {
                Mode::Observe => (Asking::Observed(rejection.code()), nothing),
                Mode::Enforce => (Asking::Answered(Answer::rejected(rejection)), nothing),
            };
        }
        let (tell, answered) = oneshot::channel();
        let forward = Box::new(Forward {
            proxy: self.clone(),
            upstream: match self.upstream_of(route) {
                Ok(upstream) => upstream.clone(),
                Err(rejection) => return (Asking::Answered(Answer::rejected(rejection)), nothing),
            },
            route: Arc::clone(route),
            request: Arc::clone(request),
            caller: Arc::clone(caller),
            request_id: line.request_id().to_owned(),
            seat: seat.clone(),
        });
        let (question, course) = (Arc::clone(question), line.course.branch());
        self.shared.exchanges.spawn(open(question, forward, course, tell));
        // The task is gone without an answer only if it panicked; what it claimed reads as unknown.
        answered.await.unwrap_or_else(|_| (Asking::Answered(Answer::rejected(Rejection::Internal)), nothing))
    }

    async fn pass_again(
        &self,
        guarded: Guarded<'_>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        let upstream = self.upstream_of(guarded.route)?;
        let request = Arc::try_unwrap(guarded.request).unwrap_or_else(|shared| Request::clone(&shared));
        self.pass_buffered(upstream, request, guarded.caller, Word::Unprotected, line).await
    }
}

/// Asks the ledger, and does what it says.
async fn open(
    question: Arc<Question>,
    forward: Box<Forward>,
    mut course: Course,
    tell: oneshot::Sender<Timed>,
) {
    let began = clock::monotonic();
    // Boxed, as all that is large on this road: a task is moved about before it runs, with room for all that it may
    // come to, and these moves were a tenth of a first request's instructions.
    let opened = Box::pin(forward.proxy.ledger.open(&question)).await;
    course.asked_store(Errand::Claim, began, what_was_found(&opened));
    decide(opened, forward, &question.key, course, tell).await;
}

/// The one match on the verdict.
async fn decide(
    opened: Result<Opened, Unavailable>,
    forward: Box<Forward>,
    key: &StorageKey,
    course: Course,
    tell: oneshot::Sender<Timed>,
) {
    if let (Ok(Opened::Known(_)) | Err(_), Some(seat)) = (&opened, &forward.seat) {
        seat.claimed_none(&forward.route.policy);
    }
    let asking = match opened {
        Ok(Opened::Execute(claim)) => return Box::pin(execute(claim, forward, course, tell)).await,
        Ok(Opened::Known(known)) => forward.proxy.told(known, key, &forward.route.policy),
        Err(error) => {
            log_unavailable(&error);
            match (forward.route.policy.mode, error) {
                (Mode::Observe, _) => Asking::Observed(Word::Unprotected.as_str()),
                // A key that is known to be somebody's is never run unprotected, nor one that looks new only
                // because the records have moved.
                (Mode::Enforce, Unavailable::KeyStands(_) | Unavailable::Closed) => {
                    Asking::Answered(Answer::rejected(Rejection::StoreUnavailable))
                }
                (
                    Mode::Enforce,
                    Unavailable::Store(_) | Unavailable::SessionLapsed | Unavailable::ClaimGone,
                ) => Asking::Unavailable,
            }
        }
    };
    // A caller that has gone needs no telling.
    drop(tell.send((asking, course.spent())));
}

/// Executes the claim and passes the answer on while the execution sees the record to its end.
async fn execute(claim: Box<Claim>, forward: Box<Forward>, course: Course, tell: oneshot::Sender<Timed>) {
    let request_id = forward.request_id.clone();
    let (tell_answer, answer) = oneshot::channel::<Answer>();
    let pass_on = async {
        if let Ok(answer) = answer.await
            && let spent = answer.spent
            && let Err((Asking::Answered(answer), _)) = tell.send((Asking::Answered(answer), spent))
        {
            let idempotency = answer.word().as_str();
            tracing::info!(request_id, idempotency, "the caller had left when its request was done");
        }
    };
    tokio::join!(forward.execute(claim, course, tell_answer), pass_on);
}

fn log_unavailable(error: &Unavailable) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, "the key could not be claimed");
}

fn terms(policy: &Policy, timeouts: Timeouts) -> Terms {
    Terms {
        retention: policy.retention(),
        claim_keep_for: policy.claim_keep_for(
            timeouts.connect.saturating_add(timeouts.response).saturating_add(STORE_OUTAGE_MAX),
        ),
        commit_timeout: policy.commit_timeout,
    }
}
