//! How the gateway does, in one document: what the console shows at a glance.
//!
//! Plain data, filled in by the gateway.

use serde_json::{Map, Value, json};

use super::desk::Readiness;
use super::shown;
use crate::protocol::record::UnixMillis;

/// How the gateway does.
#[derive(Clone, Debug)]
pub struct Status {
    /// When it was started.
    pub started_at: UnixMillis,
    /// How ready it is.
    pub readiness: Readiness,
    /// Its store; `None` until it is open.
    pub store: Option<StoreStatus>,
    /// How often each word of `Idempotency-Status` was said.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Claims that are not settled yet.
    pub claims_in_flight: u64,
    /// Requests that wait for another's answer.
    pub waiters: u64,
    /// Requests under way.
    pub requests_in_flight: u64,
    /// The services behind it.
    pub upstreams: Vec<UpstreamStatus>,
    /// The routes.
    pub routes: Vec<GuardedRoute>,
    /// Whether changes are possible, with the token.
    pub has_token: bool,
}

/// A store, as far as operators are told.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// What and where it is, without credentials.
    pub name: String,
    /// Whether it answered the last heartbeat.
    pub is_reachable: bool,
}

/// A service.
#[derive(Clone, Debug)]
pub struct UpstreamStatus {
    /// By which routes name it.
    pub name: String,
    /// Its servers.
    pub servers: Vec<ServerStatus>,
}

/// A server of a service.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// Its address.
    pub address: String,
    /// Whether it gets requests.
    pub is_healthy: bool,
    /// Requests to it whose answer has not ended.
    pub in_flight: u64,
}

/// A route.
#[derive(Clone, Debug)]
pub struct GuardedRoute {
    /// Its path pattern.
    pub path: String,
    /// The host it is narrowed to.
    pub host: Option<String>,
    /// Whether keys are looked for on it.
    pub is_guarded: bool,
    /// What separates its callers, as the configuration writes it.
    pub scope: Vec<String>,
}

impl Status {
    /// The document.
    pub(super) fn document(&self) -> Value {
        let verdicts: Map<String, Value> =
            self.verdicts.iter().map(|(word, count)| ((*word).to_owned(), (*count).into())).collect();
        let store = self.store.as_ref();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started_at": shown::moment(self.started_at),
            "readiness": self.readiness.as_str(),
            "store": store.map(|store| json!({ "name": store.name, "reachable": store.is_reachable })),
            "verdicts": verdicts,
            "claims_in_flight": self.claims_in_flight,
            "waiters": self.waiters,
            "requests_in_flight": self.requests_in_flight,
            "upstreams": self.upstreams.iter().map(upstream).collect::<Vec<_>>(),
            "routes": self.routes.iter().map(route).collect::<Vec<_>>(),
            "changes": if self.has_token { "token" } else { "off" },
        })
    }
}

fn upstream(upstream: &UpstreamStatus) -> Value {
    let server = |server: &ServerStatus| json!({ "address": server.address, "healthy": server.is_healthy, "in_flight": server.in_flight });
    json!({ "name": upstream.name, "servers": upstream.servers.iter().map(server).collect::<Vec<_>>() })
}

fn route(route: &GuardedRoute) -> Value {
    json!({ "path": route.path, "host": route.host, "guarded": route.is_guarded, "scope": route.scope })
}
