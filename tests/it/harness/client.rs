//! A caller: a request as bytes, and the answer to it.

use std::net::{SocketAddr, TcpStream};

use super::planted;
use super::wire::{Answer, Head, Wire};

/// A request to be.
#[derive(Clone)]
pub(crate) struct Ask {
    method: String,
    target: String,
    lines: Vec<(String, Vec<u8>)>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    None,
    Counted(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, trailers: Vec<(String, String)> },
}

/// A connection to the gateway.
pub(crate) struct Client {
    wire: Wire,
    address: SocketAddr,
    awaits: Vec<String>,
}

/// A payment to be made.
pub(crate) fn post(target: &str) -> Ask {
    ask("POST", target).body("amount=100")
}

pub(crate) fn get(target: &str) -> Ask {
    ask("GET", target)
}

pub(crate) fn ask(method: &str, target: &str) -> Ask {
    let host = ("Host".to_owned(), b"api.test".to_vec());
    Ask { method: method.into(), target: target.into(), lines: vec![host], content: Content::None }
}

impl Ask {
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub(crate) fn caller(self, credential: &str) -> Self {
        self.header("Authorization", credential)
    }

    /// Adds a field line; one of the same name may stand there already.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.lines.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.lines.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    /// Asks for another target.
    pub(crate) fn target(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { content: Content::Counted(body.as_ref().to_vec()), ..self }
    }

    pub(crate) fn chunked(self, chunks: &[&str], trailers: &[(&str, &str)]) -> Self {
        let chunks = chunks.iter().map(|chunk| chunk.as_bytes().to_vec()).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { content: Content::Chunked { chunks, trailers: trailers.iter().map(owned).collect() }, ..self }
    }

    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    /// The path that it asks for, without the query.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// The head alone.
    pub(crate) fn head_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let framing = match &self.content {
            Content::None => None,
            Content::Counted(body) => {
                Some(("Content-Length".to_owned(), body.len().to_string().into_bytes()))
            }
            Content::Chunked { .. } => Some(("Transfer-Encoding".to_owned(), b"chunked".to_vec())),
        };
        for (name, value) in self.lines.iter().chain(&framing) {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    pub(crate) fn body_bytes(&self) -> Vec<u8> {
        match &self.content {
            Content::None => Vec::new(),
            Content::Counted(body) => body.clone(),
            Content::Chunked { chunks, trailers } => {
                let mut bytes = Vec::new();
                for chunk in chunks {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                bytes.extend_from_slice(b"\r\n");
                bytes
            }
        }
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self { wire: Wire::over(stream), address, awaits: Vec::new() }
    }

    /// Sends a request, whole.
    pub(crate) fn send(&mut self, ask: &Ask) -> &mut Self {
        let bytes = [ask.head_bytes(), ask.body_bytes()].concat();
        planted::note(self.address, &ask.lines);
        self.awaits.push(ask.method.clone());
        self.say(&bytes)
    }

    /// Sends a request's head and keeps its body back.
    pub(crate) fn send_head(&mut self, ask: &Ask) -> &mut Self {
        planted::note(self.address, &ask.lines);
        self.awaits.push(ask.method.clone());
        self.say(&ask.head_bytes())
    }

    /// Sends bytes.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> &mut Self {
        assert!(self.wire.write(bytes), "the gateway closed before it was asked");
        self
    }

    /// Reads an answer, whole or not; fails if there is none.
    pub(crate) fn read(&mut self) -> Answer {
        self.try_read().expect("an answer before the connection ends")
    }

    /// Reads an answer; `None` if the connection ends before it begins.
    pub(crate) fn try_read(&mut self) -> Option<Answer> {
        let head = self.wire.head()?;
        Some(self.read_after(head))
    }

    /// Reads the head of an answer.
    pub(crate) fn read_head(&mut self) -> Head {
        self.wire.head().expect("an answer before the connection ends")
    }

    /// Reads the rest of an answer whose head was read.
    pub(crate) fn read_after(&mut self, head: Head) -> Answer {
        let is_final = head.status() >= 200;
        let awaited = self.awaits.first().cloned();
        if is_final && awaited.is_some() {
            self.awaits.remove(0);
        }
        Answer::after(head, &mut self.wire, awaited.is_some_and(|method| method == "HEAD"))
    }

    pub(crate) fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Ends its side of the connection and goes on listening.
    pub(crate) fn finish_writing(&mut self) -> &mut Self {
        self.wire.finish_writing();
        self
    }

    /// Goes away, as a crashed process does.
    pub(crate) fn leave(self) {
        self.wire.reset();
    }
}
