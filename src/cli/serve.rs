//! `onceway serve`: from its arguments to a configuration.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};

use crate::config::{self, Config, ConfigProblems};

const STORE_HELP: &str = "Where records live: file:DIR, redis://HOST:PORT/DB, postgres://HOST:PORT/DB or memory: [default: file:./onceway-data]";

/// What the gateway can be told on the command line. Without `Debug`: a store's address may hold a
/// password.
#[derive(Args)]
#[command(group = ArgGroup::new("source").args(["config", "upstream"]).required(true))]
pub struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "store"])]
    config: Option<PathBuf>,
    /// Run without a file: guard POST and PATCH on every path of this upstream, key optional
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where records live
    #[arg(long, value_name = "URL", help = STORE_HELP)]
    store: Option<String>,
}

impl ServeArgs {
    /// The file that is read again at a SIGHUP.
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The configuration these arguments ask for.
    ///
    /// Errors: every problem of the file or of the arguments at once.
    pub fn config(&self) -> Result<Config, ConfigProblems> {
        match &self.config {
            Some(file) => config::load(file),
            // clap has seen to it that there is an upstream where there is no file.
            None => config::for_upstream(
                self.upstream.as_deref().unwrap_or_default(),
                self.listen.as_deref(),
                self.store.as_deref(),
            ),
        }
    }
}
