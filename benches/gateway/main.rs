//! What the gateway costs: its processor time per request, beside nginx as a plain proxy in the same run.
//!
//! Every row of the table is measured once per round, one after another, and rounds repeat, so that a busy
//! machine disturbs all rows alike; medians and ratios are what counts. Every answer is checked, and the
//! executions at the upstream are counted: a wrong answer or a second execution fails the benchmark.
//! Started by `scripts/bench`. Read `table.rs` for the output, `servers.rs` for what is started.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod cpu;
mod load;
mod servers;
mod table;
mod upstream;
mod wire;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use cpu::Used;
use load::{Callers, Finished, Keys, Plan, Seen};
use servers::{RedisCounts, Server};
use table::{Row, Sample};
use upstream::{ANSWER_BYTES, GUARDED_PATH, Upstream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Callers at a time.
const CONNECTIONS: usize = 32;

/// Unmeasured requests before each measurement: connections, caches and code get warm.
const WARM_UP: usize = 256;

/// Keys finished beforehand on every gateway, to be repeated.
const FINISHED: usize = 1000;

/// For the log and the store's writer to do what the last requests left them.
const SETTLE: Duration = Duration::from_millis(30);

/// Requests of one caller by which round trips are counted.
const COUNTED: u32 = 200;

/// How much is measured.
#[derive(Clone, Debug)]
struct Extent {
    rounds: usize,
    requests: usize,
    /// Limit of one measurement.
    each: Duration,
    /// No round begins after this.
    total: Duration,
    /// Only rows in whose work or store this occurs, and nginx.
    only: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A request that no route guards.
    Pass,
    First,
    /// Of one finished key by all callers.
    ReplayOfOne,
    /// Of many finished keys in turn.
    Replay,
    /// The same without records kept in memory.
    ReplayFromStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Nginx,
    /// A gateway as it is by default, with finished records kept in memory.
    Gateway,
    /// A gateway with `local_cache = "0"`.
    Uncached,
}

/// A proxy under measurement.
struct Subject {
    server: Server,
    role: Role,
    /// nginx, or the gateway's store.
    name: &'static str,
    finished: Arc<Vec<Finished>>,
}

/// One line of the table.
struct Case {
    subject: usize,
    work: Work,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match extent(std::env::args().skip(1)).and_then(|extent| run(&extent)) {
        Ok(report) => print(&mut io::stdout(), &report),
        Err(error) => {
            print(&mut io::stderr(), &format!("the benchmark failed: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn print(mut to: impl io::Write, text: &str) -> ExitCode {
    to.write_all(text.as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn extent(mut arguments: impl Iterator<Item = String>) -> Result<Extent, Failure> {
    let mut extent = Extent {
        rounds: 12,
        requests: 1500,
        each: Duration::from_secs(3),
        total: Duration::from_mins(1),
        only: String::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {}
            "--long" => {
                extent.rounds = 60;
                extent.requests = 4000;
                extent.each = Duration::from_secs(20);
                extent.total = Duration::from_mins(20);
            }
            "--rounds" => extent.rounds = value()?.parse()?,
            "--requests" => extent.requests = value()?.parse()?,
            "--only" => extent.only = value()?,
            _ => {
                return Err(format!(
                    "expected --long, --rounds N, --requests N or --only WORD, not {argument}"
                )
                .into());
            }
        }
    }
    Ok(extent)
}

#[tokio::main(flavor = "current_thread")]
async fn run(extent: &Extent) -> Result<String, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Leaving in any of these ways drops the servers, which ends them, and then their directory.
    tokio::select! {
        report = Box::pin(measure(extent)) => report,
        _ = terminate.recv() => Err("stopped by a signal".into()),
        _ = interrupt.recv() => Err("stopped by a signal".into()),
    }
}

async fn measure(extent: &Extent) -> Result<String, Failure> {
    let versions = versions()?;
    let dir = servers::directory()?;
    let upstream = Upstream::start()?;
    let redis = Server::redis(dir.path())?;
    let mut subjects = start_subjects(dir.path(), &upstream, &redis)?;
    for subject in subjects.iter_mut().skip(1) {
        subject.finish_some(&upstream).await?;
    }
    let cases = cases(&subjects, &extent.only);
    let mut rows: Vec<Row> = cases.iter().map(|case| row(case, &subjects)).collect();
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < extent.rounds && (rounds == 0 || began.elapsed() < extent.total) {
        for (case, row) in cases.iter().zip(&mut rows) {
            let subject = subjects.get(case.subject).ok_or("a case names no subject")?;
            let prefix = format!("round-{rounds}-{}", case.subject);
            row.samples.push(subject.sample(case.work, &prefix, extent, &upstream).await?);
        }
        rounds += 1;
        print(&mut io::stderr(), &format!("round {rounds} of {} done\n", extent.rounds));
    }
    let table = table::render(&rows)?;
    let round_trips = round_trips(&subjects, &redis, &upstream).await?;
    Ok(format!(
        "{versions}; one thread each; {CONNECTIONS} connections, answers of {ANSWER_BYTES} bytes,\n\
         {rounds} rounds of up to {} requests a row; medians; the last three columns are noisy\n\n\
         {table}\n{round_trips}",
        extent.requests
    ))
}

/// What runs here, and on what.
fn versions() -> Result<String, Failure> {
    let nginx = servers::version_of("nginx", "-v")?;
    let redis = servers::version_of("redis-server", "--version")?;
    let processors = std::thread::available_parallelism()?;
    let own = env!("CARGO_PKG_VERSION");
    Ok(format!("onceway {own}, nginx {nginx}, redis {redis} on {processors} shared processors"))
}

/// nginx first, then each store with its cache of finished records and without.
fn start_subjects(dir: &Path, upstream: &Upstream, redis: &Server) -> Result<Vec<Subject>, Failure> {
    let subject = |server, role, name| Subject { server, role, name, finished: Arc::default() };
    let mut subjects = vec![subject(Server::nginx(dir, upstream.address)?, Role::Nginx, "nginx")];
    for (role, cache) in [(Role::Gateway, None), (Role::Uncached, Some("0"))] {
        for (name, url) in [
            ("memory:", "memory:".to_owned()),
            ("file:", "file:./records".to_owned()),
            ("redis://", format!("redis://{}/0", redis.address)),
        ] {
            let label = format!("{}-{}", name.trim_end_matches([':', '/']), subjects.len());
            let server = Server::gateway(dir, &label, &url, cache, upstream.address)?;
            subjects.push(subject(server, role, name));
        }
    }
    Ok(subjects)
}

/// The lines of the table in its order, nginx first.
fn cases(subjects: &[Subject], only: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for work in [Work::Pass, Work::First, Work::ReplayOfOne, Work::Replay, Work::ReplayFromStore] {
        for (number, subject) in subjects.iter().enumerate() {
            let is_chosen = subject.name.contains(only) || work.title().contains(only);
            if subject.role.does(work) && (is_chosen || subject.role == Role::Nginx) {
                cases.push(Case { subject: number, work });
            }
        }
    }
    cases
}

fn row(case: &Case, subjects: &[Subject]) -> Row {
    let by = subjects.get(case.subject).map_or("", |subject| subject.name);
    Row { work: case.work.title(), by, samples: Vec::new() }
}

impl Role {
    fn does(self, work: Work) -> bool {
        match self {
            Self::Nginx => work == Work::Pass,
            Self::Gateway => work != Work::ReplayFromStore,
            Self::Uncached => work == Work::ReplayFromStore,
        }
    }
}

impl Work {
    fn title(self) -> &'static str {
        match self {
            Self::Pass => "pass-through",
            Self::First => "first request",
            Self::ReplayOfOne => "replay, one key",
            Self::Replay => "replay, many keys",
            Self::ReplayFromStore => "replay, local_cache = \"0\"",
        }
    }
}

impl Subject {
    /// Finishes the keys that are repeated later.
    async fn finish_some(&mut self, upstream: &Upstream) -> Result<(), Failure> {
        let mut callers = Callers::connect(self.server.address, CONNECTIONS).await?;
        let prefix = format!("finished-{}", self.server.pid());
        let plan = Plan { time: Duration::from_secs(30), ..self.plan(Work::First, &prefix, FINISHED) };
        let seen = counted(&mut callers, &plan, Work::First, upstream).await?;
        self.finished = Arc::new(seen.finished);
        Ok(())
    }

    fn plan(&self, work: Work, prefix: &str, requests: usize) -> Plan {
        let fresh = Keys::Fresh(prefix.to_owned());
        let one = || Keys::Known(Arc::new(self.finished.iter().take(1).cloned().collect()));
        let all = || Keys::Known(Arc::clone(&self.finished));
        let (path, keys, status) = match work {
            Work::Pass => ("/reports", fresh, None),
            Work::First => (GUARDED_PATH, fresh, Some("executed")),
            Work::ReplayOfOne => (GUARDED_PATH, one(), Some("replayed")),
            Work::Replay | Work::ReplayFromStore => (GUARDED_PATH, all(), Some("replayed")),
        };
        Plan { path, keys, status, requests, time: Duration::from_secs(3) }
    }

    async fn sample(
        &self,
        work: Work,
        prefix: &str,
        extent: &Extent,
        upstream: &Upstream,
    ) -> Result<Sample, Failure> {
        let mut callers = Callers::connect(self.server.address, CONNECTIONS).await?;
        let warm_up = self.plan(work, &format!("{prefix}-warm"), WARM_UP);
        counted(&mut callers, &warm_up, work, upstream).await?;
        tokio::time::sleep(SETTLE).await;
        let plan = Plan { time: extent.each, ..self.plan(work, prefix, extent.requests) };
        let before = Used::by(self.server.pid())?;
        let mut seen = counted(&mut callers, &plan, work, upstream).await?;
        tokio::time::sleep(SETTLE).await;
        let used = Used::by(self.server.pid())?.since(before);
        seen.latencies.sort_unstable();
        Ok(Sample {
            requests: u32::try_from(seen.latencies.len())?,
            used,
            took: seen.took,
            p50: table::percentile(&seen.latencies, 50),
            p99: table::percentile(&seen.latencies, 99),
        })
    }
}

/// Plays a plan and holds its executions at the upstream against it.
async fn counted(
    callers: &mut Callers,
    plan: &Plan,
    work: Work,
    upstream: &Upstream,
) -> Result<Seen, Failure> {
    let before = upstream.executions();
    let seen = callers.play(plan).await?;
    let executions = upstream.executions() - before;
    let expected = match work {
        Work::Pass | Work::First => seen.latencies.len(),
        Work::ReplayOfOne | Work::Replay | Work::ReplayFromStore => 0,
    };
    if executions != u64::try_from(expected)? || upstream.repeated() != 0 {
        let repeated = upstream.repeated();
        return Err(
            format!("{executions} executions instead of {expected}, {repeated} payments made twice").into()
        );
    }
    Ok(seen)
}

/// How often Redis is asked per request, with one caller at a time so that no two commands share a read.
async fn round_trips(subjects: &[Subject], redis: &Server, upstream: &Upstream) -> Result<String, Failure> {
    let mut report =
        "Redis, per request of a single caller (calls made inside scripts are listed too):\n".to_owned();
    let on_redis = subjects.iter().filter(|subject| subject.name == "redis://");
    let asked = on_redis.flat_map(|subject| {
        let works = [Work::First, Work::Replay, Work::ReplayFromStore].into_iter();
        works.filter(|work| subject.role.does(*work)).map(move |work| (subject, work))
    });
    for (subject, work) in asked {
        let mut callers = Callers::connect(subject.server.address, 1).await?;
        let plan = subject.plan(work, "counted", usize::try_from(COUNTED)?);
        let before = RedisCounts::of(redis)?;
        let seen = counted(&mut callers, &plan, work, upstream).await?;
        let after = RedisCounts::of(redis)?;
        let per_request = |count: u64| {
            Ok::<_, Failure>(
                f64::from(u32::try_from(count)?) / f64::from(u32::try_from(seen.latencies.len())?),
            )
        };
        // Between the two counts lie the reads of the second, and the heartbeats.
        let pings = after.calls_of("ping") - before.calls_of("ping");
        let reads = (after.reads - before.reads).saturating_sub(pings + 1);
        let mut commands = Vec::new();
        for (command, calls) in &after.calls {
            let calls = per_request(calls - before.calls_of(command))?;
            if calls >= 0.1 {
                commands.push(format!("{command} {calls:.2}"));
            }
        }
        let commands = if commands.is_empty() { "none".to_owned() } else { commands.join(", ") };
        writeln!(report, "{:<26} {:.2} round trips ({commands})", work.title(), per_request(reads)?)?;
    }
    Ok(report)
}
