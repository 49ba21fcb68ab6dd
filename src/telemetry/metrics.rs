//! The metrics: what is counted and timed, by names that dashboards and alerts rely on.
//!
//! Whoever counts holds a handle and never looks a label up on the hot path. Must not hold keys, credentials, bodies or
//! the paths of requests: labels come from the configuration and from closed sets of words. Read `metrics/families.rs`
//! for what there is, then the file of each subject; `docs/metrics.md` is for those who read the page.

mod changes;
mod claims;
mod families;
mod histogram;
mod labelled;
mod limits;
mod observed;
mod process;
mod requests;
mod text;
mod upstreams;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use changes::{ChangeMetrics, ChangeOutcome, OperatorAction};
pub use claims::{Call, CallOutcome, ClaimMetrics, Settled, Written};
pub use families::{Described, FAMILIES, Kind, Unit};
pub use limits::{Limit, LimitMetrics};
use observed::Observer;
pub use observed::{CacheObserved, Observe, Observed, ServerObserved, UpstreamObserved};
use process::Process;
pub use requests::{Finished, PROBLEM_CODES, RequestMetrics, VERDICTS, WOULD_BE_WORDS};
use text::Format;
pub use upstreams::UpstreamMetrics;

use crate::clock;
use crate::config::Route;

/// Everything that one gateway counts.
pub struct Metrics {
    /// What becomes of claims, and what the store takes to keep them.
    pub claims: ClaimMetrics,
    /// How often limits bit.
    pub limits: LimitMetrics,
    /// What operators changed, and reloads.
    pub changes: ChangeMetrics,
    requests: requests::Families,
    upstreams: upstreams::Families,
    observer: Observer,
    registry: Mutex<Registry>,
}

impl Metrics {
    /// Metrics that stand at nought.
    pub fn new() -> Self {
        let mut root = Registry::default();
        let own = root.sub_registry_with_prefix(families::OWN);
        let observer = Observer::default();
        let requests = requests::Families::registered(own);
        let claims = ClaimMetrics::registered(own);
        let upstreams = upstreams::Families::registered(own);
        let limits = LimitMetrics::registered(own);
        let changes = ChangeMetrics::registered(own);
        own.register_collector(Box::new(observer.clone()));
        let process = Box::new(Process { began: clock::unix_millis() });
        root.sub_registry_with_prefix(families::PROCESS).register_collector(process);
        Self { claims, limits, changes, requests, upstreams, observer, registry: Mutex::new(root) }
    }

    /// Handles for the requests of a configuration with these routes.
    pub fn of_routes(&self, routes: &[Route]) -> RequestMetrics {
        self.requests.of_routes(routes)
    }

    /// Handles for the upstream of this name.
    pub fn of_upstream(&self, name: &str) -> UpstreamMetrics {
        self.upstreams.of(name)
    }

    /// From now on `observe` tells what others count already.
    pub fn observe_by(&self, observe: Observe) {
        self.observer.ask(Some(observe));
    }

    /// From now on nobody tells: the gateway has ended, and what it held is let go of.
    pub fn observe_no_more(&self) {
        self.observer.ask(None);
    }

    /// From now on `open` tells how many connections operators have.
    pub fn observe_operators_by(&self, open: Box<dyn Fn() -> usize + Send + Sync>) {
        self.observer.ask_operators(open);
    }

    /// What others count; `None` while the gateway starts.
    pub fn observed(&self) -> Option<Observed> {
        self.observer.observed()
    }

    /// How many requests each verdict was given so far, on all routes together.
    pub fn verdicts(&self) -> Vec<(&'static str, u64)> {
        self.requests.verdicts()
    }

    /// All metrics as text. `accept`: the field by which a scraper says which formats it reads. Answers the content
    /// type and the text.
    pub fn page(&self, accept: Option<&str>) -> (&'static str, String) {
        let mut text = String::new();
        {
            let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            #[expect(clippy::expect_used, reason = "a string takes whatever is written to it")]
            encode(&mut text, &registry).expect("a string takes whatever is written to it");
        }
        let format = Format::liked(accept);
        match format {
            Format::OpenMetrics => (format.content_type(), text),
            Format::Prometheus => (format.content_type(), text::prometheus(&text)),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn routes(paths: &[&str]) -> Vec<Route> {
        let routes = config::for_upstream("http://127.0.0.1:9000", None, None).unwrap().routes;
        let at = |path: &&str| Route { path: (*path).to_owned(), ..routes[0].clone() };
        paths.iter().map(at).collect()
    }

    fn executed(route: usize) -> Finished {
        Finished {
            route: Some(route),
            word: Some("executed"),
            problem: None,
            would_be: None,
            is_keyed: true,
            has_answer: true,
            took: std::time::Duration::ZERO,
            spent: crate::telemetry::course::Spent::default(),
        }
    }

    #[test]
    fn what_needs_an_escape_in_a_label_has_one() {
        let metrics = Metrics::new();
        metrics.of_routes(&routes(&["/a\"b\\c\nd"])).finished(&executed(0));
        for accept in [None, Some("application/openmetrics-text")] {
            let (_, page) = metrics.page(accept);
            let line = r#"onceway_requests_total{route="/a\"b\\c\nd",verdict="executed"} 1"#;
            assert!(page.lines().any(|found| found == line), "{page}");
        }
    }

    #[test]
    fn another_configuration_counts_on_where_the_last_one_was() {
        let metrics = Metrics::new();
        metrics.of_routes(&routes(&["/a", "/b"])).finished(&executed(0));
        metrics.of_routes(&routes(&["/b", "/a"])).finished(&executed(1));
        let (_, page) = metrics.page(None);
        assert!(page.contains("onceway_requests_total{route=\"/a\",verdict=\"executed\"} 2\n"), "{page}");
        assert!(metrics.verdicts().contains(&("executed", 2)));
    }
}
