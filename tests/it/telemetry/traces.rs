//! Traces: what travels on of the caller's, and what a collector gets.
//!
//! The collector is a scripted service that keeps what it is sent.

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use prost::Message as _;

use crate::harness::{
    Ask, Gateway, GatewayPlan, Reply, Unlistened, Unresponsive, Upstream, get, post, until,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn collector() -> Upstream {
    Upstream::always(Reply::answer(200).body(""))
}

fn traced(upstream: &Upstream, collector: &str) -> GatewayPlan {
    GatewayPlan::before(upstream)
        .log_line(&format!("[traces]\notlp_url = \"{collector}\"\ntimeout = \"20s\""))
}

fn of_trace(ask: Ask, flags: &str) -> Ask {
    ask.header("traceparent", format!("00-{TRACE}-{SPAN}-{flags}")).header("tracestate", "vendor=1")
}

/// Ends the gateway, which delivers what is waiting, and gives all spans by their names.
fn spans_of(mut gateway: Gateway, collector: &Upstream) -> HashMap<String, Span> {
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0), "{}", gateway.log());
    let deliveries = (1..=collector.executions()).map(|number| {
        let delivery = collector.request(number);
        assert_eq!(delivery.target, "/v1/traces");
        assert_eq!(delivery.header("content-type").unwrap(), "application/x-protobuf");
        ExportTraceServiceRequest::decode(&*delivery.body).unwrap()
    });
    let resources = deliveries.flat_map(|delivery| delivery.resource_spans);
    let scopes = resources.flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| (span.name.clone(), span)).collect()
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn fact(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|KeyValue { key, .. }| key == name);
    match found.and_then(|fact| fact.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is)) => is.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_stretches_of_a_request_stand_in_its_trace_below_the_request() {
    let (upstream, collector) = (Upstream::of_payments(), collector());
    let gateway = traced(&upstream, &collector.url()).start();
    let answer = gateway.ask(&of_trace(post("/payments?q=1").key("k"), "01"));
    assert_eq!(answer.status, 201);
    let spans = spans_of(gateway, &collector);
    let request = &spans["POST /payments"];
    assert_eq!((hex(&request.trace_id), hex(&request.parent_span_id)), (TRACE.into(), SPAN.into()));
    assert_eq!(request.kind(), SpanKind::Server);
    let told = ["http.response.status_code", "onceway.idempotency", "http.route", "url.path"];
    assert_eq!(told.map(|name| fact(request, name)), ["201", "executed", "/payments", "/payments"]);
    for name in ["claim", "forward", "settle"] {
        let span = &spans[name];
        assert_eq!((&span.trace_id, &span.parent_span_id), (&request.trace_id, &request.span_id), "{name}");
        assert!(request.start_time_unix_nano <= span.start_time_unix_nano, "{name}");
        assert!(span.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000, "{name}");
    }
    let (claim, forward) = (&spans["claim"], &spans["forward"]);
    assert_eq!(
        (fact(claim, "onceway.outcome"), fact(forward, "onceway.upstream")),
        ("claimed".into(), "default".into())
    );
    let sent = upstream.request(1);
    assert_eq!(sent.header("traceparent").unwrap(), format!("00-{TRACE}-{}-01", hex(&forward.span_id)));
    assert_eq!(sent.header("tracestate").unwrap(), "vendor=1");
}

#[test]
fn a_replay_and_a_request_that_no_route_guards_have_traces_of_their_own() {
    let (upstream, collector) = (Upstream::of_payments(), collector());
    let gateway = traced(&upstream, &collector.url()).start();
    gateway.ask(&of_trace(post("/payments").key("k"), "00"));
    gateway.ask(&post("/payments").key("k"));
    gateway.ask(&get("/about"));
    let spans = spans_of(gateway, &collector);
    let mut names: Vec<_> = spans.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["GET", "POST /payments", "forward", "replay"]);
    let (replay, passed) = (&spans["POST /payments"], &spans["GET"]);
    assert_eq!(fact(replay, "onceway.idempotency"), "replayed");
    assert!(replay.parent_span_id.is_empty() && replay.trace_id != passed.trace_id);
    assert_eq!(spans["forward"].parent_span_id, passed.span_id);
    let begun = upstream.request(2).header("traceparent").unwrap();
    assert_eq!(begun, format!("00-{}-{}-01", hex(&passed.trace_id), hex(&spans["forward"].span_id)));
}

#[test]
fn what_a_caller_says_of_its_trace_travels_as_it_came_where_none_is_recorded() {
    let (upstream, collector) = (Upstream::of_payments(), collector());
    let (silent, recording) = (GatewayPlan::before(&upstream), traced(&upstream, &collector.url()));
    let invalid = |ask: Ask| {
        ask.header("traceparent", "00-XYZ").header("tracestate", "a=1").header("tracestate", "b=2")
    };
    let cases: [(&GatewayPlan, Ask); 6] = [
        (&silent, of_trace(post("/payments").key("a"), "01")),
        (&silent, of_trace(get("/about"), "01")),
        (&silent, invalid(post("/payments").key("b"))),
        (&recording, of_trace(post("/payments").key("c"), "00")),
        (&recording, invalid(post("/payments").key("d"))),
        (&recording, invalid(get("/about"))),
    ];
    let gateways = [silent.start(), recording.start()];
    for (number, (plan, ask)) in (1..).zip(cases) {
        gateways[usize::from(std::ptr::eq(plan, &raw const recording))].ask(&ask);
        let (said, sent) = (ask.head_bytes(), upstream.request(number));
        for name in ["traceparent", "tracestate"] {
            for value in sent.headers(name) {
                let line = format!("{name}: {value}\r\n");
                assert!(String::from_utf8_lossy(&said).contains(&line), "{number}: {line}");
            }
            assert!(!sent.headers(name).is_empty(), "{number}: {name}");
        }
    }
    let id = format!("trace_id={TRACE}");
    until("the trace is told in the log", || gateways.iter().all(|gateway| gateway.log().contains(&id)));
}

#[test]
fn a_collector_that_is_away_or_silent_holds_nobody_up() {
    let (upstream, away, silent) = (Upstream::of_payments(), Unlistened::port(), Unresponsive::port());
    for collector in [away.url(), silent.url()] {
        let plan = GatewayPlan::before(&upstream)
            .log_line(&format!("[traces]\notlp_url = \"{collector}\"\ntimeout = \"100ms\""));
        let mut gateway = plan.start();
        for number in 0..20 {
            assert_eq!(gateway.ask(&post("/payments").key(&format!("{collector}{number}"))).status, 201);
        }
        until("it is told", || gateway.log().contains("spans were dropped"));
        gateway.signal("TERM");
        assert_eq!(gateway.exit_code(), Some(0), "{}", gateway.log());
    }
}
