//! What the gateway adds to a request's latency at half of what it can do.
//!
//! Requests are due at a fixed rate (`open_loop.rs`). Added is the 99th percentile of the gateway without that of nginx
//! in the same round: the median, or that of the least disturbed rounds if it is worse. Beside each first request somebody else asks the same Redis for a plain `SET` as large as a claim:
//! that is the round trip of the bar. He has a thread of his own, as the gateway has, so that both wait alike for a
//! processor.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::bars::{Bar, Held};
use super::extent::Extent;
use super::load::{Callers, Plan};
use super::machine::Machine;
use super::measure::{WARM_UP, counted, counted_at};
use super::open_loop::due_within;
use super::servers::Server;
use super::site::Site;
use super::subjects::Subject;
use super::table::{least, median, percentile};
use super::work::{REDIS, Role, Work};

/// What `--only` is compared with.
pub(super) const TITLE: &str = "added latency, first request, redis://";

/// Enough that a request that is due finds one free.
const CONNECTIONS: usize = 64;

/// What the gateway may add to two round trips.
const OWN_MICROS: f64 = 150.0;

/// Between two questions for the round trip.
const ASKED_EVERY: Duration = Duration::from_millis(1);

/// As long as a claim and its key are.
const CLAIM_BYTES: usize = 110;

/// The roads, and what was seen on them.
pub(super) struct Latency<'a> {
    site: &'a Site,
    time: Duration,
    /// Half of what the gateway was seen to do.
    rate: Option<u32>,
    roads: Vec<Road>,
    /// The round trip to Redis, while first requests were made.
    round_trip: Percentiles,
}

/// Something asked of somebody at the rate.
struct Road {
    subject: Arc<Subject>,
    work: Work,
    seen: Percentiles,
    /// How much of all processors was in use, by whomever, round by round, in percent.
    busy: Vec<f64>,
}

/// Microseconds, round by round.
#[derive(Default)]
struct Percentiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl<'a> Latency<'a> {
    pub(super) async fn start(site: &'a Site, extent: &Extent) -> Result<Self, Failure> {
        let server = Server::gateway(site.dir(), "latency", &site.redis_url(), None, site.upstream.address)?;
        let mut gateway = Subject::new(&Arc::new(server), Role::Gateway, REDIS);
        gateway.finish_some(site).await?;
        let gateway = Arc::new(gateway);
        let road = |subject: &Arc<Subject>, work| Road {
            subject: Arc::clone(subject),
            work,
            seen: Percentiles::default(),
            busy: Vec::new(),
        };
        let nginx = Arc::new(Subject::new(&site.nginx, Role::Nginx, "nginx"));
        let haproxy = Arc::new(Subject::new(&site.haproxy, Role::Haproxy, "haproxy"));
        let mut roads = vec![road(&nginx, Work::Pass), road(&haproxy, Work::Pass)];
        roads.extend([Work::Pass, Work::First, Work::Mixed, Work::Replay].map(|work| road(&gateway, work)));
        Ok(Self { site, time: extent.loops, rate: None, roads, round_trip: Percentiles::default() })
    }

    pub(super) async fn round(&mut self, round: usize) -> Result<(), Failure> {
        let rate = match self.rate {
            Some(rate) => rate,
            None => self.saturation().await? / 2,
        };
        self.rate = Some(rate);
        let requests = due_within(rate, self.time)?;
        for road in &mut self.roads {
            let plan = |word: &str, requests| {
                let prefix = format!("latency-{round}-{:?}-{word}", road.work);
                road.subject.plan(road.work, &prefix, requests, self.time)
            };
            let mut callers = Callers::connect(road.subject.server.address, CONNECTIONS).await?;
            counted(&mut callers, &plan("warm", WARM_UP), &self.site.upstream).await?;
            let asking = (road.work == Work::First).then(|| RoundTrips::ask(self.site.redis.address));
            let asking = asking.transpose()?;
            let before = Machine::now()?;
            let seen =
                counted_at(&mut callers, &plan("counted", requests), rate, &self.site.upstream).await?;
            road.busy.push(Machine::now()?.busy_since(before));
            road.seen.push(&seen.latencies);
            if let Some(asking) = asking {
                self.round_trip.push(&asking.end()?);
            }
        }
        Ok(())
    }

    /// First requests per second when callers wait for nothing but the last answer.
    async fn saturation(&self) -> Result<u32, Failure> {
        let road = self.roads.iter().find(|road| road.work == Work::First).ok_or("nothing is asked")?;
        let mut callers = Callers::connect(road.subject.server.address, CONNECTIONS).await?;
        let plan =
            |prefix, requests, time| -> Plan { road.subject.plan(Work::First, prefix, requests, time) };
        counted(&mut callers, &plan("unsaturated", WARM_UP, self.time), &self.site.upstream).await?;
        let time = self.time.max(Duration::from_secs(1));
        let seen = counted(&mut callers, &plan("saturated", usize::MAX, time), &self.site.upstream).await?;
        let per_second = u128::try_from(seen.latencies.len())? * 1000 / seen.took.as_millis().max(1);
        Ok(u32::try_from(per_second)?.max(2))
    }

    pub(super) fn report(&self) -> Result<String, Failure> {
        let mut report = format!(
            "Open loop, {} requests per second (half of saturation); µs from when a request was due, and how much of all\n\
             processors was in use, by whomever:\n",
            self.rate.unwrap_or_default()
        );
        for road in &self.roads {
            let [p50, p99] = road.seen.medians();
            writeln!(
                report,
                "{:<26} {:<16} p50 {p50:>7.0}  p99 {p99:>7.0}  {:>3.0} %",
                road.work.title(),
                road.subject.name,
                median(road.busy.clone()),
            )?;
        }
        let [p50, p99] = self.round_trip.medians();
        writeln!(report, "{:<26} {:<16} p50 {p50:>7.0}  p99 {p99:>7.0}", "plain SET meanwhile", "redis")?;
        Ok(report)
    }

    pub(super) fn held(&self) -> Option<Held> {
        let p99 = |work, role| {
            let mut roads = self.roads.iter();
            let road = roads.find(|road| road.work == work && road.subject.role == role)?;
            Some(&road.seen.p99)
        };
        let (first, plain) = (p99(Work::First, Role::Gateway)?, p99(Work::Pass, Role::Nginx)?);
        let [_, round_trip] = self.round_trip.medians();
        let usual = median(first.iter().zip(plain).map(|(first, plain)| first - plain).collect());
        let usual = (usual, round_trip);
        let undisturbed = (least(first) - least(plain), least(&self.round_trip.p99));
        // A neighbour who disturbs nginx or Redis more than the gateway must not excuse it.
        let bound = |round_trip: f64| 2.0 * round_trip + OWN_MICROS;
        let is_worse = undisturbed.0 - bound(undisturbed.1) > usual.0 - bound(usual.1);
        let (added, round_trip) = if is_worse { undisturbed } else { usual };
        Some(Held {
            work: TITLE.to_owned(),
            measured: format!("{added:.0} µs"),
            reference: format!("round trip: {round_trip:.0} µs"),
            value: added,
            unit: "µs",
            bar: Bar::AtMost(bound(round_trip)),
        })
    }
}

impl Percentiles {
    fn push(&mut self, sorted: &[Duration]) {
        self.p50.push(percentile(sorted, 50).as_secs_f64() * 1e6);
        self.p99.push(percentile(sorted, 99).as_secs_f64() * 1e6);
    }

    fn medians(&self) -> [f64; 2] {
        [median(self.p50.clone()), median(self.p99.clone())]
    }
}

/// Somebody who asks Redis again and again how long it takes.
struct RoundTrips {
    is_over: Arc<AtomicBool>,
    asking: thread::JoinHandle<Result<Vec<Duration>, Failure>>,
}

impl RoundTrips {
    fn ask(redis: SocketAddr) -> Result<Self, Failure> {
        let is_over = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&is_over);
        let asking = thread::Builder::new()
            .name("round trips".to_owned())
            .spawn(move || round_trips(redis, &ending))?;
        Ok(Self { is_over, asking })
    }

    /// What was seen until now, sorted.
    fn end(self) -> Result<Vec<Duration>, Failure> {
        self.is_over.store(true, Ordering::Release);
        let mut seen = self.asking.join().map_err(|_panic| "the asker of round trips panicked")??;
        seen.sort_unstable();
        Ok(seen)
    }
}

fn round_trips(redis: SocketAddr, is_over: &AtomicBool) -> Result<Vec<Duration>, Failure> {
    let mut stream = TcpStream::connect(redis)?;
    stream.set_nodelay(true)?;
    let value = "x".repeat(CLAIM_BYTES);
    let mut seen = Vec::new();
    while !is_over.load(Ordering::Acquire) {
        let key = format!("round-trip:{:016x}", fastrand::u64(..));
        let command = format!(
            "*6\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${CLAIM_BYTES}\r\n{value}\r\n$2\r\nNX\r\n$2\r\nPX\r\n$8\r\n86400000\r\n",
            key.len()
        );
        let sent = Instant::now();
        stream.write_all(command.as_bytes())?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        seen.push(sent.elapsed());
        if &answer != b"+OK\r\n" {
            return Err("Redis does not take a plain SET".into());
        }
        thread::sleep(ASKED_EVERY);
    }
    Ok(seen)
}
