//! HTTP/2 on one connection, from its preface to its last byte.
//!
//! Must not know how the connection came about, nor what is served. Read `http2/watch.rs` for what is looked at before
//! h2, `http2/conduct.rs` for what a client may do.
//!
//! **Rapid reset.** A request that is taken back at once must not reach an upstream. h2 applies every frame that has
//! come before it hands a request on, and hyper drops the service's future when it finds the stream reset after having
//! polled it. So the future does nothing at first: it steps back twice, and in between the socket is read. That
//! suffices for a reset that has come with its request. For one that comes right behind it, requests wait a moment
//! longer, as long as their client is not known to let its requests be answered ([`HOLD`]).

mod conduct;
mod frames;
mod trailers;
mod watch;
mod window;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Surroundings;
use super::reception::Reception;
use crate::config::Server;
use crate::proxy::{Caller, Doubt};
use crate::telemetry::metrics::Limit;

use conduct::{Fault, Terms};
use watch::{Repute, Watched};

/// How long a request waits for each step of suspicion against its client, and how many steps count. A client that is
/// new waits one.
const HOLD: Duration = Duration::from_millis(4);
const HOLDS_MAX: u32 = 25;

/// What a client may send ahead of its being read: per request and all together. Enough for 100 MB/s over 5 ms, and
/// little enough that thousands of connections may use it up.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What is taken from an upstream ahead of its being sent, per request.
const SEND_BUFFER: usize = 64 * 1024;

/// RFC 9113 §4.2: the smallest that may be, and enough.
const FRAME_MAX: u32 = 16 * 1024;

/// A client that is silent is asked whether it is there (§6.7), and gone if it does not say so.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The most that a head may hold, beside its bytes, which h2 bounds.
#[derive(Clone, Copy, Debug)]
struct Most {
    target_bytes: usize,
    fields: usize,
}

/// Serves a connection until it ends, or until the gateway stops and nothing is under way on it.
///
/// `already_read`: bytes of it that were taken from `stream` to find out which protocol is spoken.
///
/// Cancel safety: dropping the future cuts the connection.
pub(super) async fn serve<S>(stream: S, already_read: Bytes, caller: Arc<Caller>, around: &Surroundings)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let proxy = around.entrance.now();
    let settings = &proxy.settings().server;
    let http = protocol(settings);
    let on_fault = Box::new({
        let (reception, caller) = (Arc::clone(&around.reception), Arc::clone(&caller));
        move |fault| log(fault, &caller, &reception)
    });
    let (stream, repute) = Watched::new(stream, already_read, terms(settings), on_fault);
    let most = Most { target_bytes: settings.target_bytes_max, fields: settings.header_count_max };
    drop(proxy);
    let service = service_fn(|request| {
        let (entrance, caller, repute) = (around.entrance.clone(), Arc::clone(&caller), Arc::clone(&repute));
        async move {
            hold(&repute).await;
            let doubt = doubt(&request, most);
            Ok::<_, Infallible>(entrance.now().handle(request, &caller, doubt).await)
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        // The client learns at once that it should go elsewhere (§6.8), and what it has asked is answered.
        () = around.stop.accepting.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, peer = %caller.address, "a connection broke off");
    }
}

/// Lets a request that is taken back at once be dropped before anything is made of it.
///
/// Cancel safety: this is where the future is meant to be dropped.
async fn hold(repute: &Repute) {
    let steps = repute.suspicion().min(HOLDS_MAX);
    if steps > 0 {
        tokio::time::sleep(HOLD * steps).await;
    }
    // hyper looks for a reset each time that the future was not ready, and the socket is read between two times.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
}

fn protocol(settings: &Server) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(settings.streams_max)
        .max_header_list_size(u32::try_from(settings.header_bytes_max).unwrap_or(u32::MAX))
        .max_frame_size(FRAME_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(settings.resets_max)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    http
}

fn terms(settings: &Server) -> Terms {
    Terms {
        header_timeout: settings.header_timeout,
        idle_timeout: settings.idle_timeout,
        write_timeout: settings.write_timeout,
        resets_max: settings.resets_max,
    }
}

/// What is wrong with a request's head that neither h2 nor the road looks at: over HTTP/1.1 these are found before hyper.
fn doubt<B>(request: &hyper::Request<B>, most: Most) -> Option<Doubt> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > most.target_bytes {
        return Some(Doubt::TargetTooLong { max: most.target_bytes });
    }
    let fields = request.headers();
    // RFC 9113 §8.2.3: a cookie may come in any number of lines, and is one field.
    let crumbs = fields.get_all("cookie").iter().count().saturating_sub(1);
    (fields.len() - crumbs > most.fields).then_some(Doubt::TooManyFields { max: most.fields })
}

fn log(fault: Fault, caller: &Caller, reception: &Reception) {
    let (limit, reason) = match fault {
        // As with what h2 refuses by itself.
        Fault::Idle | Fault::Malformed(_) => return,
        Fault::TakesBack => (Limit::Resets, "it takes back more requests than server.resets_max"),
        Fault::IdleFrames => (Limit::IdleFrames, "it sends frame after frame that serves no request"),
        Fault::Unfinished => {
            (Limit::HeaderTimeout, "it did not finish a frame or a head within server.header_timeout")
        }
        Fault::MakesNoRoom => {
            (Limit::WriteTimeout, "it made no room for answers within server.write_timeout")
        }
    };
    reception.metrics.limits.hit(limit);
    if let Some(unlogged) = reception.alarms.misbehaved.rings() {
        tracing::warn!(peer = %caller.address, reason, unlogged, "an HTTP/2 connection was closed");
    }
}
