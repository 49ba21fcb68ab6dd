//! What all workers know together of one upstream: which of its servers are well, how much each is working on, and
//! who waits for a place.
//!
//! There is one [`Fleet`] per upstream and process; it outlives a reload that leaves the upstream as it is. Each
//! worker has connections of its own (`mod.rs`). Decides nothing: read `balance.rs` for which server a request goes
//! to, `place.rs` for how a request holds its place, `attend.rs` for what is done in the background.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::balance::{Balance, Granted, Outcome, Wish};
use super::connection::Count;
use super::health::Change;
use super::kind::Kind;
use super::place::Place;
use super::queue::Ticket;
use super::resolve::Names;
use super::tls::{BadTrust, Trust};
use crate::config;
use crate::telemetry::metrics::{ServerObserved, UpstreamMetrics, UpstreamObserved};

/// How often one kind of trouble is logged at most.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Where nobody waits in vain: a place, told to the one who waits for it.
type Waiter = (oneshot::Sender<Place>, Kind);

/// One upstream, as all workers know it.
#[derive(Debug)]
pub struct Fleet {
    config: config::Upstream,
    trust: Trust,
    names: Names,
    balance: Mutex<Balance<Waiter>>,
    refusals: Mutex<Refusals>,
    /// Connections to each server, of all workers.
    connections: Box<[Count]>,
    metrics: UpstreamMetrics,
}

/// A server, as operators are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Its authority.
    pub authority: String,
    /// Whether it gets requests.
    pub is_well: bool,
    /// Requests to it whose answer has not ended.
    pub open: usize,
}

/// No server has room, and none came to have room in time. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("find a server with room for the request")]
pub(super) struct NoRoom;

#[derive(Debug, Default)]
struct Refusals {
    told_at: Option<Instant>,
    since: u64,
}

impl Fleet {
    /// A fleet of which nothing is known yet; nobody reads what it counts.
    ///
    /// Errors: those who vouch for it cannot be read, or the like.
    pub fn of(config: &config::Upstream) -> Result<Arc<Self>, BadTrust> {
        Self::counted_by(UpstreamMetrics::unread(), config)
    }

    /// A fleet of which nothing is known yet.
    ///
    /// Errors: those who vouch for it cannot be read, or the like.
    pub fn counted_by(metrics: UpstreamMetrics, config: &config::Upstream) -> Result<Arc<Self>, BadTrust> {
        Ok(Arc::new(Self {
            config: config.clone(),
            trust: Trust::of(config)?,
            names: Names::known_for(config.resolve_every),
            balance: Mutex::new(Balance::new(config)),
            refusals: Mutex::default(),
            connections: config.servers.iter().map(|_| Count::default()).collect(),
            metrics,
        }))
    }

    /// What it was made by.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// What is counted of it.
    pub(super) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// The connections to one of its servers.
    pub(super) fn count(&self, authority: &Authority) -> Count {
        let servers = self.config.servers.iter().zip(&self.connections);
        let mut of_server =
            servers.filter(|(server, _)| *server == authority.as_str()).map(|(_, count)| count);
        of_server.next().cloned().unwrap_or_default()
    }

    /// Its servers, in the order of the configuration, and how they do.
    pub fn servers(&self) -> Vec<ServerState> {
        let (balance, now) = (self.balance(), Instant::now());
        let state = |(server, authority): (usize, &String)| ServerState {
            authority: authority.clone(),
            is_well: balance.is_well(server, now),
            open: balance.open(server),
        };
        self.config.servers.iter().enumerate().map(state).collect()
    }

    /// How it does, as metrics tell.
    pub fn observed(&self) -> UpstreamObserved {
        let servers = self.servers().into_iter().zip(&self.connections);
        let observed = servers.map(|(server, count)| ServerObserved {
            address: server.authority,
            is_healthy: server.is_well,
            in_flight: server.open,
            connections: count.open(),
        });
        UpstreamObserved { name: self.config.name.clone(), servers: observed.collect() }
    }

    /// Whom its servers' certificates are believed from.
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// What is known of the names of its servers.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// A place at a server, as soon as there is one.
    ///
    /// Errors: there was none within `queue_timeout`.
    /// Cancel safety: dropping the future leaves the queue.
    pub(super) async fn enter(self: &Arc<Self>, kind: Kind, wish: Wish) -> Result<Place, NoRoom> {
        let now = Instant::now();
        let (waiting, turn) = {
            let mut balance = self.balance();
            if let Some(granted) = balance.enter(&wish, now) {
                // There is room again by the mere passing of time, which tells nobody.
                let is_waited_for = balance.is_waited_for();
                drop(balance);
                if is_waited_for {
                    self.let_in(now);
                }
                return Ok(self.place(granted, kind, now));
            }
            let (tell, turn) = oneshot::channel();
            let ticket = balance.wait((tell, kind), wish, now);
            (Waiting { fleet: self, ticket }, turn)
        };
        let place = tokio::time::timeout(self.config.queue_timeout, turn).await;
        drop(waiting);
        if let Ok(Ok(place)) = place {
            return Ok(place);
        }
        self.tell_refusal();
        Err(NoRoom)
    }

    /// A place at another server than those that were tried, if one has room at once.
    pub(super) fn enter_elsewhere(self: &Arc<Self>, kind: Kind, wish: &Wish) -> Option<Place> {
        let now = Instant::now();
        let granted = self.balance().enter(wish, now)?;
        Some(self.place(granted, kind, now))
    }

    /// A request need not be waited for any more: its answer has begun, or will not.
    pub(super) fn heard(self: &Arc<Self>, server: usize, outcome: &Outcome, has_left: bool) {
        let now = Instant::now();
        let (limits, change) = {
            let mut balance = self.balance();
            let before = balance.limit(server);
            let change = balance.heard(server, outcome, now);
            if has_left {
                balance.left(server);
            }
            ((before, balance.limit(server)), change)
        };
        self.tell_change(server, change);
        match limits {
            (None, Some(limit)) => tracing::warn!(
                upstream = self.config.name,
                server = self.authority(server),
                limit = limit.round(),
                "answers take longer the more are asked for: requests at once are limited"
            ),
            (Some(_), None) => tracing::info!(
                upstream = self.config.name,
                server = self.authority(server),
                "requests at once are no longer limited"
            ),
            (None, None) | (Some(_), Some(_)) => {}
        }
        self.let_in(now);
    }

    /// An answer has ended.
    pub(super) fn left(self: &Arc<Self>, server: usize) {
        self.balance().left(server);
        self.let_in(Instant::now());
    }

    /// A check of a server came to this.
    pub(super) fn checked(self: &Arc<Self>, server: usize, is_well: bool) {
        let change = self.balance().checked(server, is_well);
        self.tell_change(server, change);
        self.let_in(Instant::now());
    }

    /// Gives places to those whose turn has come.
    fn let_in(self: &Arc<Self>, now: Instant) {
        loop {
            // In a statement of its own, so that the lock is not held when the place is handed over: one that is
            // not wanted any more is dropped, and comes back here.
            let next = self.balance().next(now);
            let Some(((tell, kind), granted)) = next else { return };
            drop(tell.send(self.place(granted, kind, now)));
        }
    }

    fn place(self: &Arc<Self>, granted: Granted, kind: Kind, now: Instant) -> Place {
        Place::new(Arc::clone(self), granted, kind, now)
    }

    fn balance(&self) -> MutexGuard<'_, Balance<Waiter>> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authority(&self, server: usize) -> &str {
        self.config.servers.get(server).map_or("", String::as_str)
    }

    fn tell_change(&self, server: usize, change: Option<Change>) {
        let (upstream, server) = (&self.config.name, self.authority(server));
        match change {
            Some(Change::Ejected) => {
                let seconds = self.config.eject_for.as_secs_f64();
                tracing::warn!(upstream, server, seconds, "a server is left out: requests to it failed");
            }
            Some(Change::FoundIll) => {
                tracing::warn!(upstream, server, "a server is left out: its health checks failed");
            }
            Some(Change::Back) => tracing::info!(upstream, server, "a server gets requests again"),
            None => return,
        }
        if !self.balance().is_any_well(Instant::now()) {
            tracing::error!(upstream, "no server is well: all of them are tried");
        }
    }

    fn tell_refusal(&self) {
        let now = Instant::now();
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.since += 1;
        if refusals.told_at.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            let requests = std::mem::take(&mut refusals.since);
            refusals.told_at = Some(now);
            tracing::warn!(
                upstream = self.config.name,
                requests,
                "refused as overloaded: no server had room in time"
            );
        }
    }
}

/// Leaves the queue when dropped.
struct Waiting<'a> {
    fleet: &'a Fleet,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.fleet.balance().give_up(self.ticket);
    }
}
