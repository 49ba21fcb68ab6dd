//! One connection to a server over HTTP/2, shared by requests.
//!
//! A request is given to h2 only when the server's `MAX_CONCURRENT_STREAMS` leaves room, so that it never waits inside
//! h2, where it could not be taken back. `http2/frames.rs` asks its sender before its first byte is written; a sender
//! whose licence has lapsed, or who has told an unknown outcome, ends the connection instead. A request that is
//! merely given up ends its stream (`RST_STREAM`), not the connection. What failures mean is said in `failure.rs`.
//!
//! A dead connection is found by a ping: when nothing comes for a while, or a request was given up unanswered. Must not
//! know which connection is taken (`pool.rs`). Read `http2/exchange.rs` after.

mod exchange;
mod frames;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::Transport;
use super::connection::Link;
use super::failure::{NotSent, SendError};
use super::http1::HEAD_LEN_MAX;
use frames::{Frames, Opening};

pub(super) use exchange::Answer;

/// What a server may send ahead of its readers, for each stream and for all of them: one slow caller must not hold up
/// the others.
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;

/// Streams that are opened before the server has told its limit (RFC 9113 §6.5.2 recommends to allow 100).
const STREAMS_AT_FIRST: usize = 100;

/// A connection with open streams on which nothing comes for so long is asked whether it lives,
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// and no more often than this: some servers end connections that ask more than once in five minutes.
const PING_EVERY: Duration = Duration::from_secs(330);
/// After a request was given up unanswered, it is asked sooner.
const PING_EVERY_IN_DOUBT: Duration = Duration::from_secs(5);
/// How long the answer may take.
const PONG_PATIENCE: Duration = Duration::from_secs(10);

/// A connection that several requests travel on.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    link: Link,
    opening: Opening,
    streams: AtomicUsize,
    /// The connection has ended.
    is_closed: AtomicBool,
    /// A request was given up unanswered.
    is_suspect: Notify,
    /// Told when a stream has ended.
    freed: Arc<Notify>,
    rests_since: Mutex<Instant>,
}

/// The right to open one stream.
#[derive(Debug)]
pub(super) struct Ticket {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
}

impl Http2 {
    /// Speaks HTTP/2 on a new connection. `freed` is told whenever a stream has ended.
    pub(super) async fn open(transport: Transport, freed: &Arc<Notify>) -> Result<Self, SendError> {
        let (link, opening) = (transport.link().clone(), Opening::default());
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS_AT_FIRST)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(HEAD_LEN_MAX).unwrap_or(u32::MAX))
            .handshake::<_, Bytes>(Frames::new(transport, opening.clone()))
            .await
            .map_err(|error| SendError::NotSent(NotSent::Connect, error.into()))?;
        let state = Arc::new(State {
            link,
            opening,
            streams: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            is_suspect: Notify::new(),
            freed: Arc::clone(freed),
            rests_since: Mutex::new(Instant::now()),
        });
        TokioExecutor::new().execute(keep(connection, Arc::clone(&state)));
        Ok(Self { sender, state })
    }

    /// Whether it takes requests at all: it has not ended, and the server has not said that it is going away.
    pub(super) fn is_open(&self) -> bool {
        !self.state.is_closed.load(Ordering::Acquire)
            && !self.state.link.is_refused()
            && matches!(
                self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())),
                Poll::Ready(Ok(()))
            )
    }

    /// Whether no stream is open, and none has been for `limit`.
    pub(super) fn rests_for(&self, limit: Duration) -> bool {
        let rests_since = *self.state.rests_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.streams.load(Ordering::Acquire) == 0 && rests_since.elapsed() >= limit
    }

    /// The right to open a stream, if the server's limit leaves room for one.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        let max = self.sender.current_max_send_streams();
        let taken = self
            .state
            .streams
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < max).then_some(open + 1));
        taken.ok().map(|_| Ticket { sender: self.sender.clone(), state: Arc::clone(&self.state) })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        *self.state.rests_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.state.streams.fetch_sub(1, Ordering::AcqRel);
        self.state.freed.notify_one();
    }
}

/// Keeps a connection going until it ends or is found dead. To be run as a task.
async fn keep(mut connection: h2::client::Connection<Frames, Bytes>, state: Arc<State>) {
    let pulse = connection.ping_pong();
    let mut connection = pin!(connection);
    tokio::select! {
        // Whatever ends it reaches the requests on it.
        _ended = connection.as_mut() => {}
        () = found_dead(pulse, &state) => {}
    }
    state.link.cut();
    state.is_closed.store(true, Ordering::Release);
    state.freed.notify_waiters();
}

/// Completes when the connection does not answer a ping.
async fn found_dead(pulse: Option<PingPong>, state: &State) {
    let Some(mut pulse) = pulse else { return std::future::pending().await };
    let mut asked_at: Option<Instant> = None;
    loop {
        let reads = state.link.reads();
        let pause = tokio::select! {
            () = tokio::time::sleep(SILENCE_MAX) => PING_EVERY,
            () = state.is_suspect.notified() => PING_EVERY_IN_DOUBT,
        };
        let is_silent = pause == PING_EVERY_IN_DOUBT || state.link.reads() == reads;
        let is_in_use = pause == PING_EVERY_IN_DOUBT || state.streams.load(Ordering::Acquire) > 0;
        let is_due = asked_at.is_none_or(|at| at.elapsed() >= pause);
        if is_silent && is_in_use && is_due {
            asked_at = Some(Instant::now());
            match tokio::time::timeout(PONG_PATIENCE, pulse.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}
