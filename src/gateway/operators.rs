//! The operators' listener: it answers from the first moment, before the store is open, to the last of the drain.
//!
//! Composes what operators are told out of everybody who knows a part of it. Read `../admin/desk.rs` for what that is.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{GatewayError, Upstreams};
use crate::admin::{
    self, Audit, CannotAudit, Derivation, Derived, Desk, GuardedRoute, Keeping, NotFound, Readiness,
    ServerStatus, Sought, Status, StoreStatus, Terms, Token, UpstreamStatus,
};
use crate::clock;
use crate::config::{Config, Route};
use crate::ledger::Ledger;
use crate::protocol::policy::{KeyMode, Policy};
use crate::protocol::record::UnixMillis;
use crate::proxy::{self, KnownKey, Settings, Shared, Unlocated};
use crate::server::{self, Acceptor, BadTls};
use crate::telemetry::metrics::Metrics;
use crate::upstream::Fleet;

#[derive(Debug)]
pub(super) struct Operators {
    pub(super) address: Option<SocketAddr>,
    facts: Arc<Facts>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// What operators are told about.
#[derive(Debug)]
struct Facts {
    started_at: UnixMillis,
    metrics: Arc<Metrics>,
    terms: ArcSwap<Terms>,
    /// There once the store is open.
    subject: OnceLock<Subject>,
    /// A reload makes another; there once the first workers are.
    held: ArcSwapOption<Held>,
}

/// What stays the same for as long as the gateway runs.
#[derive(Debug)]
struct Subject {
    shared: Arc<Shared>,
    ledger: Ledger,
}

/// What belongs to one configuration.
#[derive(Debug)]
struct Held {
    settings: Arc<Settings>,
    upstreams: Upstreams,
}

impl Operators {
    /// Listens where the configuration says, or on the socket that was passed instead.
    pub(super) fn serve(
        config: &Config,
        passed: Option<TcpListener>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, GatewayError> {
        let terms = terms(config, None).map_err(GatewayError::OperatorsTls)?;
        let listener = match passed {
            Some(listener) => Some(listener),
            None => bind(config)?,
        };
        let operators = Self {
            address: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            facts: Arc::new(Facts {
                started_at: clock::unix_millis(),
                metrics: Arc::clone(metrics),
                terms: ArcSwap::from_pointee(terms),
                subject: OnceLock::new(),
                held: ArcSwapOption::empty(),
            }),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        if let Some(listener) = listener {
            let (desk, stop) = (desk(&operators.facts), operators.stop.clone());
            operators.tasks.spawn(async move {
                if let Err(error) = admin::serve(listener, desk, stop).await {
                    tracing::error!(%error, "the operators' listener failed");
                }
            });
        }
        Ok(operators)
    }

    /// The gateway has started: from now on records are shown and changed.
    pub(super) fn report_on(&self, shared: Arc<Shared>, ledger: Ledger) {
        self.facts.subject.get_or_init(|| Subject { shared, ledger });
    }

    /// Goes on by another configuration, or begins by the first.
    pub(super) fn go_by(&self, terms: Terms, settings: &Arc<Settings>, upstreams: &Upstreams) {
        let tls = Acceptor::succeeded_by(self.facts.terms.load().tls.as_ref(), terms.tls);
        self.facts.terms.store(Arc::new(Terms { tls, ..terms }));
        let held = Held { settings: Arc::clone(settings), upstreams: upstreams.clone() };
        self.facts.held.store(Some(Arc::new(held)));
    }
}

/// Opens the audit log, if changes are to be put down. Blocks.
pub(super) fn audit(config: &Config) -> Result<Option<Arc<Audit>>, CannotAudit> {
    let admin = &config.admin;
    let file = admin.audit_file.as_deref().filter(|_| admin.token.is_some());
    file.map(|file: &Path| Audit::open(file).map(Arc::new)).transpose()
}

/// Who may do what, by a configuration.
pub(super) fn terms(config: &Config, audit: Option<Arc<Audit>>) -> Result<Terms, BadTls> {
    let admin = &config.admin;
    Ok(Terms {
        token: admin.token.as_ref().map(Token::of),
        audit,
        host_names: admin.host_names.clone(),
        // What operators ask is not worth a second protocol.
        tls: admin.tls.as_ref().map(|tls| Acceptor::by(tls, false)).transpose()?,
        problem_base: config.server.problem_base.clone(),
    })
}

fn desk(facts: &Arc<Facts>) -> Desk {
    let telling = || Arc::clone(facts);
    Desk {
        readiness: Box::new({
            let facts = telling();
            move || facts.readiness()
        }),
        terms: Box::new({
            let facts = telling();
            move || facts.terms.load_full()
        }),
        ledger: Box::new({
            let facts = telling();
            move || facts.subject.get().map(|subject| subject.ledger.clone())
        }),
        status: Box::new({
            let facts = telling();
            move || facts.status()
        }),
        metrics: Arc::clone(&facts.metrics),
        derive: Box::new({
            let facts = telling();
            move |sought| facts.derive(sought)
        }),
        keeping: Box::new({
            let facts = telling();
            move |route| facts.keeping(route)
        }),
    }
}

impl Facts {
    fn readiness(&self) -> Readiness {
        match self.subject.get() {
            None => Readiness::Starting,
            Some(subject) if subject.shared.leaving.load(Ordering::Acquire) => Readiness::Draining,
            Some(subject) if subject.ledger.is_connected() => Readiness::Ready,
            Some(_) => Readiness::StoreUnreachable,
        }
    }

    fn status(&self) -> Status {
        let (subject, held) = (self.subject.get(), self.held.load());
        let store = |subject: &Subject| StoreStatus {
            name: subject.ledger.store_name(),
            is_reachable: subject.ledger.reaches_store(),
        };
        let fleets = held.iter().flat_map(|held| held.upstreams.fleets.iter());
        let routes = held.iter().flat_map(|held| held.settings.routes.iter());
        Status {
            started_at: self.started_at,
            readiness: self.readiness(),
            store: subject.map(store),
            verdicts: self.metrics.verdicts(),
            claims_in_flight: subject.map_or(0, |subject| count(subject.ledger.claims_in_flight())),
            waiters: subject.map_or(0, |subject| count(subject.ledger.waiters())),
            requests_in_flight: subject.map_or(0, |subject| count(subject.shared.in_flight.used())),
            upstreams: fleets.map(upstream).collect(),
            routes: routes.map(|route| guarded(route)).collect(),
            has_token: self.terms.load().token.is_some(),
        }
    }

    fn derive(&self, sought: &Sought) -> Result<Vec<Derived>, NotFound> {
        let held = self.held.load_full();
        let held = held.ok_or(NotFound { member: "route", reason: "there is none yet".to_owned() })?;
        let known = KnownKey {
            key: &sought.key,
            route: sought.route.as_deref(),
            host: sought.host.as_deref(),
            scope: &sought.scope,
            read_certificate: server::name_in_pem,
        };
        let located = proxy::locate(&held.settings, &known).map_err(|error| NotFound {
            member: match &error {
                Unlocated::NoRoute | Unlocated::SeveralRoutes => "route",
                Unlocated::Key(_) => "key",
                Unlocated::NotInScope | Unlocated::ScopeMissing(_) | Unlocated::Unreadable(_) => "scope",
            },
            reason: error.to_string(),
        })?;
        let derived = |located: proxy::Located| Derived {
            key: located.key,
            derivation: if located.is_previous { Derivation::Previous } else { Derivation::Current },
        };
        Ok(located.into_iter().map(derived).collect())
    }

    /// What is kept of the answers of a route. Records do not tell the host that their route was narrowed to: of
    /// several routes with one path the longest retention holds, since an answer that ends too early runs again.
    fn keeping(&self, path: &str) -> Keeping {
        let held = self.held.load();
        let routes = held.iter().flat_map(|held| held.settings.routes.iter());
        let policies: Vec<&Policy> =
            routes.filter(|route| route.path == path).map(|route| &route.policy).collect();
        let default = Policy::default();
        Keeping {
            keep_for: policies.iter().map(|policy| policy.ttl).max().unwrap_or(default.ttl),
            body_max: policies
                .iter()
                .map(|policy| policy.response_body_max)
                .max()
                .unwrap_or(default.response_body_max),
        }
    }
}

fn upstream(fleet: &Arc<Fleet>) -> UpstreamStatus {
    let servers = fleet.servers().into_iter().map(|server| ServerStatus {
        address: server.authority,
        is_healthy: server.is_well,
        in_flight: count(server.open),
    });
    UpstreamStatus { name: fleet.config().name.clone(), servers: servers.collect() }
}

fn guarded(route: &Route) -> GuardedRoute {
    GuardedRoute {
        path: route.path.clone(),
        host: route.host.clone(),
        is_guarded: route.policy.key != KeyMode::Off,
        scope: route.policy.scope.iter().map(proxy::source_of).collect(),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn bind(config: &Config) -> Result<Option<TcpListener>, GatewayError> {
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
