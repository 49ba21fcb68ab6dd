//! What a request costs the gateway as things grow: keys, callers, routes, bodies; and whether its memory stays what it
//! is while time passes.
//!
//! Every table has the first step in its first row and the others beside it, so that what counts are ratios. Every
//! answer is checked, and what the service did is counted: one execution too many or too few fails the run.
//! Started by `scripts/scale` and `scripts/soak`. Read `measure.rs` for how a row is made, then any of `keys.rs`,
//! `crowd.rs`, `routes.rs` and `bodies.rs`; `soak.rs` stands by itself.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod ask;
mod bodies;
mod callers;
#[path = "../gateway/cpu.rs"]
mod cpu;
mod crowd;
mod fill;
mod gateways;
mod keys;
mod measure;
mod process;
mod routes;
#[path = "../gateway/servers.rs"]
#[expect(dead_code, reason = "no nginx is started here, and gateways have configurations of their own")]
mod servers;
mod service;
mod soak;
mod table;
#[path = "../gateway/wire.rs"]
mod wire;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use measure::{Bench, tell};
use service::Service;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What can be measured, in the order in which it is.
const PARTS: [&str; 4] = ["routes", "callers", "bodies", "keys"];

/// How much is measured.
#[derive(Clone, Debug)]
struct Extent {
    is_long: bool,
    rounds: usize,
    requests: usize,
    /// Limit of one measurement.
    each: Duration,
    /// Only this part.
    only: Option<String>,
    /// How long to soak instead.
    soak: Option<Duration>,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match extent(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("the benchmark failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn extent(mut arguments: impl Iterator<Item = String>) -> Result<Extent, Failure> {
    let mut extent = Extent {
        is_long: false,
        rounds: 3,
        requests: 4000,
        each: Duration::from_secs(2),
        only: None,
        soak: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {}
            "soak" => extent.soak = Some(extent.soak.unwrap_or(soak::USUAL)),
            "--minutes" => extent.soak = Some(Duration::from_mins(value()?.parse()?)),
            "--long" => {
                extent.is_long = true;
                extent.rounds = 9;
                extent.requests = 20_000;
                extent.each = Duration::from_secs(10);
            }
            "--rounds" => extent.rounds = value()?.parse()?,
            "--only" => {
                let part = value()?;
                if !PARTS.contains(&part.as_str()) {
                    return Err(
                        format!("expected one of {} after --only, not {part}", PARTS.join(", ")).into()
                    );
                }
                extent.only = Some(part);
            }
            _ => {
                let parts = PARTS.join(", ");
                return Err(format!(
                    "expected --long, --rounds N or --only with one of {parts}; or soak and --minutes N; not {argument}"
                )
                .into());
            }
        }
    }
    Ok(extent)
}

#[tokio::main(flavor = "current_thread")]
async fn run(extent: Extent) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Leaving in any of these ways drops the servers, which ends them, and then their directory.
    tokio::select! {
        done = Box::pin(measure_all(extent)) => done,
        _ = terminate.recv() => Err("stopped by a signal".into()),
        _ = interrupt.recv() => Err("stopped by a signal".into()),
    }
}

async fn measure_all(extent: Extent) -> Result<(), Failure> {
    raise_open_files()?;
    let dir = servers::directory()?;
    let bench = Bench { service: Service::start()?, dir, extent };
    print(&format!("{}\n", what_runs_here(&bench.extent)?))?;
    if let Some(lasts) = bench.extent.soak {
        return soak::measure(&bench, lasts).await;
    }
    for part in PARTS {
        if bench.extent.only.as_ref().is_some_and(|only| only != part) {
            continue;
        }
        let table = match part {
            "routes" => Box::pin(routes::measure(&bench)).await?,
            "callers" => Box::pin(crowd::measure(&bench)).await?,
            "bodies" => Box::pin(bodies::measure(&bench)).await?,
            _ => Box::pin(keys::measure(&bench)).await?,
        };
        print(&table)?;
    }
    Ok(())
}

fn print(text: &str) -> io::Result<()> {
    use io::Write as _;
    writeln!(io::stdout(), "{text}")
}

/// What runs here, and on what.
fn what_runs_here(extent: &Extent) -> Result<String, Failure> {
    let redis = servers::version_of("redis-server", "--version")?;
    let (own, processors) = (env!("CARGO_PKG_VERSION"), std::thread::available_parallelism()?);
    let how = if extent.soak.is_some() {
        String::new()
    } else {
        format!("; medians of {} rounds of up to {} requests", extent.rounds, extent.requests)
    };
    Ok(format!("onceway {own}, redis {redis} on {processors} shared processors; one thread each{how}"))
}

/// As many open files as the system allows, for this process and those it starts.
fn raise_open_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}
