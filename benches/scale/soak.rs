//! Hours in minutes, or hours: connections, keys and records come and go at a steady pace, on every store at the same
//! time, and what the gateways hold is looked at again and again. In the second half nothing may grow.
//!
//! The pace is fixed, so that records are as many at any time, and as they expire. Read `soak/visitors.rs` for what is
//! asked, `soak/verdict.rs` for the bounds.

mod verdict;
mod visitors;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::Failure;
use super::gateways::{self, Config, Gateway};
use super::measure::{Bench, tell};
use super::process::{Held, bytes_in, mib};
use super::servers::{self, Server};
use super::service::Service;
use verdict::{Course, Look};
use visitors::Tally;

/// How long it takes, unless told otherwise.
pub(super) const USUAL: Duration = Duration::from_mins(5);

/// Looks in all, as far as they are not more often or more seldom than this.
const LOOKS: u32 = 60;
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);
const LOOK_EVERY_MAX: Duration = Duration::from_mins(1);

/// The service keeps its keys for longer than the gateways keep their records.
const FORGET_EVERY: Duration = Duration::from_secs(30);

/// How long the gateways may take to let go of their connections.
const REST_MAX: Duration = Duration::from_secs(20);

/// What the gateways begin with is looked at when they have had so long to begin.
const BEGINNING: Duration = Duration::from_secs(2);

/// A store, the gateway before it, and the service behind that.
struct Ground {
    name: &'static str,
    gateway: Gateway,
    service: Service,
    tally: Arc<Tally>,
    store: Store,
    course: Course,
}

enum Store {
    Memory,
    File(PathBuf),
    Redis(Server),
}

pub(super) async fn measure(bench: &Bench, lasts: Duration) -> Result<(), Failure> {
    let dir = servers::directory()?;
    let mut grounds = vec![
        Ground::start(bench, "memory:", Store::Memory)?,
        Ground::start(bench, "file:", Store::File(dir.path().join("records")))?,
        Ground::start(bench, "redis://", Store::Redis(gateways::redis(dir.path())?))?,
    ];
    tokio::time::sleep(BEGINNING).await;
    for ground in &mut grounds {
        ground.course.files_before = Held::by(ground.gateway.pid())?.files;
    }
    let began = Instant::now();
    let mut visiting = JoinSet::new();
    for ground in &grounds {
        visitors::begin(&mut visiting, ground.gateway.address(), &ground.tally, began + lasts);
    }
    look_on(&mut grounds, &mut visiting, began, lasts).await?;
    for ground in &mut grounds {
        ground.rest().await?;
    }
    report(&grounds, &dir)
}

/// Looks at the gateways until the last visitor has left.
async fn look_on(
    grounds: &mut [Ground],
    visiting: &mut JoinSet<Result<(), Failure>>,
    began: Instant,
    lasts: Duration,
) -> Result<(), Failure> {
    let every = (lasts / LOOKS).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
    let (mut look, mut forgot) = (tokio::time::interval(every), began);
    loop {
        tokio::select! {
            ended = visiting.join_next() => match ended {
                Some(visit) => visit??,
                None => return Ok(()),
            },
            _ = look.tick() => {
                let is_due = forgot.elapsed() >= FORGET_EVERY;
                for ground in &mut *grounds {
                    ground.look(began.elapsed())?;
                    if is_due {
                        ground.service.forget_the_old();
                    }
                }
                forgot = if is_due { Instant::now() } else { forgot };
            }
        }
    }
}

fn report(grounds: &[Ground], _held_until_here: &TempDir) -> Result<(), Failure> {
    let mut text = Course::heading();
    for ground in grounds {
        text += &ground.course.rows(ground.name);
    }
    text += "\n";
    let mut is_well = true;
    for ground in grounds {
        let counts = ground.tally.counts();
        let done = (ground.service.executions(), ground.service.repeated());
        let (line, holds) = ground.course.judge(ground.name, &counts, done)?;
        text += &line;
        is_well &= holds;
    }
    super::print(&text)?;
    if is_well { Ok(()) } else { Err("something grew, or was done once too often or too seldom".into()) }
}

impl Ground {
    fn start(bench: &Bench, name: &'static str, store: Store) -> Result<Self, Failure> {
        let service = Service::start()?;
        let store_url = match &store {
            Store::Memory => "memory:".to_owned(),
            Store::File(dir) => format!("file:{}", dir.display()),
            Store::Redis(server) => format!("redis://{}/0", server.address),
        };
        let config = Config {
            store_url,
            // So small that it is full long before the second half.
            store: "local_cache = \"4MiB\"\n".to_owned(),
            upstreams: "idle_timeout = \"5s\"\n".to_owned(),
            policy: format!("ttl = \"{}s\"\nunknown_ttl = \"1m\"\n", visitors::TTL.as_secs()),
            ..Config::new(service.address)
        };
        let gateway = Gateway::start(bench.dir.path(), &config)?;
        Ok(Self { name, gateway, service, tally: Arc::default(), store, course: Course::default() })
    }

    fn look(&mut self, at: Duration) -> Result<(), Failure> {
        let held = Held::by(self.gateway.pid())?;
        let requests = self.tally.counts().requests;
        let stored = match &self.store {
            Store::Memory => None,
            Store::File(dir) => Some(bytes_in(dir)?),
            Store::Redis(server) => Some(gateways::redis_memory(server)?),
        };
        tell(&format!("{:>5.0?} {} {requests} requests, {:.1} MiB", at, self.name, mib(held.rss_bytes)));
        self.course.looks.push(Look { at, requests, held, stored });
        Ok(self.gateway.empty_log()?)
    }

    /// Waits until the gateway holds what it began with, or as little as it will.
    async fn rest(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            self.course.files_after = Held::by(self.gateway.pid())?.files;
            if self.course.is_at_rest() || began.elapsed() > REST_MAX {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
