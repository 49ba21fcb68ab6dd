//! One measurement: so many requests through one gateway, its processor time meanwhile, and whether the service did
//! what it should have done and no more.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::ask::Ask;
use super::callers::{Asks, Callers, Seen, Stint};
use super::cpu::Used;
use super::gateways::{Config, Gateway};
use super::process::{Held, reset_peak, used_between};
use super::service::Service;
use super::table::{Row, Sample, percentile};
use super::{Extent, Failure};

/// Callers that wait for an answer at the same time, where it is not their number that is measured.
pub(super) const CONNECTIONS: usize = 32;

/// Unmeasured requests before each measurement: connections, caches and code get warm.
const WARM_UP: usize = 256;

/// For the log and the store's writer to do what the last requests left them.
const SETTLE: Duration = Duration::from_millis(30);

/// What has to be answered before a measurement is, by then.
const FINISHED_WITHIN: Duration = Duration::from_mins(1);

/// What all measurements share.
pub(super) struct Bench {
    pub(super) service: Service,
    pub(super) dir: TempDir,
    pub(super) extent: Extent,
}

/// A gateway, and those who ask it.
pub(super) struct Subject {
    pub(super) gateway: Gateway,
    pub(super) callers: Callers,
}

/// A row that is being filled, and how.
pub(super) struct Case {
    pub(super) row: Row,
    /// Which of the subjects is asked.
    pub(super) subject: usize,
    pub(super) asks: Asks,
    pub(super) stint: Stint,
}

impl Subject {
    pub(super) async fn start(bench: &Bench, config: &Config, callers: usize) -> Result<Self, Failure> {
        let gateway = Gateway::start(bench.dir.path(), config)?;
        let callers = Callers::connect(gateway.address(), callers).await?;
        Ok(Self { gateway, callers })
    }

    pub(super) fn rss_bytes(&self) -> Result<u64, Failure> {
        Ok(Held::by(self.gateway.pid())?.rss_bytes)
    }
}

impl Bench {
    /// As many requests at a time as usual, for as long as usual.
    pub(super) fn stint(&self) -> Stint {
        Stint { at_once: CONNECTIONS, requests: self.extent.requests, time: self.extent.each }
    }

    /// Measures all cases in turn, round by round, so that a busy machine disturbs all of them alike. Those of one work
    /// follow each other.
    pub(super) async fn play(&self, subjects: &mut [Subject], cases: &mut [Case]) -> Result<(), Failure> {
        let works: Vec<String> = cases.iter().map(|case| case.row.work.clone()).collect();
        cases.sort_by_key(|case| works.iter().position(|work| *work == case.row.work));
        for round in 0..self.extent.rounds {
            for case in &mut *cases {
                let subject = subjects.get_mut(case.subject).ok_or("a case names no subject")?;
                if round == 0 {
                    let requests = WARM_UP.min(case.stint.requests);
                    self.counted(&mut subject.callers, Stint { requests, ..case.stint }, &case.asks).await?;
                }
                case.row.samples.push(self.sample(subject, case.stint, &case.asks).await?);
            }
            tell(&format!("round {} of {} done", round + 1, self.extent.rounds));
        }
        subjects.iter().try_for_each(|subject| Ok(subject.gateway.empty_log()?))
    }

    async fn sample(&self, subject: &mut Subject, stint: Stint, asks: &Asks) -> Result<Sample, Failure> {
        let pid = subject.gateway.pid();
        tokio::time::sleep(SETTLE).await;
        reset_peak(pid)?;
        let before = Used::by(pid)?;
        let mut seen = self.counted(&mut subject.callers, stint, asks).await?;
        tokio::time::sleep(SETTLE).await;
        let used = used_between(before, Used::by(pid)?);
        seen.latencies.sort_unstable();
        Ok(Sample {
            requests: u32::try_from(seen.latencies.len())?.max(1),
            used,
            p99: percentile(&seen.latencies, 99),
            peak_bytes: Held::by(pid)?.peak_bytes,
        })
    }

    /// Has these answered, so that they can be asked again.
    pub(super) async fn finish(&self, callers: &mut Callers, asks: &[Ask]) -> Result<(), Failure> {
        let (asks, next) = (asks.to_vec(), AtomicUsize::new(0));
        let stint = Stint { requests: asks.len(), time: FINISHED_WITHIN, at_once: 1 };
        let in_order: Asks = Arc::new(move |caller| {
            asks.get(next.fetch_add(1, Ordering::Relaxed)).cloned().unwrap_or_else(|| Ask::pass(caller))
        });
        self.counted(callers, stint, &in_order).await.map(drop)
    }

    /// Has callers ask, and holds what the service did against what it should have done.
    pub(super) async fn counted(
        &self,
        callers: &mut Callers,
        stint: Stint,
        asks: &Asks,
    ) -> Result<Seen, Failure> {
        let before = self.service.executions();
        let seen = callers.play(stint, asks).await?;
        let (executions, repeated) = (self.service.executions() - before, self.service.repeated());
        if executions != seen.worked || repeated != 0 {
            let due = seen.worked;
            return Err(format!("{executions} executions instead of {due}, {repeated} made twice").into());
        }
        Ok(seen)
    }
}

/// Says on standard error how far it has come.
pub(super) fn tell(text: &str) {
    // Nobody may be there to read it.
    writeln!(io::stderr(), "{text}").ok();
}
