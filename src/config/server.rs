//! `[server]` as meant: the listener for callers, its protocols and its limits.
//!
//! Every field is a key of `keys/server.rs` and means what is said there.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::certificates::{self, Authorities, Identity};
use super::section::{Findings, Section};
use super::{address, terms};

/// The listener for callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Worker threads; one runtime each.
    pub threads: usize,
    /// How long work in flight may go on after a signal to stop.
    pub drain_timeout: Duration,
    /// How long requests are still taken after a signal to stop.
    pub stop_delay: Duration,
    /// How it speaks TLS, if it does.
    pub tls: Option<ServerTls>,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Whether every connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whose word about where a request came from is believed; empty: everybody's.
    pub trusted_peers: Vec<IpNet>,
    /// What happens to the caller's word about where a request came from.
    pub forwarded: Forwarded,
    /// Which fields tell it to the upstream.
    pub forwarded_fields: ForwardedFields,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a connection is kept on which nothing is under way.
    pub idle_timeout: Duration,
    /// How long a client may take to send a body, beside what its rate gives it.
    pub body_timeout: Duration,
    /// Bytes a second that a client must send of a body once `body_timeout` is over; 0: none.
    pub body_rate_min: u64,
    /// How long a client may take to make room for more of its answer.
    pub write_timeout: Duration,
    /// Longest accepted request target, in bytes.
    pub target_bytes_max: usize,
    /// Largest accepted request head, in bytes.
    pub header_bytes_max: usize,
    /// Most header fields in a request.
    pub header_count_max: usize,
    /// Connections of callers at once.
    pub connections_max: usize,
    /// Connections at once from one address; 0: no limit.
    pub connections_per_peer_max: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams_max: u32,
    /// Requests taken back within a minute on one HTTP/2 connection before it is closed.
    pub resets_max: usize,
    /// Requests at once through the gateway.
    pub in_flight_max: usize,
    /// Memory for bodies that are held whole, in bytes.
    pub buffered_bytes_max: usize,
    /// Prefix of a problem's `type`.
    pub problem_base: String,
}

/// How the listener speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// What callers see.
    pub identity: Identity,
    /// Who vouches for callers, and whether each must show a certificate; `None`: callers are not asked.
    pub callers: Option<(Authorities, CallersCertificate)>,
}

/// Whether a caller must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallersCertificate {
    /// One without is refused.
    Required,
    /// One without is anonymous.
    Optional,
}

/// What happens to the caller's word about where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The peer is added to it.
    Append,
    /// It is dropped, and the peer put in its place.
    Replace,
    /// It travels on as it is, and nothing is added.
    Leave,
}

/// Which fields tell an upstream where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFields {
    /// `X-Forwarded-For`, `-Host` and `-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// All of them.
    Both,
}

/// Resolves the table.
pub(super) fn server(find: &mut Findings<'_>, section: Option<&Section<'_>>) -> Server {
    let default = Server::default();
    let Some(section) = section else { return default };
    let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let certificate = section.word(find, "tls_client_certificate").unwrap_or(CallersCertificate::Required);
    let tls = certificates::server_tls(find, section, certificate);
    let mut wait = |name, default| section.duration(find, name).unwrap_or(default);
    let (drain_timeout, stop_delay) =
        (wait("drain_timeout", default.drain_timeout), wait("stop_delay", default.stop_delay));
    let (header_timeout, idle_timeout) =
        (wait("header_timeout", default.header_timeout), wait("idle_timeout", default.idle_timeout));
    let (body_timeout, write_timeout) =
        (wait("body_timeout", default.body_timeout), wait("write_timeout", default.write_timeout));
    let mut count = |name, default| section.count(find, name).map_or(default, length);
    let (threads, header_count_max) =
        (count("threads", default.threads), count("header_count_max", default.header_count_max));
    let connections_max = count("connections_max", default.connections_max);
    let connections_per_peer_max = count("connections_per_peer_max", default.connections_per_peer_max);
    let resets_max = count("resets_max", default.resets_max);
    let in_flight_max = count("in_flight_max", default.in_flight_max);
    let mut size = |name, default| section.size(find, name).map_or(default, length);
    let target_bytes_max = size("target_bytes_max", default.target_bytes_max);
    let header_bytes_max = size("header_bytes_max", default.header_bytes_max);
    let buffered_bytes_max = size("buffered_bytes_max", default.buffered_bytes_max);
    Server {
        listen: section.text(find, "listen", address::listen).unwrap_or(default.listen),
        threads,
        drain_timeout,
        stop_delay,
        tls,
        http2: section.flag(find, "http2").unwrap_or(default.http2),
        proxy_protocol: section.flag(find, "proxy_protocol").unwrap_or(default.proxy_protocol),
        trusted_peers: section.texts(find, "trusted_peers", address::network).unwrap_or_default(),
        forwarded: section.word(find, "forwarded").unwrap_or(default.forwarded),
        forwarded_fields: section.word(find, "forwarded_fields").unwrap_or(default.forwarded_fields),
        header_timeout,
        idle_timeout,
        body_timeout,
        body_rate_min: section.size(find, "body_rate_min").unwrap_or(default.body_rate_min),
        write_timeout,
        target_bytes_max,
        header_bytes_max,
        header_count_max,
        connections_max,
        connections_per_peer_max,
        streams_max: section
            .count(find, "streams_max")
            .map_or(default.streams_max, |count| u32::try_from(count).unwrap_or(u32::MAX)),
        resets_max,
        in_flight_max,
        buffered_bytes_max,
        problem_base: section.text(find, "problem_base", terms::problem_base).unwrap_or(default.problem_base),
    }
}
