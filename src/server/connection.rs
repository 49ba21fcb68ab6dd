//! One connection, from the moment it is accepted to its last byte: PROXY header, TLS, and which protocol is spoken.
//!
//! Must not know what is served. Whatever comes before the first request has `header_timeout` all together. Read
//! `http1.rs` and `http2.rs` after.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::http1::{self, Ended};
use super::limits::Place;
use super::reception::Reception;
use super::socket::{Lender, Socket};
use super::tls::{Acceptor, Secured, TlsStream};
use super::{Stop, http2, proxy_protocol};
use crate::config::Server;
use crate::net::Stream;
use crate::proxy::{Caller, Entrance, Newcomer, TurnedAway};
use crate::telemetry::metrics::Limit;

/// RFC 9113 §3.4: by these bytes a client says that it speaks HTTP/2.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is read at once to find out which protocol is spoken: mostly the whole first request.
const FIRST_READ: usize = 4096;

/// RFC 8446 §5.1: the first byte of every TLS connection, the type of a record that holds a handshake.
const HANDSHAKE: u8 = 22;

/// What a connection needs from where it was accepted.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    pub(super) entrance: Entrance,
    pub(super) reception: Arc<Reception>,
    pub(super) stop: Stop,
}

/// A connection on which requests can be read.
enum Ready {
    Clear { socket: Socket, read: Bytes, is_http2: bool },
    Secured { stream: Box<TlsStream>, is_http2: bool },
}

/// Serves a connection to its end.
///
/// Cancel safety: dropping the future cuts the connection.
pub(super) async fn serve(
    stream: Stream,
    peer: SocketAddr,
    place: Place,
    newcomer: Newcomer,
    around: Surroundings,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let lender = Lender::default();
    let socket = lender.lend(stream, place);
    let proxy = around.entrance.now();
    let settings = &proxy.settings().server;
    let deadline = Instant::now() + settings.header_timeout;
    let ready = tokio::select! {
        biased; // In one order, so that a simulation plays the same twice.
        ready = timeout_at(deadline, Box::pin(prepare(socket, peer, settings, &around.reception))) => ready,
        () = around.stop.connections.cancelled() => return,
    };
    drop(proxy);
    match ready {
        Ok(Some((ready, caller, withdrawn))) => {
            let caller = Arc::new(Caller { newcomer, ..caller });
            if speak_while_vouched_for(ready, caller, withdrawn, &around).await == Ended::CutShort {
                return lender.cut();
            }
        }
        Ok(None) => {}
        Err(_) => tracing::debug!(%peer, "a connection asked for nothing in time"),
    }
    lender.close(around.stop.connections.is_cancelled()).await;
}

/// Serves a connection until it ends. Where those who vouched for its caller no longer do, it ends as soon as nothing is
/// under way on it, and after `drain_timeout` whatever is: a client need not agree to it.
async fn speak_while_vouched_for(
    ready: Ready,
    caller: Arc<Caller>,
    withdrawn: Option<CancellationToken>,
    around: &Surroundings,
) -> Ended {
    let Some(withdrawn) = withdrawn else { return speak(ready, caller, around).await };
    let (accepting, connections) =
        (around.stop.accepting.child_token(), around.stop.connections.child_token());
    let stop = Stop { accepting, connections };
    let around = Surroundings { stop: stop.clone(), ..around.clone() };
    let mut spoken = Box::pin(speak(ready, caller, &around));
    tokio::select! {
        ended = &mut spoken => ended,
        () = withdrawn.cancelled() => {
            stop.accepting.cancel();
            stop.connections.cancel();
            let limit = around.entrance.now().settings().server.drain_timeout;
            tokio::time::timeout(limit, spoken).await.unwrap_or(Ended::CutShort)
        }
    }
}

/// Boxed, all but the usual: a connection takes as much room as the largest way that it might have gone.
async fn speak(ready: Ready, caller: Arc<Caller>, around: &Surroundings) -> Ended {
    match ready {
        Ready::Clear { socket, read, is_http2: true } => {
            Box::pin(http2::serve(socket, read, caller, around)).await;
            Ended::InOrder
        }
        Ready::Secured { stream, is_http2: true } => {
            Box::pin(http2::serve(stream, Bytes::new(), caller, around)).await;
            Ended::InOrder
        }
        Ready::Clear { socket, read, is_http2: false } => http1::serve(socket, read, caller, around).await,
        Ready::Secured { stream, is_http2: false } => {
            Box::pin(http1::serve(*stream, Bytes::new(), caller, around)).await
        }
    }
}

/// Brings a connection to where requests can be read; `None` if there is nothing to be read or nobody to be served.
async fn prepare(
    mut socket: Socket,
    peer: SocketAddr,
    settings: &Server,
    reception: &Reception,
) -> Option<(Ready, Caller, Option<CancellationToken>)> {
    let address = if settings.proxy_protocol {
        told_address(&mut socket, peer, settings, reception).await?
    } else {
        peer
    };
    let max = settings.connections_per_peer_max;
    if !socket.place()?.belongs_to(address.ip(), max) {
        reception.metrics.limits.hit(Limit::ConnectionsPerPeer);
        if let Some(unlogged) = reception.alarms.peer_has_all.rings() {
            tracing::warn!(
                peer = %address.ip(), connections_per_peer_max = max, unlogged,
                "a connection was turned away: its peer has as many as it may"
            );
        }
        // To a client that waits for TLS these bytes would be none of a handshake.
        if reception.tls().is_none() {
            turn_away(socket, TurnedAway::TooMany).await;
        }
        return None;
    }
    let is_trusted = is_trusted(address.ip(), settings);
    let caller = |is_tls, certificate| Caller { is_trusted, is_tls, certificate, ..Caller::at(address) };
    if let Some(acceptor) = reception.tls() {
        let secured = secure(&acceptor, socket, address, reception).await?;
        let ready = Ready::Secured { stream: Box::new(secured.stream), is_http2: secured.is_http2 };
        let withdrawn = secured.certificate.is_some().then(|| acceptor.withdrawn());
        return Some((ready, caller(true, secured.certificate), withdrawn));
    }
    let (read, is_http2) =
        if settings.http2 { which_protocol(&mut socket).await.ok()?? } else { (Bytes::new(), false) };
    Some((Ready::Clear { socket, read, is_http2 }, caller(false, None), None))
}

/// Does the TLS handshake; `None` if it failed, and its client was told so.
async fn secure(
    acceptor: &Acceptor,
    mut socket: Socket,
    address: SocketAddr,
    reception: &Reception,
) -> Option<Secured> {
    if speaks_no_tls(&mut socket).await.ok()? {
        turn_away(socket, TurnedAway::NotTls).await;
        return None;
    }
    let failed = match acceptor.accept(socket).await {
        Ok(secured) => return Some(secured),
        Err(error) => error,
    };
    // A client that goes, or looks only whether the port is open, is no event.
    let has_gone = matches!(failed.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
    if !has_gone && let Some(unlogged) = reception.alarms.no_handshake.rings() {
        tracing::info!(error = %failed, peer = %address, unlogged, "a TLS handshake failed");
    }
    None
}

/// Whose connection it is by its PROXY header; `None` if it has none that can be believed.
async fn told_address(
    socket: &mut Socket,
    peer: SocketAddr,
    settings: &Server,
    reception: &Reception,
) -> Option<SocketAddr> {
    if !is_trusted(peer.ip(), settings) {
        if let Some(unlogged) = reception.alarms.not_trusted.rings() {
            tracing::warn!(%peer, unlogged, "a connection was closed: its peer is none of server.trusted_peers");
        }
        return None;
    }
    match proxy_protocol::read(socket.raw().ok()?).await {
        Ok(source) => Some(source.unwrap_or(peer)),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            if let Some(unlogged) = reception.alarms.no_proxy_header.rings() {
                tracing::warn!(error, %peer, unlogged, "a connection was closed: it has no PROXY header");
            }
            None
        }
    }
}

/// Whether somebody is believed about where a request came from.
fn is_trusted(address: IpAddr, settings: &Server) -> bool {
    let trusted = &settings.trusted_peers;
    trusted.is_empty() || trusted.iter().any(|network| network.contains(&address.to_canonical()))
}

/// Whether a client of a TLS port speaks HTTP in the clear. Takes nothing from the socket.
async fn speaks_no_tls(socket: &mut Socket) -> io::Result<bool> {
    let mut first = [0];
    match socket.raw()?.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first != [HANDSHAKE] && first.first().is_some_and(u8::is_ascii_uppercase)),
    }
}

async fn turn_away(mut socket: Socket, reason: TurnedAway) {
    if let Err(error) = socket.write_all(reason.answer()).await {
        tracing::trace!(%error, "a peer that was turned away had gone");
    }
}

/// Reads until it is clear which protocol is spoken. Answers what was read, and whether it is HTTP/2; `None` if the
/// client ended before it asked for anything.
async fn which_protocol<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<(Bytes, bool)>> {
    let mut read = BytesMut::with_capacity(FIRST_READ);
    while PREFACE.starts_with(&read) && read.len() < PREFACE.len() {
        if stream.read_buf(&mut read).await? == 0 {
            // Part of a preface is a request of HTTP/1 that is not whole; it is for that protocol to say.
            return Ok((!read.is_empty()).then(|| (read.freeze(), false)));
        }
    }
    let is_http2 = read.starts_with(PREFACE);
    Ok(Some((read.freeze(), is_http2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spoken(mut bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
        which_protocol(&mut bytes).await.unwrap().map(|(read, is_http2)| (read.to_vec(), is_http2))
    }

    #[tokio::test]
    async fn only_a_whole_preface_is_http_2() {
        let preface = PREFACE.to_vec();
        let more = [&PREFACE[..], b"rest"].concat();
        assert_eq!(spoken(&preface).await, Some((preface.clone(), true)));
        assert_eq!(spoken(&more).await, Some((more.clone(), true)));
        for other in
            [&b"PRI * HTTP/2.0\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"P", b"GET / HTTP/1.1"]
        {
            assert_eq!(spoken(other).await, Some((other.to_vec(), false)));
        }
        assert_eq!(spoken(b"").await, None);
    }
}
