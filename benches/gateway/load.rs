//! Callers: a fixed number of connections, each sending its next request when it has checked the answer to
//! the last. A wrong answer ends the benchmark. Read `open_loop.rs` for callers that do not wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Failure;
use super::upstream::{answer_bytes, answer_start};
use super::wire::{Message, Wire};

/// Of mixed keys, every so manyth is a repeat.
const REPEATED_EVERY: usize = 5;

/// So much of a wrong answer's body is told.
const BODY_TOLD_MAX: usize = 1000;

/// Connections that stay open.
pub(super) struct Callers {
    pub(super) wires: Vec<Wire>,
}

/// What is to be asked, and what must be answered.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) path: &'static str,
    pub(super) keys: Keys,
    /// The `Idempotency-Status` of every answer, or where keys are mixed, of the fresh ones. Without one, replays are not
    /// marked either.
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
    /// Fresh ones that begin with this, and one in five of these.
    Mixed(String, Arc<Vec<Finished>>),
    /// None. A file is got, which holds this.
    File(Arc<Vec<u8>>),
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

/// What came of one request, checked.
pub(super) struct Asked {
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    /// The key, if it got a fresh answer.
    pub(super) finished: Option<Finished>,
}

/// The request with this number has to be answered so.
enum Expected<'a> {
    Fresh(String),
    Again(&'a Finished),
    File(&'a [u8]),
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
        let asked = plan.ask(&mut wire, number).await?;
        seen.latencies.push(asked.answered.duration_since(asked.sent));
        seen.finished.extend(asked.finished);
    }
    Ok((wire, seen))
}

impl Plan {
    /// Sends the request with this number and checks the answer.
    pub(super) async fn ask(&self, wire: &mut Wire, number: usize) -> Result<Asked, Failure> {
        let expected = self.expected(number).ok_or("there is no finished key to repeat")?;
        let request = self.request(&expected);
        let sent = Instant::now();
        wire.send(&request).await?;
        let answer = wire.next().await?.ok_or("the connection was closed")?;
        let answered = Instant::now();
        expected.check(&answer, self)?;
        let finished = match expected {
            Expected::Fresh(key) => Some(Finished { key, body: answer.body.to_vec() }),
            Expected::Again(_) | Expected::File(_) => None,
        };
        Ok(Asked { sent, answered, finished })
    }

    fn expected(&self, number: usize) -> Option<Expected<'_>> {
        let fresh = |prefix: &str| Expected::Fresh(format!("{prefix}-{number:06}"));
        match &self.keys {
            Keys::Fresh(prefix) => Some(fresh(prefix)),
            Keys::Known(finished) => in_turn(finished, number).map(Expected::Again),
            Keys::Mixed(prefix, finished)
                if !number.is_multiple_of(REPEATED_EVERY) || finished.is_empty() =>
            {
                Some(fresh(prefix))
            }
            Keys::Mixed(_, finished) => in_turn(finished, number / REPEATED_EVERY).map(Expected::Again),
            Keys::File(file) => Some(Expected::File(file)),
        }
    }

    /// The same bytes on every road, so that only what is done with them differs. A file is got with the same fields.
    fn request(&self, expected: &Expected<'_>) -> Vec<u8> {
        let key = expected.key();
        let (method, body) = match expected {
            Expected::Fresh(_) | Expected::Again(_) => (
                "POST",
                format!("{{\"amount\":4200,\"currency\":\"EUR\",\"order\":\"{key}\",\"capture\":true}}"),
            ),
            Expected::File(_) => ("GET", String::new()),
        };
        format!(
            "{method} {} HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\
             Authorization: Bearer 0123456789abcdef\r\nContent-Type: application/json\r\n\
             Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        )
        .into_bytes()
    }
}

/// The finished key whose turn it is.
fn in_turn(finished: &[Finished], number: usize) -> Option<&Finished> {
    finished.get(number.checked_rem(finished.len())?)
}

impl Expected<'_> {
    fn key(&self) -> &str {
        match self {
            Self::Fresh(key) => key,
            Self::Again(finished) => &finished.key,
            Self::File(_) => "no-key-is-needed-for-a-file",
        }
    }

    fn check(&self, answer: &Message<'_>, plan: &Plan) -> Result<(), Failure> {
        let status = answer.second_word();
        let is_replay = answer.field("idempotent-replayed") == Some("true");
        let (is_right, is_replay_due, word) = match self {
            Self::Fresh(key) => (
                answer.body.len() == answer_bytes(plan.path)
                    && answer.body.starts_with(answer_start(key).as_bytes()),
                false,
                plan.status,
            ),
            Self::Again(finished) => {
                (answer.body == finished.body, plan.status.is_some(), plan.status.map(|_| "replayed"))
            }
            Self::File(file) => (answer.body == *file, false, None),
        };
        let told = answer.field("idempotency-status");
        if status == "200" && told == word && is_replay == is_replay_due && is_right {
            return Ok(());
        }
        let body = String::from_utf8_lossy(answer.body.get(..BODY_TOLD_MAX).unwrap_or(answer.body));
        Err(format!(
            "wrong answer to {}: status {status}, Idempotency-Status {told:?} (expected {word:?}), \
             replayed {is_replay}, {} bytes: {body}",
            self.key(),
            answer.body.len()
        )
        .into())
    }
}
