//! What becomes of requests, counted once for each, at the end of its line in the log.
//!
//! A configuration has its own [`RequestMetrics`], with handles for each of its routes. After a reload a route of the
//! same path goes on with the same series, and the series of routes that are gone stay. So there are as many as paths
//! that this process was ever configured with. Must not know what the words mean.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::{ADDED_LATENCY, PROBLEMS, REPLAY_AGE, REQUEST, REQUESTS, WOULD_BE};
use super::histogram::Histogram;
use super::labelled::{Labelled, PerWord};
use crate::config::Route;
use crate::protocol::policy::Mode;
use crate::telemetry::course::Spent;

/// No route guarded the request.
const PASSED: &str = "passed";

/// Nobody waited for the answer.
const CALLER_LEFT: &str = "caller-left";

/// What becomes of requests: the words of `Idempotency-Status`, and two more.
pub const VERDICTS: &[&str] = &[
    "none",
    "executed",
    "replayed",
    "in-flight",
    "mismatch",
    "unknown",
    "released",
    "unstored",
    "unprotected",
    "body-not-kept",
    PASSED,
    CALLER_LEFT,
];

/// The codes of problem documents.
pub const PROBLEM_CODES: &[&str] = &[
    "draining",
    "expectation-failed",
    "headers-too-large",
    "in-flight",
    "key-invalid",
    "key-missing",
    "key-reused",
    "loop-detected",
    "malformed-request",
    "method-not-supported",
    "no-route",
    "not-implemented",
    "outcome-unknown",
    "overloaded",
    "path-ambiguous",
    "quota-exceeded",
    "replay-denied",
    "request-timeout",
    "request-too-large",
    "result-unavailable",
    "scope-missing",
    "store-unavailable",
    "upstream-unreachable",
    "uri-too-long",
    "version-not-supported",
];

/// What requests on routes that only observe would have been told, where that is not what they are told.
pub const WOULD_BE_WORDS: &[&str] = &[
    "replayed",
    "in-flight",
    "mismatch",
    "unknown",
    "body-not-kept",
    "unprotected",
    "key-invalid",
    "key-missing",
    "quota-exceeded",
    "request-too-large",
    "scope-missing",
];

/// Which of its two roads a request took, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Guarded,
    Passed,
    Refused,
}

/// What is known of a request when its answer's head is ready, or its caller has left.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// Index of its route.
    pub route: Option<usize>,
    /// The word of `Idempotency-Status`.
    pub word: Option<&'static str>,
    /// The code of the problem it is answered with.
    pub problem: Option<&'static str>,
    /// What it would have been told.
    pub would_be: Option<&'static str>,
    /// Whether the record of its key was asked for.
    pub is_keyed: bool,
    /// Whether its caller waited for the answer.
    pub has_answer: bool,
    /// Since its head came.
    pub took: Duration,
    /// Where that time went.
    pub spent: Spent,
}

/// The families of requests.
#[derive(Clone)]
pub(super) struct Families {
    requests: Labelled<Counter>,
    would_be: Labelled<Counter>,
    /// The verdicts of each path that there ever was.
    verdicts: Arc<Mutex<BTreeMap<String, Verdicts>>>,
    totals: Arc<Totals>,
}

type Verdicts = PerWord<&'static str, Counter>;

/// What is counted of all requests, whatever their route.
#[derive(Debug)]
struct Totals {
    problems: PerWord<&'static str, Counter>,
    roads: PerWord<Road, Histogram>,
    added: Histogram,
    replay_age: Histogram,
}

/// What is counted of one route.
#[derive(Debug)]
struct OfRoute {
    verdicts: Verdicts,
    /// Of a route that only observes.
    would_be: Option<PerWord<&'static str, Counter>>,
}

/// What one configuration counts of its requests.
#[derive(Debug)]
pub struct RequestMetrics {
    /// In the order of the configuration.
    routes: Box<[OfRoute]>,
    unrouted: OfRoute,
    totals: Arc<Totals>,
}

impl Families {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let requests = Labelled::registered(registry, &REQUESTS, Counter::default);
        let would_be = Labelled::registered(registry, &WOULD_BE, Counter::default);
        let problems: Labelled<Counter> = Labelled::registered(registry, &PROBLEMS, Counter::default);
        let request: Labelled<Histogram> = Labelled::registered(registry, &REQUEST, Histogram::long);
        let (added, replay_age) = (Histogram::brief(), Histogram::of_ages());
        ADDED_LATENCY.register(registry, added.clone());
        REPLAY_AGE.register(registry, replay_age.clone());
        let roads = [Road::Guarded, Road::Passed, Road::Refused];
        let totals = Totals {
            problems: PerWord::of(PROBLEM_CODES, |code| problems.with(&[code])),
            roads: PerWord::of(&roads, |road| request.with(&[road.as_str()])),
            added,
            replay_age,
        };
        Self { requests, would_be, verdicts: Arc::default(), totals: Arc::new(totals) }
    }

    /// Handles for the routes of a configuration.
    pub(super) fn of_routes(&self, routes: &[Route]) -> RequestMetrics {
        let of_route = |route: &Route| self.of_route(&route.path, route.policy.mode == Mode::Observe);
        RequestMetrics {
            routes: routes.iter().map(of_route).collect(),
            unrouted: self.of_route("", false),
            totals: Arc::clone(&self.totals),
        }
    }

    /// How many requests each verdict was given, on all routes together.
    pub(super) fn verdicts(&self) -> Vec<(&'static str, u64)> {
        let known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let on_all = |word| {
            let of_route = |verdicts: &Verdicts| verdicts.get(word).map_or(0, Counter::get);
            known.values().map(of_route).sum()
        };
        VERDICTS.iter().map(|word| (*word, on_all(*word))).collect()
    }

    fn of_route(&self, path: &str, observes: bool) -> OfRoute {
        let mut known = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let verdicts = known
            .entry(path.to_owned())
            .or_insert_with(|| PerWord::of(VERDICTS, |verdict| self.requests.with(&[path, verdict])));
        OfRoute {
            verdicts: verdicts.clone(),
            would_be: observes
                .then(|| PerWord::of(WOULD_BE_WORDS, |verdict| self.would_be.with(&[path, verdict]))),
        }
    }
}

impl RequestMetrics {
    /// Counts a request.
    pub fn finished(&self, request: &Finished) {
        let route = request.route.and_then(|route| self.routes.get(route)).unwrap_or(&self.unrouted);
        let verdict = if request.has_answer { request.word.unwrap_or(PASSED) } else { CALLER_LEFT };
        count(&route.verdicts, verdict);
        if let (Some(words), Some(would_be)) = (&route.would_be, request.would_be) {
            count(words, would_be);
        }
        if !request.has_answer {
            return;
        }
        if let Some(code) = request.problem {
            count(&self.totals.problems, code);
        }
        let road = match (request.is_keyed, request.problem) {
            (true, _) => Road::Guarded,
            (false, Some(_)) => Road::Refused,
            (false, None) => Road::Passed,
        };
        if let Some(histogram) = self.totals.roads.get(road) {
            histogram.observe(request.took);
        }
        if road != Road::Refused {
            let Spent { upstream, body, wait, .. } = request.spent;
            let others = upstream.saturating_add(body).saturating_add(wait);
            self.totals.added.observe(request.took.saturating_sub(others));
        }
    }

    /// Counts an answer of this age that is replayed.
    pub fn replayed(&self, age: Duration) {
        self.totals.replay_age.observe(age);
    }
}

impl Road {
    fn as_str(self) -> &'static str {
        match self {
            Self::Guarded => "guarded",
            Self::Passed => "passed",
            Self::Refused => "refused",
        }
    }
}

fn count(words: &PerWord<&'static str, Counter>, word: &'static str) {
    if let Some(counter) = words.get(word) {
        counter.inc();
    }
}
