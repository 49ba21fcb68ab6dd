//! Twice as many requests as the upstream can serve, from callers that give up after a second. What counts is
//! goodput: answers that come in time, as a share of what the upstream can do.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::smuggling::message;
use super::subjects::{self, Door};
use super::table::{Cell, Kind, Row};

/// The upstream serves so many at once, each for so long: 200 a second.
const AT_ONCE: usize = 8;
const TAKES: Duration = Duration::from_millis(40);

/// Requests a second at which goodput is at its peak, and at twice the capacity.
const CAPACITY: u32 = 200;
const PEAK_RATE: u32 = CAPACITY * 19 / 20;
const OVERLOAD_RATE: u32 = CAPACITY * 2;

const PEAK_LASTS: Duration = Duration::from_secs(4);
const OVERLOAD_LASTS: Duration = Duration::from_secs(12);

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ninety in a hundred of the peak must be left.
const RIGHT_FROM: f64 = 0.9;

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let mut cells = [0, 1, 2].map(|_| Cell::none("not installed"));
    for (column, cell) in cells.iter_mut().enumerate() {
        let service = Service::start()?;
        let Some(subject) = subjects::one(column, dir, service.address)? else {
            continue;
        };
        let address = subject.door(Door::Clear).ok_or("it does not listen")?;
        let peak = goodput(address, PEAK_RATE, PEAK_LASTS);
        let overloaded = goodput(address, OVERLOAD_RATE, OVERLOAD_LASTS);
        let share = overloaded / peak.max(1.0);
        let shown = format!("{:.0} % ({overloaded:.0} of {peak:.0}/s)", share * 100.0);
        *cell = Cell::figure(share * 100.0, shown, Some(share >= RIGHT_FROM));
    }
    let name = "goodput at twice the capacity, share of the peak".to_owned();
    Ok(vec![Row { name, cells, kind: Kind::HigherIsBetter }])
}

/// Answers of 200 a second that come in time, when so many are asked for a second whether or not they do.
fn goodput(address: SocketAddr, rate: u32, lasts: Duration) -> f64 {
    let good = AtomicU32::new(0);
    let (began, gap) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut number = 0;
    thread::scope(|scope| {
        while began.elapsed() < lasts {
            scope.spawn(|| {
                if asked(address).unwrap_or_default() {
                    good.fetch_add(1, Ordering::Relaxed);
                }
            });
            number += 1;
            thread::sleep((began + gap * number).saturating_duration_since(Instant::now()));
        }
    });
    f64::from(good.load(Ordering::Relaxed)) / lasts.as_secs_f64()
}

/// One request, given up after the patience is over.
fn asked(address: SocketAddr) -> io::Result<bool> {
    let until = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.write_all(b"GET /work HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
    let mut bytes = [0; 256];
    let mut ahead = Vec::new();
    while !ahead.ends_with(b"done") {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        stream.set_read_timeout(Some(left))?;
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(false);
        }
        ahead.extend_from_slice(bytes.get(..count).unwrap_or_default());
    }
    Ok(ahead.starts_with(b"HTTP/1.1 200"))
}

/// An application server with a fixed number of workers. It reads every request, queues it, and does the work even
/// if nobody waits for it any more, as most do.
struct Service {
    address: SocketAddr,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<TcpStream>>,
    bell: Condvar,
    is_over: AtomicBool,
}

impl Service {
    fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let service = Self { address: listener.local_addr()?, queue: Arc::default() };
        for _ in 0..AT_ONCE {
            let queue = Arc::clone(&service.queue);
            thread::spawn(move || queue.work());
        }
        let queue = Arc::clone(&service.queue);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if queue.is_over.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(stream), queue) = (stream, Arc::clone(&queue)) else { continue };
                thread::spawn(move || queue.take_requests(stream));
            }
        });
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.queue.is_over.store(true, Ordering::Release);
        self.queue.bell.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl Queue {
    /// Requests have no bodies here, so each ends with its head.
    fn take_requests(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let (mut ahead, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            while let Some(end) = message::find(&ahead, b"\r\n\r\n") {
                ahead.drain(..end + 4);
                let stream = stream.try_clone()?;
                self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(stream);
                self.bell.notify_one();
            }
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Ok(());
            }
            ahead.extend_from_slice(bytes.get(..count).unwrap_or_default());
        }
    }

    fn work(&self) {
        while let Some(mut stream) = self.next() {
            thread::sleep(TAKES);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"));
        }
    }

    fn next(&self) -> Option<TcpStream> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_over.load(Ordering::Acquire) {
                return None;
            }
            match waiting.pop_front() {
                Some(stream) => return Some(stream),
                None => waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
