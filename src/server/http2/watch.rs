//! Stands between an HTTP/2 connection and h2: lets `conduct.rs` see what passes, and acts on what it finds.
//!
//! A connection that is ended gets a GOAWAY, between two frames, and reads as over to h2. A stream that is given up is
//! reset towards both sides. Must not know requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::conduct::{Conduct, Fault, Terms};
use super::frames::written;

/// How often the clock is looked at, as a part of the shortest time that anybody is given.
const LOOKS_PER_TIMEOUT: u32 = 4;
const LOOK_EVERY_MIN: Duration = Duration::from_millis(5);

/// Types of frames (§6.4, §6.8) and codes (§7).
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CANCEL: u32 = 8;
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a connection's requests may know of its client.
#[derive(Debug, Default)]
pub(super) struct Repute(AtomicU32);

impl Repute {
    /// See [`Conduct::suspicion`].
    pub(super) fn suspicion(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Told when a connection is ended for what its client does.
pub(super) type OnFault = Box<dyn Fn(Fault) + Send>;

/// An HTTP/2 connection whose frames are watched.
pub(super) struct Watched<S> {
    stream: S,
    /// Bytes that were read before the connection was known to be HTTP/2.
    ahead: Bytes,
    conduct: Conduct,
    repute: Arc<Repute>,
    on_fault: OnFault,
    ended: Option<Fault>,
    /// Frames of ours that wait to be put in, towards the client and as if from it; the first may be under way.
    to_client: Own,
    from_client: Own,
    clock: Pin<Box<Sleep>>,
    look_every: Duration,
}

/// Frames that wait for their turn.
#[derive(Debug, Default)]
struct Own {
    bytes: BytesMut,
    has_begun: bool,
}

impl Own {
    fn is_due(&self, may_begin: bool) -> bool {
        !self.bytes.is_empty() && (self.has_begun || may_begin)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.has_begun = !self.bytes.is_empty();
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, ahead: Bytes, terms: Terms, on_fault: OnFault) -> (Self, Arc<Repute>) {
        let shortest = terms.header_timeout.min(terms.idle_timeout).min(terms.write_timeout);
        let look_every = (shortest / LOOKS_PER_TIMEOUT).max(LOOK_EVERY_MIN);
        let conduct = Conduct::new(terms, Instant::now());
        let repute = Arc::new(Repute(AtomicU32::new(conduct.suspicion())));
        let watched = Self {
            stream,
            ahead,
            conduct,
            repute: Arc::clone(&repute),
            on_fault,
            ended: None,
            to_client: Own::default(),
            from_client: Own::default(),
            clock: Box::pin(tokio::time::sleep(look_every)),
            look_every,
        };
        (watched, repute)
    }

    fn end(&mut self, fault: Fault) {
        if self.ended.is_some() {
            return;
        }
        self.ended = Some(fault);
        (self.on_fault)(fault);
        let code = if fault == Fault::Idle { NO_ERROR } else { ENHANCE_YOUR_CALM };
        let payload = [self.conduct.last_stream().to_be_bytes(), code.to_be_bytes()].concat();
        self.to_client.bytes.extend_from_slice(&written(GOAWAY, 0, &payload));
    }

    /// Does what has become due. Leaves the clock set, so that the task is woken for the next look.
    fn look_at_clock(&mut self, cx: &mut Context<'_>) {
        while self.clock.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.conduct.due(now);
            for stream in due.give_up {
                tracing::debug!(stream, "an answer was given up: its client makes no room for it");
                let reset = written(RST_STREAM, stream, &CANCEL.to_be_bytes());
                self.to_client.bytes.extend_from_slice(&reset);
                self.from_client.bytes.extend_from_slice(&reset);
                self.conduct.gave_up(stream, now);
            }
            if let Some(fault) = due.end {
                self.end(fault);
            }
            self.tell_repute();
            let next = now + self.look_every;
            let next = self.conduct.next_due().map_or(next, |due| due.clamp(now + LOOK_EVERY_MIN, next));
            self.clock.as_mut().reset(next);
        }
    }

    fn tell_repute(&self) {
        self.repute.0.store(self.conduct.suspicion(), Ordering::Relaxed);
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Puts frames of ours in, as far as they may be and the client takes them.
    fn put_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.to_client.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.to_client.is_due(self.conduct.may_speak()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.to_client.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.to_client.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Before h2 writes: what of ours goes first, and whether anything goes any more.
    fn before_writing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look_at_clock(cx);
        if self.to_client.is_due(self.conduct.may_speak()) {
            ready!(self.put_in(cx))?;
        }
        if self.ended.is_some() && self.conduct.may_speak() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn after_writing<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, count: usize, cx: &Context<'_>) {
        let (now, mut left) = (Instant::now(), count);
        for piece in pieces {
            let passed = piece.get(..left).unwrap_or(piece);
            left -= passed.len();
            if let Some(fault) = self.conduct.sent(passed, now) {
                self.end(fault);
                // Nothing else may have it read, which is where a connection ends.
                cx.waker().wake_by_ref();
            }
            if left == 0 {
                break;
            }
        }
        self.tell_repute();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        me.look_at_clock(cx);
        if me.ended.is_none() {
            if me.from_client.is_due(me.conduct.may_speak_for_client()) {
                let count = buf.remaining().min(me.from_client.bytes.len());
                buf.put_slice(me.from_client.bytes.get(..count).unwrap_or_default());
                me.from_client.advance(count);
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            if me.ahead.is_empty() {
                let read = Pin::new(&mut me.stream).poll_read(cx, buf);
                if read.is_pending() && !me.to_client.bytes.is_empty() {
                    // Whether the client takes them now or later: the read above wakes the task, and so does the write.
                    if let Poll::Ready(Err(error)) = me.put_in(cx) {
                        return Poll::Ready(Err(error));
                    }
                }
                ready!(read)?;
            } else {
                let count = buf.remaining().min(me.ahead.len());
                buf.put_slice(&me.ahead.split_to(count));
            }
            let fault = me.conduct.received(buf.filled().get(before..).unwrap_or_default(), Instant::now());
            me.tell_repute();
            let Some(fault) = fault else { return Poll::Ready(Ok(())) };
            // Nothing of what was read with it goes any further.
            buf.set_filled(before);
            me.end(fault);
        }
        // One try: a client that takes nothing is not waited for.
        match me.put_in(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.before_writing(cx))?;
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.after_writing(std::iter::once(buf), count, cx);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before_writing(cx))?;
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.after_writing(bufs.iter().map(|buf| &**buf), count, cx);
        Poll::Ready(Ok(count))
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
