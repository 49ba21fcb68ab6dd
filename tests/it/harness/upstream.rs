//! A scripted service behind the gateway. It counts what it was asked to do, keeps every request as it came,
//! and answers, or fails to, exactly as the test says.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::PATIENCE;
use super::gate::{Gate, Latch};
use super::wire::{self, Content, Head, Lines, Wire};

/// A service that runs until it is dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// A request that was received, whole.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// From one, in order of receipt.
    pub(crate) number: usize,
    /// Which connection it came on, from one.
    pub(crate) connection: usize,
    pub(crate) raw: Vec<u8>,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) lines: Lines,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Lines,
}

/// What the service does with one request.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    steps: Vec<Step>,
    /// The answer being written, until its body is known.
    head: Vec<u8>,
}

#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Latch),
    /// Ends the connection with a reset.
    Reset,
    /// Ends the connection in order.
    Close,
    /// Sends back whatever comes, until the peer ends.
    Echo,
    /// Says nothing until the peer ends.
    AwaitEnd,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Received>>,
    bell: Condvar,
    /// Each by its number, for as long as it is open.
    connections: Mutex<HashMap<usize, TcpStream>>,
    /// Every byte that came, on any connection.
    heard: Arc<Mutex<Vec<u8>>>,
    /// How many bytes of answers the peers have taken.
    sent_bytes: AtomicUsize,
    is_over: AtomicBool,
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

impl Upstream {
    /// Answers each request with a payment of its own, numbered in order of execution.
    pub(crate) fn of_payments() -> Self {
        Self::by(|request| Reply::payment(request.number))
    }

    /// Does the same with every request.
    pub(crate) fn always(reply: Reply) -> Self {
        Self::by(move |_| reply.clone())
    }

    /// Does the first thing with the first request, and so on; the last thing with all that follow.
    pub(crate) fn in_turn<const N: usize>(replies: [Reply; N]) -> Self {
        Self::by(move |request| replies[(request.number - 1).min(N - 1)].clone())
    }

    /// Does as `script` says.
    pub(crate) fn by(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let upstream = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, script): (_, Arc<Script>) = (Arc::clone(&upstream.seen), Arc::new(script));
        thread::spawn(move || accept(&listener, &seen, &script));
        upstream
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address, as a server of an upstream.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// How many requests were received.
    pub(crate) fn executions(&self) -> usize {
        self.seen.requests().len()
    }

    /// What was asked for, in order of receipt.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen.requests().iter().map(|request| request.target.clone()).collect()
    }

    /// How many requests of this key were received.
    pub(crate) fn executions_of(&self, key: &str) -> usize {
        let requests = self.seen.requests();
        requests.iter().filter(|request| request.header("idempotency-key").as_deref() == Some(key)).count()
    }

    /// Waits for the request of this number, and gives it.
    pub(crate) fn request(&self, number: usize) -> Received {
        let waiting = |requests: &mut Vec<Received>| requests.len() < number;
        let (requests, _) =
            self.seen.bell.wait_timeout_while(self.seen.requests(), PATIENCE, waiting).unwrap();
        requests.get(number - 1).cloned().unwrap_or_else(|| panic!("no request {number} was received"))
    }

    /// How many bytes of answers were taken by the time that no more are.
    pub(crate) fn sent_bytes_at_rest(&self) -> usize {
        let mut before = 0;
        super::until("the peer takes no more", || {
            thread::sleep(Duration::from_millis(200));
            let sent = self.seen.sent_bytes.load(Ordering::Relaxed);
            sent > 0 && std::mem::replace(&mut before, sent) == sent
        });
        before
    }

    /// How many connections are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.seen.connections.lock().unwrap().len()
    }

    /// Waits until `bytes` have come, if only as part of a request that is still being received.
    pub(crate) fn await_bytes(&self, bytes: &[u8]) {
        super::until("the bytes reach the upstream", || {
            self.seen.heard.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
        });
    }

    /// Closes every connection, as a server does with idle ones.
    pub(crate) fn close_connections(&self) {
        for (_, stream) in self.seen.connections.lock().unwrap().drain() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.seen.is_over.store(true, Ordering::Release);
        self.close_connections();
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        wire::first(&self.lines, name)
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        wire::all(&self.lines, name)
    }
}

impl Reply {
    /// Begins an answer; a body is to follow.
    pub(crate) fn answer(status: u16) -> Self {
        Self::default().status(status)
    }

    pub(crate) fn payment(number: usize) -> Self {
        Self::answer(201).header("Location", &format!("/payments/{number}")).body(format!("payment {number}"))
    }

    /// Begins an answer after what was done so far.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.head = format!("HTTP/1.1 {status} Reason\r\n").into_bytes();
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }

    /// A body of known length.
    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        self.header("Content-Length", &body.len().to_string()).end_of_head().raw(body)
    }

    /// A body in chunks, all of it.
    pub(crate) fn chunked(self, chunks: &[&str], trailers: &[(&str, &str)]) -> Self {
        let begun = chunks.iter().fold(self.begin_chunked(), |reply, chunk| reply.chunk(chunk));
        let trailers: Vec<_> = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        begun.raw(format!("0\r\n{}\r\n", trailers.concat()))
    }

    pub(crate) fn begin_chunked(self) -> Self {
        self.header("Transfer-Encoding", "chunked").end_of_head()
    }

    pub(crate) fn chunk(self, data: &str) -> Self {
        self.raw(format!("{:x}\r\n{data}\r\n", data.len()))
    }

    pub(crate) fn last_chunk(self) -> Self {
        self.raw("0\r\n\r\n")
    }

    /// A body that lasts until the connection ends.
    pub(crate) fn until_close(self, body: &str) -> Self {
        self.end_of_head().raw(body).close()
    }

    /// The head, with nothing to say about a body.
    pub(crate) fn end_of_head(mut self) -> Self {
        let mut head = std::mem::take(&mut self.head);
        head.extend_from_slice(b"\r\n");
        self.raw(head)
    }

    /// Bytes as they stand.
    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    /// Goes no further until the gate is open.
    pub(crate) fn wait(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Wait(gate.latch()));
        self
    }

    /// All of this, once the gate is open.
    pub(crate) fn held_by(mut self, gate: &Gate) -> Self {
        self.steps.insert(0, Step::Wait(gate.latch()));
        self
    }

    pub(crate) fn reset(mut self) -> Self {
        self.steps.push(Step::Reset);
        self
    }

    pub(crate) fn close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    /// Says nothing until the gateway hangs up.
    pub(crate) fn await_end(mut self) -> Self {
        self.steps.push(Step::AwaitEnd);
        self
    }

    pub(crate) fn echo(mut self) -> Self {
        self.steps.push(Step::Echo);
        self
    }
}

impl Seen {
    fn requests(&self) -> MutexGuard<'_, Vec<Received>> {
        self.requests.lock().unwrap()
    }

    /// Sends piece by piece, so that it shows how much the peer takes.
    fn send(&self, wire: &mut Wire, bytes: &[u8]) -> bool {
        bytes.chunks(64 * 1024).all(|piece| {
            let is_taken = wire.write(piece);
            self.sent_bytes.fetch_add(piece.len(), Ordering::Relaxed);
            is_taken
        })
    }

    fn receive(&self, mut request: Received) -> Received {
        let mut requests = self.requests();
        request.number = requests.len() + 1;
        requests.push(request.clone());
        self.bell.notify_all();
        request
    }
}

fn accept(listener: &TcpListener, seen: &Arc<Seen>, script: &Arc<Script>) {
    for (number, stream) in (1..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        if seen.is_over.load(Ordering::Acquire) {
            return;
        }
        seen.connections.lock().unwrap().insert(number, stream.try_clone().unwrap());
        let (seen, script) = (Arc::clone(seen), Arc::clone(script));
        thread::spawn(move || {
            let last_step = serve(Wire::overheard(stream, &seen.heard), number, &seen, &script);
            // A reset needs the last handle of the connection to be dropped.
            seen.connections.lock().unwrap().remove(&number);
            last_step();
        });
    }
}

/// Serves a connection to its end, and answers how it ends.
fn serve(mut wire: Wire, connection: usize, seen: &Seen, script: &Arc<Script>) -> Box<dyn FnOnce()> {
    while let Some(request) = receive(&mut wire, connection) {
        let request = seen.receive(request);
        for step in script(&request).steps {
            match step {
                Step::Send(bytes) if seen.send(&mut wire, &bytes) => {}
                Step::Wait(latch) => latch.wait(),
                Step::Reset => return Box::new(move || wire.reset()),
                Step::Close | Step::Send(_) => return Box::new(move || wire.end()),
                Step::Echo => wire.echo(),
                Step::AwaitEnd => wire.await_end(),
            }
        }
    }
    Box::new(move || wire.end())
}

/// The next request, if it comes whole.
fn receive(wire: &mut Wire, connection: usize) -> Option<Received> {
    let Head { start, lines } = wire.head()?;
    let Content { data, trailers, is_whole } = wire.content(&lines, false);
    let mut words = start.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let raw = wire.taken.clone();
    is_whole.then_some(Received { number: 0, connection, raw, method, target, lines, body: data, trailers })
}
