//! Callers: so many at a time on one runtime, each making its next call when the last has been answered. A
//! wrong answer ends the benchmark.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::{Store, Swapped};
use tokio::task::JoinSet;

use super::Failure;
use super::subjects::Raw;

/// Bytes of every answer that is kept.
pub(super) const ANSWER_BYTES: usize = 300;

const KEEP_FOR: Duration = Duration::from_hours(24);

/// What is done to each key.
#[derive(Clone)]
pub(super) enum Call {
    Claim(Arc<dyn Store>),
    Settle(Arc<dyn Store>),
    /// The same bytes written past the store.
    Raw(Raw),
}

/// A key, what claims it and what settles it.
pub(super) struct Exchange {
    pub(super) key: StorageKey,
    pub(super) claim: Record,
    done: Record,
}

/// What a run saw.
#[derive(Default)]
pub(super) struct Seconds {
    pub(super) latencies: Vec<Duration>,
    pub(super) took: Duration,
}

/// As many exchanges as asked for, each with a key of its own.
pub(super) fn exchanges(number: usize) -> Vec<Exchange> {
    (0..number).map(|_| Exchange::new()).collect()
}

impl Exchange {
    fn new() -> Self {
        let random = || *uuid::Uuid::new_v4().as_bytes();
        let mut key = [0; 32];
        let (high, low) = key.split_at_mut(16);
        high.copy_from_slice(&random());
        low.copy_from_slice(&random());
        let version = Version { attempt: Attempt(random()), revision: 0 };
        let claim = Record {
            version,
            session: Session([9; 16]),
            fingerprint: Fingerprint::from_bytes(key),
            attempts: 1,
            opened_at: UnixMillis(1_700_000_000_000),
            route: "/payments".to_owned(),
            phase: Phase::InFlight,
        };
        let phase = Phase::Done { saved: answer(), settled: settled() };
        let done = Record { version: Version { revision: 1, ..version }, phase, ..claim.clone() };
        Self { key: StorageKey::from_bytes(key), claim, done }
    }
}

fn answer() -> SavedResponse {
    let line = |name: &str, value| (name.to_owned(), Bytes::from_static(value));
    let headers =
        vec![line("content-type", b"application/json"), line("date", b"Thu, 01 Jan 2026 00:00:00 GMT")];
    let body = vec![b'.'; ANSWER_BYTES].into();
    SavedResponse { head: SavedHead { status: 201, headers: headers.into() }, body, trailers: [].into() }
}

fn settled() -> Settled {
    Settled { at: UnixMillis(1_700_000_000_100), keep_for: KEEP_FOR }
}

/// Makes the call for each of the exchanges, `callers` at a time, or for as many as there is time for.
pub(super) async fn play(
    call: &Call,
    exchanges: &Arc<Vec<Exchange>>,
    callers: usize,
    time: Duration,
) -> Result<Seconds, Failure> {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut playing = JoinSet::new();
    for _ in 0..callers {
        let (call, exchanges, next) = (call.clone(), Arc::clone(exchanges), Arc::clone(&next));
        playing.spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < time {
                let Some(exchange) = exchanges.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                let asked = Instant::now();
                call.make(exchange).await?;
                latencies.push(asked.elapsed());
            }
            Ok::<_, Failure>(latencies)
        });
    }
    let mut seconds = Seconds::default();
    while let Some(latencies) = playing.join_next().await {
        seconds.latencies.extend(latencies??);
    }
    seconds.took = began.elapsed();
    seconds.latencies.sort_unstable();
    Ok(seconds)
}

impl Call {
    async fn make(&self, Exchange { key, claim, done }: &Exchange) -> Result<(), Failure> {
        let is_right = match self {
            Self::Claim(store) => store.insert(key, claim, KEEP_FOR).await? == Seen::Nothing,
            Self::Settle(store) => store.swap(key, claim.version, done, KEEP_FOR).await? == Swapped::Done,
            Self::Raw(raw) => raw.write(key, claim, KEEP_FOR).await?,
        };
        if is_right { Ok(()) } else { Err("a store gave a wrong answer".into()) }
    }
}
