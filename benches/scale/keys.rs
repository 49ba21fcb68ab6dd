//! Keys: as many as the step says stand in the store before anything is measured. What `memory:` holds comes in by
//! requests, the others are filled past the gateway. Each step has a store and a gateway of its own.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onceway::store::embedded::EmbeddedStore;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store as _};
use tempfile::TempDir;

use super::Failure;
use super::callers::{Asks, Callers, Stint, firsts};
use super::fill::{answered, fill};
use super::gateways::{self, Config, NAMESPACE};
use super::measure::{Bench, CONNECTIONS, Case, Subject, tell};
use super::process::{available_bytes, bytes_in, mib};
use super::servers::{self, Server};
use super::table::{self, Row};

const STEPS: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// How many of them the short form takes.
const STEPS_SHORT: usize = 3;

/// What a key takes at most where it is kept in memory.
const MEMORY_PER_KEY: u64 = 1100;

/// Where the store of one file is, within the subject's own directory.
const RECORDS: &str = "records";

/// Callers who fill.
const FILLERS: usize = 64;

/// Between two looks at what the service did.
const FILLED_AT_ONCE: u64 = 100_000;

/// A store is connected by then.
const CONNECT_TRIES: u32 = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Memory,
    File,
    Redis,
}

/// A store with so many keys in it.
struct Step {
    kept: Kept,
    keys: u64,
    url: String,
    redis: Option<Server>,
    /// Goes with it, since it may be large.
    dir: TempDir,
}

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let steps = if bench.extent.is_long { &STEPS[..] } else { STEPS.get(..STEPS_SHORT).unwrap_or_default() };
    let (mut rows, mut left_out) = (Vec::new(), String::new());
    for kept in [Kept::Memory, Kept::File, Kept::Redis] {
        let mut filled = Vec::new();
        for keys in steps {
            if let Some(reason) = kept.cannot_hold(*keys)? {
                writeln!(left_out, "{} {keys}: left out, {reason}", kept.name())?;
                continue;
            }
            tell(&format!("filling {} with {keys} keys", kept.name()));
            filled.push(Step::filled(bench, kept, *keys).await?);
        }
        rows.extend(measure_store(bench, filled).await?);
    }
    let table = table::render(
        "Keys: first requests, and replays of any of them at random",
        "keys",
        &["RSS MiB", "store MiB"],
        &rows,
    )?;
    Ok(table + &left_out)
}

/// Measures all steps of one store beside each other.
async fn measure_store(bench: &Bench, filled: Vec<(Step, Option<Subject>)>) -> Result<Vec<Row>, Failure> {
    let (mut steps, mut subjects) = (Vec::new(), Vec::new());
    for (step, subject) in filled {
        subjects.push(match subject {
            Some(subject) => subject,
            None => Subject::start(bench, &step.config(bench), CONNECTIONS).await?,
        });
        steps.push(step);
    }
    let mut rows = played(bench, &steps, &mut subjects, &["first request", "replay"]).await?;
    if steps.iter().any(|step| step.kept == Kept::Memory) {
        return Ok(rows);
    }
    // A file has but one gateway.
    drop(subjects);
    let mut uncached = Vec::new();
    for step in &steps {
        let config = Config { store: "local_cache = \"0\"\n".to_owned(), ..step.config(bench) };
        uncached.push(Subject::start(bench, &config, CONNECTIONS).await?);
    }
    rows.extend(played(bench, &steps, &mut uncached, &["uncached replay"]).await?);
    Ok(rows)
}

async fn played(
    bench: &Bench,
    steps: &[Step],
    subjects: &mut [Subject],
    works: &[&str],
) -> Result<Vec<Row>, Failure> {
    let mut cases = Vec::new();
    for work in works {
        for (subject, step) in steps.iter().enumerate() {
            let keys = step.keys;
            let again: Asks = Arc::new(move |_| answered(keys, fastrand::u64(..keys)).again());
            let asks = if *work == "first request" { firsts() } else { again };
            let row = Row::new(&format!("{work}, {}", step.kept.name()), keys.to_string());
            cases.push(Case { row, subject, asks, stint: bench.stint() });
        }
    }
    bench.play(subjects, &mut cases).await?;
    let mut rows = Vec::new();
    for case in cases {
        let (step, subject) = (steps.get(case.subject), subjects.get(case.subject));
        let (Some(step), Some(subject)) = (step, subject) else { return Err("a case names no step".into()) };
        let facts = vec![format!("{:.0}", mib(subject.rss_bytes()?)), step.stored()?];
        rows.push(Row { facts, ..case.row });
    }
    Ok(rows)
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory:",
            Self::File => "file:",
            Self::Redis => "redis://",
        }
    }

    /// Why there is no room for so many keys, if there is none.
    fn cannot_hold(self, keys: u64) -> Result<Option<String>, Failure> {
        let (needed, available) = (keys * MEMORY_PER_KEY, available_bytes()?);
        let is_in_memory = match self {
            Self::Memory | Self::Redis => true,
            Self::File => false,
        };
        let reason = format!("needs {:.0} MiB of memory and {:.0} are there", mib(needed), mib(available));
        Ok((is_in_memory && needed > available).then_some(reason))
    }
}

impl Step {
    /// A store with so many keys. What lives in a gateway's own memory comes with the gateway.
    async fn filled(bench: &Bench, kept: Kept, keys: u64) -> Result<(Self, Option<Subject>), Failure> {
        let dir = servers::directory()?;
        let redis = if kept == Kept::Redis { Some(gateways::redis(dir.path())?) } else { None };
        let records = dir.path().join(RECORDS);
        let url = match (kept, &redis) {
            (Kept::File, _) => format!("file:{}", records.display()),
            (_, Some(redis)) => format!("redis://{}/0", redis.address),
            (Kept::Memory | Kept::Redis, None) => "memory:".to_owned(),
        };
        let step = Self { kept, keys, url, redis, dir };
        let mut subject = None;
        match kept {
            Kept::Memory => {
                let mut filling = Subject::start(bench, &step.config(bench), FILLERS).await?;
                step.fill_by_requests(bench, &mut filling).await?;
                filling.callers = Callers::connect(filling.gateway.address(), CONNECTIONS).await?;
                subject = Some(filling);
            }
            Kept::File => fill(&EmbeddedStore::open(&records)?, keys).await?,
            Kept::Redis => fill(&connected(&step.url).await?, keys).await?,
        }
        Ok((step, subject))
    }

    fn config(&self, bench: &Bench) -> Config {
        Config { store_url: self.url.clone(), ..Config::new(bench.service.address) }
    }

    async fn fill_by_requests(&self, bench: &Bench, subject: &mut Subject) -> Result<(), Failure> {
        let (keys, next) = (self.keys, Arc::new(AtomicU64::new(0)));
        loop {
            let left = (keys - next.load(Ordering::Relaxed)).min(FILLED_AT_ONCE);
            if left == 0 {
                return Ok(());
            }
            let counter = Arc::clone(&next);
            let asks: Asks = Arc::new(move |_| answered(keys, counter.fetch_add(1, Ordering::Relaxed)));
            let stint =
                Stint { at_once: FILLERS, requests: usize::try_from(left)?, time: Duration::from_hours(1) };
            bench.counted(&mut subject.callers, stint, &asks).await?;
            subject.gateway.empty_log()?;
        }
    }

    fn stored(&self) -> Result<String, Failure> {
        let bytes = match (self.kept, &self.redis) {
            (Kept::File, _) => bytes_in(&self.dir.path().join(RECORDS))?,
            (_, Some(redis)) => gateways::redis_memory(redis)?,
            (Kept::Memory | Kept::Redis, None) => return Ok("–".to_owned()),
        };
        Ok(format!("{:.0}", mib(bytes)))
    }
}

async fn connected(url: &str) -> Result<RedisStore, Failure> {
    let store = RedisStore::connect(url, &Options::of(NAMESPACE))?;
    for _ in 0..CONNECT_TRIES {
        if store.ping().await.is_ok() {
            return Ok(store);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("Redis cannot be reached".into())
}
