//! How many instructions and system calls a request costs the gateway, held against limits.
//!
//! Each row of the table has two gateways of its own. One runs under valgrind's callgrind, which is asked for its
//! count before and after a batch of requests; the other runs by itself, with `strace` attached during a batch. One
//! caller asks, one request after another, so that batches are alike; the least of some batches counts. Every
//! answer is checked, and so are the executions at the upstream. Started by `scripts/instructions`. Read `gateway.rs`
//! and `calls.rs` for how is counted, `limits.rs` for what is wanted, `report.rs` for what is said.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod calls;
mod gateway;
mod limits;
#[path = "../gateway/load.rs"]
#[allow(dead_code, reason = "the benchmark of processor time uses the rest of it")]
mod load;
mod report;
#[path = "../gateway/servers.rs"]
#[allow(dead_code, reason = "the benchmark of processor time uses the rest of it")]
mod servers;
#[path = "../gateway/upstream.rs"]
mod upstream;
#[path = "../gateway/wire.rs"]
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use calls::{Calls, Tracer};
use gateway::{Gateway, Setting, Under};
use limits::Cost;
use load::{Callers, Finished, Keys, Plan};
use servers::Server;
use upstream::{GUARDED_PATH, Upstream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Keys finished beforehand, to be repeated.
const FINISHED: usize = 50;

/// Requests that are not counted: the connection to the upstream, caches and tables get ready.
const WARM_UP: usize = 100;

/// From the start until a guarded request is answered.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Requests of a batch.
const BATCH: u32 = 100;

/// The least of so many batches counts: what runs beside requests, such as heartbeats, only adds.
const BATCHES: usize = 3;

/// For the log and the store's writer to do what the last request left them.
const SETTLE: Duration = Duration::from_millis(50);

/// Longest time for a batch.
const PATIENCE: Duration = Duration::from_mins(2);

/// The rows of the table.
const ROWS: [Row; 6] = [
    Row { work: Work::Pass, store: Store::Memory },
    Row { work: Work::First, store: Store::Memory },
    Row { work: Work::First, store: Store::File },
    Row { work: Work::First, store: Store::Redis },
    Row { work: Work::ReplayFromCache, store: Store::Redis },
    Row { work: Work::ReplayFromStore, store: Store::Redis },
];

#[derive(Clone, Copy)]
struct Row {
    work: Work,
    store: Store,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// A request that no route guards.
    Pass,
    First,
    /// Of many finished keys in turn.
    ReplayFromCache,
    /// The same without records kept in memory.
    ReplayFromStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Memory,
    File,
    Redis,
}

struct Arguments {
    /// The program to be counted.
    gateway: PathBuf,
    /// Only rows in whose work or store this occurs.
    only: String,
    /// Whether limits are written instead of kept.
    writes: bool,
}

/// What was counted of a row.
struct Found {
    row: Row,
    cost: Cost,
    /// The batches' instructions, of all requests.
    batches: Vec<u64>,
    calls: Calls,
}

/// What all rows share.
struct Bench<'a> {
    program: &'a Path,
    dir: &'a Path,
    upstream: &'a Upstream,
    redis: &'a Server,
}

/// One gateway and its caller.
struct Subject<'a> {
    gateway: Gateway,
    callers: Callers,
    work: Work,
    finished: Arc<Vec<Finished>>,
    upstream: &'a Upstream,
    plays: usize,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match arguments(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(report) => print(&mut io::stdout(), &report),
        Err(error) => {
            print(&mut io::stderr(), &format!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn print(mut to: impl io::Write, text: &str) -> ExitCode {
    to.write_all(text.as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    let mut arguments = Arguments { gateway: PathBuf::new(), only: String::new(), writes: false };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {}
            "--gateway" => arguments.gateway = std::path::absolute(value()?)?,
            "--only" => arguments.only = value()?,
            "--write" => arguments.writes = true,
            _ => {
                return Err(format!("expected --only WORD, --write or --gateway FILE, not {argument}").into());
            }
        }
    }
    if arguments.gateway.is_file() {
        return Ok(arguments);
    }
    Err(format!("found no program at {}: --gateway FILE names what is counted", arguments.gateway.display())
        .into())
}

#[tokio::main(flavor = "current_thread")]
async fn run(arguments: &Arguments) -> Result<String, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Leaving in any of these ways drops the servers, which ends them, and then their directory.
    let found = tokio::select! {
        found = Box::pin(measure(arguments)) => found?,
        _ = terminate.recv() => return Err("stopped by a signal".into()),
        _ = interrupt.recv() => return Err("stopped by a signal".into()),
    };
    report::judge(&found, arguments.writes)
}

async fn measure(arguments: &Arguments) -> Result<Vec<Found>, Failure> {
    let dir = servers::directory()?;
    let upstream = Upstream::start()?;
    let redis = Server::redis(dir.path())?;
    let bench = Bench { program: &arguments.gateway, dir: dir.path(), upstream: &upstream, redis: &redis };
    let mut all = Vec::new();
    for row in ROWS.into_iter().filter(|row| row.is_chosen(&arguments.only)) {
        let (work, store) = (row.work.title(), row.store.title());
        print(&mut io::stderr(), &format!("counting: {work} ({store})\n"));
        let batches = bench.instructions(row).await?;
        let calls = bench.calls(row).await?;
        let sum = calls.sum(row.store.calls_by_chance());
        let least = batches.iter().copied().min().unwrap_or_default();
        let cost = Cost {
            instructions: least / u64::from(BATCH),
            calls_hundredths: (sum * 100).div_ceil(u64::from(BATCH)),
        };
        all.push(Found { row, cost, batches, calls });
    }
    Ok(all)
}

impl Row {
    fn is_chosen(self, only: &str) -> bool {
        self.work.title().contains(only) || self.store.title().contains(only)
    }
}

impl Work {
    fn title(self) -> &'static str {
        match self {
            Self::Pass => "pass-through",
            Self::First => "first request",
            Self::ReplayFromCache => "replay, many keys",
            Self::ReplayFromStore => "replay, local_cache = \"0\"",
        }
    }
}

impl Store {
    fn title(self) -> &'static str {
        match self {
            Self::Memory => "memory:",
            Self::File => "file:",
            Self::Redis => "redis://",
        }
    }

    /// The embedded store's writer is a thread of its own, which finds the worker awake or asleep.
    fn calls_by_chance(self) -> &'static [&'static str] {
        match self {
            Self::File => &["epoll_wait"],
            Self::Memory | Self::Redis => &[],
        }
    }
}

impl Bench<'_> {
    /// The instructions of each batch.
    async fn instructions(&self, row: Row) -> Result<Vec<u64>, Failure> {
        let mut subject = self.subject(row, Under::Callgrind).await?;
        let mut batches = Vec::new();
        for _ in 0..BATCHES {
            let before = subject.gateway.instructions()?;
            subject.batch().await?;
            batches.push(subject.gateway.instructions()? - before);
        }
        Ok(batches)
    }

    /// The system calls of the batch that made the fewest.
    async fn calls(&self, row: Row) -> Result<Calls, Failure> {
        let mut subject = self.subject(row, Under::Nothing).await?;
        let table = self.dir.join("calls");
        let by_chance = row.store.calls_by_chance();
        let mut least: Option<Calls> = None;
        for _ in 0..BATCHES {
            let tracer = Tracer::attach(subject.gateway.pid(), &table)?;
            subject.batch().await?;
            let calls = tracer.end()?;
            if least.as_ref().is_none_or(|least| calls.sum(by_chance) < least.sum(by_chance)) {
                least = Some(calls);
            }
        }
        Ok(least.unwrap_or_default())
    }

    /// Starts a gateway, finishes the keys that are repeated later, and warms it up.
    async fn subject(&self, row: Row, under: Under) -> Result<Subject<'_>, Failure> {
        let store = match row.store {
            Store::Memory => "memory:".to_owned(),
            Store::File => "file:./records".to_owned(),
            Store::Redis => format!("redis://{}/0", self.redis.address),
        };
        let cache = (row.work == Work::ReplayFromStore).then_some("0");
        let dir = tempfile::Builder::new().prefix("gateway-").tempdir_in(self.dir)?.keep();
        let setting =
            Setting { program: self.program, store: &store, cache, upstream: self.upstream.address };
        let gateway = Gateway::start(dir.join("files"), setting, under).await?;
        let callers = Callers::connect(gateway.address, 1).await?;
        let (work, upstream) = (row.work, self.upstream);
        let mut subject = Subject { gateway, callers, work, finished: Arc::default(), upstream, plays: 0 };
        subject.first_answer().await?;
        subject.finished = Arc::new(subject.play(Work::First, FINISHED).await?);
        subject.play(work, WARM_UP).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(subject)
    }
}

impl Subject<'_> {
    /// On a busy machine, the first connection to the store may take longer under valgrind than the gateway waits.
    async fn first_answer(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + FIRST_ANSWER_WITHIN;
        while let Err(error) = self.play(Work::First, 1).await {
            if Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.callers = Callers::connect(self.gateway.address, 1).await?;
        }
        Ok(())
    }

    async fn batch(&mut self) -> Result<(), Failure> {
        self.play(self.work, usize::try_from(BATCH)?).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// Makes so many requests, one after another, and answers the keys that are finished by it.
    async fn play(&mut self, work: Work, requests: usize) -> Result<Vec<Finished>, Failure> {
        self.plays += 1;
        let fresh = Keys::Fresh(format!("{}-{}", self.gateway.pid(), self.plays));
        let (path, keys, status) = match work {
            Work::Pass => ("/reports", fresh, None),
            Work::First => (GUARDED_PATH, fresh, Some("executed")),
            Work::ReplayFromCache | Work::ReplayFromStore => {
                (GUARDED_PATH, Keys::Known(Arc::clone(&self.finished)), Some("replayed"))
            }
        };
        let before = self.upstream.executions();
        let seen = self.callers.play(&Plan { path, keys, status, requests, time: PATIENCE }).await?;
        if seen.latencies.len() != requests {
            return Err(format!("{requests} requests took more than {} s", PATIENCE.as_secs()).into());
        }
        let executions = self.upstream.executions() - before;
        let expected = match work {
            Work::Pass | Work::First => requests,
            Work::ReplayFromCache | Work::ReplayFromStore => 0,
        };
        if executions != u64::try_from(expected)? || self.upstream.repeated() != 0 {
            let repeated = self.upstream.repeated();
            let what =
                format!("{executions} executions instead of {expected}, {repeated} payments made twice");
            return Err(what.into());
        }
        Ok(seen.finished)
    }
}
