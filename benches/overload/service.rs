//! A service that can do only so much: workers that take a fixed time for a request, and a queue without end.
//!
//! Like many real ones it does not notice that a caller has left, and works for nobody. It counts what it was asked to do
//! for each idempotency key.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// The service, running until the process ends.
pub(super) struct Service {
    pub(super) address: SocketAddr,
    work: Arc<Work>,
}

struct Work {
    free: Semaphore,
    workers: usize,
    takes: Duration,
    under_way: AtomicUsize,
    executions: Mutex<HashMap<String, u32>>,
}

impl Service {
    pub(super) fn start(workers: usize, takes: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let free = Semaphore::new(workers);
        let work = Arc::new(Work {
            free,
            workers,
            takes,
            under_way: AtomicUsize::new(0),
            executions: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = serve(listener, Arc::clone(&work));
        thread::Builder::new().name("service".to_owned()).spawn(move || runtime.block_on(serving))?;
        Ok(Self { address, work })
    }

    /// Requests that it can answer in a second.
    pub(super) fn capacity(&self) -> f64 {
        u32::try_from(self.work.workers).map_or(f64::INFINITY, f64::from) / self.work.takes.as_secs_f64()
    }

    /// Keys, and how many of them were executed more than once.
    pub(super) fn executions(&self) -> (usize, usize) {
        let executions = self.work.executions.lock().unwrap_or_else(PoisonError::into_inner);
        (executions.len(), executions.values().filter(|times| **times > 1).count())
    }

    /// Waits until it has nothing to do.
    pub(super) async fn rests(&self) {
        while self.work.under_way.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn serve(listener: TcpListener, work: Arc<Work>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        connections.spawn(answer_all(stream, Arc::clone(&work)));
        while connections.try_join_next().is_some() {}
    }
}

/// Requests here have no body, and none is sent before the last was answered.
async fn answer_all(mut stream: TcpStream, work: Arc<Work>) -> io::Result<()> {
    let mut received = Vec::new();
    loop {
        while !received.ends_with(END_OF_HEAD) {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&received).to_ascii_lowercase();
        received.clear();
        let is_last = head.contains("connection: close");
        let key = head.split("idempotency-key: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        work.done(key).await;
        let kept = if is_last { "Connection: close\r\n" } else { "" };
        let body = format!("done {}", key.unwrap_or_default());
        let answer = format!("HTTP/1.1 200 OK\r\n{kept}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
        if is_last {
            return Ok(());
        }
    }
}

impl Work {
    async fn done(&self, key: Option<&str>) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        if let Some(key) = key {
            let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
            *executions.entry(key.to_owned()).or_default() += 1;
        }
        if let Ok(_worker) = self.free.acquire().await
            && !self.takes.is_zero()
        {
            tokio::time::sleep(self.takes).await;
        }
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
