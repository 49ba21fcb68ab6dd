//! Callers that do not wait for each other: requests are due at a fixed rate, whether or not the last was answered.
//!
//! A latency counts from the moment a request was due, so a proxy that stands still for a while is charged with all that
//! would have come meanwhile: there is no coordinated omission. A thread of its own keeps the time, because a runtime's
//! timer is a millisecond coarse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Failure;
use super::load::{Callers, Plan, Seen};
use super::wire::Wire;

/// When requests are due.
#[derive(Clone, Copy)]
struct Schedule {
    began: Instant,
    /// Between one and the next.
    every: Duration,
}

/// How many requests this rate makes in this time.
pub(super) fn due_within(rate: u32, time: Duration) -> Result<usize, Failure> {
    Ok(usize::try_from(u128::from(rate) * time.as_millis() / 1000)?.max(1))
}

impl Callers {
    /// Plays a plan at so many requests per second. Where all connections wait for an answer, the next request waits for
    /// one of them, and that counts.
    pub(super) async fn play_at(&mut self, plan: &Plan, rate: u32) -> Result<Seen, Failure> {
        let every = Duration::from_secs(1).checked_div(rate).ok_or("the rate is nothing")?;
        let schedule = Schedule { began: Instant::now(), every };
        // One permit for each request that is due.
        let due = Arc::new(Semaphore::new(0));
        let next = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for wire in self.wires.drain(..) {
            callers.spawn(call(wire, plan.clone(), schedule, Arc::clone(&due), Arc::clone(&next)));
        }
        let pacer = {
            let (due, requests) = (Arc::clone(&due), plan.requests);
            thread::Builder::new().name("pacer".to_owned()).spawn(move || pace(schedule, requests, &due))?
        };
        let mut seen = Seen::default();
        while let Some(caller) = callers.join_next().await {
            let (wire, share) = caller??;
            self.wires.push(wire);
            seen.latencies.extend(share.latencies);
            seen.finished.extend(share.finished);
        }
        seen.took = schedule.began.elapsed();
        // It ended when it had given the last permit.
        pacer.join().map_err(|_panic| "the pacer panicked")?;
        Ok(seen)
    }
}

/// Gives a permit whenever a request is due.
fn pace(schedule: Schedule, requests: usize, due: &Semaphore) {
    let mut given = 0;
    while given < requests {
        let number = u32::try_from(given).unwrap_or(u32::MAX);
        thread::sleep(schedule.due(number).saturating_duration_since(Instant::now()));
        due.add_permits(1);
        given += 1;
    }
}

async fn call(
    mut wire: Wire,
    plan: Plan,
    schedule: Schedule,
    due: Arc<Semaphore>,
    next: Arc<AtomicUsize>,
) -> Result<(Wire, Seen), Failure> {
    let mut seen = Seen::default();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.requests {
            return Ok((wire, seen));
        }
        due.acquire().await?.forget();
        let asked = plan.ask(&mut wire, number).await?;
        seen.latencies.push(asked.answered.saturating_duration_since(schedule.due(u32::try_from(number)?)));
        seen.finished.extend(asked.finished);
    }
}

impl Schedule {
    fn due(&self, number: u32) -> Instant {
        self.began + self.every * number
    }
}
