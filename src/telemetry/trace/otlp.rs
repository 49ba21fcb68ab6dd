//! Spans on their way to a collector, by OTLP over HTTP.
//!
//! Turns what was recorded into the words of `OpenTelemetry`; the crates of that project do the encoding and try again
//! what a collector could not take. Must not know how a collector is reached: that is an argument.

use std::fmt;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};

use super::{Fact, Kind, Span};

/// Delivers spans to one collector.
pub struct Exporter {
    spans: SpanExporter,
    scope: InstrumentationScope,
}

/// Who the spans are from.
#[derive(Clone, Debug)]
pub struct Service {
    /// What the gateway is called.
    pub name: String,
    /// Which process of that name.
    pub instance: String,
}

/// The exporter cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("prepare the export of traces")]
pub struct BadExporter(#[source] ExporterBuildError);

/// The collector did not take the spans.
#[derive(Debug, thiserror::Error)]
#[error("deliver the spans")]
pub struct NotDelivered(#[source] OTelSdkError);

impl Exporter {
    /// Delivers through `client` to `url`. `limit`: for one delivery, with all its tries.
    ///
    /// Errors: the environment (`OTEL_EXPORTER_OTLP_…`) asks for what is not there.
    pub fn new(
        client: impl HttpClient + 'static,
        url: &str,
        service: Service,
        limit: Duration,
    ) -> Result<Self, BadExporter> {
        let mut spans = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(url)
            .with_timeout(limit)
            .build()
            .map_err(BadExporter)?;
        let resource = Resource::builder()
            .with_service_name(service.name)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", service.instance))
            .build();
        spans.set_resource(&resource);
        let scope = InstrumentationScope::builder("onceway").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { spans, scope })
    }

    /// Delivers some spans.
    ///
    /// Errors: the collector is away, slow, or does not want them; they are not tried again.
    pub async fn deliver(&self, spans: Vec<Span>) -> Result<(), NotDelivered> {
        let batch = spans.into_iter().map(|span| self.in_its_words(span)).collect();
        self.spans.export(batch).await.map_err(NotDelivered)
    }

    fn in_its_words(&self, span: Span) -> SpanData {
        let context = SpanContext::new(
            TraceId::from_bytes(span.trace.0),
            SpanId::from_bytes(span.id.0),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        SpanData {
            span_context: context,
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.0)),
            // Only the span of a request that came has a parent elsewhere.
            parent_span_is_remote: span.kind == Kind::Server && span.parent.is_some(),
            span_kind: match span.kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Internal => SpanKind::Internal,
            },
            name: span.name,
            start_time: span.began,
            end_time: span.began.checked_add(span.took).unwrap_or(span.began),
            attributes: span.facts.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if span.has_failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn attribute((name, fact): (&'static str, Fact)) -> KeyValue {
    let value = match fact {
        Fact::Text(text) => Value::String(text.into()),
        Fact::Count(number) => Value::I64(number),
        Fact::Is(is) => Value::Bool(is),
    };
    KeyValue::new(name, value)
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}
