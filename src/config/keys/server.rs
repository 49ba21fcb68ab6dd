//! The keys of `[server]`: the listener for callers, its protocols and its limits.

use std::time::Duration;

use super::{KIB, Key, LONGEST, OR_NONE, Shape, WAIT, key, word};
use crate::config::{CallersCertificate, Forwarded, ForwardedFields};

const MIB: u64 = KIB * KIB;

/// `[server]`
pub static SERVER: [Key; 28] = [
    key(
        "listen",
        Shape::Text("an address such as \"127.0.0.1:8080\", \"[::1]:8080\" or \":8080\""),
        "\"127.0.0.1:8080\"",
        "Address to listen on. \":8080\" is every IPv4 interface; port 0 takes a free one.",
    ),
    key(
        "threads",
        Shape::Count(1, 1024),
        "",
        "Worker threads, one runtime each. Left out: as many as the machine has processors.",
    ),
    key("drain_timeout", OR_NONE, "\"65s\"", "How long work in flight may go on after a signal to stop."),
    key(
        "tls_certificate_file",
        Shape::Text("the path of a PEM file with a certificate and its chain"),
        "",
        "Certificate and chain, in PEM, that callers see. With it the listener speaks TLS only; left out, it speaks \
         in the clear.",
    ),
    key(
        "tls_key_file",
        Shape::SecretText("the path of a PEM file with the private key of tls_certificate_file"),
        "",
        "Private key of the certificate, in PEM.",
    ),
    key(
        "tls_client_ca_file",
        Shape::Text("the path of a PEM file with certificates"),
        "",
        "Certificates, in PEM, of those who vouch for callers. Left out: callers are not asked for a certificate.",
    ),
    word::<CallersCertificate>(
        "tls_client_certificate",
        "\"required\"",
        "With tls_client_ca_file: whether a caller without a certificate is refused.",
    ),
    key(
        "http2",
        Shape::Flag,
        "true",
        "Whether callers may speak HTTP/2: by ALPN with TLS, by prior knowledge in the clear.",
    ),
    key(
        "proxy_protocol",
        Shape::Flag,
        "false",
        "Whether every connection begins with a PROXY protocol header, version 1 or 2, as a load balancer sends it.",
    ),
    key(
        "trusted_peers",
        Shape::Texts("an address or a network such as \"10.0.0.0/8\""),
        "[]",
        "Whose X-Forwarded-* and Forwarded fields and PROXY headers are believed; [] is everybody. From others they \
         are dropped, and a PROXY header ends the connection.",
    ),
    word::<Forwarded>(
        "forwarded",
        "\"append\"",
        "Whether the fields that tell where a request came from are added to, made anew, or left as they are.",
    ),
    word::<ForwardedFields>(
        "forwarded_fields",
        "\"x-forwarded\"",
        "Which fields tell where a request came from: X-Forwarded-For, -Host and -Proto, RFC 7239's Forwarded, or both.",
    ),
    key("header_timeout", WAIT, "\"10s\"", "How long a client may take to send a request's head."),
    key("idle_timeout", WAIT, "\"60s\"", "How long a connection is kept on which no request is under way."),
    key(
        "body_timeout",
        WAIT,
        "\"10s\"",
        "How long a client may take to send a request's body, beside the time that body_rate_min gives it.",
    ),
    key(
        "body_rate_min",
        Shape::Size(0, MIB),
        "\"1KiB\"",
        "Bytes a second that a client must send of a body, once body_timeout is over; \"0\" waits without end.",
    ),
    key("write_timeout", WAIT, "\"30s\"", "How long a client may take to make room for more of its answer."),
    key("target_bytes_max", Shape::Size(128, 63 * KIB), "\"16KiB\"", "Longest accepted request target."),
    key("header_bytes_max", Shape::Size(KIB, 16 * MIB), "\"64KiB\"", "Largest accepted request head."),
    key("header_count_max", Shape::Count(1, 10_000), "100", "Most header fields in a request."),
    key("connections_max", Shape::Count(1, 10_000_000), "16384", "Connections of callers at once."),
    key(
        "connections_per_peer_max",
        Shape::Count(0, 10_000_000),
        "0",
        "Connections at once from one address, by PROXY header where there is one; 0 is no limit, as behind a load \
         balancer.",
    ),
    key("streams_max", Shape::Count(1, 10_000), "128", "Requests at once on one HTTP/2 connection."),
    key(
        "resets_max",
        Shape::Count(1, 1_000_000),
        "100",
        "Requests that a caller may take back within a minute on one HTTP/2 connection before it is closed.",
    ),
    key(
        "in_flight_max",
        Shape::Count(1, 10_000_000),
        "10000",
        "Requests at once through the gateway; more are refused as overloaded.",
    ),
    key(
        "buffered_bytes_max",
        Shape::Size(MIB, 1024 * 1024 * MIB),
        "\"256MiB\"",
        "Memory for bodies that are held whole, all requests together; what goes beyond is refused as overloaded.",
    ),
    key(
        "stop_delay",
        Shape::Duration(Duration::ZERO, LONGEST),
        "\"0ms\"",
        "How long requests and connections are still taken after a signal to stop, while /readyz already says no.",
    ),
    key(
        "problem_base",
        Shape::Text("the beginning of a URI such as \"urn:onceway:problem:\""),
        "\"urn:onceway:problem:\"",
        "What stands before the code in a problem document's type.",
    ),
];
