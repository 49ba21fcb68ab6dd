//! Connections from callers: accepting them and ending them in order.
//!
//! Must not know what is served: it is handed the road as an [`Entrance`]. Read `http1.rs` for what is spoken on a
//! connection, `../proxy/mod.rs` after.

mod framing;
mod http1;
mod interposed;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::proxy::{Caller, Entrance};

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
                    connections.spawn(connection(stream, peer, entrance.clone(), stop.connections.clone()));
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

async fn connection(stream: TcpStream, peer: SocketAddr, entrance: Entrance, closing: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    http1::serve(stream, Bytes::new(), Arc::new(Caller::at(peer)), entrance, closing).await;
}
