//! Connections of operators: taking them in, within bounds, and ending them in order.
//!
//! This listener shares its process with the one for callers, so whoever reaches it must not be able to use up what
//! that one needs, nor keep operators out: connections are few, those from elsewhere fewer, and each has deadlines.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Who;
use super::desk::Desk;
use super::patience::{PATIENCE, Patient, Turn};
use super::road::{self, Office};
use crate::server::{Alarm, Limits, Place};

/// How long accepting pauses when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection is kept on which nothing is asked.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// Bytes of a request's head at most, and fields in it.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

/// Connections at once; of those, such as come from other machines, so that somebody on this one always gets in; and of
/// those, such as come from one address.
const CONNECTIONS_MAX: usize = 256;
const FROM_ELSEWHERE_MAX: usize = 192;
const FROM_ONE_PEER_MAX: usize = 64;

/// How long, and for how many bytes, a connection is read that has had its last answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How many there are.
#[derive(Debug, Default)]
struct Seats {
    all: Arc<Limits>,
    from_elsewhere: Arc<Limits>,
    all_taken: Alarm,
}

/// A connection's place, given back when dropped.
struct Seat {
    _among_all: Place,
    _from_elsewhere: Option<Place>,
}

/// Serves the operators until told to stop; then finishes what is being answered and the changes that are being made.
pub async fn serve(listener: TcpListener, desk: Desk, stop: CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let office = Arc::new(Office::of(desk));
    let (seats, connections) = (Seats::default(), TaskTracker::new());
    let counted = Arc::clone(&seats.all);
    office.desk.metrics.observe_operators_by(Box::new(move || counted.open()));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match seats.take(peer.ip()) {
                Some(seat) => {
                    connections.spawn(connection(stream, peer, Arc::clone(&office), stop.clone(), seat));
                }
                None => {
                    if let Some(unlogged) = seats.all_taken.rings() {
                        tracing::warn!(%peer, unlogged, "an operator's connection was turned away: there are as many as may be");
                    }
                }
            },
            Err(error) => {
                tracing::warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    office.work.close();
    office.work.wait().await;
    Ok(())
}

impl Seats {
    fn take(&self, peer: IpAddr) -> Option<Seat> {
        let among_all = self.all.enter(CONNECTIONS_MAX)?;
        if peer.to_canonical().is_loopback() {
            return Some(Seat { _among_all: among_all, _from_elsewhere: None });
        }
        let mut from_elsewhere = self.from_elsewhere.enter(FROM_ELSEWHERE_MAX)?;
        let may_stay = from_elsewhere.belongs_to(peer, FROM_ONE_PEER_MAX);
        may_stay.then_some(Seat { _among_all: among_all, _from_elsewhere: Some(from_elsewhere) })
    }
}

/// Serves a connection to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    office: Arc<Office>,
    stop: CancellationToken,
    _seat: Seat,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let tls = (office.desk.terms)().tls.clone();
    let Some(tls) = tls else {
        return speak(stream, Who { peer, certificate: None }, office, &stop, &stop).await;
    };
    let admitted = stop.run_until_cancelled(tokio::time::timeout(PATIENCE, tls.admit(stream))).await;
    match admitted {
        Some(Ok(Ok((stream, certificate)))) => {
            let withdrawn = if certificate.is_some() { tls.withdrawn() } else { CancellationToken::new() };
            // Whoever was vouched for by others than vouch for operators now is asked who it is anew.
            let leave = stop.child_token();
            let who = Who { peer, certificate };
            let mut spoken = std::pin::pin!(speak(stream, who, office, &leave, &stop));
            tokio::select! {
                () = &mut spoken => {}
                () = withdrawn.cancelled() => {
                    leave.cancel();
                    spoken.await;
                }
            }
        }
        Some(Ok(Err(error))) => tracing::debug!(%error, %peer, "a TLS handshake of an operator failed"),
        Some(Err(_)) | None => {}
    }
}

/// Answers what is asked on a connection until it ends, or until nothing is under way on it and it is told to `leave`.
async fn speak<S>(
    stream: S,
    who: Who,
    office: Arc<Office>,
    leave: &CancellationToken,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let turn = Turn::default();
    let service = service_fn(|request| {
        let (office, who, turn) = (&office, &who, &turn);
        turn.pass();
        Box::pin(async move {
            let answer = road::take(office, who, request).await;
            turn.pass();
            Ok::<_, Infallible>(answer)
        })
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // It counts from the end of the last answer. A head that was begun has less time (`patience.rs`).
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX);
    let mut connection = http.serve_connection(TokioIo::new(Patient::new(stream, turn.clone())), service);
    let served = tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        () = leave.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    match served {
        Ok(()) => close(connection.into_parts().io.into_inner(), stop).await,
        Err(error) => tracing::debug!(%error, peer = %who.peer, "an operator's connection broke off"),
    }
}

/// Ends a connection so that its last answer arrives.
///
/// RFC 9112 §9.6: whoever was refused for want of a token may still be sending the body. To close now would be a reset,
/// and that would take the answer away.
async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin, stop: &CancellationToken) {
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if let Some(Ok(Err(error))) = stop.run_until_cancelled(tokio::time::timeout(LINGER, rest)).await {
        tracing::trace!(%error, "an operator's connection did not end in order");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_from_elsewhere_cannot_keep_out_whoever_is_here() {
        let seats = Seats::default();
        let (here, one): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let of_one: Vec<_> = (0..CONNECTIONS_MAX).map_while(|_| seats.take(one)).collect();
        assert_eq!(of_one.len(), FROM_ONE_PEER_MAX);
        let others = (0..=u8::MAX).map(|last| IpAddr::from([198, 51, 100, last]));
        let of_others: Vec<_> = others.map_while(|peer| seats.take(peer)).collect();
        assert_eq!(of_one.len() + of_others.len(), FROM_ELSEWHERE_MAX);
        let of_here: Vec<_> = (0..CONNECTIONS_MAX).map_while(|_| seats.take(here)).collect();
        assert_eq!(of_here.len(), CONNECTIONS_MAX - FROM_ELSEWHERE_MAX);
        drop(of_one);
        assert!(seats.take(one).is_some());
    }
}
