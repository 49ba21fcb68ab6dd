//! Keys: as many as the step says stand in the store when it begins. What `memory:` holds comes in by requests, the
//! others are filled past the gateway, which is started anew for each step.

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
use super::gateways::{Config, Gateway, NAMESPACE};
use super::measure::{Bench, CONNECTIONS, Case, tell};
use super::process::{Held, available_bytes, bytes_in, mib};
use super::servers::{self, Server};
use super::table::{self, Row};

const STEPS: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];

/// How many of them the short form takes.
const STEPS_SHORT: usize = 3;

/// What a key takes at most where it is kept in memory, the copy of a fork among it.
const MEMORY_PER_KEY: u64 = 1200;

/// Where the store of one file is, within the subject's own directory.
const RECORDS: &str = "records";

/// Callers who fill.
const FILLERS: usize = 64;

/// A store is connected by then.
const CONNECT_TRIES: u32 = 500;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Memory,
    File,
    Redis,
}

/// One store as its keys grow.
struct Subject {
    kept: Kept,
    url: String,
    redis: Option<Server>,
    /// Goes with it, since it may be large.
    dir: TempDir,
    /// Keys in it.
    filled: u64,
    /// The gateway whose own memory is the store.
    lasting: Option<Gateway>,
}

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let steps = if bench.extent.is_long { &STEPS[..] } else { STEPS.get(..STEPS_SHORT).unwrap_or_default() };
    let (mut rows, mut left_out) = (Vec::new(), String::new());
    for kept in [Kept::Memory, Kept::File, Kept::Redis] {
        let mut subject = Subject::new(kept)?;
        for keys in steps {
            if let Some(reason) = subject.cannot_hold(*keys)? {
                writeln!(left_out, "{} {keys}: left out, {reason}", kept.name())?;
                continue;
            }
            tell(&format!("filling {} with {keys} keys", kept.name()));
            subject.fill(bench, *keys).await?;
            subject.measure(bench, &mut rows).await?;
        }
    }
    let table = table::render(
        "Keys: first requests, and replays of any of them at random",
        "keys",
        &["RSS MiB", "store MiB"],
        &rows,
    )?;
    Ok(table + &left_out)
}

impl Kept {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory:",
            Self::File => "file:",
            Self::Redis => "redis://",
        }
    }
}

impl Subject {
    fn new(kept: Kept) -> Result<Self, Failure> {
        let dir = servers::directory()?;
        let (url, redis) = match kept {
            Kept::Memory => ("memory:".to_owned(), None),
            Kept::File => (format!("file:{}", dir.path().join(RECORDS).display()), None),
            Kept::Redis => {
                let redis = Server::redis(dir.path())?;
                (format!("redis://{}/0", redis.address), Some(redis))
            }
        };
        Ok(Self { kept, url, redis, dir, filled: 0, lasting: None })
    }

    /// Why there is no room for so many keys, if there is none.
    fn cannot_hold(&self, keys: u64) -> Result<Option<String>, Failure> {
        let (needed, available) = ((keys - self.filled) * MEMORY_PER_KEY, available_bytes()?);
        let is_in_memory = match self.kept {
            Kept::Memory | Kept::Redis => true,
            Kept::File => false,
        };
        let reason = format!("needs {:.0} MiB of memory and {:.0} are there", mib(needed), mib(available));
        Ok((is_in_memory && needed > available).then_some(reason))
    }

    fn config(&self, bench: &Bench) -> Config {
        Config { store_url: self.url.clone(), ..Config::new(bench.service.address) }
    }

    /// Brings it to so many keys.
    async fn fill(&mut self, bench: &Bench, keys: u64) -> Result<(), Failure> {
        let numbers = self.filled..keys;
        match self.kept {
            Kept::Memory => {
                let gateway = match self.lasting.take() {
                    Some(gateway) => gateway,
                    None => Gateway::start(bench.dir.path(), &self.config(bench))?,
                };
                self.fill_by_requests(bench, &gateway, keys).await?;
                self.lasting = Some(gateway);
            }
            Kept::File => fill(&EmbeddedStore::open(&self.dir.path().join(RECORDS))?, numbers).await?,
            Kept::Redis => {
                let store = RedisStore::connect(&self.url, &Options::of(NAMESPACE))?;
                for _ in 0..CONNECT_TRIES {
                    if store.ping().await.is_ok() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                fill(&store, numbers).await?;
            }
        }
        self.filled = keys;
        Ok(())
    }

    async fn fill_by_requests(&self, bench: &Bench, gateway: &Gateway, keys: u64) -> Result<(), Failure> {
        const AT_ONCE: u64 = 100_000;
        let next = Arc::new(AtomicU64::new(self.filled));
        let mut callers = Callers::connect(gateway.address(), FILLERS).await?;
        while next.load(Ordering::Relaxed) < keys {
            let left = (keys - next.load(Ordering::Relaxed)).min(AT_ONCE);
            let counter = Arc::clone(&next);
            let asks: Asks = Arc::new(move |_| answered(counter.fetch_add(1, Ordering::Relaxed)));
            let requests = usize::try_from(left)?;
            let stint = Stint { at_once: FILLERS, requests, time: Duration::from_hours(1) };
            bench.counted(&mut callers, stint, &asks).await?;
            gateway.empty_log()?;
        }
        Ok(())
    }

    async fn measure(&mut self, bench: &Bench, rows: &mut Vec<Row>) -> Result<(), Failure> {
        let (filled, name) = (self.filled, self.kept.name());
        let again: Asks = Arc::new(move |_| answered(fastrand::u64(..filled)).again());
        let case = |work: &str, asks: &Asks| Case {
            row: Row::new(&format!("{name} {work}"), filled.to_string()),
            asks: Arc::clone(asks),
            stint: bench.stint(),
        };
        let gateway = match self.lasting.take() {
            Some(gateway) => gateway,
            None => Gateway::start(bench.dir.path(), &self.config(bench))?,
        };
        let cases = vec![case("first request", &firsts()), case("replay", &again)];
        rows.extend(self.measured(bench, &gateway, cases).await?);
        if self.kept == Kept::Memory {
            self.lasting = Some(gateway);
            return Ok(());
        }
        drop(gateway);
        let config = Config { store: "local_cache = \"0\"\n".to_owned(), ..self.config(bench) };
        let uncached = Gateway::start(bench.dir.path(), &config)?;
        let cases = vec![case("replay, local_cache = \"0\"", &again)];
        rows.extend(self.measured(bench, &uncached, cases).await?);
        Ok(())
    }

    async fn measured(
        &self,
        bench: &Bench,
        gateway: &Gateway,
        mut cases: Vec<Case>,
    ) -> Result<Vec<Row>, Failure> {
        let mut callers = Callers::connect(gateway.address(), CONNECTIONS).await?;
        bench.play(gateway, &mut callers, &mut cases).await?;
        let rss = format!("{:.0}", mib(Held::by(gateway.pid())?.rss_bytes));
        let stored = match (self.kept, &self.redis) {
            (Kept::File, _) => format!("{:.0}", mib(bytes_in(&self.dir.path().join(RECORDS))?)),
            (Kept::Redis, Some(redis)) => format!("{:.0}", mib(Held::by(redis.pid())?.rss_bytes)),
            (Kept::Memory | Kept::Redis, _) => "–".to_owned(),
        };
        let with_facts = |case: Case| Row { facts: vec![rss.clone(), stored.clone()], ..case.row };
        Ok(cases.into_iter().map(with_facts).collect())
    }
}
