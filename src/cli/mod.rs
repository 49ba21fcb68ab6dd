//! The command line: what may be typed, and what each command needs to start. Prints nothing and ends
//! nothing; `../main.rs` does.
//!
//! Read `serve.rs`, `check.rs`, `probe.rs`, `keys.rs`, `store.rs` and `demo.rs` for the commands.

pub mod check;
mod columns;
pub mod completions;
pub mod demo;
pub mod keys;
pub mod man;
pub mod probe;
pub mod reference;
pub mod schema;
pub mod serve;
pub mod store;

use clap::{Parser, Subcommand};

/// Makes the POSTs of any HTTP API safe to retry: a reverse proxy that runs each idempotency key once.
#[derive(Parser)]
#[command(name = "onceway", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve(serve::ServeArgs),
    /// Check a configuration, show what it protects, and warn of risky choices
    Check(check::CheckArgs),
    /// Ask a gateway whether it is well, as a health check does
    #[command(after_help = probe::HELP)]
    Probe(probe::ProbeArgs),
    /// See what became of requests, and step in, through a gateway's operators' listener
    Keys(keys::KeysArgs),
    /// Look after the stores in which records live
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Run a payments API with the gateway before it and play the lost-response story
    Demo(demo::DemoArgs),
    /// Print the JSON Schema of the configuration file
    #[command(after_help = schema::HELP)]
    Schema,
    /// Print the completions of a shell
    #[command(after_help = completions::HELP)]
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands into a directory
    #[command(after_help = man::HELP)]
    Man(man::ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn refuses(arguments: &[&str]) -> bool {
        Cli::try_parse_from([&["onceway"], arguments].concat()).is_err()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_wants_a_file_or_an_upstream_and_not_both() {
        assert!(refuses(&["serve"]));
        assert!(refuses(&["serve", "--listen", ":80"]));
        assert!(refuses(&["serve", "--config", "f", "--upstream", "http://h"]));
        assert!(refuses(&["serve", "--config", "f", "--listen", ":80"]));
        assert!(refuses(&["serve", "--config", "f", "--store", "memory:"]));
        assert!(!refuses(&["serve", "--config", "f"]));
        assert!(!refuses(&["serve", "--upstream", "http://h", "--listen", ":80", "--store", "memory:"]));
    }

    #[test]
    fn check_wants_a_file() {
        assert!(refuses(&["check"]) && !refuses(&["check", "--config", "f"]));
    }

    #[test]
    fn a_move_wants_a_source_and_unless_it_is_called_off_a_destination() {
        let refuses = |arguments: &str| {
            let words: Vec<_> = ["store", "migrate"].into_iter().chain(arguments.split(' ')).collect();
            refuses(&words)
        };
        assert!(refuses("--from redis://h") && refuses("--to redis://h") && refuses("--abort"));
        assert!(refuses("--from redis://h --from-config f --to redis://g"));
        assert!(refuses("--from redis://h --to redis://g --to-config f"));
        assert!(refuses("--from redis://h --to redis://g --settle-timeout soon"));
        assert!(!refuses("--from redis://h --to-config f --namespace n --settle-timeout 5s"));
        assert!(!refuses("--from-config f --abort"));
    }

    #[test]
    fn the_demonstration_runs_without_arguments() {
        let Ok(Cli { command: Command::Demo(args) }) = Cli::try_parse_from(["onceway", "demo"]) else {
            panic!("demo should parse");
        };
        assert!(args.listen.is_none() && args.payments_listen.is_none());
        assert!(!args.payments_only && refuses(&["demo", "--listen", "everywhere"]));
    }
}
