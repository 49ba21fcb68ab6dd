//! The short road: a request that no route guards, passed through and streamed both ways.
//!
//! Must not know keys or claims. An upgrade is followed: after a 101 the two connections are one.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body as _;

use super::answer::AnswerStream;
use super::aside::Aside;
use super::body::WholeBody;
use super::caller::Caller;
use super::forwarded::Origin;
use super::pace::{Fault, Paced};
use super::respond::Rejection;
use super::upgrade::{self, Agreed, Offer, Unasked};
use super::{Proxy, Word, headers, trailers};
use crate::protocol::record::UnknownReason;
use crate::telemetry::access::AccessLine;
use crate::telemetry::course::Fared;
use crate::upstream::{AnswerBody, Broken, Buffered, NotSent, Progress, RequestBody, SendError, Upstream};

impl Proxy {
    /// Passes a request through.
    ///
    /// Cancel safety: dropping the future abandons the exchange with the upstream.
    pub(super) async fn pass(
        &self,
        upstream: &Upstream,
        mut request: Request<RequestBody>,
        caller: &Arc<Caller>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        let offer = Offer::of(&mut request);
        if let Some(aside) = request.extensions_mut().remove::<Aside>() {
            let exchange = aside.exchange();
            hyper::ext::on_informational(&mut request, move |answer| {
                aside.interim(exchange, answer.status(), answer.headers(), answer.version());
            });
        }
        let (mut parts, body) = request.into_parts();
        parts.headers = self.headers_to_upstream(parts.headers, caller, parts.version);
        parts.version = http::Version::HTTP_11;
        // hyper frames a body by itself only for methods that usually have one.
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(offer) = &offer {
            offer.make(&mut parts.headers);
        }
        let mut response = self.pass_on(upstream, Box::new(Request::from_parts(parts, body)), line).await?;
        let agreed = agreed(offer, &mut response)?;
        let mut response = to_caller(response);
        if let Some((agreed, protocol)) = agreed {
            let carrying = self.shared.out_of_time.clone().run_until_cancelled_owned(agreed.carry());
            self.shared.exchanges.spawn(carrying);
            headers::add_connection_option(response.headers_mut(), "upgrade");
            response.headers_mut().insert(header::UPGRADE, protocol);
        }
        Ok(response)
    }

    /// Forwards a request whose body is at hand, without a claim.
    pub(super) async fn pass_buffered(
        &self,
        upstream: &Upstream,
        request: Request<WholeBody>,
        caller: &Arc<Caller>,
        word: Word,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        let (mut parts, body) = request.into_parts();
        let (trailers, has_length) = (body.trailers_after(&parts.headers), tells_a_length(&parts.headers));
        parts.headers = self.headers_to_upstream(parts.headers, caller, parts.version);
        parts.version = http::Version::HTTP_11;
        let body = Buffered::new(body.data, trailers);
        frame_anew(&mut parts.headers, &body, has_length);
        let mut response =
            self.pass_on(upstream, Box::new(Request::from_parts(parts, body.into())), line).await?;
        agreed(None, &mut response)?;
        line.word(word.as_str());
        let mut response = to_caller(response);
        word.mark(&mut response);
        Ok(response)
    }

    /// The fields of a request as they go to its upstream.
    pub(super) fn headers_to_upstream(
        &self,
        fields: HeaderMap,
        caller: &Caller,
        version: http::Version,
    ) -> HeaderMap {
        let origin = Origin::new(caller, &fields, &self.settings.server);
        headers::to_upstream(fields, &origin, version)
    }

    async fn pass_on(
        &self,
        upstream: &Upstream,
        mut request: Box<Request<RequestBody>>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerBody>, Rejection> {
        let (leg, progress) = (line.course.leg(), Progress::default());
        line.course.mark(&leg, request.headers_mut());
        let fault = request.extensions().get::<Fault>().cloned();
        let sent = tokio::select! {
            biased; // In one order, so that a simulation plays the same twice.
            sent = upstream.send(request, &progress) => sent,
            () = progress.stalled_for(upstream.timeouts().response) => {
                let fared = Fared::Failed(UnknownReason::ResponseTimeout.as_str());
                line.course.forwarded(&leg, progress.queued(), upstream.name(), fared, |_| {});
                upstream.timed_out();
                return Err(Rejection::PassTimedOut);
            }
        };
        let fared = fared(&sent);
        line.course.forwarded(&leg, progress.queued(), upstream.name(), fared, |_| {});
        match sent {
            Ok(response) => Ok(response),
            Err(error) => {
                let rejection = match &error {
                    SendError::NotSent(cause, _) => Rejection::PassUnreached(*cause),
                    SendError::Unknown(Broken::CallersBody, _) => {
                        Rejection::Malformed("the body's framing is broken")
                    }
                    SendError::Unknown(broken, _) => Rejection::PassBroken(*broken),
                };
                log_failure(&error, line);
                // A request that its caller broke off is not the upstream's fault, whatever that made of it.
                Err(fault.and_then(|fault| fault.found()).unwrap_or(rejection))
            }
        }
    }
}

/// How a request fared that was sent.
pub(super) fn fared(sent: &Result<Response<AnswerBody>, SendError>) -> Fared {
    match sent {
        Ok(response) => Fared::Answered(response.status().as_u16()),
        Err(error) => Fared::Failed(error.word()),
    }
}

/// What became of an offer to change protocols. RFC 9110 §7.8: a change that nobody offered is no answer.
fn agreed(
    offer: Option<Offer>,
    response: &mut Response<AnswerBody>,
) -> Result<Option<(Agreed, HeaderValue)>, Rejection> {
    upgrade::agreed(offer, response).map_err(|Unasked| Rejection::PassBroken(Broken::Malformed))
}

/// A request whose body is streamed from its caller.
pub(super) fn streamed(request: Request<Paced>) -> Request<RequestBody> {
    let trailers = trailers::after(request.headers());
    let fault = request.body().fault();
    let mut request = request.map(|body| RequestBody::streamed(Bytes::new(), body, trailers));
    if let Some(fault) = fault {
        request.extensions_mut().insert(fault);
    }
    request
}

/// Frames a request whose body is at hand: by its length, or, if trailers follow, in chunks, with the trailers
/// announced (RFC 9110 §6.6.2, RFC 9112 §6). `has_length`: as it came.
pub(super) fn frame_anew(fields: &mut HeaderMap, body: &Buffered, has_length: bool) {
    if let Some(names) = body.trailers().and_then(trailers::announcement) {
        fields.remove(header::CONTENT_LENGTH);
        fields.insert(header::TRAILER, names);
        fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        return;
    }
    fields.remove(header::TRAILER);
    // One without a body has no length, unless it said so.
    if has_length {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(body.data().len()));
    }
}

/// Whether a request of these fields says that it has a body, were it an empty one.
pub(super) fn tells_a_length(fields: &HeaderMap) -> bool {
    fields.contains_key(header::CONTENT_LENGTH) || fields.contains_key(header::TRANSFER_ENCODING)
}

/// Logs why a request to an upstream failed.
pub(super) fn log_failure(error: &SendError, line: &AccessLine) {
    log_failure_of(error, line.request_id());
}

/// Logs why the request of this id failed at the upstream. Those that found no room are told together.
pub(super) fn log_failure_of(error: &SendError, request_id: &str) {
    if matches!(error, SendError::NotSent(NotSent::Overloaded, _)) {
        return;
    }
    let error: &dyn std::error::Error = error;
    tracing::warn!(error, request_id, "the upstream did not answer");
}

fn to_caller(response: Response<AnswerBody>) -> Response<AnswerStream> {
    let (mut parts, body) = response.into_parts();
    let trailers = trailers::after(&parts.headers);
    parts.headers = headers::to_caller(parts.headers, parts.status, parts.version);
    parts.version = http::Version::HTTP_11;
    // What the client library left there is between it and us.
    parts.extensions = http::Extensions::new();
    Response::from_parts(parts, AnswerStream::passing(body, trailers))
}
