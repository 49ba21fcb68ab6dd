//! Every family of metrics: its name, type, unit and labels, and what it means. The one place where they are named.
//!
//! `docs/metrics.md` holds the same table, and a test compares the two. Must not know what is counted. Read
//! `labelled.rs` for how a family gets its series.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry, Unit as PageUnit};

/// What a family is called, and what it says.
#[derive(Debug)]
pub struct Described {
    /// What the name begins with.
    pub prefix: &'static str,
    /// What comes after it; without unit, and without the `_total` of counters.
    pub name: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// What they are counted in.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means: one sentence, without its full stop.
    pub help: &'static str,
}

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// How often something took how long.
    Histogram,
}

/// What the numbers of a family are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// What the names of this gateway's own families begin with.
pub(super) const OWN: &str = "onceway";

/// What the names begin with that every process has.
pub(super) const PROCESS: &str = "process";

impl Described {
    /// Its name as it stands on the page.
    pub fn page_name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}_{}{unit}{total}", self.prefix, self.name)
    }

    /// Its row in `docs/metrics.md`.
    pub fn row(&self) -> String {
        let labels: Vec<_> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = match self.unit {
            Unit::None => "",
            Unit::Seconds => ", seconds",
            Unit::Bytes => ", bytes",
        };
        let (name, kind, labels) = (self.page_name(), self.kind.as_str(), labels.join(", "));
        format!("| `{name}` | {kind}{unit} | {labels} | {}. |", self.help)
    }

    pub(super) fn page_unit(&self) -> Option<&'static PageUnit> {
        match self.unit {
            Unit::None => None,
            Unit::Seconds => Some(&PageUnit::Seconds),
            Unit::Bytes => Some(&PageUnit::Bytes),
        }
    }

    pub(super) fn page_kind(&self) -> MetricType {
        match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        }
    }

    pub(super) fn register(&self, registry: &mut Registry, metric: impl Metric) {
        match self.page_unit() {
            None => registry.register(self.name, self.help, metric),
            Some(unit) => registry.register_with_unit(self.name, self.help, unit.clone(), metric),
        }
    }
}

impl Kind {
    /// Its word on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

const fn own(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    labels: &'static [&'static str],
    help: &'static str,
) -> Described {
    Described { prefix: OWN, name, kind, unit, labels, help }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    own(name, Kind::Counter, Unit::None, labels, help)
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    own(name, Kind::Gauge, Unit::None, labels, help)
}

const fn times(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    own(name, Kind::Histogram, Unit::Seconds, labels, help)
}

const fn process(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Described {
    Described { prefix: PROCESS, name, kind, unit, labels: &[], help }
}

pub(super) const REQUESTS: Described = counter(
    "requests",
    &["route", "verdict"],
    "Requests, by what became of them: the word of Idempotency-Status, passed where no route guards, caller-left where \
     nobody waited for the answer",
);
pub(super) const WOULD_BE: Described = counter(
    "would_be",
    &["route", "verdict"],
    "Requests on routes that only observe, by what they would have been told: a word of Idempotency-Status or the code \
     of a problem",
);
pub(super) const PROBLEMS: Described =
    counter("problems", &["code"], "Problem documents that the gateway answered with, by their code");
pub(super) const REQUEST: Described = times(
    "request",
    &["road"],
    "Time from a request's head to its answer's head; road is guarded where the record of a key was asked for, refused \
     where the gateway refused before that, else passed",
);
pub(super) const ADDED_LATENCY: Described = times(
    "added_latency",
    &[],
    "Time from a request's head to its answer's head, without what the upstream took, the caller's body or the first \
     request's answer took to come",
);
pub(super) const REPLAY_AGE: Described = times("replay_age", &[], "Age of the answers that were replayed");
pub(super) const STORE_CALL: Described = times(
    "store_call",
    &["call", "outcome"],
    "Calls to the store, by what was asked and whether it was done; outcome is ok, error or timeout",
);
pub(super) const CLAIMS_SETTLED: Described = counter(
    "claims_settled",
    &["outcome", "settlement"],
    "Claims by what came of their requests (completed, without-body, released, unknown) and of writing that down by the \
     time the caller was answered (stored, unstored, superseded)",
);
pub(super) const LATE_ANSWERS: Described = counter(
    "late_answers",
    &[],
    "Answers that came after their response_timeout and could still be recorded",
);
pub(super) const UPSTREAM: Described =
    times("upstream", &["upstream"], "Time from a request's place at a server to the head of the answer");
pub(super) const QUEUE: Described =
    times("queue", &["upstream"], "Time that requests waited for a place at a server");
pub(super) const UPSTREAM_FAILURES: Described = counter(
    "upstream_failures",
    &["upstream", "left"],
    "Requests that an upstream did not answer; left is not-sent where nothing of the request left, unknown where it may \
     have taken effect",
);
pub(super) const LIMITS_HIT: Described =
    counter("limits_hit", &["limit"], "How often a limit kept something out or cut it off");
pub(super) const OPERATOR_CHANGES: Described = counter(
    "operator_changes",
    &["action", "outcome"],
    "Changes that operators asked for through the admin listener, by what they were and what came of them",
);
pub(super) const CONFIG_RELOADS: Described = counter(
    "config_reloads",
    &["outcome"],
    "Reloads of the configuration; outcome is taken, or refused where the old one stays",
);
pub(super) const BUILD: Described = gauge("build_info", &["version"], "The version that runs; always 1");
pub(super) const CLAIMS_IN_FLIGHT: Described = gauge(
    "claims_in_flight",
    &[],
    "Claims of this process that stand and are not settled, or whose outcome the store has yet to take",
);
pub(super) const WAITERS: Described =
    gauge("waiters", &[], "Requests that wait for the answer to the first request of their key");
pub(super) const SESSIONS_LAPSED: Described = counter(
    "sessions_lapsed",
    &[],
    "How often this process's session lapsed, so that others might have taken it for dead",
);
pub(super) const STORE_REACHABLE: Described =
    gauge("store_reachable", &[], "1 if the store answered the last heartbeat, else 0");
pub(super) const STORE_CLOSED: Described =
    gauge("store_closed", &[], "1 if the store is closed for new claims, else 0");
pub(super) const HEARTBEAT_AGE: Described = own(
    "heartbeat_age",
    Kind::Gauge,
    Unit::Seconds,
    &[],
    "Time since the last heartbeat was sent by which this process may claim; absent while it may not",
);
pub(super) const CACHE_BYTES: Described = own(
    "local_cache",
    Kind::Gauge,
    Unit::Bytes,
    &[],
    "What the finished records kept in memory weigh, as store.local_cache counts",
);
pub(super) const CACHE_RECORDS: Described =
    gauge("local_cache_records", &[], "Finished records kept in memory");
pub(super) const CACHE_HITS: Described =
    counter("local_cache_hits", &[], "Requests that were answered from memory");
pub(super) const CACHE_MISSES: Described =
    counter("local_cache_misses", &[], "Requests that were not answered from memory");
pub(super) const REQUESTS_IN_FLIGHT: Described =
    gauge("requests_in_flight", &[], "Requests under way, to the end of their answers");
pub(super) const BUFFERED: Described =
    own("buffered", Kind::Gauge, Unit::Bytes, &[], "Bytes of bodies that are held whole");
pub(super) const CONNECTIONS: Described =
    gauge("connections", &["listener"], "Open connections from callers (server) and operators (admin)");
pub(super) const UPSTREAM_CONNECTIONS: Described =
    gauge("upstream_connections", &["upstream", "server"], "Open connections to a server");
pub(super) const UPSTREAM_IN_FLIGHT: Described =
    gauge("upstream_requests_in_flight", &["upstream", "server"], "Requests that have a place at a server");
pub(super) const UPSTREAM_HEALTHY: Described = gauge(
    "upstream_server_healthy",
    &["upstream", "server"],
    "1 if a server gets requests, 0 if it is left out until it is well again",
);
pub(super) const LOG_LINES_DROPPED: Described =
    counter("log_lines_dropped", &[], "Lines of the log that were dropped because it could not keep up");
pub(super) const PROCESS_CPU: Described =
    process("cpu", Kind::Counter, Unit::Seconds, "Time that the process used on processors");
pub(super) const PROCESS_START: Described =
    process("start_time", Kind::Gauge, Unit::Seconds, "When the process began, in seconds since 1970");
pub(super) const PROCESS_MEMORY: Described =
    process("resident_memory", Kind::Gauge, Unit::Bytes, "Memory of the process that is in use");
pub(super) const PROCESS_FDS: Described =
    process("open_fds", Kind::Gauge, Unit::None, "Open file descriptors");
pub(super) const PROCESS_FDS_MAX: Described =
    process("max_fds", Kind::Gauge, Unit::None, "File descriptors that may be open");

/// All families, in the order of the documentation.
pub static FAMILIES: &[&Described] = &[
    &REQUESTS,
    &WOULD_BE,
    &PROBLEMS,
    &REQUEST,
    &ADDED_LATENCY,
    &REPLAY_AGE,
    &CLAIMS_SETTLED,
    &LATE_ANSWERS,
    &CLAIMS_IN_FLIGHT,
    &WAITERS,
    &STORE_CALL,
    &STORE_REACHABLE,
    &STORE_CLOSED,
    &HEARTBEAT_AGE,
    &SESSIONS_LAPSED,
    &CACHE_BYTES,
    &CACHE_RECORDS,
    &CACHE_HITS,
    &CACHE_MISSES,
    &UPSTREAM,
    &QUEUE,
    &UPSTREAM_FAILURES,
    &UPSTREAM_CONNECTIONS,
    &UPSTREAM_IN_FLIGHT,
    &UPSTREAM_HEALTHY,
    &REQUESTS_IN_FLIGHT,
    &BUFFERED,
    &CONNECTIONS,
    &LIMITS_HIT,
    &OPERATOR_CHANGES,
    &CONFIG_RELOADS,
    &LOG_LINES_DROPPED,
    &BUILD,
    &PROCESS_START,
    &PROCESS_CPU,
    &PROCESS_MEMORY,
    &PROCESS_FDS,
    &PROCESS_FDS_MAX,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_family_has_a_name_of_its_own() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.page_name()).collect();
        assert_eq!(names.len(), FAMILIES.len());
    }

    #[test]
    fn no_help_needs_an_escape_and_none_ends_with_a_full_stop() {
        let is_plain = |help: &str| !help.contains(['\\', '"', '\n']) && !help.ends_with('.');
        assert!(FAMILIES.iter().all(|family| is_plain(family.help)));
    }
}
