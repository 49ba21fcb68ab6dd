//! `onceway man`: manual pages, one for each command.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::Cli;

pub(super) const HELP: &str = "\
Examples:
  onceway man | man -l -
  onceway man --dir /usr/local/share/man/man1";

/// What `man` can be told.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Write the pages of all commands into this directory, which must be there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// A page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("write the manual")]
pub struct ManError(#[from] io::Error);

impl ManArgs {
    /// The page of the whole, or nothing where the pages of all commands were written into a directory.
    pub fn page(&self) -> Result<Option<String>, ManError> {
        let command = Cli::command().disable_help_subcommand(true);
        if let Some(dir) = &self.dir {
            clap_mangen::generate_to(command, dir)?;
            return Ok(None);
        }
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        Ok(Some(String::from_utf8_lossy(&page).into_owned()))
    }
}
