//! What the gateway costs, beside nginx, `HAProxy` and another gateway of its kind, and whether that keeps to the bars
//! that it is held to.
//!
//! Everything is measured once per round, one after another, and rounds repeat, so that a busy machine disturbs all
//! alike; medians and ratios are what counts. Every answer is checked, and the executions at the upstream are counted: a
//! wrong answer or a second execution fails the benchmark. Started by `scripts/bench`.
//!
//! A room for each concern: `per_request.rs` for processor time, `commits.rs` for the embedded store's rate, `latency.rs`,
//! `large.rs`, `cores.rs`, `idle.rs` and `cold_start.rs`. Read `work.rs` for what is asked and the bars, `load.rs` for
//! the callers, `servers.rs` for what is started, `bars.rs` for the table at the end.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod bars;
mod cold_start;
mod commits;
mod cores;
mod cpu;
mod extent;
mod idle;
mod large;
mod latency;
mod load;
mod machine;
mod measure;
mod open_loop;
mod per_request;
mod records;
mod references;
mod round_trips;
mod servers;
mod site;
mod subjects;
mod table;
mod upstream;
mod wire;
mod work;

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use commits::Commits;
use cores::Cores;
use extent::Extent;
use large::Large;
use latency::Latency;
use measure::CONNECTIONS;
use per_request::PerRequest;
use site::Site;
use upstream::ANSWER_BYTES;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match Extent::of(std::env::args().skip(1)).and_then(|extent| run(&extent)) {
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
    let versions = site::versions()?;
    let permitted = idle::raise_open_files()?;
    let site = Site::start()?;
    let mut rooms = Rooms::open(&site, extent).await?;
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < extent.rounds && (rounds == 0 || began.elapsed() < extent.total) {
        rooms.round(rounds).await?;
        rounds += 1;
        print(&mut io::stderr(), &format!("round {rounds} of {} done\n", extent.rounds));
    }
    let (mut report, mut held) = rooms.close().await?;
    if extent.chooses(idle::TITLE) {
        held.push(idle::measure(&site, extent.crowds, permitted).await?);
    }
    if extent.chooses(cold_start::TITLE) {
        held.extend(cold_start::measure(&site, extent).await?);
    }
    report.push_str(&bars::render(&held)?);
    Ok(format!(
        "{versions};\n\
         one thread each unless said; {CONNECTIONS} connections, answers of {ANSWER_BYTES} bytes, {rounds} rounds of up to \
         {} requests a row;\nmedians; the last three columns of the first table are noisy\n\n{report}",
        extent.requests
    ))
}

/// What is measured round by round, as far as it was chosen.
struct Rooms<'a> {
    per_request: Option<PerRequest<'a>>,
    commits: Option<Commits<'a>>,
    latency: Option<Latency<'a>>,
    large: Option<Large<'a>>,
    cores: Option<Cores<'a>>,
}

impl<'a> Rooms<'a> {
    async fn open(site: &'a Site, extent: &'a Extent) -> Result<Self, Failure> {
        Ok(Self {
            per_request: PerRequest::start(site, extent).await?,
            commits: if extent.chooses(commits::TITLE) { Some(Commits::start(site, extent)?) } else { None },
            latency: if extent.chooses(latency::TITLE) {
                Some(Latency::start(site, extent).await?)
            } else {
                None
            },
            large: if extent.chooses(large::TITLE) { Some(Large::start(site, extent).await?) } else { None },
            cores: if extent.chooses(cores::TITLE) { Some(Cores::start(site, extent)?) } else { None },
        })
    }

    async fn round(&mut self, round: usize) -> Result<(), Failure> {
        if let Some(per_request) = &mut self.per_request {
            per_request.round(round).await?;
        }
        if let Some(commits) = &mut self.commits {
            commits.round(round).await?;
        }
        if let Some(latency) = &mut self.latency {
            latency.round(round).await?;
        }
        if let Some(large) = &mut self.large {
            large.round().await?;
        }
        if let Some(cores) = &mut self.cores {
            cores.round(round).await?;
        }
        Ok(())
    }

    /// What is told of it all, and what is held against a bar. Ends the processes that were only measured here.
    async fn close(self) -> Result<(String, Vec<bars::Held>), Failure> {
        let (mut sections, mut held) = (Vec::new(), Vec::new());
        if let Some(per_request) = &self.per_request {
            sections.push(per_request.report().await?);
            held.extend(per_request.held());
        }
        held.extend(self.commits.iter().map(Commits::held));
        if let Some(latency) = &self.latency {
            sections.push(latency.report()?);
            held.extend(latency.held());
        }
        if let Some(large) = &self.large {
            sections.push(large.report()?);
            held.extend(large.held());
        }
        held.extend(self.cores.iter().flat_map(Cores::held));
        sections.push(String::new());
        Ok((sections.join("\n"), held))
    }
}
