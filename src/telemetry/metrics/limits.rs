//! How often limits bit. `docs/limits.md` says what they are.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::families::LIMITS_HIT;
use super::labelled::{Labelled, PerWord};

/// A limit that kept something out or cut it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `server.connections_max`.
    Connections,
    /// `server.connections_per_peer_max`.
    ConnectionsPerPeer,
    /// The system's limit of open files: no connection could be accepted.
    OpenFiles,
    /// `server.in_flight_max`.
    RequestsInFlight,
    /// The time of a worker: the line of connections that wait to be taken in does not empty. Once for each round.
    WorkerTime,
    /// `server.buffered_bytes_max`.
    BufferedBytes,
    /// `server.target_bytes_max`.
    TargetBytes,
    /// `server.header_bytes_max`.
    HeaderBytes,
    /// `server.header_count_max`.
    HeaderCount,
    /// `server.header_timeout`, after a head or a frame had begun.
    HeaderTimeout,
    /// `server.body_timeout` with `server.body_rate_min`.
    BodyTimeout,
    /// `server.write_timeout`.
    WriteTimeout,
    /// `server.resets_max`.
    Resets,
    /// Frames of HTTP/2 that serve no request.
    IdleFrames,
    /// `request_body_max` of a route.
    RequestBody,
    /// `in_flight_per_scope_max` of a route.
    InFlightPerScope,
    /// `claims_per_scope_max` of a route.
    ClaimsPerScope,
    /// `queue_timeout` of an upstream: no server had room in time.
    UpstreamQueue,
}

/// How often each limit bit.
#[derive(Debug)]
pub struct LimitMetrics(PerWord<Limit, Counter>);

impl LimitMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let hits: Labelled<Counter> = Labelled::registered(registry, &LIMITS_HIT, Counter::default);
        Self(PerWord::of(&Limit::ALL, |limit| hits.with(&[limit.as_str()])))
    }

    /// Counts that a limit bit.
    pub fn hit(&self, limit: Limit) {
        if let Some(counter) = self.0.get(limit) {
            counter.inc();
        }
    }
}

impl Limit {
    const ALL: [Self; 18] = [
        Self::Connections,
        Self::ConnectionsPerPeer,
        Self::OpenFiles,
        Self::RequestsInFlight,
        Self::WorkerTime,
        Self::BufferedBytes,
        Self::TargetBytes,
        Self::HeaderBytes,
        Self::HeaderCount,
        Self::HeaderTimeout,
        Self::BodyTimeout,
        Self::WriteTimeout,
        Self::Resets,
        Self::IdleFrames,
        Self::RequestBody,
        Self::InFlightPerScope,
        Self::ClaimsPerScope,
        Self::UpstreamQueue,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerPeer => "connections-per-peer",
            Self::OpenFiles => "open-files",
            Self::RequestsInFlight => "requests-in-flight",
            Self::WorkerTime => "worker-time",
            Self::BufferedBytes => "buffered-bytes",
            Self::TargetBytes => "target-bytes",
            Self::HeaderBytes => "header-bytes",
            Self::HeaderCount => "header-count",
            Self::HeaderTimeout => "header-timeout",
            Self::BodyTimeout => "body-timeout",
            Self::WriteTimeout => "write-timeout",
            Self::Resets => "resets",
            Self::IdleFrames => "idle-frames",
            Self::RequestBody => "request-body",
            Self::InFlightPerScope => "in-flight-per-scope",
            Self::ClaimsPerScope => "claims-per-scope",
            Self::UpstreamQueue => "upstream-queue",
        }
    }
}
