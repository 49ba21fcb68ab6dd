//! The socket of a connection: it keeps its place among the connections for as long as it is open, and can be had
//! back from whoever served on it, to be closed so that the last answer is not lost.
//!
//! Must not know protocols. Read `connection.rs` before.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::limits::Place;
use crate::net::{self, Stream};

/// How long a peer may take to notice that the connection is over.
const LINGER: Duration = Duration::from_secs(2);

/// How long when the gateway itself is about to go.
const LINGER_AT_THE_END: Duration = Duration::from_millis(250);

/// What a peer may still send before it is cut off.
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// A connection's socket, lent to whoever serves on it.
///
/// An upgraded connection outlives the one who served it; so does its place.
#[derive(Debug)]
pub(super) struct Socket {
    /// Taken when the socket is dropped.
    held: Option<Held>,
    back: Weak<Mutex<Option<Held>>>,
}

#[derive(Debug)]
struct Held {
    stream: Stream,
    place: Place,
}

/// Where a lent socket comes back to.
#[derive(Debug, Default)]
pub(super) struct Lender(Arc<Mutex<Option<Held>>>);

impl Lender {
    /// Lends a socket.
    pub(super) fn lend(&self, stream: Stream, place: Place) -> Socket {
        Socket { held: Some(Held { stream, place }), back: Arc::downgrade(&self.0) }
    }

    /// Closes the socket, if it has come back, such that the peer can read what was written last.
    ///
    /// RFC 9112 §9.6: a socket that is closed while something stands unread in it is reset, and the reset takes with it
    /// what the peer has not read yet. So the gateway's side ends first, and what comes is read and dropped for a while.
    pub(super) async fn close(self, is_at_the_end: bool) {
        let Some(Held { mut stream, place }) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        else {
            return;
        };
        if stream.shutdown().await.is_err() {
            return;
        }
        let limit = if is_at_the_end { LINGER_AT_THE_END } else { LINGER };
        let dropping = async {
            let mut rest = Box::new([0; 4096]);
            let mut left = LINGER_BYTES_MAX;
            while let Ok(count @ 1..) = stream.read(&mut *rest).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        };
        if tokio::time::timeout(limit, dropping).await.is_err() {
            tracing::trace!("a peer did not notice the end of its connection");
        }
        drop(place);
    }
}

impl Lender {
    /// Resets the connection: its peer must not take an orderly end for the end of an answer.
    pub(super) fn cut(self) {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Held { stream, .. }) = held
            && let Err(error) = net::reset_on_drop(&stream)
        {
            tracing::debug!(%error, "a connection was not reset");
        }
    }
}

impl Socket {
    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        let held = self.held.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Pin::new(&mut held.stream))
    }

    /// The socket itself, for what is read before any protocol is spoken.
    pub(super) fn raw(&mut self) -> io::Result<&mut Stream> {
        Ok(self.stream()?.get_mut())
    }

    /// The place of the connection among the others.
    pub(super) fn place(&mut self) -> Option<&mut Place> {
        self.held.as_mut().map(|held| &mut held.place)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(back) = self.back.upgrade() {
            *back.lock().unwrap_or_else(PoisonError::into_inner) = self.held.take();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Fails on a connection that was reset. hyper does not read while it waits for an answer, so it would learn of a
    /// caller that left only when it writes to it. An end in order is not looked for: the caller may still read.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream()?;
        if stream.poll_read_ready(cx)?.is_ready()
            && let Some(error) = stream.take_error()?
        {
            return Poll::Ready(Err(error));
        }
        stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
