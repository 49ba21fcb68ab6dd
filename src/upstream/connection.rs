//! A connection that asks, before the first byte of a request is written, whether it may be.
//!
//! A pooled connection may have been closed by the upstream a moment ago. If a request is written to it, nobody
//! can tell whether it was processed. So the first write of a request is preceded by a look at the socket, and
//! by a question to its sender, who may have given up while the connection was made. Where the answer is no, the
//! write fails before its first byte, which proves that nothing was sent. Must not know HTTP.
//!
//! A request is announced ([`Link::announce`]) before anything of it can be written, and stays so until the kernel
//! has its first byte. Over TLS several requests may wait in one record; all their senders are asked.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::progress::Progress;
use crate::net::{self, Stream};

/// A connection under watch.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// Held for its `Drop`.
    _counted: Counted,
    /// The peer may speak without being asked.
    speaks_first: bool,
    link: Link,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Who is told of the cut.
    told: Option<Waker>,
}

/// How many connections there are to one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicUsize>);

/// One of them, while it lives.
#[derive(Debug)]
pub(super) struct Counted(Count);

/// What a request knows of the connection it travels on.
#[derive(Clone, Debug, Default)]
pub(super) struct Link(Arc<State>);

/// The beginning of one request.
#[derive(Clone, Debug)]
pub(super) struct Start(Arc<Beginning>);

#[derive(Debug)]
struct Beginning {
    sender: Progress,
    /// A byte of the request may have been written.
    is_written: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The requests whose first bytes may be in the next write.
    announced: Mutex<Vec<Start>>,
    has_announced: AtomicBool,
    /// A request has travelled here before, so the peer may have gone meanwhile.
    is_used: AtomicBool,
    /// Nothing is written any more.
    refused: AtomicBool,
    /// How often bytes came from the peer.
    reads: AtomicU64,
    /// Why what the peer says is not believed any more.
    doubt: OnceLock<&'static str>,
    /// The peer ended the TLS handshake before it said anything else.
    turned_away: AtomicBool,
    /// What still waits here will not come.
    cut: CancellationToken,
}

impl Start {
    pub(super) fn of(sender: &Progress) -> Self {
        Self(Arc::new(Beginning { sender: sender.clone(), is_written: AtomicBool::new(false) }))
    }

    /// Whether a byte of the request may have been written.
    pub(super) fn is_written(&self) -> bool {
        self.0.is_written.load(Ordering::Acquire)
    }

    fn written(&self) {
        self.0.is_written.store(true, Ordering::Release);
    }
}

impl Link {
    /// Says that the next write may begin a request.
    pub(super) fn announce(&self, start: &Start) {
        self.announced().push(start.clone());
        self.0.has_announced.store(true, Ordering::Release);
    }

    /// Says that the kernel has every byte that was to be written so far.
    pub(super) fn drained(&self) {
        if self.0.has_announced.load(Ordering::Acquire) {
            self.announced().retain(|start| !start.is_written());
            self.0.has_announced.store(!self.announced().is_empty(), Ordering::Release);
        }
    }

    /// Writes nothing any more. A request that was not written before this is not sent.
    pub(super) fn refuse(&self) {
        self.0.refused.store(true, Ordering::Release);
    }

    /// Whether nothing is written any more.
    pub(super) fn is_refused(&self) -> bool {
        self.0.refused.load(Ordering::Acquire)
    }

    /// Ends the connection, also while it waits for a peer that neither reads nor writes.
    pub(super) fn cut(&self) {
        self.refuse();
        self.0.cut.cancel();
    }

    /// Puts down why what the peer says is not believed any more.
    pub(super) fn doubt(&self, reason: &'static str) {
        self.0.doubt.get_or_init(|| reason);
    }

    /// Why what the peer says is not believed any more.
    pub(super) fn doubted(&self) -> Option<&'static str> {
        self.0.doubt.get().copied()
    }

    /// Says that the peer ended the TLS handshake, and so has read nothing of what was written.
    pub(super) fn turn_away(&self) {
        self.refuse();
        self.0.turned_away.store(true, Ordering::Release);
    }

    /// Whether the peer ended the TLS handshake.
    pub(super) fn is_turned_away(&self) -> bool {
        self.0.turned_away.load(Ordering::Acquire)
    }

    /// Grows whenever bytes come from the peer.
    pub(super) fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    fn announced(&self) -> MutexGuard<'_, Vec<Start>> {
        self.0.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub(super) fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watched {
    /// Puts a connection under watch, and counts it for as long as it is there.
    pub(super) fn new(stream: Stream, counted: Counted) -> Self {
        let link = Link::default();
        let cut = Box::pin(link.0.cut.clone().cancelled_owned());
        Self { stream, _counted: counted, speaks_first: false, link, cut, told: None }
    }

    /// The peer may speak without being asked, as it may over HTTP/2.
    pub(super) fn let_speak_first(&mut self) {
        self.speaks_first = true;
    }

    /// What requests on this connection know of it.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Fails if the write that follows may begin a request that must not begin.
    fn ask_before_writing(&self) -> io::Result<()> {
        let state = &self.link.0;
        if !self.link.is_refused() {
            if !state.has_announced.load(Ordering::Acquire) {
                return Ok(());
            }
            let announced = self.link.announced();
            if announced.iter().all(Start::is_written) {
                return Ok(());
            }
            let was_used = state.is_used.swap(true, Ordering::AcqRel);
            let may_send = announced.iter().all(|start| start.is_written() || start.0.sender.may_send());
            if may_send && (!was_used || self.is_alive()) {
                return Ok(());
            }
            self.link.refuse();
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, "the request may not begin on this connection"))
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(bytes)) if *bytes > 0)
            && self.link.0.has_announced.load(Ordering::Acquire)
        {
            self.link.announced().iter().for_each(Start::written);
        }
    }

    /// What came of reading or writing, unless it waits on a connection that was cut.
    fn unless_cut<T>(&mut self, cx: &mut Context<'_>, came: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let is_told = self.told.as_ref().is_some_and(|told| told.will_wake(cx.waker()));
        // Nothing is cut that was not refused before; what waits comes here several times in the course of each answer.
        if came.is_ready() || is_told && !self.link.is_refused() {
            return came;
        }
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the request was given up",
            )));
        }
        self.told = Some(cx.waker().clone());
        came
    }

    fn is_alive(&self) -> bool {
        // Over HTTP/1.1 nobody may speak before being asked (RFC 9112 §9.2); over TLS it is likely a goodbye.
        net::has_unread(&self.stream).is_some_and(|has_unread| !has_unread || self.speaks_first)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.link.0.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.unless_cut(cx, read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.ask_before_writing()?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&written);
        self.unless_cut(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.ask_before_writing()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&written);
        self.unless_cut(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
