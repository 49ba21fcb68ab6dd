//! A WebSocket client that checks what RFC 6455 asks of both ends, played through the proxies; and the echo that
//! it talks to behind them. A proxy must not touch a byte, hold one back, or end one direction with the other.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Failure;
use super::site::{Site, letters};
use super::smuggling::message;
use super::subjects::{self, Door};
use super::table::{Cell, Row};

const LIMIT: Duration = Duration::from_secs(5);

/// RFC 6455 §1.3: the key of its example, and the answer to it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// RFC 6455 §5.3: any four bytes; those of its example.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// RFC 6455 §5.2.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    is_last: bool,
    opcode: u8,
    is_masked: bool,
    data: Vec<u8>,
}

type Check = fn(&mut Peer) -> io::Result<bool>;

const CHECKS: &[(&str, Check)] = &[
    ("text is echoed, RFC 6455 §5.6", |peer| peer.echoes(TEXT, "a ☂ b".as_bytes())),
    ("an empty message is echoed, §5.6", |peer| peer.echoes(BINARY, &[])),
    ("125 bytes are echoed, §5.2", |peer| peer.echoes(BINARY, &letters(125))),
    ("126 bytes are echoed, §5.2", |peer| peer.echoes(BINARY, &letters(126))),
    ("65,535 bytes are echoed, §5.2", |peer| peer.echoes(BINARY, &letters(65_535))),
    ("65,536 bytes are echoed, §5.2", |peer| peer.echoes(BINARY, &letters(65_536))),
    ("4 MB are echoed, §5.2", |peer| peer.echoes(BINARY, &letters(4_000_000))),
    ("all byte values are echoed, §5.2", |peer| peer.echoes(BINARY, &(0..=255).collect::<Vec<_>>())),
    ("a message in fragments stays in fragments, §5.4", fragments),
    ("a ping between fragments is answered first, §5.5", ping_between),
    ("a ping is answered by its own data, §5.5.2", |peer| {
        peer.send(PING, true, b"are you there")?;
        Ok(peer.frame()? == Some(Frame::from_server(PONG, true, b"are you there")))
    }),
    ("a ping of 125 bytes is answered, §5.5", |peer| {
        peer.send(PING, true, &letters(125))?;
        Ok(peer.frame()? == Some(Frame::from_server(PONG, true, &letters(125))))
    }),
    ("an unasked pong is not answered, §5.5.3", |peer| {
        peer.send(PONG, true, b"unasked")?;
        peer.echoes(TEXT, b"next")
    }),
    ("a frame byte by byte arrives, §5.2", |peer| {
        for byte in Frame::encoded(TEXT, true, b"slowly", Some(MASK)) {
            peer.stream.write_all(&[byte])?;
        }
        Ok(peer.frame()? == Some(Frame::from_server(TEXT, true, b"slowly")))
    }),
    ("a hundred messages at once keep their order, §5.4", hundred),
    ("close 1000 comes back, and the connection ends, §7.1", |peer| closes(peer, 1000)),
    ("close 1001 comes back, and the connection ends, §7.4", |peer| closes(peer, 1001)),
    ("close 4999 comes back, and the connection ends, §7.4", |peer| closes(peer, 4999)),
    ("a close without a code comes back, §7.1.5", |peer| {
        peer.send(CLOSE, true, b"")?;
        Ok(peer.frame()? == Some(Frame::from_server(CLOSE, true, b"")) && peer.frame()?.is_none())
    }),
    ("reserved bits reach the server, which ends it with 1002, §5.2", |peer| {
        let mut bytes = Frame::encoded(TEXT, true, b"x", Some(MASK));
        if let Some(first) = bytes.first_mut() {
            *first |= 0x40;
        }
        peer.stream.write_all(&bytes)?;
        Ok(peer.frame()? == Some(Frame::from_server(CLOSE, true, &1002_u16.to_be_bytes())))
    }),
    ("an unmasked frame reaches the server, which ends it with 1002, §5.1", |peer| {
        peer.stream.write_all(&Frame::encoded(TEXT, true, b"x", None))?;
        Ok(peer.frame()? == Some(Frame::from_server(CLOSE, true, &1002_u16.to_be_bytes())))
    }),
    ("a half-close leaves the other direction open", |peer| {
        peer.send(TEXT, true, b"last words")?;
        peer.stream.shutdown(Shutdown::Write)?;
        let echoed = peer.frame()? == Some(Frame::from_server(TEXT, true, b"last words"));
        Ok(echoed && peer.frame()? == Some(Frame::from_server(CLOSE, true, &1001_u16.to_be_bytes())))
    }),
    ("a connection rests and goes on", |peer| {
        let first = peer.echoes(TEXT, b"before")?;
        thread::sleep(Duration::from_secs(2));
        Ok(first && peer.echoes(TEXT, b"after")?)
    }),
];

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let site = Site::start()?;
    let subjects = subjects::all(dir, site.address)?;
    let mut rows = vec![
        subjects::row(
            "the handshake is answered with 101, RFC 6455 §4.2",
            &subjects,
            Door::Clear,
            |address| Ok(Cell::of(Peer::connect(address).is_ok(), "no 101")),
        ),
        subjects::row("bytes sent with the handshake arrive, §4.1", &subjects, Door::Clear, |address| {
            let early = Frame::encoded(TEXT, true, b"early", Some(MASK));
            let mut peer = Peer::connect_with(address, &early)?;
            Ok(Cell::of(peer.frame()? == Some(Frame::from_server(TEXT, true, b"early")), "lost"))
        }),
    ];
    for (name, check) in CHECKS {
        rows.push(subjects::row(name, &subjects, Door::Clear, |address| {
            let mut peer = Peer::connect(address)?;
            Ok(Cell::of(check(&mut peer)?, "something else came"))
        }));
    }
    Ok(rows)
}

fn fragments(peer: &mut Peer) -> io::Result<bool> {
    let parts: [(u8, bool, &[u8]); 3] =
        [(TEXT, false, b"one "), (CONTINUATION, false, b"message "), (CONTINUATION, true, b"in three")];
    for (opcode, is_last, data) in parts {
        peer.send(opcode, is_last, data)?;
    }
    for (opcode, is_last, data) in parts {
        if peer.frame()? != Some(Frame::from_server(opcode, is_last, data)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn ping_between(peer: &mut Peer) -> io::Result<bool> {
    peer.send(TEXT, false, b"one")?;
    let begun = peer.frame()? == Some(Frame::from_server(TEXT, false, b"one"));
    peer.send(PING, true, b"?")?;
    let answered = peer.frame()? == Some(Frame::from_server(PONG, true, b"?"));
    peer.send(CONTINUATION, true, b"two")?;
    Ok(begun && answered && peer.frame()? == Some(Frame::from_server(CONTINUATION, true, b"two")))
}

fn hundred(peer: &mut Peer) -> io::Result<bool> {
    let messages: Vec<Vec<u8>> = (0..100).map(|number| format!("message {number}").into_bytes()).collect();
    let bytes: Vec<u8> =
        messages.iter().flat_map(|data| Frame::encoded(TEXT, true, data, Some(MASK))).collect();
    peer.stream.write_all(&bytes)?;
    for data in &messages {
        if peer.frame()? != Some(Frame::from_server(TEXT, true, data)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn closes(peer: &mut Peer, code: u16) -> io::Result<bool> {
    let data = [&code.to_be_bytes()[..], b"bye"].concat();
    peer.send(CLOSE, true, &data)?;
    Ok(peer.frame()? == Some(Frame::from_server(CLOSE, true, &data)) && peer.frame()?.is_none())
}

/// One end of an upgraded connection.
struct Peer {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Peer {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::connect_with(address, &[])
    }

    /// Does the handshake, with bytes right behind it.
    fn connect_with(address: SocketAddr, early: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut peer = Self { stream, ahead: Vec::new() };
        let head = format!(
            "GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        peer.stream.write_all(&[head.as_bytes(), early].concat())?;
        let end = loop {
            match message::find(&peer.ahead, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None if peer.fill()? => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        let head: Vec<u8> = peer.ahead.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).into_owned();
        let is_switched = head.starts_with("HTTP/1.1 101") && head.contains(ACCEPT);
        if is_switched { Ok(peer) } else { Err(io::Error::other("no 101")) }
    }

    fn send(&mut self, opcode: u8, is_last: bool, data: &[u8]) -> io::Result<()> {
        self.stream.write_all(&Frame::encoded(opcode, is_last, data, Some(MASK)))
    }

    /// Sends a message, while another thread may be needed to read what comes back of it.
    fn echoes(&mut self, opcode: u8, data: &[u8]) -> io::Result<bool> {
        let mut writer = self.stream.try_clone()?;
        let bytes = Frame::encoded(opcode, true, data, Some(MASK));
        let writing = thread::spawn(move || writer.write_all(&bytes));
        let echoed = self.frame()?;
        drop(writing.join());
        Ok(echoed == Some(Frame::from_server(opcode, true, data)))
    }

    /// The next frame; `None` when the connection ends before it begins.
    fn frame(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some((frame, length)) = Frame::decoded(&self.ahead) {
                self.ahead.drain(..length);
                return Ok(Some(frame));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; 256 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.ahead.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

impl Frame {
    fn from_server(opcode: u8, is_last: bool, data: &[u8]) -> Self {
        Self { is_last, opcode, is_masked: false, data: data.to_vec() }
    }

    fn encoded(opcode: u8, is_last: bool, data: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let mask_bit = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![if is_last { 0x80 | opcode } else { opcode }];
        match (u8::try_from(data.len()), u16::try_from(data.len())) {
            (Ok(short), _) if short < 126 => bytes.push(mask_bit | short),
            (_, Ok(middling)) => {
                bytes.push(mask_bit | 0x7e);
                bytes.extend_from_slice(&middling.to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 0x7f);
                bytes.extend_from_slice(&u64::try_from(data.len()).unwrap_or(u64::MAX).to_be_bytes());
            }
        }
        bytes.extend(mask.iter().flatten());
        bytes.extend(masked(data, mask.unwrap_or_default()));
        bytes
    }

    /// The frame at the beginning of `bytes`, and its length.
    fn decoded(bytes: &[u8]) -> Option<(Self, usize)> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (is_masked, short) = (second & 0x80 != 0, usize::from(second & 0x7f));
        let (length, mut at) = match short {
            126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
            _ => (short, 2),
        };
        let mut mask = [0; 4];
        if is_masked {
            mask = bytes.get(at..at + 4)?.try_into().ok()?;
            at += 4;
        }
        let data = masked(bytes.get(at..at + length)?, mask).collect();
        let frame = Self { is_last: first & 0x80 != 0, opcode: first & 0x7f, is_masked, data };
        Some((frame, at + length))
    }
}

fn masked(data: &[u8], mask: [u8; 4]) -> impl Iterator<Item = u8> + '_ {
    data.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

/// The server's end: grants the upgrade, and sends back frame by frame what comes.
pub(super) fn echo(stream: TcpStream, ahead: Vec<u8>) -> io::Result<()> {
    let mut peer = Peer { stream, ahead };
    peer.stream.write_all(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let say = |peer: &mut Peer, opcode, is_last, data: &[u8]| {
        peer.stream.write_all(&Frame::encoded(opcode, is_last, data, None))
    };
    loop {
        let Some(frame) = peer.frame()? else {
            return say(&mut peer, CLOSE, true, &1001_u16.to_be_bytes());
        };
        match frame.opcode {
            _ if !frame.is_masked => return say(&mut peer, CLOSE, true, &1002_u16.to_be_bytes()),
            CONTINUATION | TEXT | BINARY => say(&mut peer, frame.opcode, frame.is_last, &frame.data)?,
            PING => say(&mut peer, PONG, true, &frame.data)?,
            PONG => {}
            CLOSE => return say(&mut peer, CLOSE, true, &frame.data),
            _ => return say(&mut peer, CLOSE, true, &1002_u16.to_be_bytes()),
        }
    }
}
