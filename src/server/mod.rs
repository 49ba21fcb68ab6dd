//! Connections from callers: accepting them, serving HTTP/1.1 on them, ending them in order.
//!
//! Must not know what is served: it is handed the road as an [`Entrance`]. Read `framing.rs` for what is looked
//! at before hyper, `../proxy/mod.rs` after.

mod framing;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Server;
use crate::proxy::{Caller, Entrance};

use framing::LookedOver;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the address to listen on.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // Lets a restarted gateway bind while old connections linger; two live ones still exclude each other.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// When a worker stops accepting, and when it lets go of its connections.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Accept no more connections. Those that are open go on, each request on them being told to leave.
    pub accepting: CancellationToken,
    /// Close connections as soon as nothing is under way on them.
    pub connections: CancellationToken,
}

/// Serves one worker's share of the connections until it is told to stop and all are closed.
///
/// Cancel safety: dropping the future cuts the worker's connections.
pub async fn serve(listener: TcpListener, entrance: Entrance, stop: &Stop) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.accepting.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let http = protocol(&entrance.now().settings().server);
                    connections.spawn(connection(http, stream, peer, entrance.clone(), stop.connections.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stop.connections.cancelled().await;
    connections.close();
    connections.wait().await;
    Ok(())
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

async fn connection(
    http: http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
    closing: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let (stream, findings) = LookedOver::new(stream);
    let caller = Arc::new(Caller::at(peer));
    let service = service_fn(|request| {
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
        tracing::debug!(%error, %peer, "a connection broke off");
    }
}
