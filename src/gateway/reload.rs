//! Another configuration while the gateway runs, wholly or not at all.
//!
//! The file is read again. What cannot change while a gateway runs must be as it was, and no outstanding key may be
//! lost (`continuity.rs`). Everything that can fail is tried before the first worker is told. Then each worker leads
//! its next requests by the new configuration; those under way stay on the old one. For a moment both hold: they
//! find each other's keys, since otherwise the new one would have been refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::continuity::{self, Loss};
use super::{Running, Upstreams, operators, settings, systemd};
use crate::admin::{Audit, CannotAudit};
use crate::clock;
use crate::config::{self, Config, ConfigProblems};
use crate::server::{Acceptor, BadTls};
use crate::telemetry::log;
use crate::upstream::{BadAddress, BadTrust};

/// How long a worker may take to go on with another configuration before that is told.
const CHANGE_MAX: Duration = Duration::from_secs(5);

/// Losses that are told at most.
const LOSSES_TOLD_MAX: usize = 20;

/// Why the old configuration stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReloaded {
    #[error("find a file to read: it was started without one")]
    NoFile,
    #[error("read the file")]
    Invalid(#[from] ConfigProblems),
    #[error("read the file: the reading panicked")]
    Panicked(#[source] tokio::task::JoinError),
    #[error("change {} while running: it takes a restart", .0.join(", "))]
    TakesARestart(Vec<&'static str>),
    #[error("keep outstanding keys")]
    Losses(Vec<Loss>),
    #[error("prepare the upstreams")]
    Upstream(#[from] BadAddress),
    #[error("prepare TLS of [server]")]
    Tls(#[from] BadTls),
    #[error("prepare TLS of [admin]")]
    OperatorsTls(#[source] BadTls),
    #[error("prepare admin.audit_file")]
    Audit(#[from] CannotAudit),
    #[error("prepare the upstreams")]
    Trust(#[from] BadTrust),
}

impl Running {
    /// Reads the file again and goes on with what it says, if it may; tells the log and the service manager.
    pub(super) async fn reload(&mut self, file: Option<&Path>) {
        systemd::reloading();
        let is_done = match self.try_reload(file).await {
            Ok(()) => true,
            Err(error) => {
                tell_refusal(&error);
                false
            }
        };
        self.metrics.changes.reloaded(is_done);
        let outcome =
            if is_done { "serving" } else { "serving by the old configuration: the new one was refused" };
        systemd::ready(outcome);
    }

    async fn try_reload(&mut self, file: Option<&Path>) -> Result<(), NotReloaded> {
        let file = file.ok_or(NotReloaded::NoFile)?.to_owned();
        let now = clock::monotonic();
        let (old, stood) = (Arc::clone(&self.config), now.duration_since(self.derives_since));
        // A file system may hang, many routes take their time, and the store's heartbeat goes by this runtime.
        let reading = tokio::task::spawn_blocking(move || read(&file, &old, stood));
        let (config, losses, audit) = reading.await.map_err(NotReloaded::Panicked)??;
        let upstreams = Upstreams::of(&config, &self.upstreams, &self.metrics)?;
        upstreams.connect()?;
        let acceptor = Acceptor::of(&config.server)?;
        let terms = operators::terms(&config, audit).map_err(NotReloaded::OperatorsTls)?;
        let settings = Arc::new(settings(&config, &self.metrics));
        let config = Arc::new(config);
        let changes: Vec<_> =
            self.workers.iter().map(|worker| worker.change(&config, &settings, &upstreams)).collect();
        for change in changes {
            if !matches!(tokio::time::timeout(CHANGE_MAX, change).await, Ok(Ok(()))) {
                tracing::warn!("a worker has not taken the new configuration yet");
            }
        }
        self.admin.go_by(terms, &settings, &upstreams);
        self.reception.show(acceptor);
        self.attend(&upstreams);
        if !continuity::is_alike(&self.config, &config) {
            self.derives_since = now;
        }
        // Before the changes are told, so that they are where the level asks for them. It ends what an operator set.
        if let Err(error) = log::set_level(&config.log.level) {
            tracing::debug!(%error, "the log level stays");
        }
        tell_changes(&self.config, &config, &losses);
        (self.config, self.settings) = (config, settings);
        Ok(())
    }
}

/// What there is to go on with, what would be lost by it and is to be given up, and the audit log.
type Read = (Config, Vec<Loss>, Option<Arc<Audit>>);

/// Reads the file, and opens the audit log that it names.
fn read(file: &Path, old: &Config, stood: Duration) -> Result<Read, NotReloaded> {
    let config = config::load(file)?;
    let fixed = fixed_that_differ(old, &config);
    if !fixed.is_empty() {
        return Err(NotReloaded::TakesARestart(fixed));
    }
    let is_alike = continuity::is_alike(old, &config);
    let losses = if is_alike { Vec::new() } else { continuity::losses(old, &config, stood) };
    if losses.is_empty() || config.store.accept_lost_keys {
        let audit = operators::audit(&config)?;
        return Ok((config, losses, audit));
    }
    Err(NotReloaded::Losses(losses))
}

/// The keys that differ and cannot while the gateway runs.
fn fixed_that_differ(old: &Config, new: &Config) -> Vec<&'static str> {
    let config::Store {
        url,
        namespace,
        local_cache,
        timeout,
        session_ttl,
        hash_key,
        min_replicas,
        accept_eviction,
        encryption_keys,
        open_only,
        accept_unsealed,
        accept_lost_keys: _,
        compression,
        backup,
    } = &new.store;
    let store = &old.store;
    let keys = [
        ("server.listen", old.server.listen == new.server.listen),
        ("server.threads", old.server.threads == new.server.threads),
        ("admin.listen", old.admin.listen == new.admin.listen),
        ("store.url", store.url == *url),
        ("store.namespace", store.namespace == *namespace),
        ("store.local_cache", store.local_cache == *local_cache),
        ("store.timeout", store.timeout == *timeout),
        ("store.session_ttl", store.session_ttl == *session_ttl),
        ("store.hash_key_file", store.hash_key == *hash_key),
        ("store.min_replicas", store.min_replicas == *min_replicas),
        ("store.accept_eviction", store.accept_eviction == *accept_eviction),
        (
            "store.encryption_key_file",
            store.encryption_keys == *encryption_keys && store.open_only == *open_only,
        ),
        ("store.accept_unsealed", store.accept_unsealed == *accept_unsealed),
        ("store.compression", store.compression == *compression),
        ("store.backup_dir or store.backup_every", store.backup == *backup),
        ("log.format", old.log.format == new.log.format),
        ("[traces]", old.traces == new.traces),
    ];
    keys.into_iter().filter(|(_, is_same)| !is_same).map(|(key, _)| key).collect()
}

fn tell_refusal(error: &NotReloaded) {
    match error {
        NotReloaded::Invalid(problems) => {
            for problem in problems.to_string().lines() {
                tracing::error!("{problem}");
            }
        }
        NotReloaded::Losses(losses) => tell_losses(losses),
        NotReloaded::NoFile
        | NotReloaded::Panicked(_)
        | NotReloaded::TakesARestart(_)
        | NotReloaded::Upstream(_)
        | NotReloaded::Tls(_)
        | NotReloaded::OperatorsTls(_)
        | NotReloaded::Audit(_)
        | NotReloaded::Trust(_) => {}
    }
    let error: &dyn std::error::Error = error;
    tracing::error!(error, "the old configuration stays");
}

fn tell_losses(losses: &[Loss]) {
    for loss in losses.iter().take(LOSSES_TOLD_MAX) {
        tracing::error!("{loss}");
    }
    if losses.len() > LOSSES_TOLD_MAX {
        tracing::error!(more = losses.len() - LOSSES_TOLD_MAX, "and more routes");
    }
}

fn tell_changes(old: &Config, new: &Config, losses: &[Loss]) {
    if !losses.is_empty() {
        tell_losses(losses);
        tracing::warn!("outstanding keys are given up: store.accept_lost_keys = true");
    }
    let label =
        |route: &config::Route| format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path);
    let find = |config: &Config, label_of: &str| {
        config.routes.iter().find(|route| label(route) == label_of).map(|route| format!("{route:?}"))
    };
    let labels = |config: &Config| config.routes.iter().map(label).collect::<Vec<_>>();
    let added = labels(new).into_iter().filter(|route| find(old, route).is_none());
    let removed = labels(old).into_iter().filter(|route| find(new, route).is_none());
    let changed = labels(new)
        .into_iter()
        .filter(|route| find(old, route).is_some_and(|was| Some(was) != find(new, route)));
    let upstreams = new.upstreams.iter().filter(|upstream| !old.upstreams.contains(upstream));
    tracing::info!(
        routes_added = %added.collect::<Vec<_>>().join(" "),
        routes_removed = %removed.collect::<Vec<_>>().join(" "),
        routes_changed = %changed.collect::<Vec<_>>().join(" "),
        upstreams_made = %upstreams.map(|upstream| upstream.name.as_str()).collect::<Vec<_>>().join(" "),
        listener_changed = old.server != new.server,
        certificate_changed = old.server.tls != new.server.tls,
        "the new configuration holds"
    );
}
