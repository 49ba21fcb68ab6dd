//! Third-party tools, and a table of raw bytes of our own, played against the gateway and, in the same run,
//! against nginx and `HAProxy` as Debian packages them.
//!
//! Started by `scripts/suites`. Each file plays one kind of suite and gives rows; a row is right, wrong, or a
//! figure, for each of the three. Read `table.rs` for what is printed, `subjects.rs` for what is started and how
//! each proxy is set up, `site.rs` for the service behind them. `docs/suites.md` explains the rows.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod curl;
mod frames;
mod http2;
mod malformed;
mod overload;
mod raw;
mod site;
mod slow;
#[path = "../../tests/smuggling/mod.rs"]
mod smuggling;
mod subjects;
mod table;
mod tls;
mod tools;
mod vtc;
mod websocket;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use table::{Row, Table};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Plays one suite with a directory for its files.
type Suite = fn(&Path) -> Result<Vec<Row>, Failure>;

/// Every suite in the order of the table.
const SUITES: &[(&str, Suite)] = &[
    ("raw", raw::play),
    ("vtc", vtc::play),
    ("curl", curl::play),
    ("http2", http2::play),
    ("websocket", websocket::play),
    ("tls", tls::play),
    ("slow", slow::play),
    ("overload", overload::play),
];

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(table) => {
            let is_printed = io::stdout().write_all(table.rendered().as_bytes()).is_ok();
            if is_printed && !table.is_worse_somewhere() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            tell(&format!("the suites failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<Table, Failure> {
    let named: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = named.iter().find(|name| SUITES.iter().all(|(suite, _)| suite != *name)) {
        let suites: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no suite {unknown}, only {}", suites.join(", ")).into());
    }
    let dir = subjects::directory()?;
    let began = Instant::now();
    let mut table = Table::new(subjects::versions(), arguments.iter().any(|argument| argument == "--all"));
    for (name, suite) in SUITES.iter().filter(|(name, _)| named.is_empty() || named.contains(name)) {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir)?;
        table.add(name, suite(&dir).map_err(|error| format!("{name}: {error}"))?);
        tell(&format!("{name} done after {} s", began.elapsed().as_secs()));
    }
    Ok(table)
}

/// Says something that is no part of the table.
fn tell(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}
