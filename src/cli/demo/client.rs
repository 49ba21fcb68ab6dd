//! The story's client: pays over a fresh connection each time, and can have its first answer lost.
//!
//! Owns what a client sees of an exchange. Must not know who answers, the API or the gateway before it.
//! Read `story.rs` next.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How long the client waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer it reads.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A payment as the client means it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payment<'a> {
    /// The key it sends along.
    pub(super) key: &'a str,
    /// The card to charge.
    pub(super) card: &'a str,
    /// How much, as JSON writes it.
    pub(super) amount: &'a str,
}

/// An answer that reached the client.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its fields.
    pub(super) headers: http::HeaderMap,
    /// Its body, as text.
    pub(super) body: String,
}

/// Why no answer reached the client. It cannot know whether its card was charged.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// No connection.
    #[error("connect")]
    Connect(#[source] std::io::Error),
    /// The connection broke before the answer was there.
    #[error("get an answer before the connection broke")]
    Broken(#[source] hyper::Error),
    /// The answer broke off, or is too large.
    #[error("read the whole answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing for [`PATIENCE`].
    #[error("get an answer within {}", humantime::format_duration(PATIENCE))]
    TimedOut,
    /// The request cannot be written.
    #[error("write the request")]
    Request(#[source] http::Error),
}

impl Payment<'_> {
    /// Sends the payment to `server`, over a connection of its own.
    ///
    /// Cancel safety: dropping it hangs up; the payment may have been made.
    pub(super) async fn send_to(self, server: SocketAddr) -> Result<Answer, NoAnswer> {
        tokio::time::timeout(PATIENCE, self.exchange(server)).await.unwrap_or(Err(NoAnswer::TimedOut))
    }

    async fn exchange(self, server: SocketAddr) -> Result<Answer, NoAnswer> {
        let request = self.request(server).map_err(NoAnswer::Request)?;
        let stream = TcpStream::connect(server).await.map_err(NoAnswer::Connect)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(NoAnswer::Broken)?;
        let mut answer = pin!(async move {
            let response = sender.send_request(request).await.map_err(NoAnswer::Broken)?;
            read(response).await
        });
        // The connection moves the bytes; if it ends first, the answer knows already how.
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    fn request(self, server: SocketAddr) -> Result<Request<Full<Bytes>>, http::Error> {
        let Self { key, card, amount } = self;
        Request::post("/payments")
            .header(HOST, server.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key)
            .body(Full::from(format!(r#"{{"amount":{amount},"currency":"EUR","card":"{card}"}}"#)))
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, NoAnswer> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(NoAnswer::Body)?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// A wire that loses the first answer: its bytes come back as far as here, and then it is cut.
/// Dropping it ends it.
#[derive(Debug)]
pub(super) struct LossyWire {
    /// Where the client connects instead.
    pub(super) address: SocketAddr,
    _stop: DropGuard,
}

impl LossyWire {
    /// Lays a wire to `server`.
    pub(super) async fn to(server: SocketAddr, tasks: &TaskTracker) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tasks.spawn(stop.clone().run_until_cancelled_owned(carry(listener, server)));
        Ok(Self { address, _stop: stop.drop_guard() })
    }
}

/// Carries one connection after the other, which is all that the story's client asks for.
async fn carry(listener: TcpListener, server: SocketAddr) -> std::io::Result<()> {
    let (mut client, _) = listener.accept().await?;
    let mut upstream = TcpStream::connect(server).await?;
    let (mut from_client, _to_client) = client.split();
    let (mut from_server, mut to_server) = upstream.split();
    let mut lost = [0; 1024];
    tokio::select! {
        // Ends when the client leaves, long after its patience.
        sent = tokio::io::copy(&mut from_client, &mut to_server) => { sent?; }
        arrived = from_server.read(&mut lost) => { arrived?; }
    }
    drop((client, upstream));
    loop {
        let (mut client, _) = listener.accept().await?;
        let mut upstream = TcpStream::connect(server).await?;
        // One that breaks must not take the wire along.
        drop(tokio::io::copy_bidirectional(&mut client, &mut upstream).await);
    }
}
