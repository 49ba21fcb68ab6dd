//! A connection that looks whether its peer has gone before it writes a new request.
//!
//! A pooled connection may have been closed by the upstream a moment ago. If a request is written to it,
//! nobody can tell whether it was processed. So the first write after a finished exchange is preceded by a
//! look at the socket; when the peer has closed, the write fails before its first byte, which proves that
//! nothing was sent. Must not know HTTP beyond "an exchange has ended".

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Extensions;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection under watch.
#[derive(Debug)]
pub struct Watched {
    stream: TokioIo<TcpStream>,
    is_tls: bool,
    link: Link,
}

/// What a request knows of the connection it travels on.
#[derive(Clone, Debug, Default)]
pub(super) struct Link(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// An exchange has ended; the next write is the first of another request.
    between_exchanges: AtomicBool,
    /// That write found the peer gone and wrote nothing.
    found_dead: AtomicBool,
}

impl Link {
    /// The link of a connection that a request was given.
    pub(super) fn of(connected: &Connected) -> Option<Self> {
        let mut extensions = Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.remove()
    }

    /// Says that the answer has ended, so that the next write begins another request.
    pub(super) fn exchange_ended(&self) {
        self.0.between_exchanges.store(true, Ordering::Release);
    }

    /// Whether the first write of a request found the peer gone, and so wrote nothing.
    pub(super) fn was_found_dead(&self) -> bool {
        self.0.found_dead.load(Ordering::Acquire)
    }
}

impl Watched {
    pub(super) fn new(stream: TokioIo<TcpStream>, is_tls: bool) -> Self {
        Self { stream, is_tls, link: Link::default() }
    }

    fn look_before_request(&self) -> io::Result<()> {
        if !self.link.0.between_exchanges.swap(false, Ordering::AcqRel) || self.is_alive() {
            return Ok(());
        }
        self.link.0.found_dead.store(true, Ordering::Release);
        Err(io::Error::new(io::ErrorKind::NotConnected, "the upstream closed the idle connection"))
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.look_before_request()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.look_before_request()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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
