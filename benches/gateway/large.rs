//! Replays of large answers, beside nginx serving a file of the same size; and whether small replays get through while
//! large ones are under way.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::bars::{Bar, Held};
use super::extent::Extent;
use super::load::{Callers, Keys, Plan};
use super::measure::{counted, counted_at, sample};
use super::open_loop::due_within;
use super::references::{LARGE_FILE, file};
use super::servers::Server;
use super::site::Site;
use super::subjects::Subject;
use super::table::{Sample, median, percentile, ratio};
use super::upstream::{LARGE_BYTES, LARGE_PATH};
use super::work::{REDIS, Role, Work};

/// What `--only` is compared with.
pub(super) const TITLE: &str = "replay of 1 MiB";

/// Callers of large answers.
const LARGE_CALLERS: usize = 4;

/// Callers of small ones beside them, and how many they ask per second.
const SMALL_CALLERS: usize = 16;
const SMALL_RATE: u32 = 500;

/// Large answers of a measurement, and of the warm-up before.
const LARGE_REQUESTS: usize = 400;
const LARGE_WARM_UP: usize = 20;

/// Large answers are under way for so long before the small ones begin, and after they have ended.
const MARGIN: Duration = Duration::from_millis(100);

/// A small replay may take so many times as long as a small file of nginx's beside large ones.
const BESIDE_MAX: f64 = 2.0;

/// nginx and the gateway, each with a large answer and small ones.
pub(super) struct Large<'a> {
    site: &'a Site,
    time: Duration,
    nginx: Kind,
    gateway: Kind,
}

struct Kind {
    subject: Subject,
    /// How a large answer is asked for.
    large: Plan,
    /// How small ones are.
    small: Work,
    /// Megabytes per second of processor time, round by round.
    megabytes: Vec<f64>,
    /// The 99th percentile of small ones in microseconds: alone, and beside large ones.
    alone: Vec<f64>,
    beside: Vec<f64>,
}

impl<'a> Large<'a> {
    pub(super) async fn start(site: &'a Site, extent: &Extent) -> Result<Self, Failure> {
        let plan = Plan {
            path: LARGE_FILE,
            keys: Keys::File(Arc::new(file(LARGE_BYTES))),
            status: None,
            requests: LARGE_REQUESTS,
            time: extent.each,
        };
        let nginx = Kind::new(Subject::new(&site.nginx, Role::Nginx, "nginx"), plan.clone(), Work::Static);
        let server = Server::gateway(site.dir(), "large", &site.redis_url(), None, site.upstream.address)?;
        let mut gateway = Subject::new(&Arc::new(server), Role::Gateway, REDIS);
        gateway.finish_some(site).await?;
        let first =
            Plan { path: LARGE_PATH, keys: Keys::Fresh("large".to_owned()), requests: 1, ..plan.clone() };
        let first = Plan { status: Some("executed"), ..first };
        let mut callers = Callers::connect(gateway.server.address, 1).await?;
        let finished = counted(&mut callers, &first, &site.upstream).await?.finished;
        let plan = Plan {
            path: LARGE_PATH,
            keys: Keys::Known(Arc::new(finished)),
            status: Some("replayed"),
            ..plan
        };
        Ok(Self { site, time: extent.loops, nginx, gateway: Kind::new(gateway, plan, Work::Replay) })
    }

    pub(super) async fn round(&mut self) -> Result<(), Failure> {
        for kind in [&mut self.nginx, &mut self.gateway] {
            let warm_up = Plan { requests: LARGE_WARM_UP, ..kind.large.clone() };
            let plans = [&warm_up, &kind.large];
            let sample = sample(&kind.subject.server, LARGE_CALLERS, plans, self.site).await?;
            kind.megabytes.push(megabytes_per_second(&sample));
            kind.alone.push(kind.small_p99(self.time, self.site).await?);
            let beside = Beside::begin(kind.subject.server.address, &kind.large, self.time);
            tokio::time::sleep(MARGIN).await;
            kind.beside.push(kind.small_p99(self.time, self.site).await?);
            beside.end().await?;
        }
        Ok(())
    }

    pub(super) fn report(&self) -> Result<String, Failure> {
        let mut report = format!(
            "Small answers at {SMALL_RATE} per second beside {LARGE_CALLERS} callers of 1 MiB; p99 in µs:\n"
        );
        for kind in [&self.nginx, &self.gateway] {
            let (alone, beside) = (median(kind.alone.clone()), median(kind.beside.clone()));
            let name = kind.subject.name;
            writeln!(
                report,
                "{:<26} {name:<16} alone {alone:>7.0}  beside {beside:>7.0}",
                kind.small.title()
            )?;
        }
        Ok(report)
    }

    pub(super) fn held(&self) -> [Held; 2] {
        let (nginx, gateway) = (&self.nginx, &self.gateway);
        let large = Held {
            work: TITLE.to_owned(),
            measured: format!("{:.0} MiB/CPU s", median(gateway.megabytes.clone())),
            reference: format!("nginx: {:.0}", median(nginx.megabytes.clone())),
            value: ratio(&gateway.megabytes, &nginx.megabytes),
            unit: "",
            bar: Bar::AtLeast(0.9),
        };
        let small = Held {
            work: "small replays beside those, p99".to_owned(),
            measured: format!("{:.0} µs", median(gateway.beside.clone())),
            reference: format!("nginx: {:.0} µs", median(nginx.beside.clone())),
            value: ratio(&gateway.beside, &nginx.beside),
            unit: "",
            bar: Bar::AtMost(BESIDE_MAX),
        };
        [large, small]
    }
}

impl Kind {
    fn new(subject: Subject, large: Plan, small: Work) -> Self {
        Self { subject, large, small, megabytes: Vec::new(), alone: Vec::new(), beside: Vec::new() }
    }

    async fn small_p99(&self, time: Duration, site: &Site) -> Result<f64, Failure> {
        let mut callers = Callers::connect(self.subject.server.address, SMALL_CALLERS).await?;
        let plan = self.subject.plan(self.small, "small", due_within(SMALL_RATE, time)?, time);
        let seen = counted_at(&mut callers, &plan, SMALL_RATE, &site.upstream).await?;
        Ok(percentile(&seen.latencies, 99).as_secs_f64() * 1e6)
    }
}

/// Callers of large answers on a thread of their own, so that the callers of small ones wait for no one here.
struct Beside(tokio::task::JoinHandle<Result<(), Failure>>);

impl Beside {
    fn begin(address: SocketAddr, large: &Plan, time: Duration) -> Self {
        let plan = Plan { requests: usize::MAX, time: time + 2 * MARGIN, ..large.clone() };
        Self(tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(async {
                let mut callers = Callers::connect(address, LARGE_CALLERS).await?;
                callers.play(&plan).await?;
                Ok(())
            })
        }))
    }

    async fn end(self) -> Result<(), Failure> {
        self.0.await?
    }
}

fn megabytes_per_second(sample: &Sample) -> f64 {
    // An answer is one of them.
    1e6 / sample.cpu_micros()
}
