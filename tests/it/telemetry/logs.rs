//! The log: one line per request that tells where its time went, and a level that changes while the gateway runs.

use serde_json::Value;

use crate::harness::{Gate, Gateway, GatewayPlan, Reply, Upstream, get, post, until};

fn in_json(upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).log_line("format = \"json\"")
}

/// The lines of requests, once there are so many.
fn lines(gateway: &Gateway, count: usize) -> Vec<Value> {
    let events = || -> Vec<Value> {
        let log = gateway.log();
        let events = log.lines().map(|line| serde_json::from_str(line).expect(line));
        events.filter(|event: &Value| event["target"] == "onceway::access").collect()
    };
    until("the requests are logged", || events().len() >= count);
    events()
}

#[test]
fn the_line_of_a_request_tells_where_its_time_went() {
    let upstream = Upstream::of_payments();
    let gateway = in_json(&upstream).start();
    let ask = post("/payments?token=secret").key("k").header("X-Request-Id", "request-7");
    gateway.ask(&ask);
    gateway.ask(&ask);
    gateway.ask(&get("/about"));
    let [first, replay, passed] = &lines(&gateway, 3)[..] else { panic!("{}", gateway.log()) };
    let parts = |line: &Value| {
        let name = |name: &&str| line[*name].is_u64();
        ["queue_us", "store_us", "upstream_us", "wait_us"].into_iter().filter(name).collect::<Vec<_>>()
    };
    assert_eq!(parts(first), ["queue_us", "store_us", "upstream_us"], "{first}");
    assert_eq!(parts(replay), [""; 0], "from memory: {replay}");
    assert_eq!(parts(passed), ["queue_us", "upstream_us"], "{passed}");
    let sum: u64 = parts(first).iter().map(|part| first[*part].as_u64().unwrap()).sum();
    assert!(sum <= first["duration_us"].as_u64().unwrap() + 3, "each is rounded: {first}");
    let told = ["method", "path", "route", "idempotency", "request_id"].map(|name| first[name].as_str());
    assert_eq!(told, ["POST", "/payments", "/payments", "executed", "request-7"].map(Some));
}

#[test]
fn a_duplicate_that_waited_tells_for_how_long() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = in_json(&upstream).policy("in_flight = \"wait\"").policy("wait_timeout = \"100ms\"");
    let gateway = plan.start();
    let mut first = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    assert_eq!(gateway.ask(&post("/payments").key("k")).status, 409);
    gate.open();
    assert_eq!(first.read().status, 201);
    let waited = lines(&gateway, 2).into_iter().find(|line| line["problem"] == "in-flight").unwrap();
    let micros = |name: &str| waited[name].as_u64().unwrap();
    // The time to wait counts from the first question to the store.
    assert!(micros("wait_us") >= 50_000 && micros("duration_us") >= 100_000, "{waited}");
    assert!(micros("store_us") <= micros("duration_us"), "{waited}");
}

#[test]
fn a_streamed_answer_that_broke_off_is_logged_as_unknown_under_the_id_of_its_request() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::answer(200).begin_chunked().chunk("12345").wait(&gate).close());
    let gateway = in_json(&upstream).policy("response_body_max = \"4B\"").start();
    let mut client = gateway.send(&post("/payments").key("k").header("X-Request-Id", "request-7"));
    let head = client.read_head();
    gate.open();
    assert!(!client.read_after(head).is_whole);
    let [line] = &lines(&gateway, 1)[..] else { panic!("{}", gateway.log()) };
    // The line of the request was written with its head.
    assert_eq!(line["idempotency"], "executed");
    let broke = "an answer broke off while it was streamed";
    until("it is logged", || gateway.log().contains(broke));
    let log = gateway.log();
    let event: Value = serde_json::from_str(log.lines().find(|line| line.contains(broke)).unwrap()).unwrap();
    let told = ["request_id", "idempotency", "reason"].map(|name| event[name].as_str());
    assert_eq!(told, ["request-7", "unknown", "answer-cut-short"].map(Some), "{event}");
}

#[test]
fn the_log_level_changes_with_the_file_while_the_gateway_runs() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream);
    let gateway = plan.start();
    assert!(gateway.reload(&plan.clone().logged("off,onceway::gateway=info")));
    gateway.ask(&post("/payments").key("unseen"));
    assert!(gateway.reload(&plan));
    gateway.ask(&post("/payments").key("seen"));
    until("it is logged", || gateway.log().contains("request method"));
    assert_eq!(gateway.log().matches("request method").count(), 1, "{}", gateway.log());
}

#[test]
fn a_request_id_that_is_a_key_is_not_told() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("key_from = [\"header:X-Request-Id\"]").start();
    let answer = gateway.ask(&post("/payments").header("X-Request-Id", "planted-key"));
    assert_eq!(answer.status, 201);
    until("it is logged", || gateway.log().contains("request method"));
    assert!(!gateway.log().contains("planted-key"), "{}", gateway.log());
}
