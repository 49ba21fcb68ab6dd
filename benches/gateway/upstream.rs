//! The service behind the proxies: answers at once, and counts what it was made to do.
//!
//! It runs on a thread of its own. Must not know which proxy a request came through.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::task::JoinSet;

use super::wire::{Message, Wire};

/// Every answer but one is as long as this.
pub(super) const ANSWER_BYTES: usize = 300;

/// The answer from [`LARGE_PATH`] is as long as this.
pub(super) const LARGE_BYTES: usize = 1024 * 1024;

/// Requests to this path are payments: none may be made twice.
pub(super) const GUARDED_PATH: &str = "/payments";

/// So are these, and their answers are large.
pub(super) const LARGE_PATH: &str = "/statements";

/// The service, running until the process ends.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    ledger: Arc<Executions>,
}

/// What was done.
#[derive(Default)]
struct Executions {
    count: AtomicU64,
    repeated: AtomicU64,
    paid: Mutex<HashSet<String>>,
}

impl Upstream {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Executions::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let serving = serve(listener, Arc::clone(&ledger));
        thread::Builder::new().name("upstream".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(Self { address, ledger })
    }

    /// Requests answered so far.
    pub(super) fn executions(&self) -> u64 {
        self.ledger.count.load(Ordering::Acquire)
    }

    /// Payments made that had been made before.
    pub(super) fn repeated(&self) -> u64 {
        self.ledger.repeated.load(Ordering::Acquire)
    }
}

async fn serve(listener: TcpListener, ledger: Arc<Executions>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(answer_all(Wire::new(stream)?, Arc::clone(&ledger)));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer_all(mut wire: Wire, ledger: Arc<Executions>) -> io::Result<()> {
    while let Some(request) = wire.next().await? {
        let answer = ledger.execute(&request);
        wire.send(&answer).await?;
    }
    Ok(())
}

impl Executions {
    fn execute(&self, request: &Message<'_>) -> Vec<u8> {
        let key = request.field("idempotency-key").unwrap_or_default();
        let number = self.count.fetch_add(1, Ordering::AcqRel);
        let path = request.second_word();
        if path == GUARDED_PATH || path == LARGE_PATH {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            if !paid.insert(key.to_owned()) {
                self.repeated.fetch_add(1, Ordering::AcqRel);
            }
        }
        let start = format!("{}\"execution\":{number},\"note\":\"", answer_start(key));
        let filler = answer_bytes(path).saturating_sub(start.len() + 2);
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
        let length = start.len() + filler + 2;
        format!("{head}Content-Length: {length}\r\n\r\n{start}{}\"}}", ".".repeat(filler)).into_bytes()
    }
}

/// How long an answer from this path is.
pub(super) fn answer_bytes(path: &str) -> usize {
    if path == LARGE_PATH { LARGE_BYTES } else { ANSWER_BYTES }
}

/// How the answer to a request with `key` begins.
pub(super) fn answer_start(key: &str) -> String {
    format!("{{\"payment\":\"{key}\",")
}
