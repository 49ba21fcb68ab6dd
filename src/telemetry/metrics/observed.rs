//! What others count already, asked for when a page is written: nothing is counted twice.
//!
//! Must not know whom it asks: `../../gateway/observe.rs` does.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::families::{
    BUFFERED, BUILD, CACHE_BYTES, CACHE_HITS, CACHE_MISSES, CACHE_RECORDS, CLAIMS_IN_FLIGHT, CONNECTIONS,
    Described, HEARTBEAT_AGE, LOG_LINES_DROPPED, REQUESTS_IN_FLIGHT, SESSIONS_LAPSED, STORE_CLOSED,
    STORE_REACHABLE, UPSTREAM_CONNECTIONS, UPSTREAM_HEALTHY, UPSTREAM_IN_FLIGHT, WAITERS,
};

/// What is so at a moment.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Claims that this process answers for.
    pub claims_in_flight: usize,
    /// Requests that wait for the first request of their key.
    pub waiters: usize,
    /// How often this process's session lapsed.
    pub sessions_lapsed: u64,
    /// Whether the store answered the last heartbeat.
    pub is_store_reachable: bool,
    /// Whether the store is closed for new claims.
    pub is_store_closed: bool,
    /// Since the last heartbeat was sent by which this process may claim.
    pub heartbeat_age: Option<Duration>,
    /// The finished records in memory.
    pub cache: CacheObserved,
    /// Requests under way.
    pub requests_in_flight: usize,
    /// Bytes of bodies held whole.
    pub buffered_bytes: usize,
    /// Open connections, by listener.
    pub connections: Vec<(&'static str, usize)>,
    /// The upstreams of the configuration that holds.
    pub upstreams: Vec<UpstreamObserved>,
    /// Lines of the log that were dropped.
    pub log_lines_dropped: u64,
}

/// The finished records in memory at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheObserved {
    /// What they weigh.
    pub bytes: u64,
    /// How many there are.
    pub records: usize,
    /// Requests that were answered from there so far.
    pub hits: u64,
    /// Requests that were not.
    pub misses: u64,
}

/// An upstream at a moment.
#[derive(Clone, Debug)]
pub struct UpstreamObserved {
    /// Its name.
    pub name: String,
    /// Its servers.
    pub servers: Vec<ServerObserved>,
}

/// A server of an upstream at a moment.
#[derive(Clone, Debug)]
pub struct ServerObserved {
    /// Where it is.
    pub address: String,
    /// Whether it gets requests.
    pub is_healthy: bool,
    /// Requests that have a place there.
    pub in_flight: usize,
    /// Open connections.
    pub connections: usize,
}

/// Tells what is so.
pub type Observe = Box<dyn Fn() -> Observed + Send + Sync>;

/// Whom to ask, while there is somebody. Whoever is asked holds what it tells of, and that counts by these metrics: each
/// would keep the other for ever, were it not let go of.
#[derive(Clone, Default)]
pub(super) struct Observer(Arc<Asked>);

#[derive(Default)]
struct Asked {
    gateway: Mutex<Option<Arc<Observe>>>,
    operators: OnceLock<Box<dyn Fn() -> usize + Send + Sync>>,
}

impl Observer {
    /// From now on `observe` is asked; `None`: nobody.
    pub(super) fn ask(&self, observe: Option<Observe>) {
        *self.0.gateway.lock().unwrap_or_else(PoisonError::into_inner) = observe.map(Arc::new);
    }

    /// The same for the connections of operators. The first stays.
    pub(super) fn ask_operators(&self, open: Box<dyn Fn() -> usize + Send + Sync>) {
        self.0.operators.get_or_init(|| open);
    }

    /// What is so now; `None` while the gateway starts, and once it has ended.
    pub(super) fn observed(&self) -> Option<Observed> {
        let gateway = self.0.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut now = gateway?();
        now.connections.extend(self.0.operators.get().map(|open| ("admin", open())));
        Some(now)
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Collector for Observer {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.each(&BUILD, [([env!("CARGO_PKG_VERSION")], ConstGauge::new(1_u64))])?;
        let Some(now) = self.observed() else { return Ok(()) };
        page.one(&CLAIMS_IN_FLIGHT, &ConstGauge::new(now.claims_in_flight))?;
        page.one(&WAITERS, &ConstGauge::new(now.waiters))?;
        page.one(&STORE_REACHABLE, &ConstGauge::new(u64::from(now.is_store_reachable)))?;
        page.one(&STORE_CLOSED, &ConstGauge::new(u64::from(now.is_store_closed)))?;
        if let Some(age) = now.heartbeat_age {
            page.one(&HEARTBEAT_AGE, &ConstGauge::new(age.as_secs_f64()))?;
        }
        page.one(&SESSIONS_LAPSED, &ConstCounter::new(now.sessions_lapsed))?;
        page.one(&CACHE_BYTES, &ConstGauge::new(now.cache.bytes))?;
        page.one(&CACHE_RECORDS, &ConstGauge::new(now.cache.records))?;
        page.one(&CACHE_HITS, &ConstCounter::new(now.cache.hits))?;
        page.one(&CACHE_MISSES, &ConstCounter::new(now.cache.misses))?;
        page.each_server(&UPSTREAM_CONNECTIONS, &now, |server| server.connections)?;
        page.each_server(&UPSTREAM_IN_FLIGHT, &now, |server| server.in_flight)?;
        page.each_server(&UPSTREAM_HEALTHY, &now, |server| server.is_healthy.into())?;
        page.one(&REQUESTS_IN_FLIGHT, &ConstGauge::new(now.requests_in_flight))?;
        page.one(&BUFFERED, &ConstGauge::new(now.buffered_bytes))?;
        let connections = now.connections.iter();
        page.each(&CONNECTIONS, connections.map(|(listener, open)| ([*listener], ConstGauge::new(*open))))?;
        page.one(&LOG_LINES_DROPPED, &ConstCounter::new(now.log_lines_dropped))
    }
}

/// A page that is being written.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    /// A family of one series.
    pub(super) fn one(&mut self, family: &'static Described, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.family(family)?)
    }

    /// A family of several, each with the values of its labels.
    fn each<'v, const N: usize, M: EncodeMetric>(
        &mut self,
        family: &'static Described,
        series: impl IntoIterator<Item = ([&'v str; N], M)>,
    ) -> fmt::Result {
        let mut encoder = self.family(family)?;
        for (values, metric) in series {
            let labels: Vec<_> = family.labels.iter().copied().zip(values).collect();
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn each_server(
        &mut self,
        family: &'static Described,
        now: &Observed,
        number: impl Fn(&ServerObserved) -> usize,
    ) -> fmt::Result {
        let series = now.upstreams.iter().flat_map(|upstream| {
            let number = &number;
            upstream.servers.iter().map(move |server| {
                ([upstream.name.as_str(), server.address.as_str()], ConstGauge::new(number(server)))
            })
        });
        self.each(family, series)
    }

    fn family(&mut self, family: &'static Described) -> Result<MetricEncoder<'_>, fmt::Error> {
        // As the library does for what is registered with it.
        let help = format!("{}.", family.help);
        self.0.encode_descriptor(family.name, &help, family.page_unit(), family.page_kind())
    }
}
