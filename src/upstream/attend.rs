//! What is done for an upstream in the background, once for the whole process: its servers are asked whether they
//! are well, and their names are looked up again.
//!
//! Ends by itself when no worker has the upstream any more. Must not know what follows from a check (`health.rs`).

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderValue, Method, Request, Uri, header};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Connections;
use super::body::{Buffered, RequestBody};
use super::fleet::Fleet;
use super::progress::Progress;
use super::server::Server;
use crate::config::Health;

/// By this a check is told from callers' requests.
const USER_AGENT: &str = concat!("onceway/", env!("CARGO_PKG_VERSION"), " (health check)");

/// Asks one server, again and again.
struct Checks {
    fleet: Weak<Fleet>,
    number: usize,
    connections: Connections,
    health: Health,
    host: HeaderValue,
}

impl Fleet {
    /// Looks after the upstream for as long as anybody has it.
    ///
    /// Cancel safety: dropping the future ends the care.
    pub async fn attend(self: Arc<Self>) {
        let parsed = self.config().servers.iter().map(|server| server.parse());
        // An address that cannot be used has been told when the first worker was to connect to it.
        let authorities: Vec<Authority> = parsed.filter_map(Result::ok).collect();
        let mut chores = JoinSet::new();
        for (number, authority) in authorities.iter().enumerate() {
            if let Some(checks) = self.checks(number, authority.as_str()) {
                chores.spawn(checks.keep());
            }
        }
        let names = authorities.iter().filter_map(name_in).collect();
        let every = self.config().resolve_every;
        let fleet = Arc::downgrade(&self);
        drop(self);
        chores.spawn(renew(fleet, names, every));
        while chores.join_next().await.is_some() {}
    }

    fn checks(self: &Arc<Self>, number: usize, authority: &str) -> Option<Checks> {
        let health = self.config().health.clone()?;
        let host = HeaderValue::try_from(&self.config().authority).ok()?;
        let connections = Connections::new(self, authority).ok()?;
        Some(Checks { fleet: Arc::downgrade(self), number, connections, health, host })
    }
}

impl Checks {
    async fn keep(self) {
        let mut next = Instant::now();
        loop {
            let Some(fleet) = self.fleet.upgrade() else { return };
            // As requests do: not on a connection that was kept to an address which the name has lost.
            let server = self.connections.server(&fleet);
            drop(fleet);
            let is_well = timeout(self.health.timeout, self.is_well(&server)).await.unwrap_or(false);
            let Some(fleet) = self.fleet.upgrade() else { return };
            fleet.checked(self.number, is_well);
            drop(fleet);
            next = (next + self.health.every).max(Instant::now());
            sleep_until(next).await;
        }
    }

    async fn is_well(&self, server: &Server) -> bool {
        let Ok(target) = self.health.path.parse::<Uri>() else { return false };
        let mut request = Request::new(RequestBody::from(Buffered::default()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = target;
        request.headers_mut().insert(header::HOST, self.host.clone());
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        match server.send(Box::new(request), &Progress::default()).await {
            Ok(response) => response.status().is_success() || response.status().is_redirection(),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a health check failed");
                false
            }
        }
    }
}

/// Looks up the names of servers when they are due.
async fn renew(fleet: Weak<Fleet>, names: Vec<String>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(fleet) = fleet.upgrade() else { return };
        let known = fleet.names().clone();
        drop(fleet);
        for name in &names {
            known.renew(name).await;
        }
    }
}

/// The name in an authority, if it is not an address already.
pub(super) fn name_in(authority: &Authority) -> Option<String> {
    let host = authority.host();
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    (!is_address).then(|| host.to_owned())
}
