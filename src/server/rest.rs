//! Lets a connection on which nothing has been asked for a while do without hyper, whose buffers are most of what an
//! idle connection holds.
//!
//! hyper is given a stream that comes back ([`Lent`]). When nothing has moved on it for [`REST_AFTER`] and nothing is
//! under way, hyper is told to end, which it does at once; its end of the stream is not the stream's. Then the stream
//! is read here ([`next`]), and with the first bytes hyper begins anew. Whatever looks at the bytes is part of the
//! stream, so what it knows stays, its limits on waiting among it. Must not know what is asked.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long nothing moves before a connection rests; it may be twice as long.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What is read at once of a connection that rests.
const READ_LEN: usize = 1024;

/// A stream that is lent, and comes back when it is dropped.
pub(super) struct Lent<S> {
    /// Taken when it is dropped.
    stream: Option<S>,
    /// Bytes of it that were read while it rested.
    ahead: Bytes,
    loan: Arc<Shared<S>>,
}

/// What a stream was lent by.
pub(super) struct Loan<S>(Arc<Shared<S>>);

struct Shared<S> {
    back: Mutex<Option<S>>,
    has_moved: AtomicBool,
    /// Something waits to be written: hyper may have read the request after it already, and would lose it.
    is_stuck: AtomicBool,
    /// Whoever has it was told to end, and does not end the stream.
    is_called_back: AtomicBool,
}

impl<S> Loan<S> {
    /// Lends a stream of which the bytes `ahead` were read already.
    pub(super) fn of(stream: S, ahead: Bytes) -> (Lent<S>, Self) {
        let shared = Arc::new(Shared {
            back: Mutex::new(None),
            has_moved: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            is_called_back: AtomicBool::new(false),
        });
        (Lent { stream: Some(stream), ahead, loan: Arc::clone(&shared) }, Self(shared))
    }

    /// Completes when nothing has moved for a while, nothing waits to be written, and nothing is under way.
    pub(super) async fn rests(&self, is_under_way: impl Fn() -> bool) {
        loop {
            tokio::time::sleep(REST_AFTER).await;
            let has_moved = self.0.has_moved.swap(false, Ordering::Relaxed);
            if !has_moved && !self.0.is_stuck.load(Ordering::Relaxed) && !is_under_way() {
                return;
            }
        }
    }

    /// From now on whoever has the stream does not end it by ending.
    pub(super) fn call_back(&self) {
        self.0.is_called_back.store(true, Ordering::Relaxed);
    }

    /// The stream, if it was called back and has come.
    pub(super) fn returned(self) -> Option<S> {
        let is_called_back = self.0.is_called_back.load(Ordering::Relaxed);
        let back = self.0.back.lock().unwrap_or_else(PoisonError::into_inner).take();
        back.filter(|_| is_called_back)
    }
}

/// The next bytes of a stream that rests; none at its end.
///
/// Cancel safety: nothing is lost.
pub(super) async fn next<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Bytes> {
    poll_fn(|cx| {
        let mut room = [0; READ_LEN];
        let mut buf = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(buf.filled())))
    })
    .await
}

impl<S> Lent<S> {
    fn moved<T>(&self, came: Poll<T>) -> Poll<T> {
        if came.is_ready() {
            self.loan.has_moved.store(true, Ordering::Relaxed);
        }
        came
    }

    fn written<T>(&self, came: Poll<T>) -> Poll<T> {
        self.loan.is_stuck.store(came.is_pending(), Ordering::Relaxed);
        came
    }
}

impl<S: Unpin> Lent<S> {
    fn with<T>(&mut self, ask: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.stream {
            Some(stream) => ask(Pin::new(stream)),
            // It is taken only when this is dropped.
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S> Drop for Lent<S> {
    fn drop(&mut self) {
        *self.loan.back.lock().unwrap_or_else(PoisonError::into_inner) = self.stream.take();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let len = self.ahead.len().min(buf.remaining());
            buf.put_slice(self.ahead.get(..len).unwrap_or_default());
            self.ahead.advance(len);
            return Poll::Ready(Ok(()));
        }
        let read = self.with(|stream| stream.poll_read(cx, buf));
        self.moved(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.with(|stream| stream.poll_write(cx, buf));
        self.moved(self.written(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.with(|stream| stream.poll_write_vectored(cx, bufs));
        self.moved(self.written(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.with(|stream| stream.poll_flush(cx));
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.loan.is_called_back.load(Ordering::Relaxed) {
            return self.poll_flush(cx);
        }
        self.with(|stream| stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_stream_that_was_called_back_comes_back_open_and_with_all_its_bytes() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut lent, loan) = Loan::of(near, Bytes::from_static(b"ahead"));
        far.write_all(b" of it").await.unwrap();
        let mut read = [0; 8];
        lent.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ahead of");
        loan.call_back();
        lent.shutdown().await.unwrap();
        drop(lent);
        let mut stream = loan.returned().unwrap();
        assert_eq!(next(&mut stream).await.unwrap(), " it");
        stream.write_all(b"still open").await.unwrap();
        far.read_exact(&mut [0; 10]).await.unwrap();
        drop(far);
        assert!(next(&mut stream).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_was_not_called_back_ends_with_whoever_has_it() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut lent, loan) = Loan::of(near, Bytes::new());
        lent.shutdown().await.unwrap();
        drop(lent);
        assert!(loan.returned().is_none());
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_rests_once_nothing_has_moved_and_nothing_is_under_way() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut lent, loan) = Loan::of(near, Bytes::new());
        let is_busy = AtomicBool::new(true);
        let busy = || is_busy.load(Ordering::Relaxed);
        let resting = |limit| tokio::time::timeout(limit, loan.rests(busy));
        assert!(resting(10 * REST_AFTER).await.is_err(), "something is under way");
        is_busy.store(false, Ordering::Relaxed);
        far.write_all(b"a").await.unwrap();
        lent.read_exact(&mut [0; 1]).await.unwrap();
        assert!(resting(REST_AFTER * 3 / 2).await.is_err(), "something has moved");
        assert!(tokio::time::timeout(REST_AFTER, lent.write_all(&[0; 100])).await.is_err());
        assert!(resting(10 * REST_AFTER).await.is_err(), "something waits to be written");
        far.read_exact(&mut [0; 64]).await.unwrap();
        lent.flush().await.unwrap();
        assert!(resting(REST_AFTER * 5 / 2).await.is_ok());
    }
}
