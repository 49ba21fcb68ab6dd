//! Parses the command line, runs the command, chooses the exit code. The only place that prints.
//!
//! Exit codes: 0 fine, 1 failed while running, 2 wrong usage or configuration (clap's own choice too).

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use onceway::cli::{Cli, Command};
use onceway::config::ConfigProblems;

/// Wrong usage or configuration.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => match args.run() {
            Ok(report) => print(&report),
            Err(problems) => refuse(&problems),
        },
        Command::Serve(args) => match args.config() {
            Ok(_config) => ExitCode::SUCCESS,
            Err(problems) => refuse(&problems),
        },
        Command::Demo(_args) => ExitCode::SUCCESS,
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(problems: &ConfigProblems) -> ExitCode {
    // Where even standard error is closed, the exit code tells it all.
    drop(writeln!(io::stderr(), "{problems}"));
    ExitCode::from(MISCONFIGURED)
}
