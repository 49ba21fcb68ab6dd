//! Callers who come at a fixed rate, whether or not anybody answers, and wait for [`PATIENCE`]. Each has a key of its own.
//!
//! A caller takes a connection that is free, or makes one: nobody waits in line before the gateway. One that loses
//! patience leaves, and its connection with it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Failure, PATIENCE};

/// How often callers set off: those that are due go together.
const TICK: Duration = Duration::from_millis(1);

/// Callers of one gateway.
pub(super) struct Callers {
    address: SocketAddr,
    /// Whether connections are kept for the next caller.
    keeps: bool,
    free: Mutex<Vec<TcpStream>>,
    numbers: Mutex<u64>,
}

/// What became of one caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    Refused,
    /// Nobody knows whether it was executed.
    Unknown,
    /// No answer in time, or none at all.
    Left,
    /// An answer that is not this caller's.
    Wrong,
}

/// What became of all who came after the first of the time.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) per_second: f64,
    pub(super) answered: Vec<Duration>,
    pub(super) refused: usize,
    pub(super) unknown: usize,
    pub(super) left: usize,
    pub(super) wrong: usize,
    /// Keys whose callers left, at any time: they may ask again.
    pub(super) in_doubt: Vec<String>,
}

impl Seen {
    /// In milliseconds: as long as so many in a hundred of the answers took at most.
    pub(super) fn millis(&self, percent: usize) -> f64 {
        let mut sorted = self.answered.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
    }
}

impl Callers {
    pub(super) fn of(address: SocketAddr, keeps: bool) -> Arc<Self> {
        Arc::new(Self { address, keeps, free: Mutex::default(), numbers: Mutex::default() })
    }

    /// Sends `rate` a second. Who comes in the first `settle` is not counted.
    pub(super) async fn come(
        self: &Arc<Self>,
        rate: f64,
        settle: Duration,
        measured: Duration,
    ) -> Result<Seen, Failure> {
        let (began, mut callers, mut seen) = (Instant::now(), JoinSet::new(), Seen::default());
        let mut due = Duration::ZERO;
        while due < settle + measured {
            while due <= began.elapsed() && due < settle + measured {
                let (all, key, counts, at) = (Arc::clone(self), self.fresh_key(), due >= settle, began + due);
                callers.spawn(async move {
                    let end = tokio::time::timeout_at((at + PATIENCE).into(), all.ask(&key)).await;
                    (end.ok().and_then(Result::ok).unwrap_or(End::Left), at.elapsed(), counts, key)
                });
                due += Duration::from_secs_f64(1.0 / rate);
            }
            while let Some(caller) = callers.try_join_next() {
                seen.note(caller?);
            }
            tokio::time::sleep(TICK).await;
        }
        while let Some(caller) = callers.join_next().await {
            seen.note(caller?);
        }
        let answered = u32::try_from(seen.answered.len())?;
        seen.per_second = f64::from(answered) / measured.as_secs_f64();
        Ok(seen)
    }

    /// Asks for keys again until there is a last word about each. Answers how many never had one.
    pub(super) async fn ask_again(self: &Arc<Self>, keys: &[String]) -> usize {
        let mut without = 0;
        for key in keys {
            let end = tokio::time::timeout(Duration::from_secs(30), async {
                loop {
                    match self.ask(key).await {
                        Ok(end @ (End::Answered | End::Unknown | End::Wrong)) => return end,
                        Ok(End::Refused | End::Left) | Err(_) => tokio::time::sleep(TICK).await,
                    }
                }
            });
            without += usize::from(!matches!(end.await, Ok(End::Answered | End::Unknown)));
        }
        without
    }

    fn fresh_key(&self) -> String {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        *numbers += 1;
        format!("{}-{numbers}", self.address.port())
    }

    async fn ask(&self, key: &str) -> Result<End, Failure> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = match free {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await?,
        };
        stream.set_nodelay(true)?;
        let kept = if self.keeps { "" } else { "Connection: close\r\n" };
        let request = format!(
            "POST /payments HTTP/1.1\r\nHost: service\r\nIdempotency-Key: {key}\r\n{kept}Content-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut received = Vec::with_capacity(1024);
        let (head, body) = loop {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(End::Left);
            }
            if let Some(answer) = whole(&received) {
                break answer;
            }
        };
        if self.keeps && !head.contains("connection: close") {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
        Ok(match head.get(9..12) {
            Some("200") if body == format!("done {key}") => End::Answered,
            Some("200") => End::Wrong,
            Some("409") if body.contains("outcome-unknown") => End::Unknown,
            Some("503" | "409") => End::Refused,
            _ => End::Left,
        })
    }
}

impl Seen {
    fn note(&mut self, (end, took, counts, key): (End, Duration, bool, String)) {
        if end == End::Left {
            self.in_doubt.push(key);
        }
        if !counts {
            return;
        }
        match end {
            End::Answered => self.answered.push(took),
            End::Refused => self.refused += 1,
            End::Unknown => self.unknown += 1,
            End::Left => self.left += 1,
            End::Wrong => self.wrong += 1,
        }
    }
}

/// Head, in lower case, and body, once all of it is there.
fn whole(received: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(received).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
    (body.len() >= length).then(|| (head, body.to_owned()))
}
