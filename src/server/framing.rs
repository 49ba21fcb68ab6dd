//! Looks over the bytes of requests before hyper reads them, and tells which request's framing is in doubt.
//!
//! hyper settles some contradictions in silence (a length beside a transfer coding), and takes chunk sizes
//! that other servers read differently. A gateway must not: what two servers read differently is how
//! requests are smuggled. The look is strict where hyper is lenient and otherwise leaves the verdict to
//! hyper. Must not know what is made of a request. Source: RFC 9112 §6 and §7.
//!
//! A doubtful request is told to the service, which answers 400; if it has been served already, its body
//! fails before the doubtful byte and so never ends well. `scan.rs` reads the bytes; this file stands between the socket and hyper.

mod chunks;
mod scan;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use scan::{CONTROL_BYTE, Scan, Sight, is_control};

/// What has been found on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(Arc<Found>);

#[derive(Debug, Default)]
struct Found {
    /// Requests handed to the service so far.
    served: AtomicU64,
    /// The first request whose head is in doubt, by number, and why. The connection ends with it.
    doubtful: OnceLock<(u64, &'static str)>,
}

/// A connection whose bytes are looked over as they are read.
#[derive(Debug)]
pub(super) struct LookedOver<S> {
    stream: S,
    /// Bytes that were taken from the stream before.
    already_read: Bytes,
    scan: Scan,
    findings: Findings,
    /// Nothing after a doubtful byte is read.
    ended: Option<&'static str>,
}

impl Findings {
    /// Counts the next request, and tells what is wrong with its head, if anything.
    pub(super) fn of_next_request(&self) -> Option<&'static str> {
        let number = self.0.served.fetch_add(1, Ordering::Relaxed);
        self.0.doubtful.get().filter(|(doubtful, _)| *doubtful == number).map(|(_, reason)| *reason)
    }
}

impl Findings {
    fn note(&self, sight: Sight) {
        match sight {
            Sight::Clear => {}
            Sight::DoubtfulHead { request, reason } | Sight::DoubtfulBody { request, reason, .. } => {
                self.0.doubtful.get_or_init(|| (request, reason));
            }
        }
    }
}

impl<S> LookedOver<S> {
    fn answered(&mut self, answer: &[u8]) {
        let sight = self.scan.answered(answer);
        self.findings.note(sight);
    }

    pub(super) fn new(stream: S, already_read: Bytes) -> (Self, Findings) {
        let findings = Findings::default();
        let looked_over =
            Self { stream, already_read, scan: Scan::new(), findings: findings.clone(), ended: None };
        (looked_over, findings)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LookedOver<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(reason) = self.ended {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        let before = buf.filled().len();
        if self.already_read.is_empty() {
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let len = buf.remaining().min(self.already_read.len());
            buf.put_slice(&self.already_read.split_to(len));
        }
        let read = buf.filled().get(before..).unwrap_or_default();
        let sight = self.scan.look(read);
        self.findings.note(sight);
        match sight {
            Sight::Clear => {}
            Sight::DoubtfulHead { reason, .. } => {
                if reason == CONTROL_BYTE {
                    blank_controls(buf.filled_mut().get_mut(before..).unwrap_or_default());
                }
            }
            Sight::DoubtfulBody { reason, clear, .. } => {
                self.ended = Some(reason);
                if clear == 0 {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
                }
                buf.set_filled(before + clear);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// hyper answers a control byte with a bare 400. With another forbidden byte in its place the service is asked,
/// and can say what is wrong; the request goes no further either way.
fn blank_controls(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| is_control(**byte)) {
        *byte = 0xff;
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LookedOver<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.answered(buf);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered(bufs.first().map(|first| &**first).unwrap_or_default());
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
