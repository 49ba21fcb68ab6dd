//! `[traces]` as meant: which requests are recorded, and who gets the records.
//!
//! Every field is a key of `keys/traces.rs` and means what is said there. A collector is spoken to as an upstream is.

use std::time::Duration;

use super::address;
use super::certificates;
use super::problem::Unfit;
use super::section::{Findings, Section};
use super::terms;
use super::upstream::{Admission, Upstream};

/// The collector's name among upstreams; in a file it could not stand.
const COLLECTOR: &str = "(traces)";

/// Connections to the collector at once.
const CONNECTIONS_MAX: usize = 4;

/// The traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// Who gets the spans; `None`: none are recorded.
    pub collector: Option<Upstream>,
    /// What this gateway is called in them.
    pub service_name: String,
    /// Of the traces that begin here, one in so many is recorded.
    pub sample_one_in: u64,
    /// How long a delivery may take.
    pub timeout: Duration,
}

/// Resolves the table.
pub(super) fn traces(find: &mut Findings<'_>, section: Option<&Section<'_>>) -> Traces {
    let default = Traces::default();
    let Some(section) = section else { return default };
    let timeout = section.duration(find, "timeout").unwrap_or(default.timeout);
    let authorities = certificates::authorities(find, section, "ca_file");
    let url = section.text(find, "otlp_url", |text| {
        if cfg!(feature = "otlp") {
            address::upstream(text)
        } else {
            Unfit::refused(
                "this onceway was built without OTLP",
                "the key to be left out, or a build with the cargo feature otlp",
            )
        }
    });
    let collector = url.map(|url| Upstream {
        connect_timeout: timeout,
        response_timeout: timeout,
        queue_timeout: timeout,
        idle_connections_max: 1,
        authorities,
        admission: Admission::Fixed,
        connections_max: CONNECTIONS_MAX,
        // There is no other that could take its place.
        eject_failures: 0,
        failovers_max: 0,
        ..Upstream::at(COLLECTOR, url)
    });
    Traces {
        collector,
        service_name: section.text(find, "service_name", terms::service_name).unwrap_or(default.service_name),
        sample_one_in: section.count(find, "sample_one_in").unwrap_or(default.sample_one_in),
        timeout,
    }
}
