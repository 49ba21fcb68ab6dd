//! HTTP/2 as bytes on a connection: frames written and read by hand, with a header compression of nothing but
//! literals, so that a test can say what no library would.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// A client's side of a connection.
pub(crate) struct Frames {
    stream: TcpStream,
    ahead: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What becomes of what a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An answer with this status.
    Answered(u16),
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection is over, with this code.
    GoneAway(u32),
    /// The connection is over without a word.
    Closed,
}

impl Frame {
    /// The number at this place of the payload.
    pub(crate) fn number_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

impl Frames {
    /// Connects and says the preface; answers are to be compressed without a table (`SETTINGS_HEADER_TABLE_SIZE` is 0).
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut frames = Self::silent(address);
        frames.say(&[PREFACE, &frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0])].concat());
        frames
    }

    /// Connects and says nothing yet.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, ahead: Vec::new() }
    }

    /// Says bytes in one write. Answers whether the peer was still there.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; `None` when the connection is over.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        while self.whole().is_none_or(|length| self.ahead.len() < length) {
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(count @ 1..) => self.ahead.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("the peer neither speaks nor goes")
                }
                Ok(0) | Err(_) => return None,
            }
        }
        let length = self.whole()?;
        let bytes: Vec<u8> = self.ahead.drain(..length).collect();
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() })
    }

    /// The next frame of this type.
    pub(crate) fn next_of(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.next()).find(|frame| frame.kind == kind)
    }

    /// Reads on until it is clear what becomes of a stream.
    pub(crate) fn fate_of(&mut self, stream: u32) -> Fate {
        while let Some(frame) = self.next() {
            match frame.kind {
                HEADERS if frame.stream == stream => return Fate::Answered(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Fate::Reset(frame.number_at(0)),
                GOAWAY => return Fate::GoneAway(frame.number_at(4)),
                _ => {}
            }
        }
        Fate::Closed
    }

    /// Waits until the connection is over; answers the code of the last GOAWAY, if there was one.
    pub(crate) fn end(&mut self) -> Option<u32> {
        let frames = std::iter::from_fn(|| self.next());
        frames.filter(|frame| frame.kind == GOAWAY).map(|frame| frame.number_at(4)).last()
    }

    fn whole(&self) -> Option<usize> {
        let length = self.ahead.get(..3)?;
        Some(9 + usize::from(length[0]) * 65_536 + usize::from(length[1]) * 256 + usize::from(length[2]))
    }
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals, none of them indexed (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            prefixed(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn prefixed(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The pseudo-fields of a request, and what is given beside them.
pub(crate) fn asking<'a>(
    method: &'a str,
    path: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "api.test"), (":path", path)];
    pseudo.iter().chain(more).copied().collect()
}

/// A GET, whole.
pub(crate) fn getting(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &block(&asking("GET", path, &[])))
}

/// A POST under a key, with a body in a frame of its own.
pub(crate) fn posting(stream: u32, path: &str, key: &str, body: &str) -> Vec<u8> {
    let head = block(&asking("POST", path, &[("idempotency-key", key)]));
    [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body.as_bytes())].concat()
}

/// The status that a header block begins with: an index of the static table, or a literal of digits.
fn status(block: &[u8]) -> u16 {
    // RFC 7541 §6.3: the first block may begin with the new size of the table.
    let block = &block[block.iter().position(|byte| byte >> 5 != 1).unwrap()..];
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x08 | 0x18 | 0x48 => {
            let (length, text) = (block[1], &block[2..]);
            let text = &text[..usize::from(length & 127)];
            let digits = if length & 128 == 0 { text.to_vec() } else { huffman_digits(text) };
            String::from_utf8(digits).unwrap().parse().unwrap()
        }
        other => panic!("a block that begins with {other:#x}"),
    }
}

/// RFC 7541, appendix B: 0 to 2 take five bits, 3 to 9 six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut digits = Vec::new();
    while digits.len() < 3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next().unwrap();
        }
        digits.push(match code {
            0..=2 => b'0' + code,
            _ => b'3' + ((code << 1 | bits.next().unwrap()) - 0b1_1001),
        });
    }
    digits
}
