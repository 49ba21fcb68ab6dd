//! The composition root: from a configuration to a running gateway, and to its orderly end. Alone knows
//! everyone.
//!
//! One thread per core, each with a runtime, connections to the upstreams and a store handle of its own;
//! they share the listener, the ledger's memory and the routes. Read `gateway/reload.rs` for another configuration
//! while it runs, `gateway/drain.rs` for the end.

mod backing;
mod continuity;
mod drain;
pub mod online;
mod operators;
mod reload;
mod sealing;
mod signals;
mod systemd;
mod vetting;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::{self, Config, risks};
use crate::ledger::{self, Ledger};
use crate::protocol::policy::KeyMode;
use crate::protocol::scope::HashKey;
use crate::proxy::{Router, Settings, Shared};
use crate::server::{self, Stop};
use crate::upstream::{BadAddress, Fleet, Trust, Upstream};

use backing::Backing;
pub use backing::{OpenError, open_transfer};
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
    ledger: Ledger,
    stop: Stop,
    chores: TaskTracker,
    workers: Vec<Worker>,
    fleets: Vec<Arc<Fleet>>,
    /// Since when keys and fingerprints are made as they are now.
    derives_since: Instant,
}

/// Why a gateway did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
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
    /// The system's certificates cannot be read.
    #[error("read the system's certificates, which https upstreams need")]
    Trust(#[source] io::Error),
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
    let config = Arc::new(config);
    let listener = match sockets.server {
        Some(listener) => listener,
        None => bind(config.server.listen)?,
    };
    let admin = Operators::serve(&config, sockets.admin)?;
    let upstreams = Upstreams::prepare(&config, &[])?;
    let backing = Backing::open(&config.store).await?;
    let store = backing.handle()?;
    let ledger =
        Ledger::new(Arc::clone(&store), ledger::fresh_session(), backing::ledger_settings(&config.store));
    let inspect = move || {
        let store = Arc::clone(&store);
        async move { store.inspect().await }
    };
    let mut vetting = Vetting::new(inspect, config.store.accept_eviction, ledger.clone());
    let shared = Arc::<Shared>::default();
    let mut running = Running {
        listen: listener.local_addr().map_err(|error| GatewayError::Listen(config.server.listen, error))?,
        admin,
        config: Arc::clone(&config),
        settings: Arc::new(settings(&config)),
        shared,
        ledger: ledger.clone(),
        stop: Stop::default(),
        chores: TaskTracker::new(),
        workers: Vec::new(),
        fleets: Vec::new(),
        derives_since: clock::monotonic(),
    };
    running.chores.spawn({
        let ledger = ledger.clone();
        async move { ledger.heartbeat().await }
    });
    let is_connected = ledger.connected(config.store.timeout).await;
    if is_connected {
        vetting.first().await?;
    } else {
        tracing::warn!(store = %ledger.store_name(), "the store takes no claims yet: guarded requests are refused until it does");
    }
    running.chores.spawn({
        let stopping = running.stop.connections.clone();
        async move { stopping.run_until_cancelled(vetting.keep()).await }
    });
    let backing = Arc::new(backing);
    running.chores.spawn({
        let (stopping, backing, config) = (running.stop.connections.clone(), backing.clone(), config.clone());
        async move { stopping.run_until_cancelled(backing.keep_backups(&config.store)).await }
    });
    running.attend(&upstreams);
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

    /// Goes on with these upstreams: those that are new are looked after from now on; those that are gone end with
    /// their last request.
    fn attend(&mut self, upstreams: &Upstreams) {
        let is_held = |fleet: &Arc<Fleet>| self.fleets.iter().any(|held| Arc::ptr_eq(held, fleet));
        for fleet in upstreams.fleets.iter().filter(|fleet| !is_held(fleet)) {
            let (stopping, trust) = (self.stop.connections.clone(), upstreams.trust.clone());
            let attending = Arc::clone(fleet).attend(trust);
            self.chores.spawn(async move {
                if let Some(Err(error)) = stopping.run_until_cancelled(attending).await {
                    tracing::error!(%error, "an upstream is not looked after");
                }
            });
        }
        self.fleets.clone_from(&upstreams.fleets);
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
#[derive(Clone, Debug)]
struct Upstreams {
    trust: Trust,
    /// What all workers know of each upstream, in the order of the configuration.
    fleets: Vec<Arc<Fleet>>,
}

impl Upstreams {
    /// Reads the certificates once, and makes sure that every worker will be able to make its clients. What is known
    /// of an upstream that is among `held`, and is as it was, stays known.
    fn prepare(config: &Config, held: &[Arc<Fleet>]) -> Result<Self, NotPrepared> {
        let kept = |config| held.iter().find(|fleet| fleet.config() == config).map(Arc::clone);
        let fleet = |config| kept(config).unwrap_or_else(|| Fleet::of(config));
        let fleets = config.upstreams.iter().map(fleet).collect();
        let upstreams = Self { trust: Self::trust(config)?, fleets };
        upstreams.connect(config)?;
        Ok(upstreams)
    }

    fn trust(config: &Config) -> io::Result<Trust> {
        Trust::of_system(config.upstreams.iter().any(|upstream| upstream.tls))
    }

    fn connect(&self, config: &Config) -> Result<Vec<Upstream>, BadAddress> {
        config.upstreams.iter().map(|upstream| self.connect_one(upstream)).collect()
    }

    fn connect_one(&self, config: &config::Upstream) -> Result<Upstream, BadAddress> {
        let known = self.fleets.iter().find(|fleet| fleet.config() == config);
        Upstream::new(&known.map_or_else(|| Fleet::of(config), Arc::clone), &self.trust)
    }
}

/// Why upstreams cannot be used.
#[derive(Debug, thiserror::Error)]
enum NotPrepared {
    #[error(transparent)]
    Address(#[from] BadAddress),
    #[error(transparent)]
    Trust(#[from] io::Error),
}

impl From<NotPrepared> for GatewayError {
    fn from(error: NotPrepared) -> Self {
        match error {
            NotPrepared::Address(error) => Self::Upstream(error),
            NotPrepared::Trust(error) => Self::Trust(error),
        }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        server: config.server.clone(),
        routes: config.routes.iter().cloned().map(Arc::new).collect(),
        router: Router::new(&config.routes),
        default_upstream: config.default_upstream,
        namespace: config.store.namespace.clone(),
        hash_key: HashKey::new(config.store.hash_key.as_ref().map(|secret| secret.reveal().as_bytes())),
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, GatewayError> {
    server::bind(address).map_err(|error| GatewayError::Listen(address, error))
}
