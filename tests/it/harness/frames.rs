//! A scripted HTTP/2 server that reads and writes frames by hand: it breaks exactly the rules that a test wants broken.
//!
//! It knows as much of HPACK as answers need. Shares no code with the gateway. Source: RFC 9113 §4 and §6.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::PATIENCE;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Error codes of RFC 9113 §7.
pub(crate) const NO_ERROR: u32 = 0x0;
pub(crate) const INTERNAL_ERROR: u32 = 0x2;
pub(crate) const REFUSED_STREAM: u32 = 0x7;
pub(crate) const CANCEL: u32 = 0x8;

/// A server that runs until it is dropped.
pub(crate) struct FrameServer {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    connections: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

/// One connection to it.
pub(crate) struct Frames {
    stream: Box<dyn Stream>,
    seen: Arc<Seen>,
    /// From one, in order of arrival.
    pub(crate) connection: usize,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) ends_stream: bool,
}

impl FrameServer {
    /// Does as `script` says with each connection, and then ends it.
    pub(crate) fn by(script: impl Fn(&mut Frames) + Send + Sync + 'static) -> Self {
        Self::start(None, None, script)
    }

    /// The same over TLS.
    pub(crate) fn over_tls(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&mut Frames) + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Some(tls), script)
    }

    /// Tells clients to open no more than `streams_max` streams at once.
    pub(crate) fn limiting(streams_max: u32, script: impl Fn(&mut Frames) + Send + Sync + 'static) -> Self {
        Self::start(Some(streams_max), None, script)
    }

    fn start(
        streams_max: Option<u32>,
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&mut Frames) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, script) = (Arc::clone(&server.seen), Arc::new(script));
        thread::spawn(move || {
            for (connection, stream) in (1..).zip(listener.incoming().map_while(Result::ok)) {
                if seen.is_over.load(Ordering::Acquire) {
                    return;
                }
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                seen.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let (seen, script, tls) = (Arc::clone(&seen), Arc::clone(&script), tls.clone());
                thread::spawn(move || {
                    let socket = stream.try_clone().unwrap();
                    let stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(tls) => {
                            let tls = rustls::ServerConnection::new(tls).unwrap();
                            Box::new(rustls::StreamOwned::new(tls, stream))
                        }
                    };
                    let mut frames = Frames { stream, seen, connection };
                    if frames.begin(streams_max) {
                        script(&mut frames);
                    }
                    socket.shutdown(Shutdown::Both).ok();
                });
            }
        });
        server
    }

    /// Its address and port.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Its address, for `protocol = "http2"`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests began to arrive.
    pub(crate) fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::Acquire)
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.lock().unwrap().len()
    }
}

impl Drop for FrameServer {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Release);
        for stream in self.seen.connections.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

impl Frames {
    fn begin(&mut self, streams_max: Option<u32>) -> bool {
        let mut preface = [0; PREFACE.len()];
        let settings: Vec<u8> =
            streams_max.map(|max| [&[0, 3][..], &max.to_be_bytes()].concat()).unwrap_or_default();
        self.send(SETTINGS, 0, 0, &settings);
        self.stream.read_exact(&mut preface).is_ok() && preface == PREFACE
    }

    /// The next frame of a stream; what concerns the connection is dealt with. `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).ok()?;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let (kind, flags) = (head[3], head[4]);
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload),
                DATA | HEADERS | RST_STREAM => {
                    let ends_stream = flags & END_STREAM != 0 && kind != RST_STREAM;
                    return Some(Frame { kind, stream, ends_stream });
                }
                _ => {}
            }
        }
    }

    /// The stream of the next request, as soon as its head has come.
    pub(crate) fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            if frame.kind == HEADERS {
                self.seen.requests.fetch_add(1, Ordering::AcqRel);
                return Some(frame.stream);
            }
        }
    }

    /// The stream of the next request, once it is whole.
    pub(crate) fn whole_request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            if frame.kind == HEADERS {
                self.seen.requests.fetch_add(1, Ordering::AcqRel);
            }
            if frame.ends_stream {
                return Some(frame.stream);
            }
        }
    }

    /// Waits until the client resets a stream, or ends the connection.
    pub(crate) fn await_reset(&mut self) -> bool {
        while let Some(frame) = self.next() {
            if frame.kind == RST_STREAM {
                return true;
            }
        }
        false
    }

    /// Reads until the client ends the connection.
    pub(crate) fn await_end(&mut self) {
        while self.next().is_some() {}
    }

    /// Answers with a status and a body.
    pub(crate) fn answer(&mut self, stream: u32, status: &str, body: &str) {
        self.head(stream, status, &[]);
        self.send(DATA, END_STREAM, stream, body.as_bytes());
    }

    /// The head of an answer whose body is to come.
    pub(crate) fn head(&mut self, stream: u32, status: &str, fields: &[(&str, &str)]) {
        self.send(HEADERS, END_HEADERS, stream, &block(Some(status), fields));
    }

    /// A piece of an answer's body.
    pub(crate) fn data(&mut self, stream: u32, data: &str) {
        self.send(DATA, 0, stream, data.as_bytes());
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Says that nothing above `last` was processed, nor will be.
    pub(crate) fn goaway(&mut self, last: u32, code: u32) {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    }

    /// Any frame. That the client has gone meanwhile shows when the next one is read.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.stream.write_all(&[&head[..], payload].concat()).ok();
    }
}

/// Fields as literals that enter no table (RFC 7541 §6.2.2); `:status` is number 8 of the static one.
fn block(status: Option<&str>, fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    let mut block: Vec<u8> = status.map(|status| [&[0x08][..], &text(status)].concat()).unwrap_or_default();
    for (name, value) in fields {
        block.extend([&[0x00][..], &text(name), &text(value)].concat());
    }
    block
}
