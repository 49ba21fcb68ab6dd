//! `onceway keys`: what an operator sees of records and does to them, through the operators' listener of a gateway.
//!
//! Owns the arguments and which call answers them. Must not know how a call is made (`keys/call.rs`) or how its answer
//! is written for people (`keys/shown.rs`). Prints nothing by itself: it writes where it is told to.
//!
//! Read `keys/place.rs` for where the gateway is, `keys/change.rs` for what changes a record.

mod call;
mod change;
mod given;
mod list;
mod operation;
mod place;
mod show;
mod shown;
mod trust;

use std::io::{BufRead, Write};

use clap::{Args, Subcommand};

pub use call::CallError;
pub(super) use call::Caller;
pub(super) use place::ADMIN_HELP;
pub use place::{AdminArgs, Unusable};

/// What `keys` can be told. Without `Debug`: a key or a credential may stand in it.
#[derive(Args)]
pub struct KeysArgs {
    /// Where the gateway is.
    #[command(flatten)]
    admin: AdminArgs,
    /// Print one JSON document, as the gateway's API describes it, instead of text for people
    #[arg(long, global = true)]
    json: bool,
    /// What to do.
    #[command(subcommand)]
    command: KeysCommand,
}

/// What can be done with keys.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// List operations: requests that were claimed, and what became of them
    #[command(after_help = LIST_EXAMPLES)]
    List(list::ListArgs),
    /// Show one operation, by its ref or by the key that the caller used
    #[command(after_help = SHOW_EXAMPLES)]
    Show(show::ShowArgs),
    /// Resolve an unknown outcome, once you know what the upstream did
    #[command(after_help = RESOLVE_EXAMPLES)]
    Resolve(change::ResolveArgs),
    /// Forget a key: the next request with it runs
    #[command(after_help = FORGET_EXAMPLES)]
    Forget(change::ForgetArgs),
}

const LIST_EXAMPLES: &str = "\
Examples:
  onceway keys list --state unknown
  onceway keys list --config /etc/onceway/onceway.toml --route /payments --limit 1000 --json";

const SHOW_EXAMPLES: &str = "\
Examples:
  onceway keys show 3f0c…                        the ref stands in problem documents as operation_ref, and in the log
  onceway keys show --key order-1 --scope 'header:Authorization=@/run/secrets/caller'
  printf %s \"$KEY\" | onceway keys show --key - --route /payments";

const RESOLVE_EXAMPLES: &str = "\
The upstream did nothing, so that the next request with the key may run:
  onceway keys resolve REF --release --attempt 6f1d2c3b --reason 'no such charge at the bank, ticket 4711'

The upstream did it, and this is its true answer, which every retry gets from now on:
  onceway keys resolve REF --complete --status 201 --header 'content-type: application/json' \\
      --body-file answer.json --attempt 6f1d2c3b --reason 'charge ch_17 exists, ticket 4711'";

const FORGET_EXAMPLES: &str = "\
Example:
  onceway keys forget REF --attempt 6f1d2c3b --reason 'test charge, ticket 4711'";

/// Where a command reads what it was not told on the command line, and where it writes.
pub struct Seat<'a> {
    /// Standard input.
    pub input: &'a mut dyn BufRead,
    /// For what was asked for.
    pub out: &'a mut dyn Write,
    /// For questions.
    pub questions: &'a mut dyn Write,
    /// Whether somebody sits there who can answer them.
    pub is_attended: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// What was typed makes no command.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A call to the gateway.
    #[error("{what}")]
    Call {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        #[source]
        source: CallError,
    },
    /// The call may have been carried out, though nobody said so.
    #[error("learn whether it was done: {what}")]
    Doubtful {
        /// What was to be done.
        what: &'static str,
        /// Where to look.
        reference: String,
        /// What was heard instead.
        #[source]
        source: CallError,
    },
    /// No record stands under the key.
    #[error("find a record under this key: a request with it would be a first one (looked under {0})")]
    NoRecord(String),
    /// What was to be resolved is not unknown.
    #[error("resolve it: its outcome is not unknown, it is {0}")]
    NotUnknown(String),
    /// Nobody can tell which attempt stands there.
    #[error("read the record: it names no attempt, so that no change of it can be guarded")]
    Unreadable,
    /// Another attempt stands there than was named.
    #[error("find the attempt {expected}: {found} stands there")]
    Changed {
        /// What was named.
        expected: String,
        /// What stands there.
        found: String,
        /// Where.
        reference: String,
    },
    /// The question was not answered with yes.
    #[error("get a yes; nothing was changed")]
    Declined,
    /// What was found could not be written.
    #[error("write what was found")]
    Write(#[from] std::io::Error),
    /// It could not be put in JSON.
    #[error("write JSON")]
    Json(#[from] serde_json::Error),
}

impl KeysArgs {
    /// Carries the command out.
    ///
    /// Cancel safety: a change that is under way may be made or not.
    pub async fn run(&self, seat: &mut Seat<'_>) -> Result<(), KeysError> {
        let caller = Caller::of(self.admin.place()?);
        match &self.command {
            KeysCommand::List(args) => args.run(&caller, self.json, seat).await,
            KeysCommand::Show(args) => args.run(&caller, self.json, seat).await,
            KeysCommand::Resolve(args) => args.run(&caller, self.json, seat).await,
            KeysCommand::Forget(args) => args.run(&caller, self.json, seat).await,
        }
    }
}

impl KeysError {
    /// What to do next, in a sentence.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Call { source, .. } => source.advice().map(str::to_owned),
            Self::Doubtful { reference, .. } => Some(format!(
                "The change may have been made or not. Look before you repeat it: onceway keys show {reference}"
            )),
            Self::NoRecord(_) => {
                Some("If you expected one, look at the key, the scope and the route, letter by letter.".to_owned())
            }
            Self::Changed { reference, .. } => {
                Some(format!("Nothing was changed. Look at it again: onceway keys show {reference}"))
            }
            Self::Unreadable => Some(
                "Nothing was changed. A record that cannot be read was written by a newer version, sealed with a key \
                 that this gateway lacks, or damaged."
                    .to_owned(),
            ),
            Self::NotUnknown(_) => Some("Nothing was changed: only unknown outcomes are resolved.".to_owned()),
            Self::Unusable(_) | Self::Declined | Self::Write(_) | Self::Json(_) => None,
        }
    }
}

/// Wraps what went wrong with a call that changed nothing.
fn while_asking(what: &'static str) -> impl Fn(CallError) -> KeysError {
    move |source| {
        if let CallError::Unusable(unusable) = source {
            KeysError::Unusable(unusable)
        } else {
            KeysError::Call { what, source }
        }
    }
}

/// Writes a document for programs.
fn write_json(seat: &mut Seat<'_>, document: &impl serde::Serialize) -> Result<(), KeysError> {
    let text = serde_json::to_string_pretty(document)?;
    writeln!(seat.out, "{text}")?;
    Ok(())
}
