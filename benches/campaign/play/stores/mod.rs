//! The stores, each as its servers in their places: how they are started, when they are whole, who leads.
//!
//! `redis.rs` is Redis alone, under Sentinels and as a Cluster; `postgres.rs` one PostgreSQL. The embedded store has no
//! servers. Must not know what is done to them.

mod postgres;
mod redis;

use std::fmt;

use super::ground::Ground;
use super::machine::Machine;

/// Which store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Redis,
    Sentinel,
    Cluster,
    Postgres,
    Embedded,
}

/// A store's servers.
pub(crate) struct Servers {
    pub(crate) kind: Kind,
    /// What the gateways are told.
    pub(crate) url: String,
    /// Who keeps the data.
    pub(crate) nodes: Vec<Machine>,
    /// Who watches those who do.
    pub(crate) watchers: Vec<Machine>,
}

/// A store that has not started by then never will.
const LOOKS_MAX: usize = 3_000;

pub(crate) const KINDS: [Kind; 5] =
    [Kind::Redis, Kind::Sentinel, Kind::Cluster, Kind::Postgres, Kind::Embedded];

impl Kind {
    /// As it is named on the command line.
    pub(crate) fn named(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
            Self::Postgres => "postgres",
            Self::Embedded => "embedded",
        }
    }

    /// As many replicas as may be promoted in the place of one master.
    pub(crate) fn min_replicas(self) -> u32 {
        match self {
            Self::Sentinel => 2,
            Self::Cluster => 1,
            Self::Redis | Self::Postgres | Self::Embedded => 0,
        }
    }

    /// Whether another server may take the place of one.
    pub(crate) fn fails_over(self) -> bool {
        self.min_replicas() > 0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Sentinel => "Redis with Sentinels",
            Self::Cluster => "Redis Cluster",
            Self::Postgres => "PostgreSQL",
            Self::Embedded => "embedded",
        })
    }
}

impl Servers {
    /// Prepares the servers, and starts them.
    pub(crate) fn start(kind: Kind, ground: &mut Ground) -> Self {
        let mut servers = match kind {
            Kind::Redis => redis::alone(ground),
            Kind::Sentinel => redis::with_sentinels(ground),
            Kind::Cluster => redis::cluster(ground),
            Kind::Postgres => postgres::alone(ground),
            Kind::Embedded => {
                Self { kind, url: "file:records".to_owned(), nodes: Vec::new(), watchers: Vec::new() }
            }
        };
        servers.nodes.iter_mut().for_each(Machine::start);
        for look in 0.. {
            if servers.are_whole() {
                break;
            }
            assert!(look < LOOKS_MAX, "{kind} did not start; its logs are beside its directories");
            std::thread::sleep(super::LOOK_EVERY);
            servers.watchers.iter_mut().for_each(Machine::start);
        }
        servers
    }

    /// Whether the store says of itself that nothing is missing.
    pub(crate) fn are_whole(&self) -> bool {
        match self.kind {
            Kind::Redis => redis::is_up(&self.nodes),
            Kind::Sentinel => redis::follow(&self.nodes, &self.watchers),
            Kind::Cluster => redis::is_whole(&self.nodes),
            Kind::Postgres => postgres::is_up(&self.nodes),
            Kind::Embedded => true,
        }
    }

    /// A node that leads now, if one can be told.
    pub(crate) fn leader(&self) -> Option<usize> {
        match self.kind {
            Kind::Redis | Kind::Postgres => Some(0),
            Kind::Sentinel | Kind::Cluster => redis::leader(&self.nodes),
            Kind::Embedded => None,
        }
    }

    /// Does what an operator does for a node that cannot read its own log any more: throws its data away, once others
    /// lead without it, so that it gets theirs. Answers whether it did.
    pub(crate) fn replace(&mut self, index: usize) -> bool {
        let node = &self.nodes[index];
        let leads = self.kind.fails_over() && redis::lead_without(&self.nodes, index, self.kind);
        leads && redis::is_damaged(node) && redis::throw_away(node)
    }

    /// Asks for another leader in good order. Whether one comes is theirs to say.
    pub(crate) fn hand_over(&self) {
        match self.kind {
            Kind::Sentinel => redis::hand_over_by_sentinel(&self.watchers),
            Kind::Cluster => redis::hand_over_in_cluster(&self.nodes),
            Kind::Redis | Kind::Postgres | Kind::Embedded => {}
        }
    }
}
