//! Parses the command line, runs the command, chooses the exit code. The only place that prints.
//!
//! Exit codes: 0 fine, 1 failed while running, 2 wrong usage or configuration (clap's own choice too).

use std::error::Error;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use onceway::cli::check::CheckArgs;
use onceway::cli::demo::{self, DemoArgs};
use onceway::cli::keys::{KeysArgs, KeysError, Seat};
use onceway::cli::man::ManArgs;
use onceway::cli::probe::{ProbeArgs, ProbeError};
use onceway::cli::schema;
use onceway::cli::store::{MigrateArgs, StoreCommand};
use onceway::cli::{Cli, Command};
use onceway::config::Config;
use onceway::{gateway, telemetry};

/// The system's allocator gives memory back and takes it again at nearly every request.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Failed while running.
const FAILED: u8 = 1;

/// Wrong usage or configuration.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    #[cfg(feature = "mistakes")]
    if let Err(error) = make_a_mistake() {
        return refuse(&error);
    }
    match Cli::parse().command {
        Command::Check(args) => check(&args),
        Command::Serve(args) => match args.config() {
            Ok(config) => finish(serve(config, args.file().map(Path::to_owned))),
            Err(problems) => refuse(&problems),
        },
        Command::Store(StoreCommand::Migrate(args)) => migrate(&args),
        Command::Probe(args) => probe(&args),
        Command::Keys(args) => keys(&args),
        Command::Demo(args) => finish(demonstrate(&args)),
        Command::Schema => print(&schema::text()),
        Command::Completions(args) => print(&args.script()),
        Command::Man(args) => manual(&args),
    }
}

/// Makes the mistake that the environment names. Without one a binary that can make mistakes does not start.
#[cfg(feature = "mistakes")]
fn make_a_mistake() -> Result<(), onceway::protocol::mistake::UnknownMistake> {
    let name = std::env::var("ONCEWAY_MISTAKE").unwrap_or_default();
    name.parse().map(onceway::protocol::mistake::Mistake::make_everywhere)
}

fn check(args: &CheckArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    match runtime.block_on(args.run()) {
        Ok(checked) if checked.is_sound => print(&checked.report),
        Ok(checked) => {
            print(&checked.report);
            ExitCode::from(FAILED)
        }
        Err(problems) => refuse(&problems),
    }
}

fn probe(args: &ProbeArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let looked = runtime.block_on(args.run());
    runtime.shutdown_background();
    match looked {
        Ok(text) => print(&text),
        Err(ProbeError::Unusable(unusable)) => refuse(&unusable),
        Err(error) => finish(Err(error.into())),
    }
}

fn migrate(args: &MigrateArgs) -> ExitCode {
    let errand = match args.errand() {
        Ok(errand) => errand,
        Err(problems) => return refuse(&problems),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let ended = runtime.block_on(errand.run(&mut |line| complain(line)));
    runtime.shutdown_background();
    match ended {
        Ok(summary) => print(&summary),
        Err(error) => finish(Err(error.into())),
    }
}

fn keys(args: &KeysArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(error.into())),
    };
    let is_attended = io::stdin().is_terminal() && io::stderr().is_terminal();
    let mut seat = Seat {
        input: &mut io::stdin().lock(),
        out: &mut io::stdout(),
        questions: &mut io::stderr(),
        is_attended,
    };
    match runtime.block_on(args.run(&mut seat)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(KeysError::Unusable(unusable)) => refuse(&unusable),
        Err(error) => {
            let advice = error.advice();
            let code = finish(Err(error.into()));
            if let Some(advice) = advice {
                complain(&advice);
            }
            code
        }
    }
}

fn manual(args: &ManArgs) -> ExitCode {
    match args.page() {
        Ok(page) => print(&page.unwrap_or_default()),
        Err(error) => finish(Err(error.into())),
    }
}

fn serve(config: Config, file: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let sockets = gateway::Sockets::passed().map_err(gateway::GatewayError::Sockets)?;
    let _log = telemetry::log::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(gateway::run(config, file, sockets));
    // What still hangs on a caller that does not close its side must not keep the process.
    runtime.shutdown_background();
    Ok(ended?)
}

fn demonstrate(args: &DemoArgs) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(demo::run(args, &mut io::stdout()));
    runtime.shutdown_background();
    Ok(ended?)
}

fn finish(ended: Result<(), Box<dyn Error>>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("onceway failed to {}", with_causes(&*error)));
            ExitCode::from(FAILED)
        }
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn refuse(problems: &dyn Display) -> ExitCode {
    complain(&problems.to_string());
    ExitCode::from(MISCONFIGURED)
}

fn complain(text: &str) {
    // Where even standard error is closed, the exit code tells it all.
    drop(writeln!(io::stderr(), "{text}"));
}
