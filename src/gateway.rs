//! The composition root: from a configuration to a running gateway, and to its orderly end. Alone knows
//! everyone.
//!
//! One thread per core, each with a runtime, connections to the upstreams and a store handle of its own;
//! they share the listener, the ledger's memory and the routes. Read `gateway/drain.rs` for the end.

mod backing;
mod drain;
pub mod online;
mod sealing;
mod vetting;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Probe, Readiness};
use crate::config::{Config, risks};
use crate::ledger::{self, Ledger};
use crate::protocol::policy::KeyMode;
use crate::protocol::scope::HashKey;
use crate::proxy::{Router, Settings, Shared};
use crate::server::{self, Stop};
use crate::upstream::{BadAddress, BadTrust, Trust, Upstream};

use backing::Backing;
pub use backing::{OpenError, open_transfer};
pub use vetting::Refused;
use vetting::Vetting;

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
    workers: Vec<JoinHandle<()>>,
}

/// Why a gateway did not start, or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not ours.
    #[error("listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
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
    /// The system gives no thread, runtime or signal handler.
    #[error("start a worker")]
    Worker(#[source] io::Error),
    /// A second signal came before the drain was done.
    #[error("finish what was in flight: stopped by a second signal")]
    Interrupted,
}

/// Runs a gateway until SIGTERM or SIGINT, then drains it.
///
/// Errors: it did not start, or a second signal ended it.
pub async fn run(config: Config) -> Result<(), GatewayError> {
    let mut signals = Signals::new().map_err(GatewayError::Worker)?;
    let running = start(config).await?;
    let name = signals.next_stop().await;
    tracing::info!(signal = name, "stopping");
    tokio::select! {
        () = running.drain() => Ok(()),
        name = signals.next_stop() => {
            tracing::warn!(signal = name, "stopped at once by a second signal");
            Err(GatewayError::Interrupted)
        }
    }
}

/// Starts a gateway. When this returns, it takes requests; if its store is out of reach, guarded ones are
/// refused until it is back.
pub async fn start(config: Config) -> Result<Running, GatewayError> {
    let config = Arc::new(config);
    let listener = bind(config.server.listen)?;
    let admin = Operators::serve(&config)?;
    let upstreams = Upstreams::prepare(&config)?;
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
    /// In the order of the configuration.
    trusts: Arc<[Trust]>,
}

impl Upstreams {
    /// Reads the certificates once, and makes sure that every worker will be able to make its clients.
    fn prepare(config: &Config) -> Result<Self, GatewayError> {
        let upstreams = Self { trusts: config.upstreams.iter().map(Trust::of).collect::<Result<_, _>>()? };
        upstreams.connect(config)?;
        Ok(upstreams)
    }

    fn connect(&self, config: &Config) -> Result<Vec<Upstream>, BadAddress> {
        let upstreams = config.upstreams.iter().zip(&*self.trusts);
        upstreams.map(|(upstream, trust)| Upstream::new(upstream, trust)).collect()
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

/// The operators' listener: it answers from the first moment, before the store is open.
#[derive(Debug)]
struct Operators {
    address: Option<SocketAddr>,
    subject: Arc<OnceLock<(Arc<Shared>, Ledger)>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Operators {
    fn serve(config: &Config) -> Result<Self, GatewayError> {
        let listener = bind_admin(config)?;
        let operators = Self {
            address: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            subject: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        if let Some(listener) = listener {
            let subject = Arc::clone(&operators.subject);
            let probe: Probe = Arc::new(move || readiness(subject.get()));
            let stop = operators.stop.clone();
            operators.tasks.spawn(async move {
                if let Err(error) = admin::serve(listener, probe, stop).await {
                    tracing::error!(%error, "the operators' listener failed");
                }
            });
        }
        Ok(operators)
    }

    fn report_on(&self, shared: Arc<Shared>, ledger: Ledger) {
        self.subject.get_or_init(|| (shared, ledger));
    }
}

fn readiness(subject: Option<&(Arc<Shared>, Ledger)>) -> Readiness {
    match subject {
        None => Readiness::Starting,
        Some((shared, _)) if shared.draining.load(Ordering::Acquire) => Readiness::Draining,
        Some((_, ledger)) if ledger.is_connected() => Readiness::Ready,
        Some(_) => Readiness::StoreUnreachable,
    }
}

fn bind_admin(config: &Config) -> Result<Option<TcpListener>, GatewayError> {
    let admin = &config.admin;
    match server::bind(admin.listen) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if admin.is_explicit => Err(GatewayError::Listen(admin.listen, error)),
        Err(error) => {
            let address = admin.listen;
            tracing::warn!(%address, %error, "no listener for operators: its default address is taken");
            Ok(None)
        }
    }
}

/// The signals that a gateway answers.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next_stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // Left to itself it would end the process without a drain.
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP is ignored: a new configuration takes a restart");
                }
            }
        }
    }
}
