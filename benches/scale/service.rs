//! The service behind the gateways: looks at every request, answers as long and as late as it is told to, and counts
//! what it did for which key.
//!
//! It runs on a thread of its own. Must not know which gateway a request came through.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::task::JoinSet;

use super::ask::{ANSWER_BYTES_FIELD, TAKE_FIELD, answer_body, request_body};
use super::wire::{Message, Wire};

/// The service, running until the process ends.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    ledger: Arc<Ledger>,
}

/// What was done.
#[derive(Default)]
struct Ledger {
    count: AtomicU64,
    repeated: AtomicU64,
    keys: Mutex<Keys>,
}

/// The keys for which something was done, as hashes: two of ten million are taken for one at odds of one in 300,000.
#[derive(Default)]
struct Keys {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Service {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Ledger::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = serve(listener, Arc::clone(&ledger));
        thread::Builder::new().name("service".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(Self { address, ledger })
    }

    /// Requests answered so far.
    pub(super) fn executions(&self) -> u64 {
        self.ledger.count.load(Ordering::Acquire)
    }

    /// How often something was done that had been done before.
    pub(super) fn repeated(&self) -> u64 {
        self.ledger.repeated.load(Ordering::Acquire)
    }

    /// Lets go of the keys that were there the last time, for a run that has no end.
    pub(super) fn forget_the_old(&self) {
        let mut keys = self.ledger.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.old = std::mem::take(&mut keys.young);
    }
}

async fn serve(listener: TcpListener, ledger: Arc<Ledger>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(answer_all(Wire::new(stream)?, Arc::clone(&ledger)));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer_all(mut wire: Wire, ledger: Arc<Ledger>) -> io::Result<()> {
    while let Some(request) = wire.next().await? {
        let takes = number(&request, TAKE_FIELD);
        let answer = ledger.execute(&request);
        if takes > 0 {
            tokio::time::sleep(Duration::from_millis(takes)).await;
        }
        wire.send(&answer).await?;
    }
    Ok(())
}

impl Ledger {
    fn execute(&self, request: &Message<'_>) -> Vec<u8> {
        let key = request.field("idempotency-key");
        self.count.fetch_add(1, Ordering::AcqRel);
        if let Some(key) = key {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            if !keys.is_new(key) {
                self.repeated.fetch_add(1, Ordering::AcqRel);
            }
        }
        // Whoever reads an answer of another status ends the run.
        let is_whole = request.body == request_body(key, request.body.len()).as_slice();
        let status = if is_whole { "200 OK" } else { "400 Not What Was Sent" };
        let bytes = usize::try_from(number(request, ANSWER_BYTES_FIELD)).unwrap_or_default();
        let body = answer_body(key, bytes);
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(&body);
        answer
    }
}

impl Keys {
    fn is_new(&mut self, key: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        !self.old.contains(&hash) && self.young.insert(hash)
    }
}

fn number(request: &Message<'_>, field: &str) -> u64 {
    request.field(field).and_then(|value| value.parse().ok()).unwrap_or_default()
}
