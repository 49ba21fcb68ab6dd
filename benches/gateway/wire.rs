//! HTTP/1.1 as the benchmark's own two ends speak it: messages with a declared length, one after another.
//!
//! Deliberately little, so that the machine is left to what is measured. Not fit for strangers: both ends of
//! every connection are started by the benchmark.

use std::io;
use std::ops::Range;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A longer message is an error: nothing of the kind is sent here.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// One side of a connection.
pub(super) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    /// The bytes of `received` that the last message took.
    taken: usize,
}

/// A message on the connection's own buffer.
pub(super) struct Message<'a> {
    head: &'a str,
    pub(super) body: &'a [u8],
}

/// Where a message lies in the buffer.
struct Extent {
    head: Range<usize>,
    body: Range<usize>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(4096), taken: 0 })
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.stream.write_all(message).await
    }

    /// The next message, or `None` if the peer closed after the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message<'_>>> {
        self.received.drain(..self.taken);
        self.taken = 0;
        let extent = loop {
            if let Some(extent) = extent(&self.received)? {
                break extent;
            }
            if self.received.len() > MESSAGE_BYTES_MAX {
                return Err(invalid("a message is too long"));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return if self.received.is_empty() {
                    Ok(None)
                } else {
                    Err(invalid("a message is cut short"))
                };
            }
        };
        self.taken = extent.body.end;
        let head = self.received.get(extent.head).unwrap_or_default();
        let head = std::str::from_utf8(head).map_err(io::Error::other)?;
        Ok(Some(Message { head, body: self.received.get(extent.body).unwrap_or_default() }))
    }
}

impl<'a> Message<'a> {
    /// The second word of the first line: a request's target, an answer's status.
    pub(super) fn second_word(&self) -> &'a str {
        self.head.split([' ', '\r']).nth(1).unwrap_or_default()
    }

    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        field(self.head, name)
    }
}

/// Where the first message in `received` lies, once it is whole.
fn extent(received: &[u8]) -> io::Result<Option<Extent>> {
    let Some(end) = received.windows(END_OF_HEAD.len()).position(|bytes| bytes == END_OF_HEAD) else {
        return Ok(None);
    };
    let head = std::str::from_utf8(received.get(..end).unwrap_or_default()).map_err(io::Error::other)?;
    let length = field(head, "content-length").ok_or_else(|| invalid("a message declares no length"))?;
    let length: usize = length.parse().map_err(io::Error::other)?;
    let start = end + END_OF_HEAD.len();
    let body = start..start.saturating_add(length);
    Ok((body.end <= received.len()).then_some(Extent { head: 0..end, body }))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(given, _)| given.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
