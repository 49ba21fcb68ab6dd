//! Who comes: connections that last for some requests, new keys and known ones, other requests under a known key, and
//! those that leave in the middle of a request, or before its answer, and come again or do not.
//!
//! All that must be executed is counted, and exactly that.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::Failure;
use super::super::ask::{Ask, Due};
use super::super::callers::{exchange, fresh_key};
use super::super::wire::Wire;

/// How long the gateway keeps an answer.
pub(super) const TTL: Duration = Duration::from_secs(10);

/// Answers are asked for again for so long, far from their end.
const REPEATED_FOR: Duration = Duration::from_secs(3);

/// Visitors of one gateway, and the time from one of a visitor's requests to the next: a thousand a second in all.
const VISITORS: u64 = 32;
const EACH: Duration = Duration::from_millis(32);

/// Who is so late does not try to catch up.
const LATE: Duration = Duration::from_secs(1);

/// Requests on one connection at most.
const STAYS_MAX: u32 = 100;

/// Answered requests that a visitor remembers.
const REMEMBERED: usize = 32;

/// How often one that left asks again until it is answered, and its pauses.
const RETRIES_MAX: u32 = 500;
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    worked: AtomicU64,
    connections: AtomicU64,
    cut: AtomicU64,
    left: AtomicU64,
}

/// The same at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Requests that were answered.
    pub(super) requests: u64,
    /// Executions that are due.
    pub(super) worked: u64,
    pub(super) connections: u64,
    /// Connections that ended within a request,
    pub(super) cut: u64,
    /// and before an answer.
    pub(super) left: u64,
}

/// Somebody with a connection.
struct Visitor {
    address: SocketAddr,
    number: u64,
    tally: Arc<Tally>,
    wire: Wire,
    known: VecDeque<(Ask, Instant)>,
}

/// Has the visitors of one gateway come until the end.
pub(super) fn begin(
    visiting: &mut JoinSet<Result<(), Failure>>,
    address: SocketAddr,
    tally: &Arc<Tally>,
    until: Instant,
) {
    for number in 0..VISITORS {
        visiting.spawn(visit(address, number, Arc::clone(tally), until));
    }
}

async fn visit(address: SocketAddr, number: u64, tally: Arc<Tally>, until: Instant) -> Result<(), Failure> {
    let wire = connect(address, &tally).await?;
    let mut visitor = Visitor { address, number, tally, wire, known: VecDeque::new() };
    let mut next = Instant::now() + EACH.mul_f64(fastrand::f64());
    while next < until {
        tokio::time::sleep_until(next.into()).await;
        visitor.ask_once().await?;
        if fastrand::u32(..STAYS_MAX / 2) == 0 {
            visitor.wire = connect(address, &visitor.tally).await?;
        }
        next = (next + EACH).max(Instant::now().checked_sub(LATE).unwrap_or(next));
    }
    Ok(())
}

async fn connect(address: SocketAddr, tally: &Tally) -> Result<Wire, Failure> {
    tally.connections.fetch_add(1, Ordering::Relaxed);
    Ok(Wire::new(TcpStream::connect(address).await?)?)
}

impl Visitor {
    async fn ask_once(&mut self) -> Result<(), Failure> {
        self.known.retain(|(_, answered)| answered.elapsed() < REPEATED_FOR);
        let known = fastrand::choice(&self.known).map(|(ask, _)| ask.clone());
        match (fastrand::u32(..100), known) {
            (..35, Some(known)) => self.exchange(&known.again()).await,
            (35..45, Some(known)) => {
                let other = Ask { body_bytes: known.body_bytes + 1, due: Due::Mismatch, ..known };
                self.exchange(&other).await
            }
            (45..49, _) => self.exchange(&Ask::pass(self.number)).await,
            (49..51, _) => self.leave_within_a_request().await,
            (51..53, _) => self.leave_before_the_answer().await,
            _ => {
                let ask = self.fresh();
                self.exchange(&ask).await?;
                self.remember(ask);
                Ok(())
            }
        }
    }

    /// A payment that nobody has asked for, seldom a large one.
    fn fresh(&self) -> Ask {
        let first = Ask::first(self.number, fresh_key());
        let bytes = match fastrand::u32(..1000) {
            // Redis keeps what is as large apart from its record, and for a minute longer.
            0..2 => 20 * 1024,
            2..50 => 4 * 1024,
            _ => return first,
        };
        Ask { body_bytes: bytes, answer_bytes: bytes, ..first }
    }

    async fn exchange(&mut self, ask: &Ask) -> Result<(), Failure> {
        exchange(&mut self.wire, ask).await?;
        self.answered(ask.due.is_work());
        Ok(())
    }

    /// Nothing of it may be executed, until the whole comes, as half of them do.
    async fn leave_within_a_request(&mut self) -> Result<(), Failure> {
        let ask = self.fresh();
        let request = ask.request();
        let sent = fastrand::usize(1..request.len());
        self.wire.send(request.get(..sent).unwrap_or_default()).await?;
        self.tally.cut.fetch_add(1, Ordering::Relaxed);
        self.wire = connect(self.address, &self.tally).await?;
        if fastrand::bool() {
            self.exchange(&ask).await?;
            self.remember(ask);
        }
        Ok(())
    }

    /// It is executed once, whether it was under way already or not.
    async fn leave_before_the_answer(&mut self) -> Result<(), Failure> {
        let ask = Ask { take_ms: fastrand::u64(0..40), ..self.fresh() };
        self.wire.send(&ask.request()).await?;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
        self.tally.left.fetch_add(1, Ordering::Relaxed);
        for _ in 0..RETRIES_MAX {
            self.wire = connect(self.address, &self.tally).await?;
            self.wire.send(&ask.request()).await?;
            let answer = self.wire.next().await?.ok_or("the connection was closed")?;
            if answer.field("idempotency-status") != Some("in-flight") {
                ask.again().check(&answer).or_else(|_| ask.check(&answer))?;
                self.answered(true);
                self.remember(ask);
                return Ok(());
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        Err("a request whose caller had left stayed in flight".into())
    }

    fn remember(&mut self, ask: Ask) {
        self.known.push_back((ask, Instant::now()));
        if self.known.len() > REMEMBERED {
            self.known.pop_front();
        }
    }

    fn answered(&self, is_work: bool) {
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
        self.tally.worked.fetch_add(u64::from(is_work), Ordering::Relaxed);
    }
}

impl Tally {
    pub(super) fn counts(&self) -> Counts {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: number(&self.requests),
            worked: number(&self.worked),
            connections: number(&self.connections),
            cut: number(&self.cut),
            left: number(&self.left),
        }
    }
}
