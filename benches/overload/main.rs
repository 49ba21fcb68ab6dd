//! What callers get where more is asked for than can be done.
//!
//! The first table: a service that is asked for more than it can do, through the gateway, nginx and `HAProxy`, all with
//! their defaults, and directly. The second (`guarded.rs`, alone with `--guarded`): guarded requests, where the service
//! is the bottleneck, and where the gateway is.
//!
//! The service has a number of workers, each of which takes a fixed time for a request, and a queue without end.
//! Callers come at a fixed rate, whether or not they are answered, each on a connection of its own, and wait for one
//! second. Goodput is the number of answers that came in that time, per second. Started by `scripts/overload`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod callers;
mod guarded;
#[path = "../gateway/servers.rs"]
#[allow(dead_code, reason = "the benchmark of processor time uses the rest of it")]
mod servers;
mod service;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use servers::Server;
use service::Service;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a caller waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// A proxy gets so long to find its ways before it is measured.
const SETTLE: Duration = Duration::from_secs(3);

/// Between two measurements, for the service's queue to empty.
const REST: Duration = Duration::from_secs(2);

/// Load in parts of the capacity.
const LOADS: [f64; 3] = [0.7, 1.0, 2.0];

/// Services: their workers, and the milliseconds that each takes for a request.
const SERVICES: [(usize, u64); 3] = [(4, 20), (16, 50), (32, 100)];

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let is_told = |word: &str| std::env::args().any(|argument| argument == word);
    let measured = Duration::from_secs(if is_told("--long") { 30 } else { 6 });
    let done = if is_told("--guarded") { Ok(()) } else { run(measured) };
    match done.and_then(|()| guarded::run(measured)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say(io::stderr(), &format!("the benchmark failed: {error}\n"))
            .map_or_else(|_| ExitCode::FAILURE, |()| ExitCode::FAILURE),
    }
}

fn say(mut to: impl io::Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.flush()
}

#[tokio::main(flavor = "current_thread")]
async fn run(measured: Duration) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let (nginx, haproxy) = (servers::version_of("nginx", "-v")?, servers::version_of("haproxy", "-v")?);
    let mut head = format!(
        "onceway {own}, nginx {nginx}, haproxy {haproxy}, with their defaults; answers within {PATIENCE:?}, per second\n\n\
         service, and capacity | through |"
    );
    for load in LOADS {
        write!(head, " at {load}× |")?;
    }
    say(io::stdout(), &format!("{head} at 2×, of the best\n"))?;
    for (workers, millis) in SERVICES {
        let dir = servers::directory()?;
        let service = Service::start(workers, Duration::from_millis(millis))?;
        let capacity = service.capacity();
        let proxies = [
            ("onceway", Some(Server::gateway(dir.path(), "onceway", "memory:", None, service.address)?)),
            ("nginx", Some(Server::nginx(dir.path(), service.address)?)),
            ("haproxy", Some(haproxy_before(dir.path(), service.address)?)),
            ("nothing", None),
        ];
        for (name, proxy) in proxies {
            let address = proxy.as_ref().map_or(service.address, |proxy| proxy.address);
            let mut row = format!("{workers} × {millis} ms, {capacity:.0}/s | {name} |");
            let (mut best, mut at_twice) = (0.0_f64, 0.0);
            for load in LOADS {
                let goodput = goodput(address, load * capacity, measured).await?;
                write!(row, " {goodput:.0} |")?;
                best = best.max(goodput);
                if (load - 2.0).abs() < f64::EPSILON {
                    at_twice = goodput;
                }
                service.rests().await;
                tokio::time::sleep(REST).await;
            }
            say(io::stdout(), &format!("{row} {:.0} %\n", 100.0 * at_twice / best.max(1.0)))?;
        }
    }
    Ok(())
}

/// Answers a second that came in time, once the proxy has settled.
async fn goodput(address: SocketAddr, rate: f64, measured: Duration) -> Result<f64, Failure> {
    let (began, mut callers) = (Instant::now(), JoinSet::new());
    let mut due = Duration::ZERO;
    while due < SETTLE + measured {
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        let counts = due >= SETTLE;
        callers.spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, is_answered(address)).await;
            counts && matches!(answer, Ok(Ok(true)))
        });
        due += Duration::from_secs_f64(1.0 / rate);
    }
    let mut good = 0_u32;
    while let Some(caller) = callers.join_next().await {
        good += u32::from(caller?);
    }
    Ok(f64::from(good) / measured.as_secs_f64())
}

async fn is_answered(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /work HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

fn haproxy_before(dir: &Path, service: SocketAddr) -> Result<Server, Failure> {
    Server::start("haproxy", &dir.join("haproxy"), |dir, port| {
        let config = dir.join("haproxy.cfg");
        // The time-outs are those of Debian's own file.
        let text = format!(
            "global\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 5000\n  timeout client 50000\n  \
             timeout server 50000\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  \
             server s {service}\n"
        );
        fs::write(&config, text)?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Ok(command)
    })
}
