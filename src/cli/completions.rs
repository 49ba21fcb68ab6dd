//! `onceway completions`: what a shell needs to complete this command line.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;

pub(super) const HELP: &str = "\
Where they belong:
  bash        onceway completions bash > /usr/share/bash-completion/completions/onceway
  zsh         onceway completions zsh > /usr/share/zsh/vendor-completions/_onceway
  fish        onceway completions fish > ~/.config/fish/completions/onceway.fish
  elvish      onceway completions elvish >> ~/.config/elvish/rc.elv
  powershell  onceway completions powershell >> $PROFILE";

/// What `completions` can be told.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    /// The script for the shell.
    pub fn script(&self) -> String {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "onceway", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}
