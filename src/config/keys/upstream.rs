//! The keys of `[upstreams.NAME]`: where a service is, how it is spoken to, how its servers are chosen.

use std::time::Duration;

use super::{Key, OR_NONE, SECOND, Shape, WAIT, key, word};
use crate::config::{Admission, Protocol};

/// `[upstreams.NAME]`
pub static UPSTREAM: [Key; 23] = [
    key(
        "url",
        Shape::Text("an address such as \"http://127.0.0.1:9000\" or \"https://api.internal/base\""),
        "",
        "Where it is: http:// or https://, host, port or none, path or none. Required.",
    ),
    key(
        "servers",
        Shape::Texts("a server such as \"10.0.0.1:9000\""),
        "[]",
        "Its servers, where it has several; [] is the one that url names. The name in url is still the one that their \
         certificates must be for.",
    ),
    word::<Protocol>(
        "protocol",
        "\"auto\"",
        "Which HTTP it speaks; auto: HTTP/1.1 in the clear, and with TLS whichever it chooses.",
    ),
    key("connect_timeout", WAIT, "\"2s\"", "Longest time to resolve, connect and do the TLS handshake."),
    key(
        "response_timeout",
        WAIT,
        "\"60s\"",
        "Longest time from the request to the end of a buffered answer, or between two reads of a streamed one.",
    ),
    key("idle_timeout", OR_NONE, "\"30s\"", "How long an idle connection to it is kept."),
    key(
        "idle_connections_max",
        Shape::Count(0, 1_000_000),
        "256",
        "Idle connections kept for each server by each worker thread.",
    ),
    key(
        "resolve_every",
        Shape::Duration(SECOND, Duration::from_hours(24)),
        "\"30s\"",
        "How long the addresses of a name are used before it is looked up again.",
    ),
    key(
        "ca_file",
        Shape::Text("the path of a PEM file with certificates"),
        "",
        "Certificates, in PEM, of those who vouch for it. Left out: those that the operating system trusts.",
    ),
    key(
        "server_name",
        Shape::Text("a host name such as \"api.internal\""),
        "",
        "Name that is asked for by SNI and that its certificate must hold. Left out: the host of url.",
    ),
    key(
        "client_certificate_file",
        Shape::Text("the path of a PEM file with a certificate and its chain"),
        "",
        "Certificate and chain, in PEM, by which the gateway shows itself to it.",
    ),
    key(
        "client_key_file",
        Shape::SecretText("the path of a PEM file with the private key of client_certificate_file"),
        "",
        "Private key of that certificate, in PEM.",
    ),
    word::<Admission>(
        "admission",
        "\"adaptive\"",
        "Whether requests at once to each server are limited by connections_max alone, or by what it is seen to bear \
         as well.",
    ),
    key(
        "connections_max",
        Shape::Count(1, 1_000_000),
        "1024",
        "Requests at once to each server; with HTTP/1.1, its connections.",
    ),
    key(
        "queue_timeout",
        OR_NONE,
        "\"500ms\"",
        "How long a request may wait for its turn with a server; then it is refused as overloaded.",
    ),
    key(
        "health_path",
        Shape::Text("a path such as \"/healthz\""),
        "",
        "Path that is asked for to see whether a server is well: an answer below 400 says so. Left out: none is asked.",
    ),
    key(
        "health_every",
        Shape::Duration(SECOND, Duration::from_hours(1)),
        "\"5s\"",
        "How often it is asked for.",
    ),
    key("health_timeout", WAIT, "\"2s\"", "How long such an answer may take."),
    key(
        "health_failures",
        Shape::Count(1, 1000),
        "3",
        "Failed checks in a row after which a server gets no requests.",
    ),
    key(
        "health_successes",
        Shape::Count(1, 1000),
        "2",
        "Good checks in a row after which it gets requests again.",
    ),
    key(
        "eject_failures",
        Shape::Count(0, 1000),
        "5",
        "Requests in a row that could not reach a server, or were cut off by it, after which it gets none for \
         eject_for; 0 is never. The last server is never left out.",
    ),
    key("eject_for", WAIT, "\"10s\"", "How long a server gets no requests after eject_failures."),
    key(
        "failovers_max",
        Shape::Count(0, 16),
        "2",
        "How many other servers are tried when nothing of a request was sent.",
    ),
];
