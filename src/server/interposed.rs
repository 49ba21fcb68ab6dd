//! Writes what a caller is told beside its answers, between what hyper writes.
//!
//! Must not know what it is: see `../proxy/aside.rs`. hyper flushes a connection only when it holds nothing back, so
//! a flush is a place between two messages, or between two chunks of a body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::Aside;

/// A connection between whose writes others may stand.
#[derive(Debug)]
pub(super) struct Interposed<S> {
    stream: S,
    aside: Aside,
    /// Begun, and to be written before anything else.
    pending: Bytes,
}

impl<S> Interposed<S> {
    pub(super) fn new(stream: S, aside: Aside) -> Self {
        Self { stream, aside, pending: Bytes::new() }
    }
}

impl<S: AsyncWrite + Unpin> Interposed<S> {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what comes first; answers how many of the `next` bytes are withheld.
    fn poll_before(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        if self.pending.is_empty() {
            self.pending = self.aside.before_more().into();
        }
        ready!(self.poll_pending(cx))?;
        Poll::Ready(self.aside.withhold(next).map_err(io::Error::other))
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.aside.wrote();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Interposed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Interposed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let withheld = ready!(self.poll_before(cx, buf))?;
        if withheld > 0 {
            return Poll::Ready(Ok(withheld));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map(|buf| &**buf).unwrap_or_default();
        let withheld = ready!(self.poll_before(cx, first))?;
        if withheld > 0 {
            return Poll::Ready(Ok(withheld));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending.is_empty() {
            self.pending = self.aside.between(cx).into();
        }
        ready!(self.poll_pending(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
