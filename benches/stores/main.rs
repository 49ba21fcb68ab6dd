//! What a claim and a settlement cost on each store: round trips, processor time here and at the server,
//! rate and latencies, beside a plain write of the same bytes over the same library in the same run.
//!
//! Stores are called as a gateway's worker calls them: on one thread, by a number of callers at a time. Rows
//! are measured one after another, round by round, so that a busy machine disturbs all of them alike. Every
//! answer is checked. Started by `scripts/bench-stores`. Read `subjects.rs` for what is measured, `load.rs` for
//! how, `table.rs` for the output.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../gateway/cpu.rs"]
mod cpu;
mod load;
mod postgres;
mod relay;
#[path = "../gateway/servers.rs"]
#[expect(dead_code, reason = "no gateway and no nginx is started here")]
mod servers;
mod subjects;
mod table;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use load::{Call, exchanges, play};
use relay::Relay;
use subjects::Subject;
use table::{Row, Sample};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CALLERS: [usize; 3] = [1, 64, 256];

/// Calls by which round trips are counted, with one caller.
const COUNTED: u32 = 200;

/// Unmeasured calls before the first round: connections, caches and code get warm.
const WARM_UP: usize = 500;

/// For the store's other threads to do what the last calls left them.
const SETTLE: Duration = Duration::from_millis(30);

const CLAIM: &str = "claim";
const SETTLEMENT: &str = "settle";
const PLAIN: &str = "plain write";

/// How much is measured.
struct Extent {
    rounds: usize,
    calls: usize,
    /// Limit of one measurement.
    each: Duration,
    /// Only stores in whose name this occurs.
    only: String,
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

fn print(to: &mut impl io::Write, text: &str) -> ExitCode {
    to.write_all(text.as_bytes()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn extent(mut arguments: impl Iterator<Item = String>) -> Result<Extent, Failure> {
    let mut extent = Extent { rounds: 5, calls: 4000, each: Duration::from_secs(1), only: String::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => {}
            "--rounds" => extent.rounds = value()?.parse()?,
            "--calls" => extent.calls = value()?.parse()?,
            "--only" => extent.only = value()?,
            _ => return Err(format!("expected --rounds N, --calls N or --only WORD, not {argument}").into()),
        }
    }
    Ok(extent)
}

fn run(extent: &Extent) -> Result<String, Failure> {
    // A thread that ends takes the count of its processor time along, so none does.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_hours(24))
        .build()?;
    runtime.block_on(run_until_stopped(extent))
}

async fn run_until_stopped(extent: &Extent) -> Result<String, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Leaving in any of these ways drops the servers, which ends them, and then their directory.
    tokio::select! {
        report = Box::pin(measure(extent)) => report,
        _ = terminate.recv() => Err("stopped by a signal".into()),
        _ = interrupt.recv() => Err("stopped by a signal".into()),
    }
}

async fn measure(extent: &Extent) -> Result<String, Failure> {
    let dir = servers::directory()?;
    let mut subjects = vec![
        Subject::memory(),
        Subject::file(dir.path())?,
        Subject::redis(dir.path(), false).await?,
        Subject::redis(dir.path(), true).await?,
        Subject::postgres(dir.path()).await?,
    ];
    subjects.retain(|subject| subject.name.contains(&extent.only));
    let mut rows = Vec::new();
    for subject in &subjects {
        rows.push(rows_of(subject).await?);
        warm_up(subject).await?;
    }
    for round in 1..=extent.rounds {
        for (subject, rows) in subjects.iter().zip(&mut rows) {
            for row in rows.chunks_mut(3) {
                subject.sample(row, extent).await?;
            }
        }
        print(&mut io::stderr(), &format!("round {round} of {} done\n", extent.rounds));
    }
    let rows: Vec<Row> = rows.into_iter().flatten().collect();
    Ok(format!("{}\n\n{}", what_runs_here(extent)?, table::render(&rows, PLAIN)?))
}

/// What runs here, and on what.
fn what_runs_here(extent: &Extent) -> Result<String, Failure> {
    let redis = servers::version_of("redis-server", "--version")?;
    let postgres = postgres::version()?;
    let processors = std::thread::available_parallelism()?;
    Ok(format!(
        "onceway {}, redis {redis}, postgres {postgres} on {processors} shared processors; one thread calls; answers of {} bytes;\n\
         medians of {} rounds of up to {} calls a row",
        env!("CARGO_PKG_VERSION"),
        load::ANSWER_BYTES,
        extent.rounds,
        extent.calls
    ))
}

/// The empty rows of a store: for each number of callers the claim, the settlement and the plain write.
async fn rows_of(subject: &Subject) -> Result<Vec<Row>, Failure> {
    let round_trips = round_trips(subject).await?;
    let mut rows = Vec::new();
    for callers in CALLERS {
        for (call, round_trips) in [
            (CLAIM, round_trips.map(|(claim, _)| claim)),
            (SETTLEMENT, round_trips.map(|(_, settlement)| settlement)),
            (PLAIN, None),
        ] {
            rows.push(Row { store: subject.name, call, callers, round_trips, samples: Vec::new() });
        }
    }
    Ok(rows)
}

/// Round trips of a claim and of a settlement, counted between the store and its server.
async fn round_trips(subject: &Subject) -> Result<Option<(f64, f64)>, Failure> {
    let mut relay = None;
    let through = async |server| {
        let between = Relay::to(server).await?;
        let address = between.address;
        relay = Some(between);
        Ok(address)
    };
    let (Some(store), Some(relay)) = (subject.through(through).await?, relay) else { return Ok(None) };
    let exchanges = Arc::new(exchanges(usize::try_from(COUNTED)?));
    let time = Duration::from_mins(1);
    // The first settlement may have to bring a script or to prepare a statement.
    let first = Arc::new(load::exchanges(1));
    for call in [Call::Claim(Arc::clone(&store)), Call::Settle(Arc::clone(&store))] {
        play(&call, &first, 1, time).await?;
    }
    let mut counted = [0.0; 2];
    for (call, count) in [Call::Claim(Arc::clone(&store)), Call::Settle(store)].iter().zip(&mut counted) {
        let before = relay.round_trips();
        play(call, &exchanges, 1, time).await?;
        *count = f64::from(u32::try_from(relay.round_trips() - before)?) / f64::from(COUNTED);
    }
    let [claim, settlement] = counted;
    Ok(Some((claim, settlement)))
}

async fn warm_up(subject: &Subject) -> Result<(), Failure> {
    let exchanges = Arc::new(exchanges(WARM_UP));
    let store = &subject.store;
    for call in [Call::Claim(Arc::clone(store)), Call::Settle(Arc::clone(store))] {
        play(&call, &exchanges, 64, Duration::from_mins(1)).await?;
    }
    Ok(())
}

impl Subject {
    /// Measures a claim, the settlement of what was claimed, and a plain write, with as many callers as the
    /// rows say.
    async fn sample(&self, rows: &mut [Row], extent: &Extent) -> Result<(), Failure> {
        let mut keys = Arc::new(exchanges(extent.calls));
        for row in rows {
            let call = match (row.call, &self.raw) {
                (CLAIM, _) => Call::Claim(Arc::clone(&self.store)),
                (SETTLEMENT, _) => Call::Settle(Arc::clone(&self.store)),
                (_, Some(raw)) => Call::Raw(raw.clone()),
                (_, None) => continue,
            };
            let before = self.used()?;
            let seconds = play(&call, &keys, row.callers, extent.each).await?;
            tokio::time::sleep(SETTLE).await;
            let after = self.used()?;
            row.samples.push(Sample {
                calls: u32::try_from(seconds.latencies.len())?,
                took: seconds.took,
                ours: after.0.since(before.0).total,
                servers: after.1.zip(before.1).map(|(after, before)| after.since(before).total),
                p50: table::percentile(&seconds.latencies, 50),
                p99: table::percentile(&seconds.latencies, 99),
            });
            if row.call == CLAIM {
                // What there was no time to claim cannot be settled.
                let claimed = Arc::into_inner(keys).ok_or("somebody still calls")?;
                keys = Arc::new(claimed.into_iter().take(seconds.latencies.len()).collect());
            }
        }
        Ok(())
    }
}
