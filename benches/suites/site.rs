//! The service behind the proxies in all suites but those that bring their own: a small site that answers by its
//! path, takes uploads, speaks WebSocket, and counts.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;

use super::smuggling::message::{self, Message, Reading, Unframed};
use super::websocket;

const LETTERS_MAX: usize = 30_000_000;

/// A site that runs until it is dropped.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How often each path was asked for.
    counts: Mutex<HashMap<String, usize>>,
    is_over: AtomicBool,
}

impl Site {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let site = Self { address: listener.local_addr()?, state: Arc::default() };
        let state = Arc::clone(&site.state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if state.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&state)) else { continue };
                thread::spawn(move || serve(stream, &state));
            }
        });
        Ok(site)
    }

    /// How often this path was asked for so far.
    pub(super) fn count(&self, path: &str) -> usize {
        let counts = self.state.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(path).copied().unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut ahead, mut bytes, mut is_invited) = (Vec::new(), vec![0; 256 * 1024], false);
    loop {
        match message::read(&ahead, |_| Unframed::Empty) {
            Reading::Whole(request, length) => {
                ahead.drain(..length);
                is_invited = false;
                let path = state.counted(&request);
                if path == "/websocket" && message::joined(&request.fields, "upgrade").is_some() {
                    return websocket::echo(stream, ahead);
                }
                answer(&mut stream, &path, &request)?;
                continue;
            }
            Reading::Begun(request)
                if !is_invited && message::joined(&request.fields, "expect").is_some() =>
            {
                is_invited = true;
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            Reading::Nothing | Reading::Begun(_) => {}
            Reading::Fault(_) => return Ok(()),
        }
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        ahead.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
}

impl State {
    fn counted(&self, request: &Message) -> String {
        let line = String::from_utf8_lossy(&request.start).into_owned();
        let target = line.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default() += 1;
        path
    }
}

/// `/bytes/N` is a file of N letters, parts of it too; `/echo` what was sent; `/trailers` ends in one; `/hints`
/// begins with a 103; anything else a few words.
fn answer(stream: &mut TcpStream, path: &str, request: &Message) -> io::Result<()> {
    let is_head = request.start.starts_with(b"HEAD ");
    let say = |stream: &mut TcpStream, status: &str, lines: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{lines}Content-Length: {}\r\n\r\n", body.len());
        let body = if is_head { &[] } else { body };
        stream.write_all(&[head.as_bytes(), body].concat())
    };
    match path {
        "/echo" => say(stream, "200 OK", "Content-Type: application/octet-stream\r\n", &request.body),
        "/hints" => {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </style>; rel=preload\r\n\r\n")?;
            say(stream, "200 OK", "", b"after hints")
        }
        "/trailers" => stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
              5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
        ),
        _ => match path.strip_prefix("/bytes/").and_then(|count| count.parse::<usize>().ok()) {
            None => say(stream, "200 OK", "", b"hello"),
            Some(count) => {
                let body = letters(count);
                let range = message::joined(&request.fields, "range");
                match range.and_then(|range| start_of(&range)).filter(|start| *start < count) {
                    None => say(stream, "200 OK", "Accept-Ranges: bytes\r\n", &body),
                    Some(start) => {
                        let lines = format!("Content-Range: bytes {start}-{}/{count}\r\n", count - 1);
                        say(stream, "206 Partial Content", &lines, body.get(start..).unwrap_or_default())
                    }
                }
            }
        },
    }
}

/// Letters by which a lost or moved piece shows, `LETTERS_MAX` at most.
pub(super) fn letters(count: usize) -> Vec<u8> {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let letters = (b'a'..=b'z').cycle().zip(0..LETTERS_MAX);
        letters.map(|(letter, at)| if at % 997 == 0 { b'#' } else { letter }).collect()
    });
    ALL.get(..count).unwrap_or(&ALL).to_vec()
}

/// `bytes=N-`.
fn start_of(range: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(range).ok()?.strip_prefix("bytes=")?;
    text.strip_suffix('-')?.parse().ok()
}
