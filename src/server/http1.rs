//! HTTP/1.0 and HTTP/1.1 on one connection, from its first byte to its last.
//!
//! Must not know how the connection came about, nor what is served. Read `framing.rs` for what is looked at before
//! hyper.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::framing::LookedOver;
use super::interposed::Interposed;
use crate::config::Server;
use crate::proxy::{Aside, Caller, Entrance};

/// Serves a connection until it ends, or until `closing` is cancelled and nothing is under way on it.
///
/// `already_read`: bytes of it that were taken from `stream` to find out which protocol is spoken.
///
/// Cancel safety: dropping the future cuts the connection.
pub(super) async fn serve<S>(
    stream: S,
    already_read: Bytes,
    caller: Arc<Caller>,
    entrance: Entrance,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = protocol(&entrance.now().settings().server);
    let aside = Aside::default();
    let (stream, findings) = LookedOver::new(Interposed::new(stream, aside.clone()), already_read);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(aside.clone());
        let (proxy, caller, doubt) = (entrance.now(), &caller, findings.of_next_request());
        async move { Ok::<_, Infallible>(proxy.handle(request, caller, doubt).await) }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, peer = %caller.address, "a connection broke off");
    }
}

fn protocol(settings: &Server) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        // A peer's half-close is not its leaving (RFC 9112 §9.6): it may still read its answer.
        .half_close(true)
        .max_buf_size(settings.header_bytes_max.max(8192))
        .max_headers(settings.header_count_max)
        .max_header_size(settings.header_bytes_max);
    http
}
