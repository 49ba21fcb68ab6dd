//! HTTP/1.0 and HTTP/1.1 on one connection, from its first byte to its last.
//!
//! Must not know how the connection came about, nor what is served. Read `framing.rs` for what is looked at before
//! hyper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::connection::Surroundings;
use super::framing::{Limits, LookedOver};
use super::interposed::Interposed;
use super::patience::Patient;
use super::rest::{self, Loan};
use crate::config::Server;
use crate::proxy::{AnswerStream, Aside, Caller, Doubt};
use crate::telemetry::metrics::Limit;

/// How a connection came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nothing on it can be taken for what it is not.
    InOrder,
    /// Within an answer that an orderly end would make look whole (RFC 9112 §8).
    CutShort,
}

/// Serves a connection until it ends, or until `closing` is cancelled and nothing is under way on it.
///
/// `already_read`: bytes of it that were taken from `stream` to find out which protocol is spoken.
///
/// Cancel safety: dropping the future cuts the connection.
pub(super) async fn serve<S>(
    stream: S,
    already_read: Bytes,
    caller: Arc<Caller>,
    around: &Surroundings,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (entrance, closing) = (&around.entrance, &around.stop.connections);
    let road = entrance.now();
    let (http, limits) = (protocol(&road.settings().server), Limits::of(&road.settings().server));
    let stream = Patient::new(stream, &road.settings().server, no_room_told(around, caller.address));
    drop(road);
    let aside = Aside::default();
    let (stream, findings) = LookedOver::new(Interposed::new(stream, aside.clone()), already_read, limits);
    // Held by each answer until its last byte is taken.
    let exchange = Arc::new(());
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(aside.clone());
        let exchange = Arc::clone(&exchange);
        let (proxy, caller, findings) = (entrance.now(), &caller, &findings);
        // Taken now, and not when the future is polled: it is about this request.
        let doubt = findings.of_this_request();
        if let Some(limit) = doubt.and_then(limit_of)
            && let Some(unlogged) = around.reception.alarms.beyond_a_limit.rings()
        {
            tracing::warn!(peer = %caller.address, limit, unlogged, "a request was refused");
        }
        let asks_upgrade =
            request.version() == Version::HTTP_11 && request.headers().contains_key(header::UPGRADE);
        async move {
            let response = proxy.handle(request, caller, doubt).await;
            if asks_upgrade {
                findings.is_granted(response.status() == StatusCode::SWITCHING_PROTOCOLS);
            }
            Ok::<_, Infallible>(response.map(|body| body.within(exchange)))
        }
    });
    let is_under_way = || Arc::strong_count(&exchange) > 1;
    let (mut stream, mut ahead) = (stream, Bytes::new());
    loop {
        let serving = until_it_rests(&http, (stream, ahead), service, closing, is_under_way);
        let rests = match serving.await {
            Ok(rests) => rests,
            Err(error) => {
                tracing::debug!(%error, peer = %caller.address, "a connection broke off");
                // An answer that broke off, and that only the end of its connection ends.
                let is_cut_short = error.is_user() && aside.is_ended_by_the_connection();
                return if is_cut_short { Ended::CutShort } else { Ended::InOrder };
            }
        };
        // What is left of a request that was answered before it was read is no next request.
        let Some(at_rest) = rests.filter(LookedOver::is_between_requests) else { return Ended::InOrder };
        tracing::trace!(peer = %caller.address, "a connection rests");
        stream = at_rest;
        ahead = match closing.run_until_cancelled(rest::next(&mut stream)).await {
            Some(Ok(bytes)) if !bytes.is_empty() => bytes,
            Some(Ok(_) | Err(_)) | None => return Ended::InOrder,
        };
    }
}

/// Has hyper serve a stream, some bytes of which were read already, until it ends, or until nothing is asked on it any
/// more: then it is answered.
async fn until_it_rests<S, V>(
    http: &http1::Builder,
    (stream, ahead): (S, Bytes),
    service: V,
    closing: &CancellationToken,
    is_under_way: impl Fn() -> bool,
) -> Result<Option<S>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<AnswerStream>, Error = Infallible>,
{
    let (lent, loan) = Loan::of(stream, ahead);
    // Boxed, and so given back while the connection rests.
    let mut connection = Box::pin(http.serve_connection(TokioIo::new(lent), service).with_upgrades());
    tokio::select! {
        biased; // In one order, so that a simulation plays the same twice.
        served = connection.as_mut() => served?,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await?;
        }
        () = loan.rests(is_under_way) => {
            loan.call_back();
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await?;
        }
    }
    drop(connection);
    Ok(loan.returned())
}

/// Tells that a peer made no room for what was written to it.
fn no_room_told(around: &Surroundings, peer: SocketAddr) -> Box<dyn Fn() + Send> {
    let reception = Arc::clone(&around.reception);
    Box::new(move || {
        reception.metrics.limits.hit(Limit::WriteTimeout);
        if let Some(unlogged) = reception.alarms.makes_no_room.rings() {
            tracing::warn!(%peer, unlogged, "a connection was closed: it made no room within server.write_timeout");
        }
    })
}

/// The setting that a request went beyond, if that is what is wrong with it.
fn limit_of(doubt: Doubt) -> Option<&'static str> {
    match doubt {
        Doubt::TargetTooLong { .. } => Some("server.target_bytes_max"),
        Doubt::HeadTooLarge { .. } => Some("server.header_bytes_max"),
        Doubt::TooManyFields { .. } => Some("server.header_count_max"),
        Doubt::HeadTooSlow(_) => Some("server.header_timeout"),
        Doubt::Malformed(_) | Doubt::VersionNotSupported | Doubt::CodingNotKnown | Doubt::Tunnel => None,
    }
}

fn protocol(settings: &Server) -> http1::Builder {
    let mut http = http1::Builder::new();
    // What is waited for, and how long, is known in `framing.rs`, where heads are held back.
    http.header_read_timeout(None)
        // A peer's half-close is not its leaving (RFC 9112 §9.6): it may still read its answer.
        .half_close(true)
        .max_buf_size(settings.header_bytes_max.max(8192))
        .max_headers(settings.header_count_max)
        .max_header_size(settings.header_bytes_max);
    http
}
