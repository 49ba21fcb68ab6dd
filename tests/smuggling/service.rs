//! The upstream of the table: keeps every byte that comes, answers what is well-formed, and plays the answers
//! of `answers.txt`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::case::{Case, Step};
use super::message::{self, Message, Reading, Unframed};

/// Lets the bytes so far go.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// An upstream that runs until it is dropped.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
}

/// What came on a connection, one request or what looks like the beginning of one.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    /// `None`: bytes that are no request.
    pub(crate) message: Option<Message>,
    pub(crate) is_whole: bool,
    pub(crate) raw: Vec<u8>,
}

#[derive(Default)]
struct Log {
    scripts: HashMap<String, Vec<Step>>,
    connections: Mutex<Vec<Connection>>,
    is_over: AtomicBool,
}

struct Connection {
    heard: Vec<u8>,
    stream: Option<TcpStream>,
}

impl Service {
    /// Starts; `cases` whose upstream has a script are played by it.
    pub(crate) fn start(cases: &[Case]) -> io::Result<Self> {
        let scripts =
            cases.iter().filter_map(|case| Some((format!("/{}", case.token), case.answer.clone()?)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let log = Arc::new(Log { scripts: scripts.collect(), ..Log::default() });
        let service = Self { address: listener.local_addr()?, log: Arc::clone(&log) };
        thread::spawn(move || accept(&listener, &log));
        Ok(service)
    }

    /// Everything that came so far, in order within each connection.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.log.connections().iter().flat_map(|connection| arrived(&connection.heard)).collect()
    }

    /// Ends every connection: what one case leaves on them must not meet the next.
    pub(crate) fn close_connections(&self) {
        for connection in self.log.connections().iter_mut() {
            if let Some(stream) = connection.stream.take() {
                drop(stream.shutdown(Shutdown::Both));
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.log.is_over.store(true, Ordering::Release);
        self.close_connections();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Log {
    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, log: &Arc<Log>) {
    for stream in listener.incoming() {
        if log.is_over.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let log = Arc::clone(log);
        let number = {
            let mut connections = log.connections();
            connections.push(Connection { heard: Vec::new(), stream: stream.try_clone().ok() });
            connections.len() - 1
        };
        thread::spawn(move || {
            let end = serve(&stream, number, &log).unwrap_or(Step::Close);
            if let Some(connection) = log.connections().get_mut(number) {
                connection.stream = None;
            }
            match end {
                // A reset needs the last handle of the connection to be dropped.
                Step::Reset => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
                Step::Close | Step::Send(_) | Step::Pause | Step::HalfClose | Step::AwaitAnswer => {
                    drop(stream.shutdown(Shutdown::Both));
                }
            }
        });
    }
}

/// Serves a connection, and tells how it ends.
fn serve(mut stream: &TcpStream, number: usize, log: &Log) -> io::Result<Step> {
    stream.set_nodelay(true)?;
    let (mut ahead, mut bytes, mut is_invited) = (Vec::new(), vec![0; 64 * 1024], false);
    loop {
        match message::read(&ahead, |_| Unframed::Empty) {
            Reading::Whole(request, length) => {
                ahead.drain(..length);
                is_invited = false;
                let (method, target) = start_line(&request);
                match log.scripts.get(&target) {
                    Some(script) => {
                        for step in script {
                            match step {
                                Step::Send(bytes) => stream.write_all(bytes)?,
                                Step::Pause => thread::sleep(PAUSE),
                                Step::Close | Step::Reset => return Ok(step.clone()),
                                Step::HalfClose | Step::AwaitAnswer => {}
                            }
                        }
                    }
                    None => stream.write_all(&answer(&method, &target, request.body.len()))?,
                }
                continue;
            }
            Reading::Begun(request)
                if !is_invited && message::joined(&request.fields, "expect").is_some() =>
            {
                is_invited = true;
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            Reading::Nothing | Reading::Begun(_) => {}
            Reading::Fault(_) => return Ok(Step::Close),
        }
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(Step::Close);
        }
        let read = bytes.get(..count).unwrap_or_default();
        ahead.extend_from_slice(read);
        if let Some(connection) = log.connections().get_mut(number) {
            connection.heard.extend_from_slice(read);
        }
    }
}

fn answer(method: &str, target: &str, body_len: usize) -> Vec<u8> {
    let body = told(method, target, body_len);
    let shown = if method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{shown}", body.len()).into_bytes()
}

/// What the service says of a request.
pub(super) fn told(method: &str, target: &str, body_len: usize) -> String {
    format!("{method} {target} {body_len}")
}

/// The method and the target of a request.
pub(super) fn start_line(request: &Message) -> (String, String) {
    let line = String::from_utf8_lossy(&request.start).into_owned();
    let mut words = line.split(' ').map(str::to_owned);
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

fn arrived(mut heard: &[u8]) -> Vec<Arrived> {
    let mut all = Vec::new();
    while !heard.is_empty() {
        match message::read(heard, |_| Unframed::Empty) {
            Reading::Whole(message, length) => {
                let (raw, rest) = heard.split_at(length);
                all.push(Arrived { message: Some(message), is_whole: true, raw: raw.to_vec() });
                heard = rest;
            }
            Reading::Begun(message) => {
                all.push(Arrived { message: Some(message), is_whole: false, raw: heard.to_vec() });
                break;
            }
            Reading::Nothing | Reading::Fault(_) => {
                all.push(Arrived { message: None, is_whole: false, raw: heard.to_vec() });
                break;
            }
        }
    }
    all
}
