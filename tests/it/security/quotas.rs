//! Bounds on what one caller may take.

use crate::harness::{Answer, Ask, Client, Gate, Gateway, GatewayPlan, Reply, Upstream, get, post, until};

fn of(caller: &str, key: &str) -> Ask {
    post("/payments").caller(caller).key(key)
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 429 && answer.document()["code"] == "quota-exceeded"
}

/// What the operators' listener answers.
fn seen(gateway: &Gateway, target: &str) -> String {
    let ask = get(target).without_header("Host").header("Host", "localhost");
    Client::connect(gateway.admin_addr()).send(&ask).read().text()
}

#[test]
fn a_caller_that_uses_new_keys_too_fast_is_told_to_wait_and_nobody_else_is() {
    let upstream = Upstream::of_payments();
    let gateway =
        GatewayPlan::before(&upstream).policy("claims_per_scope_max = 2\nclaims_window = \"1h\"").start();
    for key in ["one", "two"] {
        assert_eq!(gateway.ask(&of("alice", key)).status, 201);
    }
    let refused = gateway.ask(&of("alice", "three"));
    assert!(is_refused(&refused), "{}", refused.shown());
    assert_eq!(refused.document()["retry_same_key"], true);
    assert_eq!(refused.word().as_deref(), Some("none"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=1801).contains(&wait), "{wait}");
    assert_eq!(gateway.ask(&of("bob", "three")).status, 201);
    assert_eq!(upstream.executions(), 3);
    let counted = "onceway_limits_hit_total{limit=\"claims-per-scope\"} 1";
    assert!(seen(&gateway, "/metrics").lines().any(|line| line == counted));
}

#[test]
fn the_answers_that_a_caller_has_are_replayed_to_it_whatever_its_quota_says() {
    for cache in ["64MiB", "0"] {
        let upstream = Upstream::of_payments();
        let plan = GatewayPlan::before(&upstream).store_line(&format!("local_cache = \"{cache}\""));
        let gateway = plan.policy("claims_per_scope_max = 2\nclaims_window = \"1h\"").start();
        for _ in 0..5 {
            assert_eq!(gateway.ask(&of("alice", "one")).text(), "payment 1");
        }
        // What was known has used up nothing.
        assert_eq!(gateway.ask(&of("alice", "two")).word().as_deref(), Some("executed"));
        assert!(is_refused(&gateway.ask(&of("alice", "three"))));
    }
}

#[test]
fn a_caller_has_so_many_requests_at_once_and_gets_its_place_back() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).policy("in_flight_per_scope_max = 2").start();
    let mut first = gateway.send(&of("alice", "one"));
    let second = gateway.send(&of("alice", "two"));
    upstream.request(2);
    let refused = gateway.ask(&of("alice", "three"));
    assert!(is_refused(&refused), "{}", refused.shown());
    // Whoever leaves goes on taking up a place: its request is still at work.
    second.leave();
    assert!(is_refused(&gateway.ask(&of("alice", "three"))));
    let mut other = gateway.send(&of("bob", "one"));
    upstream.request(3);
    gate.open();
    assert_eq!((first.read().status, other.read().status), (201, 201));
    until("there is a place again", || gateway.ask(&of("alice", "three")).status == 201);
    assert_eq!(upstream.executions_of("two"), 1);
}

#[test]
fn duplicates_that_wait_take_up_their_callers_places() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let plan = GatewayPlan::before(&upstream).policy("in_flight = \"wait\"\nin_flight_per_scope_max = 3");
    let gateway = plan.start();
    let mut first = gateway.send(&of("alice", "one"));
    upstream.request(1);
    let mut waiting = [gateway.send(&of("alice", "one")), gateway.send(&of("alice", "one"))];
    until("two wait", || seen(&gateway, "/v1/status").contains("\"waiters\":2"));
    assert!(is_refused(&gateway.ask(&of("alice", "one"))));
    gate.open();
    assert_eq!(first.read().word().as_deref(), Some("executed"));
    for duplicate in &mut waiting {
        assert_eq!(duplicate.read().word().as_deref(), Some("replayed"));
    }
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_slow_body_takes_up_its_callers_place_and_a_request_without_a_key_none() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("in_flight_per_scope_max = 1").start();
    let mut slow = gateway.client();
    slow.send_head(&of("alice", "one").header("Expect", "100-continue"));
    // A body is invited once its request has its place.
    assert_eq!(slow.read_head().status(), 100);
    assert!(is_refused(&gateway.ask(&of("alice", "two"))));
    assert_eq!(gateway.ask(&post("/payments").caller("alice")).status, 201);
    slow.leave();
    until("its place is free", || gateway.ask(&of("alice", "three")).status == 201);
}

#[test]
fn a_route_that_only_observes_refuses_nobody_for_a_quota() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).policy("mode = \"observe\"\nclaims_per_scope_max = 1");
    let gateway = plan.start();
    assert_eq!(gateway.ask(&of("alice", "one")).status, 201);
    let beyond = gateway.ask(&of("alice", "two"));
    assert_eq!((beyond.status, beyond.word().as_deref()), (201, Some("unprotected")));
    until("it is told", || gateway.log().contains("quota-exceeded"));
}

#[test]
fn a_key_that_was_claimed_and_released_counts_as_used() {
    let upstream = Upstream::by(|request| match request.number {
        1 => Reply::answer(503).header("Retry-After", "1").body("busy"),
        number => Reply::payment(number),
    });
    let gateway =
        GatewayPlan::before(&upstream).policy("claims_per_scope_max = 2\nclaims_window = \"1h\"").start();
    let first = gateway.ask(&of("alice", "one"));
    assert_eq!(first.word().as_deref(), Some("released"));
    assert_eq!(gateway.ask(&of("alice", "one")).status, 201);
    // A released key was claimed all the same: it took a record, and a request to the upstream.
    assert!(is_refused(&gateway.ask(&of("alice", "two"))));
}
