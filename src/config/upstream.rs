//! `[upstreams.NAME]` as meant: where a service is, how it is spoken to, how its servers are chosen.
//!
//! Every field is a key of `keys/upstream.rs` and means what is said there.

use std::time::Duration;

use toml::de::DeValue;

use super::address::{self, UpstreamUrl};
use super::certificates::{self, Authorities, Identity};
use super::keys;
use super::problem::{self, Unfit, Wrong};
use super::section::{Findings, Section};
use super::terms;

/// A service behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the file.
    pub name: String,
    /// Scheme: TLS or not.
    pub tls: bool,
    /// `host` or `host:port`, as it stands in the address.
    pub authority: String,
    /// Its servers, each `host` or `host:port`; never empty.
    pub servers: Vec<String>,
    /// Path put before every request's path, without a trailing slash; usually empty.
    pub base_path: String,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// Longest time to resolve, connect and do the TLS handshake.
    pub connect_timeout: Duration,
    /// Longest time from the request to the end of a buffered answer, or between two reads of a streamed one.
    pub response_timeout: Duration,
    /// How long an idle connection to it is kept.
    pub idle_timeout: Duration,
    /// Idle connections kept for each server by each worker.
    pub idle_connections_max: usize,
    /// How long the addresses of a name are used.
    pub resolve_every: Duration,
    /// Who vouches for it; `None`: those that the operating system trusts.
    pub authorities: Option<Authorities>,
    /// Name that its certificate must hold; `None`: the host of its address.
    pub server_name: Option<String>,
    /// How the gateway shows itself to it.
    pub identity: Option<Identity>,
    /// Whether requests at once are limited by what a server is seen to bear.
    pub admission: Admission,
    /// Requests at once to each server.
    pub connections_max: usize,
    /// How long a request may wait for its turn.
    pub queue_timeout: Duration,
    /// How its servers are asked whether they are well; `None`: they are not.
    pub health: Option<Health>,
    /// Failed requests in a row after which a server is left out; 0: never.
    pub eject_failures: u32,
    /// How long it is left out.
    pub eject_for: Duration,
    /// Other servers that are tried when nothing of a request was sent.
    pub failovers_max: usize,
}

/// How a server is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked for.
    pub path: String,
    /// How often.
    pub every: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
    /// Failures in a row after which it gets no requests.
    pub failures: u32,
    /// Successes in a row after which it gets them again.
    pub successes: u32,
}

/// Which HTTP an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 in the clear; with TLS, what it chooses by ALPN.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in the clear by prior knowledge (RFC 9113 §3.3).
    Http2,
}

/// How requests at once to a server are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// By what it is seen to bear, up to `connections_max`.
    Adaptive,
    /// By `connections_max` alone.
    Fixed,
}

/// An upstream that is named in the file; `None` where it is not sound.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) upstream: Option<Upstream>,
}

/// Resolves all upstreams of a file.
pub(super) fn upstreams(find: &mut Findings<'_>, root: &Section<'_>) -> Vec<Named> {
    const NAME: &str = "upstreams";
    const WANTED: &str =
        "at least one upstream, such as [upstreams.default] with url = \"http://127.0.0.1:9000\"";
    let place = root.place_of(find, NAME);
    let Some(value) = root.value(NAME) else {
        find.push(place, NAME, Wrong::Missing(WANTED.to_owned()));
        return Vec::new();
    };
    let DeValue::Table(tables) = value.get_ref() else {
        root.refuse(find, NAME, Unfit::Expected(WANTED.to_owned()));
        return Vec::new();
    };
    if tables.is_empty() {
        root.refuse(find, NAME, Unfit::Expected(WANTED.to_owned()));
    }
    let mut upstreams = Vec::with_capacity(tables.len());
    for (name, value) in tables {
        let path = format!("{NAME}.{}", problem::shown_name(name.get_ref()));
        if let Err(unfit) = terms::upstream_name(name.get_ref()) {
            let place = find.places.start_of(Some(name.span()));
            find.push(place, path.clone(), unfit.found(problem::quoted(name.get_ref())));
        }
        let section = Section::open(find, value, path, [&keys::UPSTREAM, &[]]);
        let upstream = section.and_then(|section| upstream(find, &section, name.get_ref()));
        upstreams.push(Named { name: name.get_ref().to_string(), upstream });
    }
    upstreams
}

fn upstream(find: &mut Findings<'_>, section: &Section<'_>, name: &str) -> Option<Upstream> {
    let url = section.text(find, "url", address::upstream);
    section.missing(find, "url");
    let servers = section.texts(find, "servers", address::server).unwrap_or_default();
    let authorities = certificates::authorities(find, section, "ca_file");
    let identity = certificates::identity(find, section, "client_certificate_file", "client_key_file");
    let server_name = section.text(find, "server_name", address::server_name);
    let health = health(find, section);
    let stands_in = UpstreamUrl { tls: false, authority: String::new(), base_path: String::new() };
    let is_told = url.is_some();
    let default = Upstream::at(name, url.unwrap_or(stands_in));
    let length = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let mut wait = |name, default| section.duration(find, name).unwrap_or(default);
    let (connect_timeout, response_timeout) = (
        wait("connect_timeout", default.connect_timeout),
        wait("response_timeout", default.response_timeout),
    );
    let (idle_timeout, resolve_every) =
        (wait("idle_timeout", default.idle_timeout), wait("resolve_every", default.resolve_every));
    let (queue_timeout, eject_for) =
        (wait("queue_timeout", default.queue_timeout), wait("eject_for", default.eject_for));
    let mut count = |name, default| section.count(find, name).map_or(default, length);
    let idle_connections_max = count("idle_connections_max", default.idle_connections_max);
    let connections_max = count("connections_max", default.connections_max);
    let failovers_max = count("failovers_max", default.failovers_max);
    let upstream = Upstream {
        servers: if servers.is_empty() { default.servers } else { servers },
        protocol: section.word(find, "protocol").unwrap_or(default.protocol),
        connect_timeout,
        response_timeout,
        idle_timeout,
        idle_connections_max,
        resolve_every,
        authorities,
        server_name,
        identity,
        admission: section.word(find, "admission").unwrap_or(default.admission),
        connections_max,
        queue_timeout,
        health,
        eject_failures: section.count(find, "eject_failures").map_or(default.eject_failures, small),
        eject_for,
        failovers_max,
        ..default
    };
    is_told.then_some(upstream)
}

fn health(find: &mut Findings<'_>, section: &Section<'_>) -> Option<Health> {
    let path = section.text(find, "health_path", address::health_path);
    let every = section.duration(find, "health_every").unwrap_or(Duration::from_secs(5));
    let timeout = section.duration(find, "health_timeout").unwrap_or(Duration::from_secs(2));
    let failures = section.count(find, "health_failures").map_or(3, small);
    let successes = section.count(find, "health_successes").map_or(2, small);
    Some(Health { path: path?, every, timeout, failures, successes })
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Upstream {
    /// An upstream of which nothing but name and address is told.
    pub(super) fn at(name: &str, url: UpstreamUrl) -> Self {
        Self {
            name: name.to_owned(),
            tls: url.tls,
            servers: vec![url.authority.clone()],
            authority: url.authority,
            base_path: url.base_path,
            protocol: Protocol::Auto,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_secs(30),
            idle_connections_max: 256,
            resolve_every: Duration::from_secs(30),
            authorities: None,
            server_name: None,
            identity: None,
            admission: Admission::Adaptive,
            connections_max: 1024,
            queue_timeout: Duration::from_millis(500),
            health: None,
            eject_failures: 5,
            eject_for: Duration::from_secs(10),
            failovers_max: 2,
        }
    }
}
