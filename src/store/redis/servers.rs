//! Whom a command goes to: the one server that takes writes, or the one of a cluster that holds the key.
//!
//! Everything above this file sees keys and answers only. Read `address.rs` before, then `node.rs`, and
//! `sentinel.rs` or `cluster.rs`.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::task::JoinSet;

use super::address::Place;
use super::cluster::Cluster;
use super::dial::Dial;
use super::failed::Failed;
use super::link::{Link, OnPush, Purpose};
use super::node::{Lane, Node, Request, Terms};
use super::sentinel::Sentinels;

const WATCH: Purpose = Purpose { name: "watches", is_eager: false, patience: Duration::from_secs(1) };

/// The servers of a store. Cheap to clone.
#[derive(Clone)]
pub(super) enum Servers {
    /// One at a time: a server of its own, or the master that the sentinels name.
    One { node: Arc<Node>, sentinels: Option<Sentinels> },
    /// All masters of a cluster.
    Cluster(Cluster),
}

/// A server that holds a part of all keys.
pub(super) struct Part {
    /// For people.
    pub(super) name: Option<String>,
    pub(super) node: Arc<Node>,
}

/// All parts at one moment.
pub(super) struct Parts {
    /// Changes when keys move between the parts.
    pub(super) layout: u16,
    pub(super) all: Vec<Part>,
    /// Whether every key has a part.
    pub(super) is_complete: bool,
}

impl Servers {
    /// The servers at an address, and the connection for watches. What keeps them runs in `tasks`.
    pub(super) fn new(place: Place, terms: Terms, on_push: OnPush, tasks: &mut JoinSet<()>) -> (Self, Link) {
        let one = |dial: Dial, sentinels| {
            let servers = Self::One { node: Arc::new(Node::new(&dial, terms)), sentinels };
            (servers, dial)
        };
        let (servers, dial) = match place {
            Place::Server(client) => one(Dial::Server(Box::new(client)), None),
            Place::Set { sentinels, master, how } => {
                let sentinels = Sentinels::new(sentinels, master, how);
                tasks.spawn(sentinels.clone().keep());
                one(Dial::Master(sentinels.clone()), Some(sentinels))
            }
            Place::Cluster { seeds, how } => {
                let cluster = Cluster::new(seeds, how, terms);
                tasks.spawn(cluster.clone().keep());
                (Self::Cluster(cluster.clone()), Dial::Anyone(cluster))
            }
        };
        let watches = Link::new(dial, WATCH, Some(on_push));
        tasks.spawn(watches.clone().keep());
        (servers, watches)
    }

    /// Asks for something of `key` that changes no record.
    pub(super) async fn look(&self, key: &str, lane: Lane, command: &Cmd) -> Result<Value, Failed> {
        self.perform(key, lane, Request::Look(command)).await
    }

    /// Does what is asked where `key` is.
    pub(super) async fn perform(&self, key: &str, lane: Lane, request: Request<'_>) -> Result<Value, Failed> {
        match self {
            Self::One { node, .. } => node.perform(lane, request, false).await,
            Self::Cluster(cluster) => cluster.perform(key, lane, request).await,
        }
    }

    /// The servers that a cluster was configured with.
    pub(super) fn seeds(&self) -> Vec<Part> {
        match self {
            Self::One { .. } => Vec::new(),
            Self::Cluster(cluster) => cluster
                .seeds()
                .filter_map(|seed| {
                    Some(Part { name: Some(seed.to_string()), node: cluster.node(seed).ok()? })
                })
                .collect(),
        }
    }

    /// The servers that hold all keys between them.
    pub(super) async fn parts(&self) -> Result<Parts, Failed> {
        match self {
            Self::One { node, .. } => {
                let part = Part { name: None, node: Arc::clone(node) };
                Ok(Parts { layout: 0, all: vec![part], is_complete: true })
            }
            Self::Cluster(cluster) => {
                let view = cluster.view().await?;
                let part = |master| Ok(Part { name: Some(format!("{master}")), node: cluster.node(master)? });
                let all = view.masters().map(part).collect::<Result<_, Failed>>()?;
                Ok(Parts { layout: view.layout(), all, is_complete: view.is_complete() })
            }
        }
    }
}
