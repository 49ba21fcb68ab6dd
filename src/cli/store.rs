//! `onceway store migrate`: from its arguments to two stores and a move between them, and what people are told.
//!
//! Must not know how records move (`../migration/`), and must not print: lines are handed to whoever does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use crate::clock::monotonic;
use crate::config::{self, Config, ConfigProblems, Route, StoreUrl};
use crate::gateway::{OpenError, open_transfer};
use crate::migration::{self, Carried, Ended, Move, MoveError, Role, Step};
use crate::protocol::policy::KeyMode;
use crate::store::embedded::EmbeddedStore;
use crate::store::transfer::Transfer;

/// How often a round tells how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(5);

const FROM_HELP: &str = "The store to move from: redis://, redis-sentinel://, redis-cluster://, postgres:// or \
                         file:DIR; ${NAME} is taken from the environment";

/// What can be done to a store.
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Move the live records of one store to another, without a moment in which a key that is known looks new
    Migrate(MigrateArgs),
}

/// What a move can be told. Without `Debug`: a store's address may hold a password.
#[derive(Args)]
#[command(group = ArgGroup::new("source").args(["from", "from_config"]).required(true))]
#[command(group = ArgGroup::new("target").args(["to", "to_config"]))]
pub struct MigrateArgs {
    /// The store to move from
    #[arg(long, value_name = "URL", help = FROM_HELP)]
    from: Option<String>,
    /// The store to move from, as the gateways' configuration file has it
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// The store to move to
    #[arg(long, value_name = "URL", required_unless_present_any = ["to_config", "abort"])]
    to: Option<String>,
    /// The store to move to, as the gateways' new configuration file has it
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,
    /// The gateways' store.namespace, where addresses are given [default: onceway]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// How long requests in flight may take to end once the source is closed
    #[arg(long, value_name = "DURATION", default_value = "65s", value_parser = config::parse_duration)]
    settle_timeout: Duration,
    /// Move from a backup: keys that were claimed after it was taken will look new
    #[arg(long)]
    accept_loss: bool,
    /// Call the move off: open the source again, unless the destination was opened
    #[arg(long)]
    abort: bool,
}

/// Why the arguments make no move.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file or an address.
    #[error(transparent)]
    Config(#[from] ConfigProblems),
    /// Gateways on the two stores would not know the same keys.
    #[error("the namespaces differ: every key would look new in the destination")]
    Namespaces,
    /// As above.
    #[error("the secrets in store.hash_key_file differ: every key would look new in the destination")]
    HashKeys,
    /// As above, for the keys of one route.
    #[error("the scopes of {0} differ: every key of it would look new in the destination")]
    Scopes(String),
    /// Gateways on the destination could not open what is sealed in the source.
    #[error(
        "the destination's store.encryption_key_file lacks keys of the source's: their records could not be read"
    )]
    EncryptionKeys,
    /// Gateways on the destination would not read what is not sealed.
    #[error(
        "the source's records are not sealed and the destination's would be: set store.accept_unsealed = true there"
    )]
    Unsealed,
    /// The store is part of a process.
    #[error("{0}: found memory:, which lives and ends with its gateway")]
    Memory(&'static str),
}

impl MigrateArgs {
    /// What these arguments ask for.
    ///
    /// Errors: what makes them no move; holds no address.
    pub fn errand(&self) -> Result<Errand, Unusable> {
        let from = named("--from", self.from.as_deref(), self.from_config.as_ref())?;
        let to = named("--to", self.to.as_deref(), self.to_config.as_ref())?;
        let namespace = self.namespace([&from, &to])?;
        if let (Some(from), Some(to)) = (&from, &to)
            && from.is_configured
            && to.is_configured
        {
            agree(&from.store, &to.store)?;
            agree_on_callers(&from.routes, &to.routes)?;
        }
        let in_namespace = |named: Named| config::Store { namespace: namespace.clone(), ..named.store };
        Ok(Errand {
            // clap has seen to it that there is one.
            from: from.map_or_else(config::Store::default, in_namespace),
            to: if self.abort { None } else { to.map(in_namespace) },
            settle_timeout: self.settle_timeout,
            accept_loss: self.accept_loss,
        })
    }
}

impl MigrateArgs {
    /// The one namespace of both stores: it is part of every key.
    fn namespace(&self, stores: [&Option<Named>; 2]) -> Result<String, Unusable> {
        let configured = stores.into_iter().flatten().filter(|named| named.is_configured);
        let mut names =
            configured.map(|named| named.store.namespace.as_str()).chain(self.namespace.as_deref());
        let Some(first) = names.next() else { return Ok(config::Store::default().namespace) };
        if names.all(|name| name == first) { Ok(first.to_owned()) } else { Err(Unusable::Namespaces) }
    }
}

/// A store as it was named on the command line.
struct Named {
    store: config::Store,
    /// Empty where only the address is known.
    routes: Vec<Route>,
    /// Whether a file says what belongs to it, or only its address is known.
    is_configured: bool,
}

fn named(
    argument: &'static str,
    address: Option<&str>,
    file: Option<&PathBuf>,
) -> Result<Option<Named>, Unusable> {
    let named = match (address, file) {
        (Some(address), _) => {
            let store = config::store_at(argument, address)?;
            Named { store, routes: Vec::new(), is_configured: false }
        }
        (None, Some(file)) => {
            let Config { store, routes, .. } = config::load(file)?;
            Named { store, routes, is_configured: true }
        }
        (None, None) => return Ok(None),
    };
    match named.store.url {
        StoreUrl::Memory => Err(Unusable::Memory(argument)),
        StoreUrl::Embedded(_) | StoreUrl::Redis(_) | StoreUrl::Postgres(_) => Ok(Some(named)),
    }
}

/// Sees to it that gateways on the destination know and can read what those on the source have written.
fn agree(from: &config::Store, to: &config::Store) -> Result<(), Unusable> {
    if from.hash_key != to.hash_key {
        return Err(Unusable::HashKeys);
    }
    if !from.encryption_keys.iter().all(|key| to.encryption_keys.contains(key)) {
        return Err(Unusable::EncryptionKeys);
    }
    if from.encryption_keys.is_empty() && !to.encryption_keys.is_empty() && !to.accept_unsealed {
        return Err(Unusable::Unsealed);
    }
    Ok(())
}

/// Sees to it that a caller of a route is the same caller after the move: who is asking is part of every key.
fn agree_on_callers(from: &[Route], to: &[Route]) -> Result<(), Unusable> {
    let is_guarded = |route: &&Route| route.policy.key != KeyMode::Off;
    for before in from.iter().filter(is_guarded) {
        let is_same = |after: &&Route| after.host == before.host && after.path == before.path;
        let after = to.iter().filter(is_guarded).find(is_same);
        if after.is_some_and(|after| after.policy.scope != before.policy.scope) {
            let host = before.host.as_deref().unwrap_or_default();
            return Err(Unusable::Scopes(format!("{host}{}", before.path)));
        }
    }
    Ok(())
}

/// A move to be made, or, without a destination, to be called off.
pub struct Errand {
    from: config::Store,
    to: Option<config::Store>,
    settle_timeout: Duration,
    accept_loss: bool,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    /// There is no such store, so it holds nothing that could be moved.
    #[error("find the source: there is no directory {}", .0.display())]
    NoSource(PathBuf),
    /// There is a directory that is none.
    #[error("find the source: there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// A store cannot be opened.
    #[error("open the {role}{hint}")]
    Open {
        /// Which.
        role: Role,
        /// What is mostly the cause.
        hint: &'static str,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// The move did not come to its end.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl Errand {
    /// Does it, telling `say` how it goes, a line at a time. Answers the summary; it ends with a newline.
    pub async fn run(&self, say: &mut dyn FnMut(&str)) -> Result<String, ErrandError> {
        if let StoreUrl::Embedded(dir) = &self.from.url {
            find_source(dir)?;
        }
        let from = open(Role::Source, &self.from).await?;
        let Some(to) = &self.to else {
            migration::call_off(&from, &mut |step| say(&told(step))).await?;
            return Ok(format!("called off: {} takes claims again\n", self.from.url.describe()));
        };
        say(&format!(
            "moving from {} to {}, namespace {}",
            self.from.url.describe(),
            to.url.describe(),
            self.from.namespace
        ));
        // Opening an embedded destination makes its directory.
        migration::expect_source(&from).await?;
        let move_ = Move {
            from,
            to: open(Role::Destination, to).await?,
            session_ttl: self.from.session_ttl,
            settle_timeout: self.settle_timeout,
            accept_eviction: to.accept_eviction,
            accept_loss: self.accept_loss,
        };
        let ended = move_.run(&mut teller(say)).await?;
        Ok(summary(ended, &to.url.describe()))
    }
}

/// Sees to it that an embedded source is there: opening it would make one.
fn find_source(dir: &Path) -> Result<(), ErrandError> {
    if !dir.is_dir() {
        return Err(ErrandError::NoSource(dir.to_owned()));
    }
    if !EmbeddedStore::stands_in(dir) {
        return Err(ErrandError::NoStore(dir.to_owned()));
    }
    Ok(())
}

async fn open(role: Role, store: &config::Store) -> Result<Arc<dyn Transfer>, ErrandError> {
    let hint = match store.url {
        StoreUrl::Embedded(_) => " (its gateway must be stopped)",
        StoreUrl::Memory | StoreUrl::Redis(_) | StoreUrl::Postgres(_) => "",
    };
    open_transfer(store).await.map_err(|source| ErrandError::Open { role, hint, source })
}

/// Passes on what has come to pass; of the progress of a round, only what is due.
fn teller(say: &mut dyn FnMut(&str)) -> impl FnMut(Step) {
    let mut told_at = monotonic();
    move |step| {
        let is_progress = matches!(step, Step::Copying { .. });
        if is_progress && told_at.elapsed() < TELL_EVERY {
            return;
        }
        told_at = monotonic();
        say(&told(step));
    }
}

fn told(step: Step) -> String {
    match step {
        Step::AwaitsAnotherRun => "waiting for an earlier run, which was at work a moment ago".to_owned(),
        Step::Continues => "going on where an earlier run stopped".to_owned(),
        Step::DestinationClosed => "the destination takes no claims until all has arrived".to_owned(),
        Step::Copying { seen, copied } => format!("  {seen} records seen, {copied} copied"),
        Step::FirstRoundDone(round) => {
            format!("finished records copied while gateways work on: {}", rate(&round))
        }
        Step::SourceClosed => {
            "the source takes no new claims: guarded requests are refused from here".to_owned()
        }
        Step::AwaitsGateways(0) => {
            "no gateway seems to live on the source; waiting for as long as one could go unnoticed".to_owned()
        }
        Step::AwaitsGateways(count) => {
            format!("waiting until {count} gateways on the source have heard of it")
        }
        Step::AwaitsOutcomes(count) => format!("waiting for the outcomes of {count} requests in flight"),
        Step::Verifying => "comparing source and destination".to_owned(),
        Step::Verified(records) => format!("{records} records stand in the destination, byte for byte"),
    }
}

fn rate(round: &Carried) -> String {
    let millis = round.took.as_millis().max(1);
    let per_second = u128::from(round.seen) * 1000 / millis;
    format!("{} of {} in {} ({per_second} records/s)", round.copied, round.seen, seconds(round.took))
}

fn summary(ended: Ended, to: &str) -> String {
    let Ended::Moved(moved) = ended else {
        return format!("{to} holds all records already and is open: point the gateways at it\n");
    };
    let mut lines = vec![
        format!("moved {} records, {} MiB", moved.records, moved.bytes.div_ceil(1 << 20)),
        format!("  while gateways worked on: {}", rate(&moved.before_closing)),
        format!("  after the source was closed: {}", rate(&moved.after_closing)),
        format!("  guarded requests were refused for {}", seconds(moved.closed_for)),
    ];
    if moved.in_flight > 0 {
        let count = moved.in_flight;
        lines.push(format!(
            "  {count} requests were still in flight: in the destination their outcome is unknown"
        ));
    }
    lines.push(format!("{to} is open, the source stays closed: point the gateways at the new store now"));
    lines.join("\n") + "\n"
}

fn seconds(time: Duration) -> String {
    format!("{}.{:01} s", time.as_secs(), time.subsec_millis() / 100)
}
