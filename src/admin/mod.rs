//! The operators' listener: whether the process lives, and whether it can do its work.
//!
//! Must not know keys, records or upstreams.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::metrics::Metrics;

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the probes answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Requests are taken.
    Ready,
    /// Not yet.
    Starting,
    /// No more.
    Draining,
    /// The store is out of reach.
    StoreUnreachable,
}

/// Tells how ready the gateway is, at any moment.
pub type Probe = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// Serves the operators until told to stop.
pub async fn serve(
    listener: TcpListener,
    probe: Probe,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, _) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (probe, metrics, stop) = (Arc::clone(&probe), Arc::clone(&metrics), stop.clone());
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &probe, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = http1::Builder::new();
            let connection = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
                tracing::debug!(%error, "an operator's connection broke off");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, probe: &Probe, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "alive\n"),
        "/readyz" => match probe() {
            Readiness::Ready => text(StatusCode::OK, "ready\n"),
            Readiness::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            Readiness::StoreUnreachable => {
                text(StatusCode::SERVICE_UNAVAILABLE, "the store is out of reach\n")
            }
        },
        "/metrics" => page(request, metrics),
        _ => text(StatusCode::NOT_FOUND, "nothing here\n"),
    }
}

fn page(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (kind, page) = metrics.page(accept);
    let mut response = Response::new(Full::new(Bytes::from(page)));
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
