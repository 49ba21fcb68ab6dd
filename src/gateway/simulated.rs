//! One gateway process of a simulation: put together as `start_on` and a worker do it, of the same parts, but in a
//! runtime, over a store and behind a listener that it is given.
//!
//! What is left out is what needs threads, files or signals: the operators' listener, the vetting of the store, reloads
//! and traces. Must not know what is simulated around it (`../simulation/`).

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{Upstreams, backing, drain, settings};
use crate::config::Config;
use crate::ledger::{self, Ledger};
use crate::net::Listener;
use crate::protocol::scope::StorageKey;
use crate::proxy::{Entrance, KnownKey, Proxy, Settings, Shared, locate};
use crate::server::{self, Reception, Stop};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;

/// A gateway process at work in the runtime that it was started in.
pub(crate) struct Simulated {
    pub(crate) ledger: Ledger,
    config: Arc<Config>,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    stop: Stop,
    chores: TaskTracker,
    served: oneshot::Receiver<()>,
}

impl Simulated {
    /// Starts it. To be called in its runtime.
    pub(crate) async fn start(config: Arc<Config>, store: Arc<dyn Store>, listener: Listener) -> Self {
        let metrics = Arc::<Metrics>::default();
        let reception = Arc::new(Reception::of(&config.server, Arc::clone(&metrics)).unwrap());
        let upstreams = Upstreams::of(&config, &Upstreams::default(), &metrics).unwrap();
        let terms = backing::ledger_settings(&config.store);
        let ledger =
            Ledger::counted_by(Arc::clone(&metrics), Arc::clone(&store), ledger::fresh_session(), terms);
        let shared = Arc::new(Shared { metrics: Arc::clone(&metrics), ..Shared::default() });
        let settings = Arc::new(settings(&config, &metrics));
        let (stop, chores) = (Stop::default(), TaskTracker::new());
        chores.spawn({
            let ledger = ledger.clone();
            async move { ledger.heartbeat().await }
        });
        // As there: whether the store answers or not.
        let _is_connected = ledger.connected(config.store.timeout).await;
        for fleet in upstreams.fleets.iter().map(Arc::clone) {
            let stopping = stop.connections.clone();
            chores.spawn(async move { stopping.run_until_cancelled(fleet.attend()).await });
        }
        let (ended, served) = oneshot::channel();
        let work = {
            let (shared, settings, stop) = (Arc::clone(&shared), Arc::clone(&settings), stop.clone());
            let ledger = ledger.over(store);
            async move {
                let clients = upstreams.connect().unwrap();
                let entrance = Entrance::to(Proxy::new(shared, settings, ledger, clients));
                server::serve(listener, entrance, reception, stop).await.unwrap();
                ended.send(()).ok();
            }
        };
        chores.spawn(work);
        Self { ledger, config, settings, shared, stop, chores, served }
    }

    /// Where the record of a caller's key stands in the store.
    pub(crate) fn storage_key(&self, route: &str, authorization: &str, key: &str) -> StorageKey {
        let scope = [("header:authorization".to_owned(), vec![authorization.to_owned()])];
        let known =
            KnownKey { key, route: Some(route), host: None, scope: &scope, read_certificate: |_| None };
        locate(&self.settings, &known).unwrap().first().unwrap().key
    }

    /// Ends it in order, by the same steps as SIGTERM does.
    pub(crate) async fn drain(self) {
        drain::finish(&self.config, &self.shared, &self.stop, &self.ledger).await;
        self.stop.connections.cancel();
        // Who is still connected then is cut by the end of the process.
        let _ended = tokio::time::timeout(drain::FLUSH_MAX, self.served).await;
        self.chores.close();
    }
}
