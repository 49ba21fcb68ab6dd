//! Connections from callers: accepting them and ending them in order.
//!
//! Must not know what is served: it is handed the road as an [`Entrance`]. Read `connection.rs` for the way of one
//! connection, `limits.rs` for how many there may be, `reception.rs` for what all listeners share, and
//! `../proxy/mod.rs` after.

mod connection;
mod framing;
mod http1;
mod http2;
mod intake;
mod interposed;
mod limits;
mod patience;
mod proxy_protocol;
mod reception;
mod rest;
mod socket;
mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::{Listener, Stream};
use crate::proxy::{Entrance, TurnedAway};
use crate::telemetry::metrics::Limit;

use connection::Surroundings;
use intake::{Intake, LINE};
use limits::Spare;
pub use limits::{Alarm, Limits, Place, raise_descriptors};
pub use reception::Reception;
pub use tls::{Acceptor, BadTls, name_in_pem};

/// How long accepting pauses when it fails for a reason that may last.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Binds the address to listen on.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // Lets a restarted gateway bind while old connections linger; two live ones still exclude each other.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LINE)?;
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

/// Serves one worker's share of the connections until it is told to stop and all are closed. To be a task among those
/// that it spawns, so that its turn comes after theirs.
///
/// Cancel safety: dropping the future cuts the worker's connections.
pub async fn serve(
    listener: Listener,
    entrance: Entrance,
    reception: Arc<Reception>,
    stop: Stop,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    // Whoever waits for those that have come waits for all that may still come, too.
    let accepting = entrance.now().newcomer();
    let mut intake = Intake::new(Arc::clone(&reception));
    let around = Surroundings { entrance, reception, stop: stop.clone() };
    let mut spare = Spare::new();
    loop {
        tokio::select! {
            biased; // In one order, so that a simulation plays the same twice.
            () = stop.accepting.cancelled() => break,
            accepted = intake.next(&listener) => match accepted {
                Ok((stream, peer)) => take_in(stream, peer, &around, &connections),
                Err(error) => {
                    if let Some(unlogged) = around.reception.alarms.not_accepted.rings() {
                        tracing::warn!(%error, unlogged, "a connection could not be accepted");
                    }
                    if spare.turn_away(&error, &listener).await {
                        around.reception.metrics.limits.hit(Limit::OpenFiles);
                    } else {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
        }
    }
    take_in_who_waits(listener, &around, &connections);
    drop(accepting);
    stop.connections.cancelled().await;
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Takes in the connections that the system has made for a listener and that nobody has accepted yet: with the end of
/// the listener they would be reset, though their clients may have asked already.
fn take_in_who_waits(listener: Listener, around: &Surroundings, connections: &TaskTracker) {
    let Ok(mut waiting) = listener.into_waiting() else { return };
    for _ in 0..LINE {
        match waiting() {
            Ok((stream, peer)) => take_in(stream, peer, around, connections),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => {
                tracing::warn!(%error, "not every connection that waited was accepted");
                return;
            }
        }
    }
}

/// Gives a connection its place and a task, or turns it away without waiting for anything.
fn take_in(stream: Stream, peer: SocketAddr, around: &Surroundings, connections: &TaskTracker) {
    let proxy = around.entrance.now();
    let settings = &proxy.settings().server;
    if let Some(place) = around.reception.limits.enter(settings.connections_max) {
        connections.spawn(connection::serve(stream, peer, place, proxy.newcomer(), around.clone()));
        return;
    }
    around.reception.metrics.limits.hit(Limit::Connections);
    if let Some(unlogged) = around.reception.alarms.all_taken.rings() {
        let max = settings.connections_max;
        tracing::warn!(%peer, connections_max = max, unlogged, "a connection was turned away: there are as many as may be");
    }
    // Whether these bytes arrive is left to chance: nothing is waited for on behalf of one too many.
    if settings.tls.is_none()
        && let Err(error) = stream.try_write(TurnedAway::TooMany.answer())
    {
        tracing::trace!(%error, "a peer that was turned away had gone");
    }
}
