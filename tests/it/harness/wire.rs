//! HTTP/1.1 as bytes on a connection, read by a small parser that shares no code with the gateway.
//!
//! It is strict about framing and lenient about everything else: whatever arrived is kept as it arrived.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use super::PATIENCE;

/// Field lines, in order, with repeats; names as they were spelled.
pub(crate) type Lines = Vec<(String, Vec<u8>)>;

/// One side of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
    /// Everything taken from `ahead` since the last head began.
    pub(super) taken: Vec<u8>,
    heard: Arc<Mutex<Vec<u8>>>,
}

/// A start line and the fields below it.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) lines: Lines,
}

/// A body, as far as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Lines,
    pub(crate) is_whole: bool,
}

/// An answer, as far as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) lines: Lines,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Lines,
    /// Whether its framing says that nothing is missing.
    pub(crate) is_whole: bool,
}

impl Wire {
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, ahead: Vec::new(), taken: Vec::new(), heard: Arc::default() }
    }

    /// As [`Wire::over`]; whatever is read is put down in `heard` at once.
    pub(crate) fn overheard(stream: TcpStream, heard: &Arc<Mutex<Vec<u8>>>) -> Self {
        Self { heard: Arc::clone(heard), ..Self::over(stream) }
    }

    /// Writes; answers whether the peer was still there.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Drops the connection with a reset instead of an orderly end. Nobody else may hold it open.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Ends the connection, though others may hold it open.
    pub(crate) fn end(self) {
        self.stream.shutdown(Shutdown::Both).ok();
    }

    /// Sends back whatever comes, until the peer ends.
    pub(crate) fn echo(&mut self) {
        loop {
            let bytes = std::mem::take(&mut self.ahead);
            if !self.write(&bytes) || !self.fill() {
                return;
            }
        }
    }

    /// Reads until the peer ends.
    pub(crate) fn await_end(&mut self) {
        while self.fill() {}
    }

    /// The next head; `None` when the connection ends before it begins.
    pub(crate) fn head(&mut self) -> Option<Head> {
        self.taken.clear();
        let end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                assert!(self.ahead.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.ahead));
                return None;
            }
        };
        let head = self.take(end);
        let mut lines = head.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let start = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
        let lines = lines.filter(|line| !line.is_empty()).map(field).collect();
        Some(Head { start, lines })
    }

    /// The body that `lines` announce. `is_answer` without framing lasts until the connection ends.
    pub(crate) fn content(&mut self, lines: &Lines, is_answer: bool) -> Content {
        let codings = first(lines, "transfer-encoding").unwrap_or_default();
        if codings.eq_ignore_ascii_case("chunked") {
            return self.chunks();
        }
        match first(lines, "content-length") {
            Some(length) => self.counted(length.parse().unwrap()),
            None if is_answer => self.rest(),
            None => Content { is_whole: true, ..Content::default() },
        }
    }

    /// The next chunk's data; empty for the last one, `None` if the connection ends first.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line()?;
        let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
        if size == 0 {
            return Some(Vec::new());
        }
        let data = self.counted(size);
        let end = self.counted(2);
        (data.is_whole && end.is_whole).then_some(data.data)
    }

    /// The next `length` bytes, or fewer if the connection ends first.
    pub(crate) fn counted(&mut self, length: usize) -> Content {
        while self.ahead.len() < length && self.fill() {}
        let is_whole = self.ahead.len() >= length;
        let data = self.take(length.min(self.ahead.len()));
        Content { data, trailers: Vec::new(), is_whole }
    }

    /// Whether the peer ended the connection, with nothing more to read.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.ahead.is_empty() && !self.fill()
    }

    fn chunks(&mut self) -> Content {
        let mut content = Content::default();
        loop {
            match self.chunk() {
                None => return content,
                Some(data) if data.is_empty() => break,
                Some(data) => content.data.extend_from_slice(&data),
            }
        }
        while let Some(line) = self.line() {
            if line.is_empty() {
                content.is_whole = true;
                break;
            }
            content.trailers.push(field(line.as_bytes()));
        }
        content
    }

    fn rest(&mut self) -> Content {
        let mut bytes = [0; 4096];
        let is_whole = loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break true,
                Ok(count) => self.ahead.extend_from_slice(&bytes[..count]),
                Err(error) => {
                    refuse_timeout(&error);
                    break false;
                }
            }
        };
        let data = self.take(self.ahead.len());
        Content { data, trailers: Vec::new(), is_whole }
    }

    fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                break at + 2;
            }
            if !self.fill() {
                return None;
            }
        };
        Some(String::from_utf8(self.take(end)).unwrap().trim_end().to_owned())
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let taken: Vec<u8> = self.ahead.drain(..length).collect();
        self.taken.extend_from_slice(&taken);
        taken
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.ahead.extend_from_slice(&bytes[..count]);
                self.heard.lock().unwrap().extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) => {
                refuse_timeout(&error);
                false
            }
        }
    }
}

impl Answer {
    /// Reads the rest of an answer whose head was read.
    pub(super) fn after(head: Head, wire: &mut Wire, is_bodiless: bool) -> Self {
        let status = head.status();
        let content = if is_bodiless || matches!(status, 100..=199 | 204 | 304) {
            Content { is_whole: true, ..Content::default() }
        } else {
            wire.content(&head.lines, true)
        };
        let Content { data, trailers, is_whole } = content;
        Self { status, lines: head.lines, body: data, trailers, is_whole }
    }

    /// The only line of this name.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let all = self.headers(name);
        assert!(all.len() < 2, "{name} stands more than once: {all:?}");
        all.into_iter().next()
    }

    /// Every line of this name, in order.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        all(&self.lines, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// What `Idempotency-Status` says.
    pub(crate) fn word(&self) -> Option<String> {
        self.header("idempotency-status")
    }

    /// The status and the code of a problem document.
    pub(crate) fn problem(&self) -> (u16, String) {
        let document = self.document();
        (self.status, document["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The problem document.
    pub(crate) fn document(&self) -> serde_json::Value {
        let kind = self.header("content-type");
        assert_eq!(kind.as_deref(), Some("application/problem+json"), "{}", self.shown());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// For messages of failed tests.
    pub(crate) fn shown(&self) -> String {
        let lines =
            self.lines.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
        format!(
            "{}\n{}\n\n{}",
            self.status,
            lines.collect::<Vec<_>>().join("\n"),
            String::from_utf8_lossy(&self.body)
        )
    }
}

impl Head {
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

pub(super) fn first(lines: &Lines, name: &str) -> Option<String> {
    all(lines, name).into_iter().next()
}

pub(super) fn all(lines: &Lines, name: &str) -> Vec<String> {
    let of_name = lines.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
    of_name.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

fn field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&line[..colon]).into_owned(), value.trim_ascii().to_vec())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A peer that says nothing is a test that failed; a peer that resets is one that went.
fn refuse_timeout(error: &std::io::Error) {
    assert!(
        !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "the peer neither speaks nor goes"
    );
}
