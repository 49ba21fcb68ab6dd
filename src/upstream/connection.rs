//! A connection that asks, before the first byte of a request is written, whether it may be.
//!
//! A pooled connection may have been closed by the upstream a moment ago. If a request is written to it, nobody
//! can tell whether it was processed. So the first write of a request is preceded by a look at the socket, and
//! by a question to its sender, who may have given up while the connection was made. Where the answer is no, the
//! write fails before its first byte, which proves that nothing was sent. Must not know HTTP.
//!
//! The mark is set when a request is given its connection, in the same poll that queues it. That is before the
//! connection's task can write, because both run on one current-thread runtime: the gateway's workers are such.

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::progress::Progress;

/// A connection under watch.
#[derive(Debug)]
pub struct Watched {
    stream: TokioIo<TcpStream>,
    is_tls: bool,
    link: Link,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a request knows of the connection it travels on.
#[derive(Clone, Debug, Default)]
pub(super) struct Link(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Set while the next write is the first of a request: its sender.
    about_to_begin: Mutex<Option<Progress>>,
    /// A request has travelled here before, so the peer may have gone meanwhile.
    is_used: AtomicBool,
    /// A byte of the present request was written.
    has_written: AtomicBool,
    /// The first write of a request was refused. The connection takes no more.
    refused: AtomicBool,
    /// The request that travels here was given up: what hyper still waits for here will not come.
    cut: CancellationToken,
}

impl Link {
    /// The link of a connection that a request was given.
    pub(super) fn of(connected: &Connected) -> Option<Self> {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.remove()
    }

    /// Says that the next write begins a request.
    pub(super) fn request_begins(&self, sender: &Progress) {
        self.0.has_written.store(false, Ordering::Release);
        *self.sender() = Some(sender.clone());
    }

    /// Ends the connection, also while it waits for a peer that neither reads nor writes.
    pub(super) fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Whether the first write of the present request was refused, and so nothing of it was written.
    pub(super) fn proves_not_sent(&self) -> bool {
        self.0.refused.load(Ordering::Acquire) && !self.0.has_written.load(Ordering::Acquire)
    }

    fn sender(&self) -> MutexGuard<'_, Option<Progress>> {
        self.0.about_to_begin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    pub(super) fn new(stream: TokioIo<TcpStream>, is_tls: bool) -> Self {
        let link = Link::default();
        let cut = Box::pin(link.0.cut.clone().cancelled_owned());
        Self { stream, is_tls, link, cut }
    }

    /// Fails if the write that follows is the first of a request and must not be.
    fn ask_before_writing(&self) -> io::Result<()> {
        let state = &self.link.0;
        if !state.refused.load(Ordering::Acquire) {
            let Some(sender) = self.link.sender().take() else { return Ok(()) };
            let was_used = state.is_used.swap(true, Ordering::AcqRel);
            if sender.may_send() && (!was_used || self.is_alive()) {
                return Ok(());
            }
            state.refused.store(true, Ordering::Release);
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, "the request may not begin on this connection"))
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(bytes)) if bytes > 0) {
            self.link.0.has_written.store(true, Ordering::Release);
        }
        written
    }

    /// What came of reading or writing, unless it waits on a connection that was cut.
    fn unless_cut<T>(&mut self, cx: &mut Context<'_>, came: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if came.is_pending() && self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the request was given up",
            )));
        }
        came
    }

    fn is_alive(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        match socket2::SockRef::from(self.stream.inner()).peek(&mut byte) {
            Ok(0) => false,
            // Nobody may speak before being asked, except TLS itself (RFC 9112 §9.2).
            Ok(_) => self.is_tls,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

impl Connection for Watched {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.link.clone())
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.unless_cut(cx, read)
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.ask_before_writing()?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        let written = self.wrote(written);
        self.unless_cut(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.ask_before_writing()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let written = self.wrote(written);
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
