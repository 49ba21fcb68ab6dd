//! HTTP/2 as bytes: enough frames to say what no well-behaved client says, over a connection in the clear.
//!
//! Source: RFC 9113 §4 and §6, RFC 7541 §6.2.2 (fields are sent as literals, neither indexed nor compressed).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;

/// A frame as it came.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

/// A client's end of a connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    ahead: Vec<u8>,
}

impl Client {
    /// Connects, says the preface, and waits for the server's settings.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let mut client = Self { stream, ahead: Vec::new() };
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        client.stream.write_all(&preface)?;
        match client.read(Duration::from_secs(2))? {
            Some(first) if first.kind == SETTINGS => {
                client.stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?;
                Ok(client)
            }
            _ => Err(io::Error::other("no answer")),
        }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame; `None` when nothing comes in time, an error when the connection has ended.
    pub(super) fn read(&mut self, limit: Duration) -> io::Result<Option<Frame>> {
        let until = Instant::now() + limit;
        let mut bytes = vec![0; 64 * 1024];
        loop {
            if let Some((frame, length)) = parsed(&self.ahead) {
                self.ahead.drain(..length);
                if frame.kind == PING && frame.flags & ACK == 0 {
                    drop(self.stream.write_all(&self::frame(PING, ACK, 0, &frame.payload)));
                }
                return Ok(Some(frame));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.ahead.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn parsed(bytes: &[u8]) -> Option<(Frame, usize)> {
    let head: [u8; 9] = bytes.get(..9)?.try_into().ok()?;
    let [high, middle, low, kind, flags, ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?;
    let payload = bytes.get(9..9 + length)?.to_vec();
    Some((Frame { kind, flags, payload }, 9 + length))
}

/// A frame as bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[high, middle, low, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A request without a body to this path, with fields beside the four that HTTP/2 asks for.
pub(super) fn request(stream: u32, flags: u8, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let own = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    frame(HEADERS, flags | END_HEADERS, stream, &block(own.iter().chain(fields)))
}

/// Fields as a header block.
pub(super) fn block<'a>(fields: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn integer(bytes: &mut Vec<u8>, value: usize) {
    let Some(mut left) = value.checked_sub(127) else {
        return bytes.push(u8::try_from(value).unwrap_or_default());
    };
    bytes.push(127);
    while left >= 128 {
        bytes.push(0x80 | u8::try_from(left % 128).unwrap_or_default());
        left /= 128;
    }
    bytes.push(u8::try_from(left).unwrap_or_default());
}
