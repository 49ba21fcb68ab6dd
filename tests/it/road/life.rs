//! The life of the gateway: how it ends, in order or not, and what its successor finds.

use crate::harness::{Client, Gate, Gateway, GatewayPlan, Reply, Upstream, get, post, until};
use tempfile::TempDir;

/// A gateway with a request under way that the upstream holds at `gate`.
fn with_one_in_flight(upstream: &Upstream, plan: &GatewayPlan) -> (Gateway, Client) {
    let gateway = plan.start();
    let client = gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    (gateway, client)
}

/// A plan whose records outlive the process.
fn kept_in(dir: &TempDir, upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).store(&format!("file:{}", dir.path().display()))
}

fn await_draining(gateway: &Gateway) {
    until("the gateway says that it drains", || {
        gateway.readiness().status == 503 && gateway.readiness().text().contains("draining")
    });
}

#[test]
fn a_request_in_flight_is_finished_and_recorded_before_the_end() {
    for signal in ["TERM", "INT"] {
        let (gate, dir) = (Gate::shut(), TempDir::new().unwrap());
        let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
        let plan = kept_in(&dir, &upstream);
        let (mut gateway, mut client) = with_one_in_flight(&upstream, &plan);
        gateway.signal(signal);
        await_draining(&gateway);
        gate.open();
        assert_eq!(client.read().text(), "payment 1");
        assert_eq!(gateway.exit_code(), Some(0), "{signal}");
        let replay = plan.start().ask(&post("/payments").key("k"));
        assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
        assert_eq!(upstream.executions(), 1);
    }
}

#[test]
fn a_request_in_flight_is_recorded_before_the_end_though_its_caller_left() {
    let (gate, dir) = (Gate::shut(), TempDir::new().unwrap());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = kept_in(&dir, &upstream);
    let (mut gateway, client) = with_one_in_flight(&upstream, &plan);
    client.leave();
    gateway.signal("TERM");
    await_draining(&gateway);
    gate.open();
    assert_eq!(gateway.exit_code(), Some(0));
    assert_eq!(plan.start().ask(&post("/payments").key("k")).text(), "payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_draining_gateway_turns_new_requests_and_connections_away() {
    let gate = Gate::shut();
    let upstream = Upstream::in_turn([Reply::payment(1).held_by(&gate), Reply::answer(200).body("idle")]);
    let (gateway, mut client) = with_one_in_flight(&upstream, &GatewayPlan::before(&upstream));
    let mut idle = gateway.send(&get("/elsewhere"));
    assert_eq!(idle.read().text(), "idle");
    gateway.signal("TERM");
    await_draining(&gateway);
    until("new connections are refused", || std::net::TcpStream::connect(gateway.listen_addr()).is_err());
    let refused = idle.send(&post("/payments").key("new")).read();
    assert_eq!(refused.problem(), (503, "draining".into()));
    assert_eq!(refused.header("connection").as_deref(), Some("close"));
    assert!(idle.wire().is_at_end());
    gate.open();
    let last = client.read();
    assert_eq!((last.status, last.header("connection").as_deref()), (201, Some("close")));
    assert_eq!(upstream.executions_of("new"), 0);
}

#[test]
fn whoever_had_asked_before_the_end_is_answered_though_nobody_had_accepted_the_connection() {
    let upstream = Upstream::of_payments();
    let mut gateway = GatewayPlan::before(&upstream).server("threads = 1").start();
    gateway.freeze();
    let mut waiting: Vec<_> =
        (0..32).map(|number| gateway.send(&post("/payments").key(&format!("{number}")))).collect();
    gateway.signal("TERM");
    gateway.signal("CONT");
    for client in &mut waiting {
        assert_eq!(client.read().word().as_deref(), Some("executed"));
    }
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let upstream = Upstream::of_payments();
    let mut gateway = GatewayPlan::before(&upstream).start();
    let mut idle = gateway.send(&post("/payments").key("k"));
    idle.read();
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(0));
    assert!(idle.wire().is_at_end());
}

#[test]
fn what_is_not_finished_when_the_time_to_drain_is_up_is_recorded_as_unknown() {
    let (gate, dir) = (Gate::shut(), TempDir::new().unwrap());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = kept_in(&dir, &upstream).server("drain_timeout = \"200ms\"");
    let (mut gateway, mut client) = with_one_in_flight(&upstream, &plan);
    gateway.signal("TERM");
    assert_eq!(client.read().problem(), (502, "outcome-unknown".into()));
    assert_eq!(gateway.exit_code(), Some(0));
    let retry = plan.start().ask(&post("/payments").key("k"));
    assert_eq!(retry.problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_second_signal_ends_at_once() {
    let (gate, dir) = (Gate::shut(), TempDir::new().unwrap());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = kept_in(&dir, &upstream);
    let (mut gateway, _client) = with_one_in_flight(&upstream, &plan);
    gateway.signal("TERM");
    await_draining(&gateway);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), Some(1));
    let retry = plan.start().ask(&post("/payments").key("k"));
    assert_eq!(retry.problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn what_was_in_flight_when_the_gateway_was_killed_is_unknown_to_its_successor() {
    let (gate, dir) = (Gate::shut(), TempDir::new().unwrap());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = kept_in(&dir, &upstream);
    let (mut gateway, mut client) = with_one_in_flight(&upstream, &plan);
    gateway.kill();
    assert!(client.try_read().is_none());
    let successor = plan.start();
    for _ in 0..2 {
        assert_eq!(successor.ask(&post("/payments").key("k")).problem(), (409, "outcome-unknown".into()));
    }
    gate.open();
    assert_eq!(successor.ask(&post("/payments").key("k")).problem(), (409, "outcome-unknown".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn what_was_answered_before_the_gateway_was_killed_is_replayed_by_its_successor() {
    let dir = TempDir::new().unwrap();
    let upstream = Upstream::of_payments();
    let plan = kept_in(&dir, &upstream);
    let mut gateway = plan.start();
    for number in 1..=5 {
        let answer = gateway.ask(&post("/payments").key(&format!("k{number}")));
        assert_eq!(answer.text(), format!("payment {number}"));
    }
    gateway.kill();
    let successor = plan.start();
    for number in 1..=5 {
        let replay = successor.ask(&post("/payments").key(&format!("k{number}")));
        assert_eq!(
            (replay.text(), replay.word().as_deref()),
            (format!("payment {number}"), Some("replayed"))
        );
    }
    assert_eq!(upstream.executions(), 5);
}

#[test]
fn two_gateways_do_not_share_an_embedded_store() {
    let dir = TempDir::new().unwrap();
    let upstream = Upstream::of_payments();
    let plan = kept_in(&dir, &upstream);
    let _first = plan.start();
    assert_eq!(plan.fail(), (Some(1), true), "the exit code, and whether a reason was told");
}

#[test]
fn the_start_is_announced_with_what_is_protected_where_and_on_which_store() {
    let upstream = Upstream::of_payments();
    let gateway =
        GatewayPlan::before(&upstream).route("/v1/{*rest}", "methods = [\"POST\", \"PATCH\"]").start();
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("onceway is up")).unwrap();
    for fact in [&gateway.listen_addr().to_string(), "memory:", "POST /payments", "POST,PATCH /v1/{*rest}"] {
        assert!(line.contains(fact), "{fact} is not in {line}");
    }
}

#[test]
fn the_log_holds_neither_keys_nor_credentials() {
    let (gate, upstream) = (Gate::shut(), Upstream::in_turn([Reply::payment(1), Reply::default().reset()]));
    let gateway = GatewayPlan::before(&upstream).logged("debug").start();
    let ask = |key: &str| post("/payments?token=q-secret").key(key).caller("Bearer credential-secret");
    for key in ["key-secret", "key-secret", "lost-secret", "lost-secret", "comma,secret"] {
        gateway.ask(&ask(key).header("Cookie", "cookie-secret"));
    }
    gateway.ask(&ask("key-secret").body("body-secret"));
    gate.open();
    until("all is logged", || gateway.log().matches("request method").count() == 6);
    let log = gateway.log();
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn a_stream_under_way_is_finished_before_the_end() {
    let gate = Gate::shut();
    let reply = Reply::answer(200).begin_chunked().chunk("one").wait(&gate).chunk("two").last_chunk();
    let upstream = Upstream::always(reply);
    let mut gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&get("/stream"));
    let head = client.read_head();
    gateway.signal("TERM");
    await_draining(&gateway);
    gate.open();
    assert_eq!(client.read_after(head).text(), "onetwo");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_request_whose_body_is_still_coming_is_finished_before_the_end() {
    let upstream = Upstream::of_payments();
    let mut gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    let ask = post("/payments").key("k").header("Expect", "100-continue");
    assert_eq!(client.send_head(&ask).read_head().status(), 100);
    gateway.signal("TERM");
    await_draining(&gateway);
    assert_eq!(client.say(&ask.body_bytes()).read().text(), "payment 1");
    assert_eq!(gateway.exit_code(), Some(0));
}
