//! Gives up a peer that makes no room for what is written to it, or too little.
//!
//! A peer may let data wait for `write_timeout`. Each byte that it takes gives it time again, as much as
//! `body_rate_min` allows for it: so one that takes nothing is cut off after `write_timeout`, one that takes a byte
//! now and then soon after, and one that keeps that pace never. Nothing is counted while no data waits. Must not know
//! protocols.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::config::Server;
use crate::proxy::{Allowance, Timer};

/// A stream whose peer is not waited for without end.
pub(super) struct Patient<S> {
    stream: S,
    allowance: Allowance,
    timer: Timer,
    /// Since when data waits.
    since: Option<Instant>,
    on_end: Box<dyn Fn() + Send>,
}

impl<S> Patient<S> {
    /// Waits for the peer of `stream` as the settings say, and tells by `on_end` when that is over.
    pub(super) fn new(stream: S, settings: &Server, on_end: Box<dyn Fn() + Send>) -> Self {
        let allowance =
            Allowance::new(settings.write_timeout, settings.write_timeout, settings.body_rate_min);
        Self { stream, allowance, timer: Timer::default(), since: None, on_end }
    }

    /// Takes note of what came of a write.
    fn noted<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        bytes: impl Fn(&T) -> usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(written) = written else {
            let since = *self.since.get_or_insert_with(Instant::now);
            if self.timer.poll(since + self.allowance.left(), cx).is_pending() {
                return Poll::Pending;
            }
            (self.on_end)();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        };
        if let Some(since) = self.since.take() {
            self.allowance.waited(since.elapsed());
        }
        if let Ok(written) = &written {
            self.allowance.moved(bytes(written));
        }
        Poll::Ready(written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written, |count| *count, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(written, |count| *count, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed, |()| 0, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noted(shut, |()| 0, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// How many seconds a peer is written to that takes `bytes` each second, and so long as it is.
    async fn seconds(bytes: usize) -> Option<u64> {
        let settings =
            Server { write_timeout: Duration::from_secs(10), body_rate_min: 100, ..Server::default() };
        let (near, mut far) = tokio::io::duplex(64);
        let mut patient = Patient::new(near, &settings, Box::new(|| ()));
        let began = Instant::now();
        let reading = async {
            let mut taken = vec![0; bytes];
            for _ in 0..1000 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if bytes > 0 {
                    far.read_exact(&mut taken).await.unwrap();
                }
            }
        };
        let answer = vec![0; 1_000_000];
        tokio::select! {
            written = patient.write_all(&answer) => {
                assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
                Some(began.elapsed().as_secs())
            }
            () = reading => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_given_up_that_takes_nothing_or_too_little() {
        assert_eq!(seconds(0).await, Some(10));
        assert!(seconds(50).await.is_some_and(|seconds| (15..25).contains(&seconds)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_keeps_the_pace_is_waited_for() {
        assert_eq!(seconds(101).await, None);
    }
}
