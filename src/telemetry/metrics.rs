//! The metrics: what is counted and timed, by names that dashboards and alerts rely on.
//!
//! Whoever counts holds a handle and never looks a label up on the hot path. Must not hold keys, credentials, bodies or
//! paths: labels come from the configuration and from closed sets of words.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of [`Metrics::page`] (`OpenMetrics` 1.0).
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that one gateway counts.
pub struct Metrics {
    registry: Mutex<Registry>,
}

impl Metrics {
    /// Metrics that stand at nought.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("onceway");
        registry.register(
            "build",
            "The version that runs",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        Self { registry: Mutex::new(registry) }
    }

    /// All metrics as text. `accept`: the field by which a scraper says which formats it reads. Answers the content
    /// type and the text.
    pub fn page(&self, _accept: Option<&str>) -> (&'static str, String) {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::expect_used, reason = "a string takes whatever is written to it")]
        encode(&mut text, &registry).expect("a string takes whatever is written to it");
        (OPEN_METRICS, text)
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
