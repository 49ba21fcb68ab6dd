//! The keys of `[traces]`: which requests are recorded, and who gets the records.

use super::{Key, Shape, WAIT, key};

/// `[traces]`
pub static TRACES: [Key; 5] = [
    key(
        "otlp_url",
        Shape::Text("an address such as \"http://127.0.0.1:4318\""),
        "",
        "Collector that gets the spans, by OTLP over HTTP: below its address, at /v1/traces. Left out: none are recorded.",
    ),
    key(
        "service_name",
        Shape::Text("a name such as \"onceway\""),
        "\"onceway\"",
        "What this gateway is called in traces.",
    ),
    key(
        "sample_one_in",
        Shape::Count(1, 1_000_000),
        "1",
        "Of the traces that begin here, one in so many is recorded. Where a request says that it belongs to a trace, \
         whoever began that has chosen.",
    ),
    key(
        "timeout",
        WAIT,
        "\"5s\"",
        "How long the collector may take for a delivery; after it the spans are dropped.",
    ),
    key(
        "ca_file",
        Shape::Text("the path of a PEM file with certificates"),
        "",
        "Certificates, in PEM, of those who vouch for the collector. Left out: those that the operating system trusts.",
    ),
];
