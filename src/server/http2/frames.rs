//! The frames of HTTP/2 as they pass by, one direction of a connection: heads, and the few payloads that matter here.
//!
//! Pure over bytes; judges nothing: what is malformed is h2's to refuse. Source: RFC 9113 §4.1 and §6. Read
//! `conduct.rs` after.

use crate::server::connection::PREFACE;

/// Bytes of a frame's head.
const HEAD: usize = 9;

/// A payload that is looked at is not kept beyond this: h2 refuses a frame that is longer.
const KEPT_MAX: usize = 16 * 1024;

/// `END_STREAM` (§6.1, §6.2) and, for PING and SETTINGS, ACK.
pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What a frame is (§6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Reset,
    Settings,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// PRIORITY, `PUSH_PROMISE`, and whatever extensions there are.
    Other,
}

/// A frame whose head has passed; of those whose payload is looked at, the whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    /// 0 is the connection itself.
    pub(super) stream: u32,
    /// Bytes of its payload.
    pub(super) length: u32,
    /// The payload of `RST_STREAM`, SETTINGS, `WINDOW_UPDATE` and what holds a client's trailers; of others nothing.
    pub(super) payload: &'a [u8],
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// How much of the client's preface is still to come.
    preface_left: usize,
    head: Vec<u8>,
    payload: Vec<u8>,
    payload_left: usize,
    /// Whether a header block has begun and not ended (§4.3).
    is_in_block: bool,
    /// The highest stream that a client has opened; `None` for frames that are no client's.
    opened: Option<u32>,
    /// Whether the block that has begun holds trailers.
    is_in_trailers: bool,
}

impl Frame<'_> {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number that the payload begins with: an error code, or an increment without its reserved bit.
    pub(super) fn number(&self) -> Option<u32> {
        self.payload.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// The settings in the payload (§6.5.1).
    pub(super) fn settings(&self) -> impl Iterator<Item = (u16, u32)> {
        self.payload.chunks_exact(6).filter_map(|entry| {
            let (name, value) = entry.split_first_chunk()?;
            Some((u16::from_be_bytes(*name), u32::from_be_bytes(*value.first_chunk()?)))
        })
    }
}

impl Frames {
    /// Those of a client, which come after its preface.
    pub(super) fn of_client() -> Self {
        Self { preface_left: PREFACE.len(), opened: Some(0), ..Self::default() }
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.preface_left == 0 && self.head.is_empty() && self.payload_left == 0
    }

    /// Whether something has begun that has to be whole before anything else can be: the preface, a header block, or a
    /// frame other than DATA.
    pub(super) fn is_unfinished(&self) -> bool {
        let is_data = self.head.get(3) == Some(&0);
        self.preface_left > 0 || self.is_in_block || (!self.head.is_empty() && !is_data)
    }

    /// Takes bytes that passed, and tells of each frame in them.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Frame<'_>)) {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.head.len() < HEAD {
                let (head, rest) = bytes.split_at((HEAD - self.head.len()).min(bytes.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                if self.head.len() < HEAD {
                    return;
                }
                self.payload_left = self.announced().length.try_into().unwrap_or(usize::MAX);
                if !self.is_looked_at() {
                    tell(self.announced());
                }
            }
            let (payload, rest) = bytes.split_at(self.payload_left.min(bytes.len()));
            self.payload_left -= payload.len();
            bytes = rest;
            if self.is_looked_at() {
                self.payload.extend_from_slice(payload);
            }
            if self.payload_left == 0 {
                self.end(&mut tell);
            }
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(Frame<'_>)) {
        let frame = self.announced();
        if self.is_looked_at() {
            tell(Frame { payload: &self.payload, ..self.announced() });
        }
        if matches!(frame.kind, Kind::Headers | Kind::Continuation) {
            self.is_in_block = !frame.has(END_HEADERS);
            self.is_in_trailers = self.is_in_block && self.is_of_trailers(frame);
        }
        if let (Kind::Headers, Some(opened)) = (frame.kind, &mut self.opened) {
            *opened = frame.stream.max(*opened);
        }
        self.head.clear();
        self.payload.clear();
    }

    fn is_looked_at(&self) -> bool {
        let frame = self.announced();
        (matches!(frame.kind, Kind::Reset | Kind::Settings | Kind::WindowUpdate)
            || self.is_of_trailers(frame))
            && usize::try_from(frame.length).is_ok_and(|length| length <= KEPT_MAX)
    }

    /// RFC 9113 §5.1.1: a block on a stream that was opened before holds trailers.
    fn is_of_trailers(&self, frame: Frame<'_>) -> bool {
        match frame.kind {
            Kind::Headers => self.opened.is_some_and(|opened| frame.stream <= opened),
            Kind::Continuation => self.is_in_trailers,
            Kind::Data
            | Kind::Reset
            | Kind::Settings
            | Kind::Ping
            | Kind::GoAway
            | Kind::WindowUpdate
            | Kind::Other => false,
        }
    }

    /// What the head says.
    fn announced(&self) -> Frame<'static> {
        let mut head = [0; HEAD];
        for (to, from) in head.iter_mut().zip(&self.head) {
            *to = *from;
        }
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            3 => Kind::Reset,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Other,
        };
        Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            length: u32::from_be_bytes([0, high, middle, low]),
            payload: &[],
        }
    }
}

/// A frame of the gateway's own.
pub(super) fn written(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let [_, length @ ..] = length;
    [&length[..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(frames: &mut Frames, pieces: &[&[u8]]) -> Vec<(Kind, u32, u32, Vec<u8>)> {
        let mut seen = Vec::new();
        for piece in pieces {
            frames.pass(piece, |frame| {
                seen.push((frame.kind, frame.stream, frame.length, frame.payload.to_vec()));
            });
        }
        seen
    }

    #[test]
    fn frames_are_told_however_the_bytes_were_cut() {
        let bytes = [
            PREFACE.to_vec(),
            written(4, 0, &[0, 4, 0, 0, 0, 9]),
            written(1, 1, b"block"),
            written(0, 1, b"data"),
            written(8, 3, &[0, 0, 0, 5]),
            written(3, 1, &[0, 0, 0, 8]),
            written(6, 0, &[0; 8]),
        ]
        .concat();
        let whole = seen(&mut Frames::of_client(), &[&bytes]);
        let kinds: Vec<Kind> = whole.iter().map(|(kind, ..)| *kind).collect();
        let told = [Kind::Settings, Kind::Headers, Kind::Data, Kind::WindowUpdate, Kind::Reset, Kind::Ping];
        assert_eq!(kinds, told);
        assert_eq!(whole[4], (Kind::Reset, 1, 4, vec![0, 0, 0, 8]));
        for size in 1..20 {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(seen(&mut Frames::of_client(), &pieces), whole, "{size}");
        }
    }

    #[test]
    fn what_must_be_whole_is_unfinished_until_it_is_and_data_never_is() {
        let mut frames = Frames::of_client();
        assert!(frames.is_unfinished());
        frames.pass(PREFACE, |_| {});
        assert!(!frames.is_unfinished() && frames.is_between_frames());
        let headers = written(1, 1, b"a block that goes on");
        frames.pass(&headers, |_| {});
        assert!(frames.is_unfinished() && frames.is_between_frames());
        let mut rest = written(9, 1, b"");
        rest[4] = END_HEADERS;
        frames.pass(&rest, |_| {});
        assert!(!frames.is_unfinished());
        frames.pass(&written(0, 1, b"data")[..10], |_| {});
        assert!(!frames.is_unfinished() && !frames.is_between_frames());
    }
}
