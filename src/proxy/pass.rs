//! The short road: a request that no route guards, passed through and streamed both ways.
//!
//! Must not know keys or claims. An upgrade is followed: after a 101 the two connections are one.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::answer::AnswerStream;
use super::body::WholeBody;
use super::caller::Caller;
use super::headers::{self, Peer};
use super::respond::Rejection;
use super::{Proxy, Word};
use crate::clock;
use crate::telemetry::access::AccessLine;
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
        let upgrade = headers::upgrade_of(request.headers()).cloned();
        let callers_side = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        parts.headers = self.headers_to_upstream(&parts.headers, caller, parts.version);
        parts.version = http::Version::HTTP_11;
        // hyper frames a body by itself only for methods that usually have one.
        if !body.is_end_stream() && body.size_hint().exact().is_none() {
            parts.headers.insert(header::TRANSFER_ENCODING, http::HeaderValue::from_static("chunked"));
        }
        if let Some(protocol) = upgrade {
            parts.headers.insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, protocol);
        }
        let mut response = self.pass_on(upstream, Request::from_parts(parts, body), line).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(callers_side) = callers_side
        {
            let protocol = response.headers().get(header::UPGRADE).cloned();
            let upstreams_side = hyper::upgrade::on(&mut response);
            self.shared.exchanges.spawn(
                self.shared.out_of_time.clone().run_until_cancelled_owned(join(callers_side, upstreams_side)),
            );
            let mut response = to_caller(response);
            response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("upgrade"));
            if let Some(protocol) = protocol {
                response.headers_mut().insert(header::UPGRADE, protocol);
            }
            return Ok(response);
        }
        Ok(to_caller(response))
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
        parts.headers = self.headers_to_upstream(&parts.headers, caller, parts.version);
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.version = http::Version::HTTP_11;
        let body = Buffered::new(body.data, body.trailers).into();
        let response = self.pass_on(upstream, Request::from_parts(parts, body), line).await?;
        line.word(word.as_str());
        let mut response = to_caller(response);
        word.mark(&mut response);
        Ok(response)
    }

    /// The fields of a request as they go to its upstream.
    pub(super) fn headers_to_upstream(
        &self,
        fields: &HeaderMap,
        caller: &Caller,
        version: http::Version,
    ) -> HeaderMap {
        let peer = Peer {
            address: caller.ip(),
            host: fields.get(header::HOST),
            forwarded: self.settings.server.forwarded,
        };
        headers::to_upstream(fields, &peer, version)
    }

    async fn pass_on(
        &self,
        upstream: &Upstream,
        request: Request<RequestBody>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerBody>, Rejection> {
        let (began, progress) = (clock::monotonic(), Progress::default());
        let sent = tokio::select! {
            sent = upstream.send(request, &progress) => sent,
            () = progress.stalled_for(upstream.timeouts().response) => return Err(Rejection::PassTimedOut),
        };
        line.upstream_took(clock::monotonic().duration_since(began));
        match sent {
            Ok(response) => Ok(response),
            Err(error) => {
                let rejection = match &error {
                    SendError::NotSent(cause, _) => Rejection::PassUnreached(*cause),
                    // The caller's own body broke off or was malformed, which is not the upstream's fault.
                    SendError::Unknown(Broken::CallersBody, _) => {
                        Rejection::Malformed("the body's framing is broken")
                    }
                    SendError::Unknown(broken, _) => Rejection::PassBroken(*broken),
                };
                log_failure(&error, line);
                Err(rejection)
            }
        }
    }
}

/// A caller's body, streamed.
pub(super) fn streamed(incoming: Incoming) -> RequestBody {
    RequestBody::streamed(Bytes::new(), incoming, headers::trailers)
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
    parts.headers = headers::to_caller(&parts.headers, parts.version);
    parts.version = http::Version::HTTP_11;
    // What the client library left there is between it and us.
    parts.extensions = http::Extensions::new();
    Response::from_parts(parts, AnswerStream::passing(body))
}

/// Carries bytes both ways until both sides are done.
async fn join(callers_side: hyper::upgrade::OnUpgrade, upstreams_side: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(callers_side, upstreams_side) {
        Ok((caller, upstream)) => {
            let (mut caller, mut upstream) = (TokioIo::new(caller), TokioIo::new(upstream));
            if let Err(error) = tokio::io::copy_bidirectional(&mut caller, &mut upstream).await {
                tracing::debug!(%error, "an upgraded connection broke off");
            }
        }
        Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
    }
}
