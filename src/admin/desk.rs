//! What the gateway tells the operators' listener, and nothing beside: a value of closures, so that neither need know
//! the other.
//!
//! Read `../gateway/operators.rs` for who fills it in.

use std::sync::Arc;
use std::time::Duration;

use super::audit::Audit;
use super::status::Status;
use super::token::Token;
use crate::ledger::Ledger;
use crate::protocol::scope::StorageKey;
use crate::server::Acceptor;
use crate::telemetry::metrics::Metrics;

/// Tells something, at any moment.
pub type Tell<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Tells where a key's record would stand: in one place, or in several.
pub type Derive = Box<dyn Fn(&Sought) -> Result<Vec<Derived>, NotFound> + Send + Sync>;

/// Where operators' questions are answered.
pub struct Desk {
    /// How ready the gateway is.
    pub readiness: Tell<Readiness>,
    /// Who may do what; a reload makes others.
    pub terms: Tell<Arc<Terms>>,
    /// The records; `None` until the store is open.
    pub ledger: Tell<Option<Ledger>>,
    /// How the gateway does.
    pub status: Tell<Status>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the record of a caller's key stands.
    pub derive: Derive,
    /// What is kept of the answers of the route with this path pattern, and for how long.
    pub keeping: Box<dyn Fn(&str) -> Keeping + Send + Sync>,
}

/// How ready the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Requests are taken.
    Ready,
    /// Not yet.
    Starting,
    /// No more.
    Draining,
    /// The store is out of reach.
    StoreUnreachable,
}

/// Who may do what on the operators' listener.
#[derive(Debug)]
pub struct Terms {
    /// What changes need; `None`: nobody may make any.
    pub token: Option<Token>,
    /// Where changes are written down; there is one where there is a token.
    pub audit: Option<Arc<Audit>>,
    /// Names by which the listener is called, lower case, beside addresses and `localhost`.
    pub host_names: Vec<String>,
    /// How it speaks TLS, if it does.
    pub tls: Option<Acceptor>,
    /// Prefix of a problem's `type`.
    pub problem_base: String,
}

/// A caller's key as the caller sent it, and what told the caller apart.
///
/// Holds secrets: neither shown nor logged, so it has no `Debug`.
pub struct Sought {
    /// The raw key.
    pub key: String,
    /// The route's path pattern; `None`: the only route that guards anything.
    pub route: Option<String>,
    /// The host that the route is narrowed to.
    pub host: Option<String>,
    /// Parts of the scope by their source, such as `header:authorization`, each with every value, in order.
    pub scope: Vec<(String, Vec<String>)>,
}

/// Where the record of a key would stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Its storage key.
    pub key: StorageKey,
    /// By which way of making keys.
    pub derivation: Derivation,
}

/// A way of making keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derivation {
    /// The route's.
    Current,
    /// The one that the route names as `previous`.
    Previous,
}

/// Why no record can be looked for: the member of the question that is wrong, and what is wrong with it.
///
/// Never holds what the member held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    /// The member.
    pub member: &'static str,
    /// A fragment that goes on after the member's name.
    pub reason: String,
}

/// What is kept of a route's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// For how long.
    pub keep_for: Duration,
    /// Bytes of a body at most.
    pub body_max: u64,
}

impl Readiness {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Draining => "draining",
            Self::StoreUnreachable => "store-unreachable",
        }
    }
}

impl Derivation {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
        }
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Desk")
    }
}
