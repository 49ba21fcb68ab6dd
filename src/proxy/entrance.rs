//! Where requests come in, and what stays the same for all of them: what a configuration asks for, and what the
//! workers share.
//!
//! A reload leads the entrance to another [`Proxy`]; a request stays on the one that it began on. Must not know how a
//! request is answered. Read `mod.rs` before.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Proxy;
use super::budget::Budget;
use super::kept::Strangers;
use super::quota::Quotas;
use super::route::Router;
use crate::config::{Route, Server};
use crate::protocol::scope::HashKey;
use crate::telemetry::access::Names;
use crate::telemetry::metrics::{Metrics, Observed, RequestMetrics};
use crate::telemetry::trace::Tracer;

/// What a configuration asks for. A reload makes another; a request keeps the one that it began with.
#[derive(Debug)]
pub struct Settings {
    /// The listener's settings.
    pub server: Server,
    /// The routes.
    pub routes: Vec<Arc<Route>>,
    /// The routes, ready to be looked up.
    pub router: Router,
    /// Index of the upstream that takes whatever no route names.
    pub default_upstream: Option<usize>,
    /// Separates installations that share a store.
    pub namespace: String,
    /// Keys storage keys and fingerprints.
    pub hash_key: HashKey,
    /// Which of a caller's names for its request may be told.
    pub names: Names,
    /// What is counted of its requests.
    pub counts: Arc<RequestMetrics>,
}

/// What all workers share for as long as the gateway runs.
#[derive(Debug, Default)]
pub struct Shared {
    /// Set when the gateway is told to stop: whoever asks whether it is ready hears no, requests are still taken.
    pub leaving: AtomicBool,
    /// Set when no more requests are taken.
    pub draining: AtomicBool,
    /// Connections on which nothing has been asked yet.
    pub newcomers: TaskTracker,
    /// Every exchange under way: from the head of its request to the end of its answer and its record.
    pub exchanges: TaskTracker,
    /// Requests under way.
    pub in_flight: Arc<Budget>,
    /// Bytes of bodies held whole.
    pub buffered: Arc<Budget>,
    /// What callers have taken, where their routes count it.
    pub quotas: Arc<Quotas>,
    /// Tells of records that no gateway has written.
    pub strangers: Strangers,
    /// Where traces are recorded; `None`: nowhere.
    pub tracer: Option<Arc<Tracer>>,
    /// Cancelled when the drain's time is up: forwards still under way become unknown outcomes.
    pub out_of_time: CancellationToken,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Shared {
    /// Tells how much is under way.
    pub fn observe(&self, now: &mut Observed) {
        now.requests_in_flight = self.in_flight.used();
        now.buffered_bytes = self.buffered.used();
    }
}

/// Where a worker's requests come in: leads each to the road of the configuration that holds when its head has come.
#[derive(Clone, Debug)]
pub struct Entrance(Arc<ArcSwap<Proxy>>);

impl Entrance {
    /// An entrance to `proxy`.
    pub fn to(proxy: Proxy) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(proxy)))
    }

    /// From now on requests take another road; those under way stay on theirs.
    pub fn lead_to(&self, proxy: Proxy) {
        self.0.store(Arc::new(proxy));
    }

    /// The road that a request takes now.
    pub fn now(&self) -> Arc<Proxy> {
        self.0.load_full()
    }
}
