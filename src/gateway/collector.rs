//! Takes spans from where they wait to their collector, in a task of its own.
//!
//! The collector is spoken to as an upstream is, so there is one way to resolve, connect and do TLS. Nobody waits for a
//! delivery but the drain, for a bounded time. Read `../telemetry/trace.rs` for where the spans come from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::config::Traces;
use crate::protocol::record::Session;
use crate::telemetry::trace::Tracer;
use crate::telemetry::trace::otlp::{BadExporter, Exporter, Service};
use crate::upstream::{BadAddress, BadTrust, Buffered, Fleet, Progress, Upstream};

/// How often spans are delivered.
const DELIVER_EVERY: Duration = Duration::from_secs(1);

/// Spans in one delivery: some 1.5 MiB.
const SPANS_AT_ONCE: usize = 4096;

/// How often trouble with the collector is told at most.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Bytes of a collector's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The task that delivers.
#[derive(Debug)]
pub(super) struct Collector {
    tracer: Arc<Tracer>,
    ending: CancellationToken,
    task: JoinHandle<()>,
    timeout: Duration,
}

/// Spans cannot be delivered by this configuration.
#[derive(Debug, thiserror::Error)]
pub enum BadCollector {
    /// Its address cannot be used.
    #[error("prepare the collector of traces")]
    Address(#[from] BadAddress),
    /// It cannot be met over TLS.
    #[error("prepare the collector of traces")]
    Trust(#[from] BadTrust),
    /// The environment asks for what is not there.
    #[error("prepare the collector of traces")]
    Exporter(#[from] BadExporter),
}

/// The way to the collector.
#[derive(Debug)]
struct Line {
    upstream: Upstream,
    authority: HeaderValue,
    timeout: Duration,
}

impl Collector {
    /// Begins to deliver, if there is a collector.
    pub(super) fn of(
        config: &Traces,
        session: Session,
        tasks: &TaskTracker,
    ) -> Result<Option<Self>, BadCollector> {
        let Some(collector) = &config.collector else { return Ok(None) };
        let line = Line {
            upstream: Upstream::new(&Fleet::of(collector)?)?,
            authority: HeaderValue::from_str(&collector.authority)
                .unwrap_or(HeaderValue::from_static("collector")),
            timeout: config.timeout,
        };
        let service = Service {
            name: config.service_name.clone(),
            instance: uuid::Uuid::from_bytes(session.0).to_string(),
        };
        let url = format!("http://{}/v1/traces", collector.authority);
        let exporter = Exporter::new(line, &url, service, config.timeout)?;
        let (tracer, ending) = (Tracer::new(config.sample_one_in), CancellationToken::new());
        let task = tasks.spawn(deliver(Arc::clone(&tracer), exporter, ending.clone()));
        Ok(Some(Self { tracer, ending, task, timeout: config.timeout }))
    }

    /// Where requests are recorded.
    pub(super) fn tracer(&self) -> Arc<Tracer> {
        Arc::clone(&self.tracer)
    }

    /// Delivers what is waiting, and ends.
    pub(super) async fn finish(self) {
        self.ending.cancel();
        if tokio::time::timeout(self.timeout, self.task).await.is_err() {
            tracing::warn!("some spans did not reach the collector of traces before the end");
        }
    }
}

async fn deliver(tracer: Arc<Tracer>, exporter: Exporter, ending: CancellationToken) {
    let mut told = Told::default();
    loop {
        let is_ending = ending.run_until_cancelled(tokio::time::sleep(DELIVER_EVERY)).await.is_none();
        loop {
            let spans = tracer.waiting(SPANS_AT_ONCE);
            if spans.is_empty() {
                break;
            }
            let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            let delivered = exporter.deliver(spans).await;
            if let Err(error) = delivered {
                tracer.lost(count);
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "the collector of traces did not take the spans");
            }
        }
        told.of(tracer.dropped());
        if is_ending {
            return;
        }
    }
}

/// What was told of spans that were lost.
#[derive(Default)]
struct Told {
    dropped: u64,
    at: Option<Instant>,
}

impl Told {
    fn of(&mut self, dropped: u64) {
        let now = clock::monotonic();
        let is_due = self.at.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY);
        if dropped > self.dropped && is_due {
            let spans = dropped - self.dropped;
            tracing::warn!(spans, "spans were dropped: the collector of traces is away or too slow");
            (self.dropped, self.at) = (dropped, Some(now));
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Line {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let asking = async {
            let (mut parts, body) = request.into_parts();
            parts.uri = parts.uri.path().parse()?;
            parts.headers.insert(header::HOST, self.authority.clone());
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            let request = Request::from_parts(parts, Buffered::new(body, None).into());
            let response = self.upstream.send(Box::new(request), &Progress::default()).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        tokio::time::timeout(self.timeout, asking).await?
    }
}
