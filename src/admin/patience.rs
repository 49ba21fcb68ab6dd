//! A stream whose peer is not waited for without end: neither for the rest of a head that it has begun, nor for room
//! for an answer. How long a connection may be idle is hyper's to say.
//!
//! Must not know what is asked. The listener for callers has finer means (`../server/framing.rs`,
//! `../server/patience.rs`); here answers are short and whole, and a plain deadline does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a head may take to come, from its first byte, and an answer to be taken, each piece of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Whose turn it is: the peer's, to ask, or the listener's, to answer. Counts the changes; it begins with the peer's.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn(Arc<AtomicUsize>);

/// A stream with deadlines.
pub(super) struct Patient<S> {
    stream: S,
    turn: Turn,
    /// The turn in which `head_due` was set.
    turn_of_head: usize,
    head_due: Option<Pin<Box<Sleep>>>,
    room_due: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    /// A head has come, or an answer is made.
    pub(super) fn pass(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, turn: Turn) -> Self {
        Self { stream, turn, turn_of_head: 0, head_due: None, room_due: None }
    }

    fn noted<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.room_due = None;
            return written;
        }
        if is_over(&mut self.room_due, cx) {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else {
            written
        }
    }
}

/// Whether the time is up that begins with the first call.
fn is_over(due: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    let due = due.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + PATIENCE)));
    due.as_mut().poll(cx).is_ready()
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let turn = self.turn.0.load(Ordering::Acquire);
        if turn != self.turn_of_head {
            (self.turn_of_head, self.head_due) = (turn, None);
        }
        let is_answering = turn % 2 == 1;
        if is_answering {
            return read;
        }
        let has_begun = self.head_due.is_some() || buf.filled().len() > before;
        // Armed by the first bytes as well, so that a head that ends there has its time from them.
        if has_begun && is_over(&mut self.head_due, cx) && read.is_pending() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noted(shut, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(start_paused = true)]
    async fn a_head_that_was_begun_has_its_time_however_steadily_it_drips() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let mut patient = Patient::new(stream, Turn::default());
        let began = Instant::now();
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                peer.write_all(b"a").await.ok();
            }
        };
        let mut byte = [0];
        let ended = tokio::select! {
            ended = async { loop { if let Err(error) = patient.read_exact(&mut byte).await { break error } } } => ended,
            () = drip => unreachable!("it drips for ever"),
        };
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_before_a_head_and_during_an_answer_is_not_counted() {
        let (mut peer, stream) = tokio::io::duplex(64);
        let turn = Turn::default();
        let mut patient = Patient::new(stream, turn.clone());
        let mut byte = [0];
        let late = async {
            tokio::time::sleep(PATIENCE * 3).await;
            peer.write_all(b"a").await.unwrap();
        };
        assert!(tokio::join!(patient.read_exact(&mut byte), late).0.is_ok());
        turn.pass();
        let later = async {
            tokio::time::sleep(PATIENCE * 3).await;
            peer.write_all(b"b").await.unwrap();
        };
        assert!(tokio::join!(patient.read_exact(&mut byte), later).0.is_ok());
        turn.pass();
        let last = async {
            tokio::time::sleep(PATIENCE * 3).await;
            peer.write_all(b"c").await.unwrap();
        };
        assert!(tokio::join!(patient.read_exact(&mut byte), last).0.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_makes_no_room_is_given_up() {
        let (_peer, stream) = tokio::io::duplex(4);
        let mut patient = Patient::new(stream, Turn::default());
        let error = patient.write_all(b"more than there is room for").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
