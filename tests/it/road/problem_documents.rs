//! The documents in which the gateway says no: every member, every header, every code.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::{Answer, Gate, GatewayPlan, Reply, Unlistened, Upstream, get, post, until};

/// Everything that holds of every problem document.
fn expect_well_formed(answer: &Answer, code: &str, retry_same_key: bool) -> Value {
    let document = answer.document();
    assert_eq!(document["code"], code, "{}", answer.shown());
    assert_eq!(document["type"], format!("urn:onceway:problem:{code}"));
    assert_eq!(document["status"], answer.status);
    assert_eq!(document["retry_same_key"], retry_same_key, "{code}");
    for member in ["title", "detail", "request_id"] {
        assert!(document[member].as_str().is_some_and(|text| !text.is_empty()), "{code}: {member}");
    }
    let instance = document["instance"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    uuid::Uuid::parse_str(instance).unwrap();
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{code}");
    assert!(answer.word().is_some(), "{code}: no Idempotency-Status");
    document
}

#[test]
fn refusals_before_the_claim_are_not_worth_a_retry_and_name_no_operation() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .policy("key = \"required\"\nscope_missing = \"reject\"\nrequest_body_max = \"1KiB\"")
        .start();
    let keyed = post("/payments").key("k");
    for (ask, status, code) in [
        (post("/payments"), 400, "key-missing"),
        (post("/payments").key("a,b"), 400, "key-invalid"),
        (keyed.clone(), 400, "scope-missing"),
        (post("//payments").key("k"), 400, "path-ambiguous"),
        (keyed.caller("a").body(vec![b'x'; 2000]), 413, "request-too-large"),
    ] {
        let answer = gateway.ask(&ask);
        let document = expect_well_formed(&answer, code, false);
        assert_eq!((answer.status, answer.word().as_deref()), (status, Some("none")), "{code}");
        assert_eq!(document["operation_ref"], Value::Null, "{code}");
        assert_eq!((answer.header("proxy-status"), answer.header("retry-after")), (None, None), "{code}");
    }
}

#[test]
fn a_missing_route_is_not_worth_a_retry() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).named("payments").start();
    expect_well_formed(&gateway.ask(&get("/elsewhere")), "no-route", false);
}

#[test]
fn a_duplicate_in_flight_is_worth_a_retry_and_names_the_operation() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    let _first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let document = expect_well_formed(&gateway.ask(&post("/payments").key("k")), "in-flight", true);
    assert!(document["operation_ref"].is_string());
    let mismatch = gateway.ask(&post("/payments").key("k").body("other"));
    let other = expect_well_formed(&mismatch, "key-reused", false);
    assert_eq!(other["operation_ref"], document["operation_ref"]);
}

#[test]
fn an_unknown_outcome_is_worth_a_retry_to_its_first_caller_only() {
    let upstream = Upstream::always(Reply::default().reset());
    let gateway = GatewayPlan::before(&upstream).start();
    let first = gateway.ask(&post("/payments").key("k"));
    let to_first = expect_well_formed(&first, "outcome-unknown", true);
    assert!(first.header("proxy-status").unwrap().starts_with("onceway; error="));
    let retry = gateway.ask(&post("/payments").key("k"));
    let to_retry = expect_well_formed(&retry, "outcome-unknown", false);
    assert_eq!(to_first["operation_ref"], to_retry["operation_ref"]);
    assert_ne!(to_first["instance"], to_retry["instance"]);
    assert_eq!(retry.header("proxy-status"), None);
}

#[test]
fn a_result_that_was_not_kept_says_what_is_known_of_it() {
    let upstream = Upstream::always(Reply::answer(200).body(vec![b'x'; 2000]));
    let gateway = GatewayPlan::before(&upstream).policy("response_body_max = \"1KiB\"").start();
    gateway.ask(&post("/payments").key("k"));
    let retry = gateway.ask(&post("/payments").key("k"));
    let document = expect_well_formed(&retry, "result-unavailable", false);
    assert_eq!((&document["original_status"], &document["location"]), (&200.into(), &Value::Null));
    assert!(document["operation_ref"].is_string());
}

#[test]
fn an_upstream_out_of_reach_is_worth_a_retry_and_says_why() {
    let nobody = Unlistened::port();
    let gateway = GatewayPlan::before_url(&nobody.url()).start();
    for ask in [post("/payments").key("k"), get("/elsewhere")] {
        let answer = gateway.ask(&ask);
        expect_well_formed(&answer, "upstream-unreachable", true);
        assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=connection_refused"));
    }
}

#[test]
fn a_store_out_of_reach_is_worth_a_retry_in_a_second() {
    let nobody = Unlistened::port();
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).store(&nobody.url().replace("http://", "redis://")).launch();
    let answer = gateway.ask(&post("/payments").key("k"));
    expect_well_formed(&answer, "store-unavailable", true);
    assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("1")));
    assert!(answer.header("proxy-status").unwrap().starts_with("onceway; error="));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn where_no_record_stands_no_operation_is_named() {
    let nobody = Unlistened::port();
    let no_store = nobody.url().replace("http://", "redis://");
    let unreached = GatewayPlan::before_url(&nobody.url());
    for (plan, code) in [
        (unreached.clone(), "upstream-unreachable"),
        (unreached.clone().store(&no_store), "store-unavailable"),
        (unreached.clone().store(&no_store).policy("on_store_error = \"forward\""), "upstream-unreachable"),
        (unreached.policy("claims_per_scope_max = 1"), "quota-exceeded"),
    ] {
        let gateway = plan.launch();
        let mut answer = gateway.ask(&post("/payments").key("k"));
        if code == "quota-exceeded" {
            answer = gateway.ask(&post("/payments").key("another"));
        }
        let document = expect_well_formed(&answer, code, true);
        assert_eq!(document["operation_ref"], Value::Null, "{}", answer.shown());
    }
}

#[test]
fn a_draining_gateway_is_worth_a_retry() {
    let gate = Gate::shut();
    let upstream = Upstream::in_turn([Reply::answer(200).body(""), Reply::payment(1).held_by(&gate)]);
    let gateway = GatewayPlan::before(&upstream).start();
    let mut idle = gateway.send(&get("/elsewhere"));
    idle.read();
    let _held = gateway.send(&post("/payments").key("k"));
    upstream.request(2);
    gateway.signal("TERM");
    // It says that it stops a little before it does, and serves whoever comes in between.
    until("it lets nobody in", || std::net::TcpStream::connect(gateway.listen_addr()).is_err());
    let answer = idle.send(&post("/payments").key("k")).read();
    expect_well_formed(&answer, "draining", true);
    assert!(answer.header("proxy-status").unwrap().starts_with("onceway; error="));
}

#[test]
fn the_base_of_the_types_can_be_chosen() {
    let upstream = Upstream::of_payments();
    let base = "problem_base = \"https://errors.example.com/\"";
    let gateway = GatewayPlan::before(&upstream).server(base).policy("key = \"required\"").start();
    let document = gateway.ask(&post("/payments")).document();
    assert_eq!(document["type"], "https://errors.example.com/key-missing");
}

#[test]
fn the_callers_request_id_is_taken_over_and_otherwise_made_up() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("key = \"required\"").start();
    let given = gateway.ask(&post("/payments").header("X-Request-Id", "r-17")).document();
    assert_eq!(given["request_id"], "r-17");
    let made: HashSet<_> =
        (0..3).map(|_| gateway.ask(&post("/payments")).document()["request_id"].to_string()).collect();
    assert_eq!(made.len(), 3);
}

#[test]
fn what_was_never_claimed_is_not_said_to_be_released() {
    let nobody = Unlistened::port();
    let gateway = GatewayPlan::before_url(&nobody.url()).start();
    for ask in [post("/payments"), get("/elsewhere")] {
        let answer = gateway.ask(&ask);
        assert_eq!(answer.problem(), (502, "upstream-unreachable".into()));
        assert_ne!(answer.word().as_deref(), Some("released"));
    }
}

#[test]
fn the_line_of_a_request_names_the_gateways_own_problem_and_not_the_upstreams() {
    let upstream = Upstream::always(Reply::answer(400).body("no"));
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&post("/payments").key("k"));
    gateway.ask(&post("/payments").key(""));
    until("both are logged", || gateway.log().matches("status=400").count() == 2);
    let log = gateway.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("status=400")).collect();
    assert!(!lines[0].contains("problem=") && lines[1].contains("problem=\"key-invalid\""), "{lines:?}");
}

#[test]
fn the_log_names_the_server_that_did_not_answer() {
    let nobody = Unlistened::port();
    let gateway = GatewayPlan::before_url(&nobody.url()).start();
    gateway.ask(&post("/payments").key("k"));
    let named = format!("ask {} of the upstream \\\"default\\\"", nobody.url().replace("http://", ""));
    until("it is named", || {
        gateway.log().contains(&named) || gateway.log().contains(&named.replace('\\', ""))
    });
}
