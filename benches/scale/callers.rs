//! Callers: connections that stay open, of which some ask at a time, each in its turn. A wrong answer ends the run.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Failure;
use super::ask::Ask;
use super::wire::Wire;

/// Connections that stay open, those that have waited longest in front.
pub(super) struct Callers {
    wires: VecDeque<(u64, Wire)>,
}

/// Makes the next request, given who asks.
pub(super) type Asks = Arc<dyn Fn(u64) -> Ask + Send + Sync>;

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stint {
    /// Callers that wait for an answer at the same time.
    pub(super) at_once: usize,
    /// Ends after so many requests,
    pub(super) requests: usize,
    /// or after this time, whichever is first.
    pub(super) time: Duration,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) latencies: Vec<Duration>,
    pub(super) took: Duration,
    /// Requests for which the service had something to do.
    pub(super) worked: u64,
}

impl Callers {
    pub(super) async fn connect(address: SocketAddr, number: usize) -> Result<Self, Failure> {
        let mut wires = VecDeque::with_capacity(number);
        for _ in 0..number {
            let stream = TcpStream::connect(address).await?;
            wires.push_back((u64::try_from(wires.len())?, Wire::new(stream)?));
        }
        Ok(Self { wires })
    }

    /// Has them ask, the one who has waited longest first.
    pub(super) async fn play(&mut self, stint: Stint, asks: &Asks) -> Result<Seen, Failure> {
        let idle = Arc::new(Mutex::new(std::mem::take(&mut self.wires)));
        let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let mut asking = JoinSet::new();
        for _ in 0..stint.at_once {
            let (idle, next, asks) = (Arc::clone(&idle), Arc::clone(&next), Arc::clone(asks));
            asking.spawn(async move {
                let mut seen = Seen::default();
                while began.elapsed() < stint.time && next.fetch_add(1, Ordering::Relaxed) < stint.requests {
                    let (caller, mut wire) = held(&idle).pop_front().ok_or("fewer callers than may ask")?;
                    let ask = asks(caller);
                    seen.latencies.push(exchange(&mut wire, &ask).await?);
                    seen.worked += u64::from(ask.due.is_work());
                    held(&idle).push_back((caller, wire));
                }
                Ok::<_, Failure>(seen)
            });
        }
        let mut seen = Seen::default();
        while let Some(share) = asking.join_next().await {
            let share = share??;
            seen.latencies.extend(share.latencies);
            seen.worked += share.worked;
        }
        seen.took = began.elapsed();
        self.wires = std::mem::take(&mut *held(&idle));
        Ok(seen)
    }
}

/// One request and its answer, checked. Answers how long it took.
pub(super) async fn exchange(wire: &mut Wire, ask: &Ask) -> Result<Duration, Failure> {
    let request = ask.request();
    let sent = Instant::now();
    wire.send(&request).await?;
    let answer = wire.next().await?.ok_or("the connection was closed")?;
    let took = sent.elapsed();
    ask.check(&answer)?;
    Ok(took)
}

/// A number that nobody else has.
pub(super) fn fresh_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A key that nobody else has.
pub(super) fn fresh_key() -> String {
    format!("fresh-{:012}", fresh_number())
}

/// The new keys of everybody.
pub(super) fn firsts() -> Asks {
    Arc::new(|caller| Ask::first(caller, fresh_key()))
}

/// What no route guards.
pub(super) fn passes() -> Asks {
    Arc::new(Ask::pass)
}

/// Answered requests again, at random.
pub(super) fn replays(answered: &[Ask]) -> Asks {
    let again: Vec<Ask> = answered.iter().map(Ask::again).collect();
    Arc::new(move |caller| {
        let at = fastrand::usize(..again.len().max(1));
        again.get(at).cloned().unwrap_or_else(|| Ask::pass(caller))
    })
}

fn held<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
