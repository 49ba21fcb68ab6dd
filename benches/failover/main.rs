//! What failovers of a replicated Redis cost: second executions, and time without service.
//!
//! Plays `campaign.rs` with every fault, without and with `store.min_replicas`, and prints one table. Started by
//! `scripts/failover`. A second execution without `min_replicas` is what Redis' asynchronous replication
//! allows; with it, it is a bug, and fails the run.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "made of the parts of the integration tests, to which a panic is a failure"
)]

mod campaign;
#[path = "../../tests/it/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
mod harness;
#[path = "../../tests/it/servers/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest of it")]
mod servers;

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use campaign::{Fault, Plan, Report, Until};

const FAULTS: [Fault; 3] = [Fault::Killed, Fault::Frozen, Fault::CutOffAndKilled];

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let Some(until) = until(std::env::args().skip(1).filter(|argument| argument != "--bench")) else {
        tell(&mut io::stderr(), "expected how many masters each row loses, or a time such as 60s\n");
        return ExitCode::from(2);
    };
    let is_stopped = Arc::new(AtomicBool::new(false));
    stop_on_signals(&is_stopped);
    let mut reports = Vec::new();
    for min_replicas in [0, 1] {
        for fault in FAULTS {
            if is_stopped.load(Ordering::Acquire) {
                break;
            }
            let plan = Plan { min_replicas, fault, until };
            let report = campaign::run(&plan, &is_stopped);
            tell(&mut io::stderr(), &row(&plan, &report));
            reports.push((plan, report));
        }
    }
    tell(&mut io::stdout(), &table(&reports));
    let is_broken = reports.iter().any(|(plan, report)| plan.min_replicas > 0 && report.twice > 0);
    if is_broken || is_stopped.load(Ordering::Acquire) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `20` are masters lost, `90s` is a time; nothing is five masters.
fn until(mut arguments: impl Iterator<Item = String>) -> Option<Until> {
    let Some(argument) = arguments.next() else { return Some(Until::Lost(5)) };
    if arguments.next().is_some() {
        return None;
    }
    match argument.strip_suffix('s') {
        Some(seconds) => seconds.parse().ok().map(Duration::from_secs).map(Until::Passed),
        None => argument.parse().ok().map(Until::Lost),
    }
}

/// Lets the failover under way come to its end, so that no process is left behind.
fn stop_on_signals(is_stopped: &Arc<AtomicBool>) {
    let is_stopped = Arc::clone(is_stopped);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (mut terminate, mut interrupt) =
                (signal(SignalKind::terminate()).unwrap(), signal(SignalKind::interrupt()).unwrap());
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        is_stopped.store(true, Ordering::Release);
    });
}

fn table(reports: &[(Plan, Report)]) -> String {
    let mut table = String::from(
        "| `min_replicas` | the master is | masters lost | failovers | requests | keys | executed twice | wrong answers | \
         unknown outcomes | longest without service |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (plan, report) in reports {
        table.push_str(&row(plan, report));
    }
    table
}

fn row(plan: &Plan, report: &Report) -> String {
    let Report { lost, failovers, requests, keys, twice, wrong, unknown, longest_silence } = report;
    let (min_replicas, fault) = (plan.min_replicas, plan.fault);
    let mut row =
        format!("| {min_replicas} | {fault} | {lost} | {failovers} | {requests} | {keys} | {twice} ");
    writeln!(row, "| {wrong} | {unknown} | {:.1} s |", longest_silence.as_secs_f64()).unwrap();
    row
}

fn tell(to: &mut impl io::Write, text: &str) {
    to.write_all(text.as_bytes()).expect("somebody listens");
}
