//! How upstreams do. What is known of each server at a moment is told by `observed.rs`.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{QUEUE, UPSTREAM, UPSTREAM_FAILURES};
use super::histogram::Histogram;
use super::labelled::Labelled;

/// The families of upstreams.
#[derive(Clone)]
pub(super) struct Families {
    took: Labelled<Histogram>,
    queued: Labelled<Histogram>,
    failures: Labelled<Counter>,
}

/// What is counted of one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    took: Histogram,
    queued: Histogram,
    not_sent: Counter,
    unknown: Counter,
}

impl Families {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        Self {
            took: Labelled::registered(registry, &UPSTREAM, Histogram::long),
            queued: Labelled::registered(registry, &QUEUE, Histogram::brief),
            failures: Labelled::registered(registry, &UPSTREAM_FAILURES, Counter::default),
        }
    }

    pub(super) fn of(&self, upstream: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            took: self.took.with(&[upstream]),
            queued: self.queued.with(&[upstream]),
            not_sent: self.failures.with(&[upstream, "not-sent"]),
            unknown: self.failures.with(&[upstream, "unknown"]),
        }
    }
}

impl UpstreamMetrics {
    /// What nobody reads: for upstreams outside a gateway.
    pub fn unread() -> Self {
        Self {
            took: Histogram::long(),
            queued: Histogram::brief(),
            not_sent: Counter::default(),
            unknown: Counter::default(),
        }
    }

    /// Counts that a request waited so long for a place at a server.
    pub fn queued(&self, time: Duration) {
        self.queued.observe(time);
    }

    /// Counts that the head of an answer came after so long.
    pub fn answered(&self, took: Duration) {
        self.took.observe(took);
    }

    /// Counts that no answer came. `may_have_left`: whether it may have taken effect.
    pub fn failed(&self, may_have_left: bool) {
        if may_have_left {
            self.unknown.inc()
        } else {
            self.not_sent.inc()
        };
    }
}
