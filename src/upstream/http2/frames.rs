//! Stands between h2 and a connection, and tells the link when a stream is about to begin.
//!
//! A HEADERS frame that opens a stream is written at the beginning of a write, never in the middle of one: so the
//! link asks its sender before a byte of it leaves, and knows whether one has left. Must not know requests.
//! Source: RFC 9113 §4.1. Read `../connection.rs` for the questions.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::connect::Transport;
use crate::upstream::connection::Start;

/// Length of the connection preface that a client sends first (RFC 9113 §3.4).
const PREFACE_LEN: usize = 24;
const FRAME_HEAD_LEN: usize = 9;
const HEADERS: u8 = 0x1;

/// The streams that h2 is to open, by number, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening(Arc<Mutex<VecDeque<(u32, Start)>>>);

/// A connection whose outgoing frames are followed.
#[derive(Debug)]
pub(super) struct Frames {
    transport: Transport,
    opening: Opening,
    at: Position,
}

/// Where in the outgoing frames the next write begins.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Bytes of the present frame, or of the preface, still to be written.
    left: usize,
    /// The head of the present frame, as far as it was written.
    head: [u8; FRAME_HEAD_LEN],
    head_len: usize,
}

/// What the next write may hold.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Everything.
    Whole,
    /// So many bytes: a stream is opened after them.
    UpTo(usize),
    /// The stream of this number is opened by the first byte; only so many bytes may follow.
    Opens(u32, usize),
}

impl Opening {
    /// Says that h2 has been asked to open a stream.
    pub(super) fn push(&self, stream: u32, start: &Start) {
        self.streams().push_back((stream, start.clone()));
    }

    fn contains(&self, stream: u32) -> bool {
        self.streams().iter().any(|(number, _)| *number == stream)
    }

    fn take(&self, stream: u32) -> Option<Start> {
        let mut streams = self.streams();
        let at = streams.iter().position(|(number, _)| *number == stream)?;
        streams.remove(at).map(|(_, start)| start)
    }

    fn is_empty(&self) -> bool {
        self.streams().is_empty()
    }

    fn streams(&self) -> MutexGuard<'_, VecDeque<(u32, Start)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    pub(super) fn new(transport: Transport, opening: Opening) -> Self {
        Self { transport, opening, at: Position::beginning() }
    }

    /// How much of `slices` may be written now. Announces the stream that is opened, if one is.
    fn allow<'a>(&self, slices: impl Iterator<Item = &'a [u8]>) -> usize {
        if self.opening.is_empty() {
            return usize::MAX;
        }
        match self.at.plan(slices, |stream| self.opening.contains(stream)) {
            Plan::Whole => usize::MAX,
            Plan::UpTo(limit) => limit,
            Plan::Opens(stream, limit) => {
                if let Some(start) = self.opening.take(stream) {
                    self.transport.link().announce(&start);
                }
                limit
            }
        }
    }

    fn wrote<'a>(&mut self, written: &Poll<io::Result<usize>>, slices: impl Iterator<Item = &'a [u8]>) {
        if let Poll::Ready(Ok(count)) = written {
            self.at.advance(slices, *count);
        }
    }
}

impl Position {
    fn beginning() -> Self {
        Self { left: PREFACE_LEN, head: [0; FRAME_HEAD_LEN], head_len: 0 }
    }

    /// Takes bytes up to the end of a frame's head or of its rest. Answers the kind and the stream of a frame whose
    /// head is complete with them.
    fn step(&mut self, bytes: &mut &[u8]) -> Option<(u8, u32)> {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            *bytes = bytes.get(taken..).unwrap_or_default();
            self.left -= taken;
            return None;
        }
        let taken = (FRAME_HEAD_LEN - self.head_len).min(bytes.len());
        let (head, rest) = bytes.split_at(taken);
        if let Some(place) = self.head.get_mut(self.head_len..self.head_len + taken) {
            place.copy_from_slice(head);
        }
        *bytes = rest;
        self.head_len += taken;
        if self.head_len < FRAME_HEAD_LEN {
            return None;
        }
        self.head_len = 0;
        let [high, middle, low, kind, _, a, b, c, d] = self.head;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        Some((kind, u32::from_be_bytes([a & 0x7f, b, c, d])))
    }

    fn plan<'a>(mut self, slices: impl Iterator<Item = &'a [u8]>, is_opening: impl Fn(u32) -> bool) -> Plan {
        let (mut offset, mut opens) = (0, None);
        // Where the present frame began; one that began in an earlier write has been asked about.
        let mut began = (self.head_len == 0 && self.left == 0).then_some(0);
        for mut bytes in slices {
            while !bytes.is_empty() {
                let (before, is_between) = (bytes.len(), self.left == 0 && self.head_len == 0);
                if is_between && offset > 0 {
                    began = Some(offset);
                }
                let head = self.step(&mut bytes);
                offset += before - bytes.len();
                let Some((HEADERS, stream)) = head else { continue };
                match began {
                    Some(0) if is_opening(stream) => opens = Some(stream),
                    Some(at) if is_opening(stream) => {
                        return opens.map_or(Plan::UpTo(at), |stream| Plan::Opens(stream, at));
                    }
                    Some(_) | None => {}
                }
            }
        }
        match (opens, began) {
            // A frame's head that is cut off at the end may open a stream: it waits for its rest.
            (None, Some(at)) if self.head_len > 0 && at > 0 => Plan::UpTo(at),
            (Some(stream), Some(at)) if self.head_len > 0 && at > 0 => Plan::Opens(stream, at),
            (Some(stream), _) => Plan::Opens(stream, usize::MAX),
            (None, _) => Plan::Whole,
        }
    }

    fn advance<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>, mut count: usize) {
        for bytes in slices {
            let mut bytes = bytes.get(..count.min(bytes.len())).unwrap_or(bytes);
            count -= bytes.len();
            while !bytes.is_empty() {
                self.step(&mut bytes);
            }
        }
    }
}

impl AsyncRead for Frames {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let allowed = self.allow(std::iter::once(buf));
        let buf = buf.get(..allowed).unwrap_or(buf);
        let written = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.wrote(&written, std::iter::once(buf));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let allowed = self.allow(bufs.iter().map(|buf| &**buf));
        let written = if allowed == usize::MAX {
            Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
        } else {
            // A write may always be shorter than what was given.
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
            Pin::new(&mut self.transport).poll_write(cx, first.get(..allowed).unwrap_or(first))
        };
        self.wrote(&written, bufs.iter().map(|buf| &**buf));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u8, len: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, len, kind, 0, 0, 0, 0, stream];
        frame.extend(std::iter::repeat_n(0xff, usize::from(len)));
        frame
    }

    fn after_preface() -> Position {
        Position { left: 0, ..Position::beginning() }
    }

    fn plan(at: Position, bytes: &[u8], opening: &[u32]) -> Plan {
        let by_piece = |size| at.plan(bytes.chunks(size), |stream| opening.contains(&stream));
        let plans = [1, 4, 9, 1000].map(by_piece);
        assert!(plans.windows(2).all(|pair| pair[0] == pair[1]), "slices matter: {plans:?}");
        by_piece(1000)
    }

    #[test]
    fn a_stream_is_opened_only_by_the_first_byte_of_a_write() {
        let bytes = [frame(0, 1, 5), frame(HEADERS, 3, 7), frame(HEADERS, 5, 2)].concat();
        assert_eq!(plan(after_preface(), &bytes, &[3, 5]), Plan::UpTo(14));
        assert_eq!(plan(after_preface(), &bytes[14..], &[3, 5]), Plan::Opens(3, 16));
        assert_eq!(plan(after_preface(), &bytes[30..], &[5]), Plan::Opens(5, usize::MAX));
    }

    #[test]
    fn the_preface_and_frames_of_other_kinds_are_written_whole() {
        let bytes = [vec![b'P'; PREFACE_LEN], frame(4, 0, 6), frame(HEADERS, 1, 3)].concat();
        assert_eq!(plan(Position::beginning(), &bytes, &[7]), Plan::Whole);
        assert_eq!(plan(Position::beginning(), &bytes, &[1]), Plan::UpTo(PREFACE_LEN + 15));
    }

    #[test]
    fn a_head_that_is_cut_off_waits_for_its_rest() {
        let bytes = [frame(0, 1, 5), frame(HEADERS, 3, 7)].concat();
        assert_eq!(plan(after_preface(), &bytes[..18], &[3]), Plan::UpTo(14));
    }

    #[test]
    fn a_write_that_was_cut_off_goes_on_where_it_ended() {
        let bytes = [frame(0, 1, 5), frame(HEADERS, 3, 7)].concat();
        for cut in 0..bytes.len() {
            let mut at = after_preface();
            at.advance(std::iter::once(&bytes[..]), cut);
            let rest = plan(at, &bytes[cut..], &[3]);
            let wanted = match cut {
                0..14 => Plan::UpTo(14 - cut),
                14 => Plan::Opens(3, usize::MAX),
                _ => Plan::Whole,
            };
            assert_eq!(rest, wanted, "{cut}");
        }
    }
}
