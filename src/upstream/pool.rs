//! One worker's connections to one server: which a request travels on.
//!
//! Over HTTP/1.1 a connection carries one request at a time and is kept while idle. Over HTTP/2 requests share one
//! connection up to the server's limit; another is opened only beyond that. Which of the two is spoken is settled by
//! `protocol`, or by the first handshake (ALPN). Waiting for a connection is not sending: it has the limit of
//! `connect_timeout`. Must not know requests. Read `http1.rs` and `http2.rs` after.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::uri::Authority;
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::connect::{ConnectTimedOut, Connector};
use super::connection::Count;
use super::failure::{NotSent, SendError};
use super::http1::Http1;
use super::http2::{Http2, Ticket};
use super::resolve::Names;
use super::tls::Trust;
use crate::config::{self, Protocol};

/// Connections over HTTP/2 that one worker opens to a server whose limit of streams is low.
const SHARED_MAX: usize = 16;

/// The connections of one worker to one server.
#[derive(Debug)]
pub(super) struct Pool {
    connector: Connector,
    connect_timeout: Duration,
    idle_timeout: Duration,
    idle_max: usize,
    /// The latest used last.
    idle: Mutex<VecDeque<(Http1, Instant)>>,
    shared: Mutex<Vec<Http2>>,
    /// The server may speak HTTP/2. Cleared when it has chosen otherwise.
    may_share: AtomicBool,
    /// Only one connection is opened at a time where requests can share it.
    opening: Semaphore,
    /// Told when a stream has ended, and when a connection is there.
    freed: Arc<Notify>,
    is_swept: AtomicBool,
}

/// What a request travels on.
#[derive(Debug)]
pub(super) enum Channel {
    Http1(Http1),
    Http2(Ticket),
}

/// A connection over HTTP/1.1 in use, and where it goes afterwards.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Http1,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(
        config: &config::Upstream,
        authority: &Authority,
        trust: &Trust,
        names: &Names,
        count: Count,
    ) -> Result<Arc<Self>, http::Error> {
        let may_share = match config.protocol {
            Protocol::Auto => config.tls,
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        Ok(Arc::new(Self {
            connector: Connector::new(config, authority, trust, names, count)?,
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            idle_max: config.idle_connections_max,
            idle: Mutex::default(),
            shared: Mutex::default(),
            may_share: AtomicBool::new(may_share),
            opening: Semaphore::new(1),
            freed: Arc::default(),
            is_swept: AtomicBool::new(false),
        }))
    }

    /// Finds or makes a connection. `http1_only`: for a request that may end in another protocol.
    ///
    /// Errors: the request for which this is has not been sent.
    pub(super) async fn channel(self: &Arc<Self>, http1_only: bool) -> Result<Channel, SendError> {
        // Without a timer where nothing has to be waited for.
        if let Some(idle) = self.take_idle() {
            return Ok(Channel::Http1(idle));
        }
        if !http1_only && let Some(ticket) = self.ticket() {
            return Ok(Channel::Http2(ticket));
        }
        // Boxed: seldom needed, and large.
        let finding = tokio::time::timeout(self.connect_timeout, Box::pin(self.find(http1_only)));
        finding.await.unwrap_or_else(|_| {
            Err(SendError::NotSent(NotSent::ConnectTimeout, ConnectTimedOut(self.connect_timeout).into()))
        })
    }

    async fn find(self: &Arc<Self>, http1_only: bool) -> Result<Channel, SendError> {
        while !http1_only && self.may_share.load(Ordering::Acquire) {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(ticket) = self.ticket() {
                return Ok(Channel::Http2(ticket));
            }
            if self.shared().len() >= SHARED_MAX {
                freed.await;
                continue;
            }
            let Ok(_turn) = (tokio::select! {
                turn = self.opening.acquire() => turn,
                () = freed => continue,
            }) else {
                break;
            };
            if let Some(ticket) = self.ticket() {
                return Ok(Channel::Http2(ticket));
            }
            return self.open(http1_only).await;
        }
        self.open(http1_only).await
    }

    async fn open(self: &Arc<Self>, http1_only: bool) -> Result<Channel, SendError> {
        let connected = self.connector.connect(http1_only).await?;
        if !connected.is_http2 {
            if !http1_only {
                self.may_share.store(false, Ordering::Release);
                self.freed.notify_waiters();
            }
            return Http1::open(connected.transport).await.map(Channel::Http1);
        }
        let connection = Http2::open(connected.transport, &self.freed).await?;
        let ticket = connection.ticket();
        self.shared().push(connection);
        self.may_share.store(true, Ordering::Release);
        self.freed.notify_waiters();
        self.sweep_now_and_then();
        ticket
            .map(Channel::Http2)
            .ok_or_else(|| SendError::NotSent(NotSent::Refused, "the server takes no streams".into()))
    }

    fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle();
        while let Some((connection, since)) = idle.pop_back() {
            if since.elapsed() >= self.idle_timeout {
                idle.clear();
            } else if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn ticket(&self) -> Option<Ticket> {
        let mut shared = self.shared();
        if shared.is_empty() {
            return None;
        }
        shared.retain(Http2::is_open);
        shared.iter().find_map(Http2::ticket)
    }

    fn keep(self: &Arc<Self>, connection: Http1) {
        if self.idle_max == 0 || self.idle_timeout.is_zero() || !connection.is_ready() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() >= self.idle_max {
            idle.pop_front();
        }
        idle.push_back((connection, Instant::now()));
        drop(idle);
        self.sweep_now_and_then();
    }

    /// Closes what has been idle for too long, for as long as anything is kept.
    fn sweep_now_and_then(self: &Arc<Self>) {
        if self.is_swept.swap(true, Ordering::AcqRel) {
            return;
        }
        let (pool, every) = (Arc::downgrade(self), self.idle_timeout.max(Duration::from_millis(10)) / 2);
        TokioExecutor::new().execute(async move {
            loop {
                tokio::time::sleep(every).await;
                if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
                    return;
                }
            }
        });
    }

    /// Answers whether anything is left.
    fn sweep(&self) -> bool {
        let mut idle = self.idle();
        idle.retain(|(connection, since)| connection.is_ready() && since.elapsed() < self.idle_timeout);
        let mut shared = self.shared();
        shared.retain(|connection| connection.is_open() && !connection.rests_for(self.idle_timeout));
        let is_any = !idle.is_empty() || !shared.is_empty();
        self.is_swept.store(is_any, Ordering::Release);
        is_any
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Http1, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> MutexGuard<'_, Vec<Http2>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn new(connection: Http1, pool: &Arc<Pool>) -> Self {
        Self { connection, pool: Arc::clone(pool) }
    }

    /// Gives the connection back once it is free: its answer has been read, but its request may still be under way.
    pub(super) fn give_back(self) {
        if self.connection.is_ready() {
            self.pool.keep(self.connection);
            return;
        }
        let (pool, patience): (Weak<Pool>, _) = (Arc::downgrade(&self.pool), self.pool.idle_timeout);
        let Self { mut connection, .. } = self;
        TokioExecutor::new().execute(async move {
            match tokio::time::timeout(patience, connection.ready()).await {
                Ok(true) => {
                    if let Some(pool) = pool.upgrade() {
                        pool.keep(connection);
                    }
                }
                Ok(false) | Err(_) => connection.cut(),
            }
        });
    }

    /// Ends the connection: what is still to come on it is not waited for.
    pub(super) fn cut(&self) {
        self.connection.cut();
    }
}
