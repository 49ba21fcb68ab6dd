//! The configuration as meant: every default filled in, every value checked, nothing left to ask.
//!
//! `text → spanned table → Config`, every problem of the file told at once. Must not know what reads it.
//!
//! Read `keys.rs` for what may stand in a file, `load.rs` for the road, `section.rs` for how one key is
//! read, `resolve.rs` and `routes.rs` for how the parts become these types, `problem.rs` for how a problem
//! is shown, `doubled.rs` for how a key that stands twice is named. `risks.rs` names the choices that are valid and may still surprise. `schema.rs` and `reference.rs` tell
//! programs and people what may stand in a file.

mod address;
mod admin;
mod certificates;
mod choices;
mod defaults;
mod doubled;
mod files;
pub mod keys;
mod load;
mod pattern;
mod place;
mod previous;
mod problem;
mod record_keys;
pub mod reference;
mod resolve;
pub mod risks;
mod routes;
pub mod schema;
mod secrets;
mod section;
mod server;
mod shape;
mod terms;
mod traces;
mod units;
mod upstream;

pub use address::listen as parse_listen;
pub use certificates::{Authorities, Identity};
pub use choices::{Choice, name_of};
pub use load::{for_upstream, load, parse, store_at};
pub use place::Place;
pub use problem::{ConfigProblems, Problem, Unfit, Wrong};
pub use record_keys::EncryptionKey;
pub use server::{CallersCertificate, Forwarded, ForwardedFields, Server, ServerTls};
pub use terms::log_level as parse_log_level;
pub use traces::Traces;
pub use units::{parse_duration, show_duration, show_size};
pub use upstream::{Admission, Health, Protocol, Upstream};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::policy::Policy;

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener for callers.
    pub server: Server,
    /// The listener for operators.
    pub admin: Admin,
    /// Where records live.
    pub store: Store,
    /// The services behind the gateway; never empty.
    pub upstreams: Vec<Upstream>,
    /// Index into `upstreams` of the one that takes whatever no route names; `None`: that is a 404.
    pub default_upstream: Option<usize>,
    /// The routes, in the order of the file; no two with the same host and path.
    pub routes: Vec<Route>,
    /// The log.
    pub log: Log,
    /// The traces.
    pub traces: Traces,
}

/// The listener for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Whether the address stands in the file. One that does not may be taken already, and the gateway
    /// then runs without this listener.
    pub is_explicit: bool,
    /// What changes to records need, as read from `token_file`; none: nobody may change any.
    pub token: Option<Secret>,
    /// Whether other users of the machine may read `token_file`.
    pub is_token_open: bool,
    /// Where changes are written down; there is one where there is a token.
    pub audit_file: Option<PathBuf>,
    /// Certificate, and who vouches for operators; none: in the clear.
    pub tls: Option<ServerTls>,
    /// Names by which the listener is called, lower case, beside addresses and `localhost`.
    pub host_names: Vec<String>,
}

/// Where records live.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the file, and none excludes another")]
pub struct Store {
    /// Which store.
    pub url: StoreUrl,
    /// Separates installations that share a store.
    pub namespace: String,
    /// Bytes of finished records kept in memory; 0 switches it off.
    pub local_cache: u64,
    /// Deadline of every store call.
    pub timeout: Duration,
    /// How long a session lives without being renewed; renewed at a fifth of it.
    pub session_ttl: Duration,
    /// The secret which keys storage keys and fingerprints, as read from `hash_key_file`.
    pub hash_key: Option<Secret>,
    /// How many replicas must have a record before its write counts as done.
    pub min_replicas: u32,
    /// Whether a Redis that may evict claims is accepted.
    pub accept_eviction: bool,
    /// The keys that seal records, as read from `encryption_key_file`, no two alike. The first seals, all
    /// open; none: records are not sealed.
    pub encryption_keys: Vec<EncryptionKey>,
    /// Whether the keys only open what others sealed: the file begins with the line `open-only`.
    pub open_only: bool,
    /// Whether records that are not sealed are read where others are sealed.
    pub accept_unsealed: bool,
    /// Whether a configuration is taken under which outstanding keys would look new.
    pub accept_lost_keys: bool,
    /// What happens to large answer bodies before they are kept.
    pub compression: Compression,
    /// Where the embedded store's backups go, and how often.
    pub backup: Option<Backup>,
}

/// What happens to large answer bodies before they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    Off,
    /// They are compressed with zstd.
    Zstd,
}

/// Where backups go, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The directory that holds the newest one.
    pub dir: PathBuf,
    /// How often one is taken.
    pub every: Duration,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`.
    Memory,
    /// `file:DIR`.
    Embedded(PathBuf),
    /// `redis://`, `redis-sentinel://`, `redis-cluster://`, each with TLS too: the whole address, credentials
    /// included.
    Redis(Secret),
    /// `postgres://`, the whole address, credentials included.
    Postgres(Secret),
}

/// A route with its resolved policy.
#[derive(Clone, Debug)]
pub struct Route {
    /// Path pattern.
    pub path: String,
    /// Host it is narrowed to, lower case, without port.
    pub host: Option<String>,
    /// Index into `upstreams`.
    pub upstream: usize,
    /// Whether the case of the path counts.
    pub path_case: PathCase,
    /// What it asks for.
    pub policy: Policy,
}

/// Whether the case of a path counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathCase {
    /// `/Payments` and `/payments` are two paths.
    Sensitive,
    /// They are one.
    Insensitive,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Which events are written, as a `tracing` filter such as `info` or `onceway=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text an event.
    Human,
    /// One JSON object an event.
    Json,
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }

    /// Shows it to the one who needs it. Never log what this returns.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}
