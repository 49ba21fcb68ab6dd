//! Callers: a fixed number of connections, each sending its next request when it has checked the answer to
//! the last. A wrong answer ends the benchmark.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Failure;
use super::upstream::{ANSWER_BYTES, answer_start};
use super::wire::{Message, Wire};

/// Connections that stay open.
pub(super) struct Callers {
    wires: Vec<Wire>,
}

/// What is to be asked, and what must be answered.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) path: &'static str,
    pub(super) keys: Keys,
    /// The `Idempotency-Status` of every answer.
    pub(super) status: Option<&'static str>,
    /// Ends after so many requests,
    pub(super) requests: usize,
    /// or after this time, whichever is first.
    pub(super) time: Duration,
}

/// Which keys the requests carry.
#[derive(Clone)]
pub(super) enum Keys {
    /// Each its own, beginning with this.
    Fresh(String),
    /// These in turn, whose answers are known.
    Known(Arc<Vec<Finished>>),
}

/// A key and its answer.
#[derive(Clone)]
pub(super) struct Finished {
    key: String,
    body: Vec<u8>,
}

/// What a run saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) latencies: Vec<Duration>,
    pub(super) took: Duration,
    /// The keys that got a fresh answer.
    pub(super) finished: Vec<Finished>,
}

/// The request with this number has to be answered so.
enum Expected<'a> {
    Fresh(String),
    Again(&'a Finished),
}

impl Callers {
    pub(super) async fn connect(address: SocketAddr, number: usize) -> Result<Self, Failure> {
        let mut wires = Vec::with_capacity(number);
        for _ in 0..number {
            wires.push(Wire::new(TcpStream::connect(address).await?)?);
        }
        Ok(Self { wires })
    }

    /// Plays a plan on all connections at once.
    pub(super) async fn play(&mut self, plan: &Plan) -> Result<Seen, Failure> {
        let next = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for wire in self.wires.drain(..) {
            callers.spawn(call(wire, plan.clone(), Arc::clone(&next), began));
        }
        let mut seen = Seen::default();
        while let Some(caller) = callers.join_next().await {
            let (wire, share) = caller??;
            self.wires.push(wire);
            seen.latencies.extend(share.latencies);
            seen.finished.extend(share.finished);
        }
        seen.took = began.elapsed();
        Ok(seen)
    }
}

async fn call(
    mut wire: Wire,
    plan: Plan,
    next: Arc<AtomicUsize>,
    began: Instant,
) -> Result<(Wire, Seen), Failure> {
    let mut seen = Seen::default();
    while began.elapsed() < plan.time {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.requests {
            break;
        }
        let expected = plan.expected(number).ok_or("there is no finished key to repeat")?;
        let request = plan.request(expected.key());
        let sent = Instant::now();
        wire.send(&request).await?;
        let answer = wire.next().await?.ok_or("the connection was closed")?;
        seen.latencies.push(sent.elapsed());
        expected.check(&answer, plan.status)?;
        if let Expected::Fresh(key) = expected {
            seen.finished.push(Finished { key, body: answer.body.to_vec() });
        }
    }
    Ok((wire, seen))
}

impl Plan {
    fn expected(&self, number: usize) -> Option<Expected<'_>> {
        match &self.keys {
            Keys::Fresh(prefix) => Some(Expected::Fresh(format!("{prefix}-{number:06}"))),
            Keys::Known(finished) => finished.get(number.checked_rem(finished.len())?).map(Expected::Again),
        }
    }

    /// The same bytes on every road, so that only what is done with them differs.
    fn request(&self, key: &str) -> Vec<u8> {
        let body = format!("{{\"amount\":4200,\"currency\":\"EUR\",\"order\":\"{key}\",\"capture\":true}}");
        format!(
            "POST {} HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\
             Authorization: Bearer 0123456789abcdef\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        )
        .into_bytes()
    }
}

impl Expected<'_> {
    fn key(&self) -> &str {
        match self {
            Self::Fresh(key) => key,
            Self::Again(finished) => &finished.key,
        }
    }

    fn check(&self, answer: &Message<'_>, word: Option<&str>) -> Result<(), Failure> {
        let status = answer.second_word();
        let is_replay = answer.field("idempotent-replayed") == Some("true");
        let (is_right, is_replay_due) = match self {
            Self::Fresh(key) => (
                answer.body.len() == ANSWER_BYTES && answer.body.starts_with(answer_start(key).as_bytes()),
                false,
            ),
            Self::Again(finished) => (answer.body == finished.body, true),
        };
        let told = answer.field("idempotency-status");
        if status == "200" && told == word && is_replay == is_replay_due && is_right {
            return Ok(());
        }
        let body = String::from_utf8_lossy(answer.body);
        Err(format!(
            "wrong answer to {}: status {status}, Idempotency-Status {told:?} (expected {word:?}), \
             replayed {is_replay}, body {body}",
            self.key()
        )
        .into())
    }
}
