//! Every key a file may hold: its meaning, shape, bounds and default, each told once and here.
//!
//! The readers take their bounds from this table, the errors their wording, and generated documents
//! their text. Must not know how a value is read (`section.rs`) or what becomes of it. Read `shape.rs`
//! before; `keys/server.rs` and `keys/upstream.rs` are parts of the table.

use std::time::Duration;

use crate::protocol::key::KeyFormat;
use crate::protocol::policy::{
    FingerprintBody, InFlightMode, KeyMode, Mode, On5xx, OnStoreError, OnUnknown, ScopeMissing,
};

use super::choices::{Choice, words_of};
pub use super::shape::{Key, Shape};
use super::{Compression, LogFormat, PathCase};

mod admin;
mod server;
mod traces;
mod upstream;

pub use admin::ADMIN;
pub use server::SERVER;
pub use traces::TRACES;
pub use upstream::UPSTREAM;

/// The keys known in one table: its own, and those it shares with another.
pub type Known = [&'static [Key]; 2];

const KIB: u64 = 1024;
const GIB: u64 = 1024 * 1024 * 1024;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Ten years: longer than anybody means, short enough to be added to any clock.
const LONGEST: Duration = Duration::from_hours(3650 * 24);
/// A wait that may be left out.
const OR_NONE: Shape = Shape::Duration(Duration::ZERO, LONGEST);
/// A wait that must be.
const WAIT: Shape = Shape::Duration(MILLISECOND, LONGEST);
/// How long something is kept.
const KEPT: Shape = Shape::Duration(SECOND, LONGEST);

const fn key(name: &'static str, shape: Shape, default: &'static str, meaning: &'static str) -> Key {
    Key { name, shape, default, meaning }
}

const fn word<T: Choice>(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    key(name, Shape::Word(words_of::<T>), default, meaning)
}

/// The tables of a file, with the keys of each: every table but `[upstreams.NAME]` by its own name.
pub static TABLES: [(&str, Known); 10] = [
    ("", [&ROOT, &[]]),
    ("server", [&SERVER, &[]]),
    ("admin", [&ADMIN, &[]]),
    ("store", [&STORE, &[]]),
    ("upstreams.default", [&UPSTREAM, &[]]),
    ("policy", [&POLICY, &[]]),
    ("routes", [&ROUTE, &POLICY]),
    ("policy.previous", [&PREVIOUS, &[]]),
    ("log", [&LOG, &[]]),
    ("traces", [&TRACES, &[]]),
];

/// The tables at the top of a file.
pub static ROOT: [Key; 8] = [
    key("server", Shape::Table, "", "The listener for callers."),
    key("admin", Shape::Table, "", "The listener for operators: health, metrics, key operations."),
    key("store", Shape::Table, "", "Where records live."),
    key("upstreams", Shape::Table, "", "The services behind the gateway, by name; at least one."),
    key("policy", Shape::Table, "", "The defaults of every route."),
    key("routes", Shape::Tables, "", "The protected paths. The most specific one wins, whatever the order."),
    key("log", Shape::Table, "", "What is logged and how."),
    key("traces", Shape::Table, "", "Which requests are recorded as traces, and who gets them."),
];

/// `[store]`
pub static STORE: [Key; 14] = [
    key(
        "url",
        Shape::SecretText("a store such as \"file:./onceway-data\" or \"redis://127.0.0.1:6379/0\""),
        "\"file:./onceway-data\"",
        "Which store: redis://HOST:PORT/DB, redis-sentinel://HOST:PORT,HOST:PORT/MASTER/DB, \
         redis-cluster://HOST:PORT,HOST:PORT (each with TLS as rediss…), postgres://HOST:PORT/DB, file:DIR \
         (relative to the working directory) or memory:.",
    ),
    key(
        "namespace",
        Shape::Text("a name such as \"onceway\""),
        "\"onceway\"",
        "Separates installations that share a store.",
    ),
    key(
        "local_cache",
        Shape::Size(0, 1024 * GIB),
        "\"64MiB\"",
        "Finished records kept in this process's memory; \"0\" switches it off.",
    ),
    key("timeout", WAIT, "\"1s\"", "Deadline of every store call."),
    key(
        "session_ttl",
        Shape::Duration(Duration::from_millis(500), Duration::from_hours(1)),
        "\"5s\"",
        "How long a gateway's session lives without being renewed; it is renewed at a fifth of it.",
    ),
    key(
        "hash_key_file",
        Shape::SecretText("the path of a file that holds a secret"),
        "",
        "File with the secret (16 bytes or more, white space around it is dropped) which keys all hashes; the \
         same on all gateways of a store. Left out: who reads the store can test guesses of short keys.",
    ),
    key(
        "min_replicas",
        Shape::Count(0, 16),
        "0",
        "Redis: how many replicas must have a record before its write counts as done; 0 waits for none.",
    ),
    key(
        "accept_eviction",
        Shape::Flag,
        "false",
        "Redis: whether a maxmemory-policy other than noeviction is accepted, though it can remove claims.",
    ),
    key(
        "encryption_key_file",
        Shape::SecretText("the path of a file that holds encryption keys"),
        "",
        "File with the keys that seal records, one a line, each 64 hexadecimal digits. The first seals, all \
         open; after a first line open-only they open and none seals. Left out: records are not sealed.",
    ),
    key(
        "accept_unsealed",
        Shape::Flag,
        "false",
        "With encryption_key_file: whether records that are not sealed are read all the same, as after sealing \
         was switched on. Who can write to the store can then forge answers.",
    ),
    key(
        "accept_lost_keys",
        Shape::Flag,
        "false",
        "Whether a configuration is taken under which outstanding keys would look new: they are made in another way, \
         or their paths are no longer guarded.",
    ),
    word::<Compression>(
        "compression",
        "\"off\"",
        "Whether large answer bodies are compressed before they are kept.",
    ),
    key(
        "backup_dir",
        Shape::Text("a directory such as \"/var/backups/onceway\""),
        "",
        "Embedded store: directory that holds the newest backup. Left out: no backups.",
    ),
    key(
        "backup_every",
        Shape::Duration(Duration::from_secs(1), LONGEST),
        "\"1h\"",
        "Embedded store: how often a backup is taken.",
    ),
];

/// `[[routes]]`, beside every key of `[policy]`
pub static ROUTE: [Key; 4] = [
    key(
        "path",
        Shape::Text("a path such as \"/payments\", \"/orders/{id}/refunds\" or \"/v1/{*rest}\""),
        "",
        "Exact; {id} is one segment, {*rest} all below and the path itself. Required.",
    ),
    key(
        "host",
        Shape::Text("a host name without port, such as \"api.example.com\""),
        "",
        "Narrows the route to one host. Left out: every host.",
    ),
    key(
        "upstream",
        Shape::Text("the name of an upstream"),
        "\"default\"",
        "Name of the upstream it leads to.",
    ),
    word::<PathCase>("path_case", "\"sensitive\"", "Whether /Payments and /payments are two paths or one."),
];

/// `[policy]` and `[[routes]]`
pub static POLICY: [Key; 30] = [
    key("methods", Shape::Texts("a method such as \"POST\""), "[\"POST\"]", "Methods that are guarded."),
    word::<KeyMode>(
        "key",
        "\"optional\"",
        "Whether a request without a key is refused or passes; off: no protection.",
    ),
    key(
        "key_from",
        Shape::Texts("\"header:NAME\" or \"json:/pointer\""),
        "[\"header:Idempotency-Key\"]",
        "Where a key is looked for. Several sources must agree.",
    ),
    word::<KeyFormat>("key_format", "\"any\"", "The accepted form of a key."),
    key("key_max_length", Shape::Count(1, 1024), "255", "Longest accepted key, in characters."),
    key(
        "scope",
        Shape::Texts("\"header:NAME\" such as \"header:Authorization\", or \"client-cert\""),
        "[\"header:Authorization\"]",
        "What separates callers; [] is one space for all.",
    ),
    word::<ScopeMissing>(
        "scope_missing",
        "\"anonymous\"",
        "Whether a request without a scope part is one of the anonymous, who share a space, or refused.",
    ),
    key(
        "fingerprint_headers",
        Shape::Texts("a header name such as \"X-Tenant\""),
        "[]",
        "Headers that must not change between retries.",
    ),
    word::<FingerprintBody>(
        "fingerprint_body",
        "\"bytes\"",
        "How bodies are compared between retries: every byte, as canonical JSON, or not at all.",
    ),
    key("ttl", KEPT, "\"24h\"", "How long an answer is kept, from its completion."),
    key("unknown_ttl", KEPT, "\"7d\"", "How long claims and unknown outcomes are kept."),
    word::<InFlightMode>(
        "in_flight",
        "\"reject\"",
        "Whether a duplicate of a request in flight is refused or waits for the first answer.",
    ),
    key("wait_timeout", WAIT, "\"10s\"", "How long a duplicate waits at most."),
    word::<OnUnknown>(
        "on_unknown",
        "\"reject\"",
        "Whether a retry of an unknown outcome is refused, or run again because the upstream is idempotent itself.",
    ),
    word::<OnStoreError>(
        "on_store_error",
        "\"reject\"",
        "Whether a request is refused or forwarded unprotected while the store is out of reach.",
    ),
    word::<On5xx>(
        "on_5xx",
        "\"store\"",
        "What a 5xx answer means: an answer to keep, not processed, or an unknown outcome.",
    ),
    key(
        "release_statuses",
        Shape::ErrorStatuses,
        "[401, 407, 408, 421, 425, 429]",
        "Statuses by which the upstream says that it did not process the request.",
    ),
    key("request_body_max", Shape::Size(0, GIB), "\"1MiB\"", "Largest accepted request body."),
    key(
        "response_body_max",
        Shape::Size(0, GIB),
        "\"1MiB\"",
        "Largest stored answer body; larger ones stream.",
    ),
    key(
        "replay_exclude_headers",
        Shape::Texts("a header name such as \"Set-Cookie\""),
        "[]",
        "Headers left out of replays.",
    ),
    key(
        "late_answer_window",
        OR_NONE,
        "\"60s\"",
        "How long an answer is listened for after response_timeout.",
    ),
    key(
        "commit_timeout",
        WAIT,
        "\"5s\"",
        "How long an answer waits for the store, away or hanging, before it is delivered unstored.",
    ),
    key(
        "in_flight_per_scope_max",
        Shape::Count(0, 10_000_000),
        "0",
        "Requests with a key that one caller may have at once, in each gateway; 0 is no limit. Callers are told apart by \
         scope; more are refused as quota-exceeded.",
    ),
    key(
        "claims_per_scope_max",
        Shape::Count(0, 1_000_000_000),
        "0",
        "New keys that one caller may use within claims_window, in each gateway; 0 is no limit.",
    ),
    key("claims_window", KEPT, "\"60s\"", "The time within which claims_per_scope_max counts."),
    word::<Mode>(
        "mode",
        "\"enforce\"",
        "Whether verdicts are enforced, or everything is forwarded and the log says what would have happened.",
    ),
    key(
        "mismatch_status",
        Shape::Status(&[422, 409, 400]),
        "422",
        "Status of a key reused for another request.",
    ),
    key("in_flight_status", Shape::Status(&[409, 423, 425, 429]), "409", "Status of a duplicate in flight."),
    key(
        "replay_header",
        Shape::Text("a header name such as \"Idempotent-Replayed\""),
        "\"Idempotent-Replayed\"",
        "Header that marks a replay.",
    ),
    key(
        "previous",
        Shape::Table,
        "",
        "How keys and fingerprints were made before, so that outstanding keys are found while their records last.",
    ),
];

/// `previous`, in `[policy]` and `[[routes]]`
pub static PREVIOUS: [Key; 5] = [
    key(
        "key_from",
        Shape::Texts("\"header:NAME\" or \"json:/pointer\""),
        "",
        "Where a key was looked for. Left out: where it is now.",
    ),
    key(
        "scope",
        Shape::Texts("\"header:NAME\" such as \"header:Authorization\", or \"client-cert\""),
        "",
        "What separated callers. Left out: what does now.",
    ),
    word::<ScopeMissing>(
        "scope_missing",
        "",
        "Whether a request without a part of that scope was one of the anonymous or refused. Left out: as now.",
    ),
    key(
        "fingerprint_headers",
        Shape::Texts("a header name such as \"X-Tenant\""),
        "",
        "Headers that could not change between retries. Left out: those of now.",
    ),
    word::<FingerprintBody>("fingerprint_body", "", "How bodies were compared. Left out: as now."),
];

/// `[log]`
pub static LOG: [Key; 2] = [
    word::<LogFormat>("format", "\"human\"", "Whether an event is a line of text or a JSON object."),
    key(
        "level",
        Shape::Text("a level such as \"info\" or a filter such as \"info,onceway=debug\""),
        "\"info\"",
        "Which events are logged: error, warn, info, debug, trace, off, or a tracing filter. Those of libraries are \
         logged from info up.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_told_once_and_in_a_sentence() {
        for (table, lists) in &TABLES {
            let mut names: Vec<_> = lists.iter().copied().flatten().map(|key| key.name).collect();
            names.sort_unstable();
            names.windows(2).for_each(|pair| assert_ne!(pair[0], pair[1], "[{table}]"));
            for key in lists.iter().copied().flatten() {
                assert!(key.meaning.ends_with('.'), "{}: {}", key.name, key.meaning);
            }
        }
    }

    #[test]
    fn what_is_wanted_reads_as_a_phrase() {
        assert_eq!(Shape::Word(words_of::<KeyMode>).wanted(), "\"required\", \"optional\" or \"off\"");
        assert_eq!(Shape::Status(&[422, 409, 400]).wanted(), "422, 409 or 400");
        assert_eq!(KEPT.bounds(), "a duration from \"1s\" to \"3650d\"");
    }
}
