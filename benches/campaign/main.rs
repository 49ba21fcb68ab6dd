//! The fault campaign: real gateways over real stores, everything that a machine room does to them, and a checker.
//!
//! Plays `play/` for each store that is asked for, and prints one table. Started by `scripts/campaign`, which has entered
//! the namespaces. Ends with 1 if anything was found, whose history stays in `target/campaign/`, and with 3 if nothing was
//! found before it had to end.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a part of a campaign that fails has failed the campaign"
)]

mod arguments;
mod play;
mod table;

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use arguments::Wish;
use play::{Outcome, Plan};

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let wish = match Wish::read(arguments) {
        Ok(wish) => wish,
        Err(complaint) => {
            tell(&complaint);
            return ExitCode::from(2);
        }
    };
    let is_stopped = Arc::new(AtomicBool::new(false));
    stop_on_signals(&is_stopped);
    let (mut is_broken, mut is_cut_short) = (false, false);
    let mut lines = table::head();
    for store in &wish.stores {
        if is_stopped.load(Ordering::Acquire) {
            break;
        }
        let plan = wish.plan(*store);
        let outcome = play::run(&plan, &is_stopped, &mut |text| tell(text));
        tell(&table::faults(&outcome));
        is_broken |= is_wrong(&plan, &outcome);
        is_cut_short |= !outcome.is_whole;
        lines.push_str(&table::row(&plan, &outcome));
    }
    io::stdout().write_all(lines.as_bytes()).expect("somebody listens");
    match (is_broken, is_cut_short || is_stopped.load(Ordering::Acquire)) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(3),
        (false, false) => ExitCode::SUCCESS,
    }
}

/// Tells what was found, and keeps the history of it.
fn is_wrong(plan: &Plan, outcome: &Outcome) -> bool {
    let findings = &outcome.verdict.findings;
    for finding in findings.iter().take(20) {
        tell(&format!("found: {finding:?}"));
    }
    if findings.is_empty() {
        return false;
    }
    let path = format!("target/campaign/{}-{}.history", plan.store.name(), plan.seed);
    fs::create_dir_all("target/campaign").unwrap();
    fs::write(&path, outcome.history.text()).unwrap();
    tell(&format!("{} findings; the history is in {path}", findings.len()));
    true
}

/// Lets the storm under way come to its end, so that everything is read and told.
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

fn tell(text: &str) {
    writeln!(io::stderr(), "{text}").expect("somebody listens");
}
