//! Stands between the socket and hyper: looks over the bytes of requests, and holds a head back until it is whole and
//! found well-formed.
//!
//! hyper is lenient where servers differ, answers what it refuses with a bare status, and settles some contradictions
//! in silence. A gateway must not: what two servers read differently is how requests are smuggled. So hyper sees no
//! head but a well-formed one. In the place of one that is in doubt it sees a stand-in, so that the service is asked
//! and can say what is wrong; nothing that follows is read. If a request has been served already, its body fails
//! before the doubtful byte and so never ends well. Must not know what is made of a request. Source: RFC 9112.
//!
//! A head that comes in one piece is looked at where hyper has it read to, and not copied. Read `framing/scan.rs` for
//! what is looked at.

mod chunks;
mod head;
mod scan;
mod start_line;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::config::Server;
use crate::proxy::{Doubt, Timer};

use scan::{Scan, Sight, Then};

/// Longest target that hyper takes.
const TARGET_BYTES_MAX: usize = 65_534;

/// What a head is held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    target_bytes_max: usize,
    header_bytes_max: usize,
    header_count_max: usize,
    header_timeout: Duration,
    idle_timeout: Duration,
}

/// What has been found on one connection, and what the service tells of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    /// What is wrong with the request that hyper is given now.
    doubt: Option<Doubt>,
    /// Whether the request that asks for another protocol is granted it.
    is_granted: Option<bool>,
    /// Waits for that.
    reader: Option<Waker>,
}

/// A connection whose bytes are looked over as they are read.
#[derive(Debug)]
pub(super) struct LookedOver<S> {
    stream: S,
    scan: Scan,
    limits: Limits,
    findings: Findings,
    /// Bytes that have been read and not passed on. The first `clear` of them may go on.
    held: BytesMut,
    clear: usize,
    /// What follows them.
    after: After,
    /// What is waited for, and until when.
    awaited: Option<(Awaited, Instant)>,
    timer: Timer,
}

#[derive(Debug)]
enum After {
    /// More of the same.
    More,
    /// Bytes given along with the connection: nobody has looked at them yet.
    Unseen,
    /// In the place of a request that is in doubt.
    StandIn(Doubt, Bytes),
    /// The doubtful part of a body.
    Broken(&'static str),
    /// Nothing more is read: a request was in doubt, or none came for too long.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    First,
    RestOfHead,
    Next,
}

impl Limits {
    pub(super) fn of(settings: &Server) -> Self {
        Self {
            target_bytes_max: settings.target_bytes_max.min(TARGET_BYTES_MAX),
            header_bytes_max: settings.header_bytes_max,
            header_count_max: settings.header_count_max,
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
        }
    }
}

impl Findings {
    /// What is wrong with the request that hyper hands to the service now, if anything.
    pub(super) fn of_this_request(&self) -> Option<Doubt> {
        self.found().doubt.take()
    }

    /// Tells whether a request that asked for another protocol is granted it. Until then nobody can say what the
    /// bytes after it are.
    pub(super) fn is_granted(&self, is_granted: bool) {
        let mut found = self.found();
        found.is_granted = Some(is_granted);
        if let Some(reader) = found.reader.take() {
            reader.wake();
        }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> LookedOver<S> {
    /// Looks over `already_read` and what is read of `stream` after it.
    pub(super) fn new(stream: S, already_read: Bytes, limits: Limits) -> (Self, Findings) {
        let findings = Findings::default();
        let looked_over = Self {
            stream,
            scan: Scan::new(limits),
            limits,
            findings: findings.clone(),
            after: if already_read.is_empty() { After::More } else { After::Unseen },
            held: already_read.into(),
            clear: 0,
            awaited: None,
            timer: Timer::default(),
        };
        (looked_over, findings)
    }

    /// Whether all of the requests before has been passed on, and none after them.
    pub(super) fn is_between_requests(&self) -> bool {
        self.scan.awaits_head() && self.clear == 0
    }

    /// Looks at what is held.
    fn look_at_held(&mut self) {
        let Sight { clear, then } = self.scan.look(&self.held);
        self.clear = clear;
        self.note(then);
    }

    fn note(&mut self, then: Then) {
        self.awaited = self.awaited.filter(|_| matches!(then, Then::Keep));
        self.after = match then {
            Then::Nothing | Then::Keep => return,
            Then::Doubt(doubt, stand_in) => After::StandIn(doubt, stand_in.into()),
            Then::Break(reason) => After::Broken(reason),
        };
        self.held.truncate(self.clear);
    }

    /// Passes on what may go on. Answers whether there was anything.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.clear > 0 {
            let len = self.clear.min(buf.remaining());
            buf.put_slice(&self.held.split_to(len));
            self.clear -= len;
            if self.held.is_empty() {
                // A connection that waits holds no memory.
                self.held = BytesMut::new();
            }
            return true;
        }
        let After::StandIn(doubt, stand_in) = &mut self.after else { return false };
        // All requests before this one have been handed to the service: hyper asks for more only when it has no
        // head left to read.
        self.findings.found().doubt.get_or_insert(*doubt);
        let len = stand_in.len().min(buf.remaining());
        buf.put_slice(&stand_in.split_to(len));
        if stand_in.is_empty() {
            self.after = After::End;
        }
        true
    }

    /// Looks at what was just read behind `before` in `buf`, where it stands. Answers whether any of it may stay.
    fn look_in_place(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let read = buf.filled().get(before..).unwrap_or_default();
        let Sight { clear, then } = self.scan.look(read);
        if then == Then::Keep {
            self.held.extend_from_slice(read.get(clear..).unwrap_or_default());
        }
        buf.set_filled(before + clear);
        self.note(then);
        clear > 0
    }

    /// Waits for what the caller is to send, as long as that is waited for.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.scan.awaits_head() {
            return Poll::Pending;
        }
        let before = self.awaited.map(|(awaited, _)| awaited);
        let (awaited, limit) = match before {
            _ if self.scan.is_in_head(&self.held) => (Awaited::RestOfHead, self.limits.header_timeout),
            Some(Awaited::First) => (Awaited::First, self.limits.header_timeout),
            None if !self.scan.has_seen_any() => (Awaited::First, self.limits.header_timeout),
            Some(Awaited::Next | Awaited::RestOfHead) | None => (Awaited::Next, self.limits.idle_timeout),
        };
        let deadline = match self.awaited {
            Some((same, deadline)) if same == awaited => deadline,
            Some(_) | None => Instant::now() + limit,
        };
        self.awaited = Some((awaited, deadline));
        ready!(self.timer.poll(deadline, cx));
        if awaited == Awaited::RestOfHead {
            self.give_up(Doubt::HeadTooSlow(limit));
        } else {
            tracing::debug!(?awaited, "a connection on which nothing was under way is closed");
            self.after = After::End;
        }
        Poll::Ready(())
    }

    fn give_up(&mut self, doubt: Doubt) {
        let then = self.scan.give_up(doubt, &self.held);
        self.note(then);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LookedOver<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match &this.after {
                After::Broken(reason) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *reason)));
                }
                After::End => return Poll::Ready(Ok(())),
                After::Unseen => {
                    this.after = After::More;
                    this.look_at_held();
                    continue;
                }
                After::More | After::StandIn(..) => {}
            }
            if this.scan.is_undecided() {
                let mut found = this.findings.found();
                let Some(is_granted) = found.is_granted.take() else {
                    found.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                drop(found);
                this.scan.decide(is_granted);
                this.look_at_held();
                continue;
            }
            let before = buf.filled().len();
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Pending => {
                    ready!(this.wait(cx));
                    continue;
                }
                Poll::Ready(read) => read?,
            }
            let read = buf.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                if !this.scan.is_in_head(&this.held) {
                    return Poll::Ready(Ok(()));
                }
                this.give_up(Doubt::Malformed("the head is not complete"));
            } else if this.held.is_empty() {
                if this.look_in_place(buf, before) {
                    return Poll::Ready(Ok(()));
                }
            } else {
                this.held.extend_from_slice(read);
                buf.set_filled(before);
                this.look_at_held();
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LookedOver<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
