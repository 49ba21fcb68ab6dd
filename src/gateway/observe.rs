//! Whom the metrics ask for what is counted already, whenever a page of them is written.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Upstreams;
use crate::ledger::Ledger;
use crate::proxy::Shared;
use crate::server::Reception;
use crate::telemetry::log;
use crate::telemetry::metrics::{CacheObserved, Observe, Observed};

/// Tells what is so at any moment. `upstreams`: those of the configuration that holds.
pub(super) fn observe(
    shared: Arc<Shared>,
    ledger: Ledger,
    reception: Arc<Reception>,
    upstreams: Arc<ArcSwap<Upstreams>>,
) -> Observe {
    Box::new(move || {
        let mut now = Observed::default();
        tell_of_store(&ledger, &mut now);
        shared.observe(&mut now);
        reception.observe(&mut now);
        now.upstreams = upstreams.load().fleets.iter().map(|fleet| fleet.observed()).collect();
        now.log_lines_dropped = u64::try_from(log::lines_dropped()).unwrap_or(u64::MAX);
        now
    })
}

fn tell_of_store(ledger: &Ledger, now: &mut Observed) {
    let cached = ledger.cached();
    now.claims_in_flight = ledger.claims_in_flight();
    now.waiters = ledger.waiters();
    now.is_store_reachable = ledger.reaches_store();
    now.is_store_closed = ledger.is_store_closed();
    now.heartbeat_age = ledger.heartbeat_age();
    now.sessions_lapsed = ledger.sessions_lapsed();
    now.cache = CacheObserved {
        bytes: cached.bytes,
        records: cached.records,
        hits: cached.hits,
        misses: cached.misses,
    };
}
