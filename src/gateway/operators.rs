//! The operators' listener: it answers from the first moment, before the store is open.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::GatewayError;
use crate::admin::{self, Probe, Readiness};
use crate::config::Config;
use crate::ledger::Ledger;
use crate::proxy::Shared;
use crate::server;
use crate::telemetry::metrics::Metrics;

#[derive(Debug)]
pub(super) struct Operators {
    pub(super) address: Option<SocketAddr>,
    subject: Arc<OnceLock<(Arc<Shared>, Ledger)>>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Operators {
    /// Listens where the configuration says, or on the socket that was passed instead.
    pub(super) fn serve(
        config: &Config,
        passed: Option<TcpListener>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, GatewayError> {
        let listener = match passed {
            Some(listener) => Some(listener),
            None => bind(config)?,
        };
        let operators = Self {
            address: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            subject: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        if let Some(listener) = listener {
            let subject = Arc::clone(&operators.subject);
            let probe: Probe = Arc::new(move || readiness(subject.get()));
            let (metrics, stop) = (Arc::clone(metrics), operators.stop.clone());
            operators.tasks.spawn(async move {
                if let Err(error) = admin::serve(listener, probe, metrics, stop).await {
                    tracing::error!(%error, "the operators' listener failed");
                }
            });
        }
        Ok(operators)
    }

    pub(super) fn report_on(&self, shared: Arc<Shared>, ledger: Ledger) {
        self.subject.get_or_init(|| (shared, ledger));
    }
}

fn readiness(subject: Option<&(Arc<Shared>, Ledger)>) -> Readiness {
    match subject {
        None => Readiness::Starting,
        Some((shared, _)) if shared.leaving.load(Ordering::Acquire) => Readiness::Draining,
        Some((_, ledger)) if ledger.is_connected() => Readiness::Ready,
        Some(_) => Readiness::StoreUnreachable,
    }
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
