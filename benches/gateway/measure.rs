//! One measurement: a plan is played, executions at the upstream are counted, and processor time is read before and
//! after.

use std::time::Duration;

use super::Failure;
use super::cpu::Used;
use super::load::{Callers, Plan, Seen};
use super::servers::Server;
use super::site::Site;
use super::table::{Sample, percentile};
use super::upstream::Upstream;

/// Callers at a time.
pub(super) const CONNECTIONS: usize = 32;

/// Unmeasured requests before each measurement: connections, caches and code get warm.
pub(super) const WARM_UP: usize = 256;

/// For the log and the store's writer to do what the last requests left them.
const SETTLE: Duration = Duration::from_millis(30);

/// After a wrong answer, the upstream has been asked by then whatever it will be.
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(500);

/// Plays a plan and holds its executions at the upstream against it: one for each key that got a fresh answer.
pub(super) async fn counted(
    callers: &mut Callers,
    plan: &Plan,
    upstream: &Upstream,
) -> Result<Seen, Failure> {
    let before = Executions::of(upstream);
    let seen = callers.play(plan).await?;
    before.expect_of(&seen, upstream)?;
    Ok(seen)
}

/// The same at so many requests per second.
pub(super) async fn counted_at(
    callers: &mut Callers,
    plan: &Plan,
    rate: u32,
    upstream: &Upstream,
) -> Result<Seen, Failure> {
    let before = Executions::of(upstream);
    let mut seen = callers.play_at(plan, rate).await?;
    before.expect_of(&seen, upstream)?;
    seen.latencies.sort_unstable();
    Ok(seen)
}

/// Measures what `server` does for a plan, after another of the same kind that is not measured.
pub(super) async fn sample(
    server: &Server,
    connections: usize,
    [warm_up, plan]: [&Plan; 2],
    site: &Site,
) -> Result<Sample, Failure> {
    let mut callers = Callers::connect(server.address, connections).await?;
    counted(&mut callers, warm_up, &site.upstream).await?;
    tokio::time::sleep(SETTLE).await;
    let before = Used::by(server.pid())?;
    let mut seen = counted(&mut callers, plan, &site.upstream).await?;
    tokio::time::sleep(SETTLE).await;
    let used = Used::by(server.pid())?.since(before);
    seen.latencies.sort_unstable();
    Ok(Sample {
        requests: u32::try_from(seen.latencies.len())?,
        used,
        took: seen.took,
        p50: percentile(&seen.latencies, 50),
        p99: percentile(&seen.latencies, 99),
    })
}

/// Waits for what somebody was asked whose answers nobody waited for: it would be counted as the next one's.
pub(super) async fn let_it_pass() {
    tokio::time::sleep(FORGOTTEN_WITHIN).await;
}

/// What the upstream had done at some moment.
struct Executions {
    all: u64,
    repeated: u64,
}

impl Executions {
    fn of(upstream: &Upstream) -> Self {
        Self { all: upstream.executions(), repeated: upstream.repeated() }
    }

    /// Fails unless exactly what was seen has been executed since, and nothing twice.
    fn expect_of(&self, seen: &Seen, upstream: &Upstream) -> Result<(), Failure> {
        let now = Self::of(upstream);
        let (executions, expected) = (now.all - self.all, seen.finished.len());
        let repeated = now.repeated - self.repeated;
        if executions == u64::try_from(expected)? && repeated == 0 {
            return Ok(());
        }
        Err(format!("{executions} executions instead of {expected}, {repeated} payments made twice").into())
    }
}
