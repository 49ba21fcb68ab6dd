//! Guarded requests at twice the capacity of whatever is the bottleneck: a service, or the gateway itself.
//!
//! Where the gateway is to be it, others that do nothing but count share its processor, so that the callers, the service and
//! Redis have time to spare on theirs. First the capacity is looked for: the rate rises until callers go unanswered. Then
//! twice as many come. What is printed: how much of the peak is left, how long the answers took, how often a key was
//! executed twice, whether the gateway told how it was meanwhile, and how long it took to be as before when the load had
//! ended.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::callers::{Callers, Seen};
use super::servers::{self, Server};
use super::service::Service;
use super::{Failure, SETTLE, say};

/// The rate at which the look for the capacity begins, and what it grows by.
const FIRST_RATE: f64 = 100.0;
const STEP: f64 = 1.25;
const STEP_LASTS: Duration = Duration::from_secs(2);

/// So many others share the gateway's processor where it is to be the bottleneck: on two processors it would be the callers
/// otherwise.
const RIVALS: usize = 3;

/// Below this share of answers in time a rate is more than can be done.
const BORNE: f64 = 0.9;

/// How often health is asked for.
const HEALTH_EVERY: Duration = Duration::from_millis(50);

/// After the load, a rate that is easily borne, in slices.
const AFTER: f64 = 0.5;
const SLICE: Duration = Duration::from_millis(500);
const SLICES_MAX: usize = 60;

/// What is played.
struct Scenario {
    /// The service's workers, and the milliseconds that each takes.
    service: (usize, u64),
    store: &'static str,
    /// Whether callers keep their connections.
    keeps: bool,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario { service: (16, 50), store: "file", keeps: false },
    Scenario { service: (16, 50), store: "redis", keeps: false },
    Scenario { service: (1024, 0), store: "file", keeps: true },
    Scenario { service: (1024, 0), store: "file", keeps: false },
    Scenario { service: (1024, 0), store: "redis", keeps: true },
    Scenario { service: (1024, 0), store: "redis", keeps: false },
];

/// The gateway, one worker of it, on a processor that callers and service do not use where there are several.
struct Subject {
    server: Server,
    admin: SocketAddr,
}

/// A process that does nothing but take time.
struct Rival(Child);

impl Drop for Rival {
    fn drop(&mut self) {
        // It has no other end.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What `/livez` and `/readyz` said.
#[derive(Default)]
struct Health {
    asked: usize,
    wrong: usize,
    slowest: Duration,
}

#[tokio::main(flavor = "current_thread")]
pub(super) async fn run(measured: Duration) -> Result<(), Failure> {
    give_first_processor_to_the_gateway();
    say(
        io::stdout(),
        "\nbottleneck | store | connections | peak before and after, per second | at 2× | of the peak | refused \
         | left | p50 | p99 | keys | twice | wrong | never answered | health asked, wrong, slowest | recovered in\n",
    )?;
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    for scenario in &SCENARIOS {
        if only.as_ref().is_none_or(|only| scenario.name().contains(only.as_str())) {
            say(io::stdout(), &format!("{}\n", play(scenario, measured).await?))?;
        }
    }
    Ok(())
}

impl Scenario {
    fn name(&self) -> String {
        let bottleneck = if self.service.1 == 0 { "gateway" } else { "service" };
        let connections = if self.keeps { "kept" } else { "one each" };
        format!("{bottleneck} | {} | {connections}", self.store)
    }
}

async fn play(scenario: &Scenario, measured: Duration) -> Result<String, Failure> {
    let dir = servers::directory()?;
    let service = Service::start(scenario.service.0, Duration::from_millis(scenario.service.1))?;
    let redis = if scenario.store == "redis" { Some(Server::redis(dir.path())?) } else { None };
    let store = redis.as_ref().map_or("file:data".to_owned(), |redis| format!("redis://{}/0", redis.address));
    let rivals = if scenario.service.1 == 0 { RIVALS } else { 0 };
    let gateway = Subject::start(dir.path(), &store, service.address)?;
    let rivals = (0..rivals).map(|_| Rival::start()).collect::<io::Result<Vec<_>>>()?;
    let callers = Callers::of(gateway.server.address, scenario.keeps);
    let told = std::env::args().skip_while(|argument| argument != "--capacity").nth(1);
    let (capacity, before) = match told {
        Some(told) => {
            let rate = told.parse()?;
            (rate, callers.come(rate, SETTLE, measured).await?)
        }
        None => capacity(&callers).await?,
    };
    tokio::time::sleep(SETTLE).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let health = ask_for_health(gateway.admin, &is_over);
    let overload = callers.come(2.0 * capacity, SETTLE, measured).await?;
    let recovered = recovery(&callers, capacity, &before).await?;
    is_over.store(true, Ordering::Release);
    let health = health.await??;
    // The peak, once more: what else the machine does has changed.
    let again = callers.come(capacity, SETTLE, measured).await?;
    drop(rivals);
    let unanswered = callers.ask_again(&overload.in_doubt).await;
    let peak = before.per_second.max(again.per_second);
    let (keys, twice) = service.executions();
    let mut row = scenario.name();
    write!(row, " | {:.0}, {:.0}", before.per_second, again.per_second)?;
    write!(row, " | {:.0} | {:.0} %", overload.per_second, 100.0 * overload.per_second / peak)?;
    write!(row, " | {} | {}", overload.refused, overload.left)?;
    write!(row, " | {:.0} ms | {:.0} ms", overload.millis(50), overload.millis(99))?;
    write!(row, " | {keys} | {twice} | {} | {unanswered}", overload.wrong + again.wrong)?;
    write!(row, " | {}, {}, {:.0?}", health.asked, health.wrong, health.slowest)?;
    match recovered {
        Some(after) => write!(row, " | {:.1} s", after.as_secs_f64())?,
        None => write!(row, " | not")?,
    }
    Ok(row)
}

/// The highest rate that is borne, and what was seen then.
async fn capacity(callers: &Arc<Callers>) -> Result<(f64, Seen), Failure> {
    let (mut rate, mut best) = (FIRST_RATE, None);
    loop {
        let mut seen = callers.come(rate, STEP_LASTS / 2, STEP_LASTS).await?;
        if seen.per_second < BORNE * rate {
            // Once may be the machine's doing.
            seen = callers.come(rate, STEP_LASTS / 2, STEP_LASTS).await?;
        }
        match (seen.per_second >= BORNE * rate, best) {
            (false, Some(best)) => return Ok(best),
            (false, None) if rate < 1.0 => return Err("not one request a second is borne".into()),
            // A machine that is busy with other things.
            (false, none) => (rate, best) = (rate / 2.0, none),
            (true, _) => (rate, best) = (rate * STEP, Some((rate, seen))),
        }
    }
}

/// From the end of the load until answers come as before; `None` if that never happens.
async fn recovery(callers: &Arc<Callers>, capacity: f64, before: &Seen) -> Result<Option<Duration>, Failure> {
    let began = Instant::now();
    for _ in 0..SLICES_MAX {
        let started = began.elapsed();
        let seen = callers.come(AFTER * capacity, Duration::ZERO, SLICE).await?;
        let is_fast = seen.millis(50) <= 2.0 * before.millis(50).max(5.0);
        if seen.refused + seen.left == 0 && is_fast {
            return Ok(Some(started));
        }
    }
    Ok(None)
}

fn ask_for_health(admin: SocketAddr, is_over: &Arc<AtomicBool>) -> JoinHandle<Result<Health, Failure>> {
    let is_over = Arc::clone(is_over);
    #[expect(clippy::disallowed_methods, reason = "it is joined")]
    tokio::spawn(async move {
        let mut health = Health::default();
        while !is_over.load(Ordering::Acquire) {
            for path in ["/livez", "/readyz"] {
                let began = Instant::now();
                let is_well = is_well(admin, path).await.unwrap_or(false);
                health.asked += 1;
                health.wrong += usize::from(!is_well);
                health.slowest = health.slowest.max(began.elapsed());
            }
            tokio::time::sleep(HEALTH_EVERY).await;
        }
        Ok(health)
    })
}

async fn is_well(admin: SocketAddr, path: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

impl Subject {
    fn start(dir: &Path, store: &str, service: SocketAddr) -> Result<Self, Failure> {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let server = Server::start("onceway", &dir.join("onceway"), |dir, port| {
            let config = dir.join("onceway.toml");
            let text = format!(
                "[server]\nlisten = \"127.0.0.1:{port}\"\nthreads = 1\n[admin]\nlisten = \"{admin}\"\n\
                 [store]\nurl = \"{store}\"\n[upstreams.default]\nurl = \"http://{service}\"\n\
                 [[routes]]\npath = \"/payments\"\nkey = \"required\"\n"
            );
            fs::write(&config, text)?;
            let mut command = Command::new("taskset");
            command.args(["-c", "0", env!("CARGO_BIN_EXE_onceway"), "serve", "--config"]).arg(config);
            command.current_dir(dir);
            Ok(command)
        })?;
        Ok(Self { server, admin })
    }
}

impl Rival {
    fn start() -> io::Result<Self> {
        let child = Command::new("taskset").args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn()?;
        Ok(Self(child))
    }
}

/// Everything but the gateway runs on the others, if there are others.
fn give_first_processor_to_the_gateway() {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let others = format!("{}-{last}", 1.min(last));
    let own = std::process::id().to_string();
    // Where it fails they share, which the figures show.
    drop(Command::new("taskset").args(["-a", "-c", "-p", &others, &own]).output());
}
