//! The composition root: from a configuration to a running gateway, and to its orderly end. Alone knows
//! everyone.
//!
//! One thread per core, each with a runtime, connections to the upstreams and a store handle of its own;
//! they share the listener, the ledger's memory and the routes. Read `gateway/reload.rs` for another configuration
//! while it runs, `gateway/drain.rs` for the end.

mod backing;
#[cfg(feature = "otlp")]
mod collector;
#[cfg(not(feature = "otlp"))]
#[path = "gateway/no_collector.rs"]
mod collector;
mod continuity;
mod drain;
mod observe;
pub mod online;
mod operators;
mod reload;
mod sealing;
mod signals;
#[cfg(test)]
pub(crate) mod simulated;
mod systemd;
mod vetting;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio_util::task::TaskTracker;

use crate::admin::CannotAudit;
use crate::clock;
use crate::config::{self, Config, risks};
use crate::ledger::{self, Ledger};
use crate::protocol::policy::KeyMode;
use crate::protocol::scope::HashKey;
use crate::proxy::{Router, Settings, Shared};
use crate::server::{self, BadTls, Reception, Stop};
use crate::telemetry::access::Names;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{BadAddress, BadTrust, Fleet, Upstream};

use backing::Backing;
pub use backing::{OpenError, open_transfer};
pub use collector::BadCollector;
use collector::Collector;
use operators::Operators;
use signals::{Signals, Told};
pub use systemd::Sockets;
pub use vetting::Refused;
use vetting::Vetting;
use worker::Worker;

/// A gateway that takes requests.
#[derive(Debug)]
pub struct Running {
    listen: SocketAddr,
    admin: Operators,
    config: Arc<Config>,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    reception: Arc<Reception>,
    ledger: Ledger,
    collector: Option<Collector>,
    stop: Stop,
    chores: TaskTracker,
    workers: Vec<Worker>,
    upstreams: Upstreams,
    /// The same, for those who only look.
    shown_upstreams: Arc<ArcSwap<Upstreams>>,
    metrics: Arc<Metrics>,
    /// Since when keys and fingerprints are made as they are now.
    derives_since: Instant,
}

/// Why a gateway did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The certificates for callers cannot be used.
    #[error("prepare TLS of [server]")]
    Tls(#[from] BadTls),
    /// The certificates for operators cannot be used.
    #[error("prepare TLS of [admin]")]
    OperatorsTls(#[source] BadTls),
    /// Operators' changes cannot be put down.
    #[error("prepare admin.audit_file")]
    Audit(#[from] CannotAudit),
    /// The sockets that the service manager passed are not what is wanted.
    #[error("use the sockets that were passed")]
    Sockets(#[source] io::Error),
    /// The store cannot be opened.
    #[error("open the store")]
    Store(#[from] OpenError),
    /// The guarantee would not hold on it.
    #[error(transparent)]
    Untrusted(#[from] Refused),
    /// An upstream's address cannot be used.
    #[error("prepare the upstreams")]
    Upstream(#[from] BadAddress),
    /// An upstream cannot be met over TLS.
    #[error("prepare the upstreams")]
    Trust(#[from] BadTrust),
    /// Traces cannot be delivered.
    #[error(transparent)]
    Traces(#[from] BadCollector),
    /// The system gives no thread, runtime or signal handler.
    #[error("start a worker")]
    Worker(#[source] io::Error),
    /// A second signal came before the drain was done.
    #[error("finish what was in flight: stopped by a second signal")]
    Interrupted,
}

/// Runs a gateway until SIGTERM or SIGINT, then drains it. At each SIGHUP `file`, where there is one, is read again.
///
/// Errors: it did not start, or a second signal ended it.
pub async fn run(config: Config, file: Option<PathBuf>, sockets: Sockets) -> Result<(), GatewayError> {
    let mut signals = Signals::new().map_err(GatewayError::Worker)?;
    let mut running = start_on(config, sockets).await?;
    systemd::ready(&format!("serving on {}", running.listen));
    let watched = systemd::watch(running.workers.iter().map(|worker| worker.turns.clone()).collect());
    let lived = async {
        let name = loop {
            match signals.next().await {
                Told::Stop(name) => break name,
                Told::Reload => running.reload(file.as_deref()).await,
            }
        };
        tracing::info!(signal = name, "stopping");
        systemd::stopping("finishing what is in flight");
        tokio::select! {
            () = running.drain() => Ok(()),
            name = signals.next_stop() => {
                tracing::warn!(signal = name, "stopped at once by a second signal");
                Err(GatewayError::Interrupted)
            }
        }
    };
    tokio::select! {
        ended = lived => ended,
        () = watched => Ok(()),
    }
}

/// Starts a gateway. When this returns, it takes requests; if its store is out of reach, guarded ones are
/// refused until it is back.
pub async fn start(config: Config) -> Result<Running, GatewayError> {
    start_on(config, Sockets::default()).await
}

/// Starts a gateway on sockets that listen already, where there are any.
async fn start_on(config: Config, sockets: Sockets) -> Result<Running, GatewayError> {
    let (config, metrics) = (Arc::new(config), Arc::<Metrics>::default());
    server::raise_descriptors(config.server.connections_max);
    let reception = Arc::new(Reception::of(&config.server, Arc::clone(&metrics))?);
    let listener = match sockets.server {
        Some(listener) => listener,
        None => bind(config.server.listen)?,
    };
    let admin = Operators::serve(&config, sockets.admin, &metrics)?;
    let upstreams = Upstreams::of(&config, &Upstreams::default(), &metrics)?;
    upstreams.connect()?;
    let backing = Backing::open(&config.store).await?;
    let store = backing.handle()?;
    let (session, terms) = (ledger::fresh_session(), backing::ledger_settings(&config.store));
    let ledger = Ledger::counted_by(Arc::clone(&metrics), Arc::clone(&store), session, terms);
    let inspect = move || {
        let store = Arc::clone(&store);
        async move { store.inspect().await }
    };
    let mut vetting = Vetting::new(inspect, config.store.accept_eviction, ledger.clone());
    let chores = TaskTracker::new();
    let collector = Collector::of(&config.traces, session, &chores)?;
    let tracer = collector.as_ref().map(Collector::tracer);
    let shared = Arc::new(Shared { tracer, metrics: Arc::clone(&metrics), ..Shared::default() });
    let mut running = Running {
        listen: listener.local_addr().map_err(|error| GatewayError::Listen(config.server.listen, error))?,
        admin,
        config: Arc::clone(&config),
        settings: Arc::new(settings(&config, &metrics)),
        reception,
        shared,
        ledger: ledger.clone(),
        collector,
        stop: Stop::default(),
        chores,
        workers: Vec::new(),
        upstreams: Upstreams::default(),
        shown_upstreams: Arc::default(),
        metrics,
        derives_since: clock::monotonic(),
    };
    running.chores.spawn({
        let ledger = ledger.clone();
        async move { ledger.heartbeat().await }
    });
    if ledger.connected(config.store.timeout).await {
        vetting.first().await?;
    } else {
        tracing::warn!(store = %ledger.store_name(), "the store takes no claims yet: guarded requests are refused until it does");
    }
    running.keep(async move { vetting.keep().await });
    let terms = operators::terms(&config, operators::audit(&config)?).map_err(GatewayError::OperatorsTls)?;
    running.admin.go_by(terms, &running.settings, &upstreams);
    let backing = Arc::new(backing);
    running.keep({
        let (backing, config) = (backing.clone(), config.clone());
        async move { backing.keep_backups(&config.store).await }
    });
    running.attend(&upstreams);
    running.let_metrics_observe();
    for number in 0..config.server.threads {
        running.workers.push(worker::spawn(number, &running, &listener, &backing, &upstreams)?);
    }
    running.admin.report_on(Arc::clone(&running.shared), running.ledger.clone());
    running.announce();
    Ok(running)
}

impl Running {
    /// The address that callers connect to.
    pub fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// The address that operators connect to.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.address
    }

    /// Has a chore done until the gateway stops taking connections.
    fn keep(&self, chore: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stop.connections.clone();
        self.chores.spawn(async move { stopping.run_until_cancelled(chore).await });
    }

    /// Goes on with these upstreams: those that are new are looked after from now on; those that are gone end with
    /// their last request.
    fn attend(&mut self, upstreams: &Upstreams) {
        let is_held = |fleet: &Arc<Fleet>| self.upstreams.fleets.iter().any(|held| Arc::ptr_eq(held, fleet));
        for fleet in upstreams.fleets.iter().filter(|fleet| !is_held(fleet)) {
            let fleet = Arc::clone(fleet);
            self.keep(async move { fleet.attend().await });
        }
        self.upstreams = upstreams.clone();
        self.shown_upstreams.store(Arc::new(upstreams.clone()));
    }

    fn let_metrics_observe(&self) {
        let (shared, reception) = (Arc::clone(&self.shared), Arc::clone(&self.reception));
        let upstreams = Arc::clone(&self.shown_upstreams);
        self.metrics.observe_by(observe::observe(shared, self.ledger.clone(), reception, upstreams));
    }

    /// Says what is protected, where, and on which store.
    fn announce(&self) {
        for risk in risks::risks(&self.config) {
            tracing::warn!("{risk}");
        }
        let guarded = self.config.routes.iter().filter(|route| route.policy.key != KeyMode::Off);
        let guarded: Vec<_> = guarded
            .map(|route| {
                let host = route.host.as_deref().unwrap_or_default();
                format!("{} {host}{}", route.policy.methods.join(","), route.path)
            })
            .collect();
        tracing::info!(
            listen = %self.listen,
            admin = self.admin.address.map(|address| address.to_string()),
            store = %self.ledger.store_name(),
            protected = %guarded.join("; "),
            workers = self.workers.len(),
            version = env!("CARGO_PKG_VERSION"),
            "onceway is up"
        );
    }
}

/// What workers need to make their connections.
#[derive(Clone, Debug, Default)]
struct Upstreams {
    /// What all workers know of each, in the order of the configuration.
    fleets: Arc<[Arc<Fleet>]>,
}

impl Upstreams {
    /// Reads the certificates once. What is known of an upstream that is among `held`, and is as it was, stays known.
    fn of(config: &Config, held: &Self, metrics: &Metrics) -> Result<Self, BadTrust> {
        let kept = |config| held.fleets.iter().find(|fleet| fleet.config() == config).map(Arc::clone);
        let made = |config: &config::Upstream| Fleet::counted_by(metrics.of_upstream(&config.name), config);
        let fleet = |config| kept(config).map_or_else(|| made(config), Ok);
        Ok(Self { fleets: config.upstreams.iter().map(fleet).collect::<Result<_, _>>()? })
    }

    /// The clients of one worker. Made before there is one, they show that every worker will be able to.
    fn connect(&self) -> Result<Vec<Upstream>, BadAddress> {
        self.fleets.iter().map(Upstream::new).collect()
    }
}

fn settings(config: &Config, metrics: &Metrics) -> Settings {
    Settings {
        server: config.server.clone(),
        routes: config.routes.iter().cloned().map(Arc::new).collect(),
        router: Router::new(&config.routes),
        default_upstream: config.default_upstream,
        namespace: config.store.namespace.clone(),
        hash_key: HashKey::new(config.store.hash_key.as_ref().map(|secret| secret.reveal().as_bytes())),
        names: Names::by(&config.routes),
        counts: Arc::new(metrics.of_routes(&config.routes)),
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    server::bind(address).map_err(|error| GatewayError::Listen(address, error))
}
