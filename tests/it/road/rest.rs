//! Connections on which nothing has been asked for a while: they hold little, and are served as before.

use crate::harness::{Gateway, GatewayPlan, Reply, Upstream, get, post, until};

/// A gateway that tells when a connection rests.
fn telling(upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).logged("info,onceway::server=trace")
}

fn until_so_many_rested(gateway: &Gateway, count: usize) {
    until("the connection rests", || gateway.log().matches("a connection rests").count() >= count);
}

#[test]
fn a_connection_that_has_rested_is_served_as_before() {
    let upstream = Upstream::of_payments();
    let gateway = telling(&upstream).start();
    let mut client = gateway.client();
    for round in 1..=2 {
        let key = format!("key-{round}");
        assert_eq!(client.send(&post("/payments").key(&key)).read().word().as_deref(), Some("executed"));
        assert_eq!(client.send(&post("/payments").key(&key)).read().word().as_deref(), Some("replayed"));
        until_so_many_rested(&gateway, round);
    }
    // Longer than what is read at once of a connection that rests, and in pieces.
    let long = get("/elsewhere").header("X-Long", "a".repeat(3000));
    let bytes = long.head_bytes();
    let (first, rest) = bytes.split_at(1500);
    client.say(first);
    client.say(rest);
    assert_eq!(client.read().status, 201);
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn a_request_that_comes_in_two_halves_with_a_rest_between_is_served() {
    let upstream = Upstream::of_payments();
    let gateway = telling(&upstream).start();
    let mut client = gateway.client();
    let ask = post("/payments").key("k");
    let bytes = [ask.head_bytes(), ask.body_bytes()].concat();
    let (first, rest) = bytes.split_at(20);
    assert_eq!(client.send(&get("/elsewhere")).read().status, 201);
    client.say(first);
    until_so_many_rested(&gateway, 1);
    client.say(rest);
    assert_eq!(client.read().status, 201);
}

#[test]
fn what_is_left_of_a_request_that_was_answered_early_is_no_next_request() {
    let upstream = Upstream::of_payments();
    let gateway = telling(&upstream).policy("request_body_max = \"1KiB\"").start();
    let mut client = gateway.client();
    client.say(b"POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.read().status, 413);
    assert!(client.try_read().is_none(), "the connection has ended, though more of the body was to come");
    assert!(!gateway.log().contains("a connection rests"));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_gateway_that_stops_closes_the_connections_that_rest() {
    let upstream = Upstream::of_payments();
    let mut gateway = telling(&upstream).start();
    let mut client = gateway.client();
    assert_eq!(client.send(&get("/elsewhere")).read().status, 201);
    until_so_many_rested(&gateway, 1);
    gateway.signal("TERM");
    assert!(client.try_read().is_none());
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_connection_that_rests_for_too_long_is_closed() {
    let upstream = Upstream::of_payments();
    let gateway = telling(&upstream).server("idle_timeout = \"3s\"").start();
    let mut client = gateway.client();
    assert_eq!(client.send(&get("/elsewhere")).read().status, 201);
    until_so_many_rested(&gateway, 1);
    assert!(client.try_read().is_none());
}

#[test]
fn a_request_that_waits_behind_an_answer_that_is_not_taken_is_not_lost() {
    let large = "x".repeat(16 << 20);
    let upstream = Upstream::by(move |request| match request.number {
        1 => Reply::answer(200).body(&large),
        number => Reply::payment(number),
    });
    let gateway = telling(&upstream).server("write_timeout = \"60s\"").start();
    let mut client = gateway.client();
    client.say(&[get("/large").head_bytes(), get("/next").head_bytes()].concat());
    until("the first is asked", || upstream.executions() == 1);
    // Another connection tells when this one would rest, if it could.
    let mut other = gateway.client();
    assert_eq!(other.send(&get("/elsewhere")).read().status, 201);
    until_so_many_rested(&gateway, 1);
    assert_eq!(client.read().body.len(), 16 << 20);
    assert_eq!(client.read().status, 201);
}
