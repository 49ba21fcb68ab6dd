//! What a trial from outside once found wrong, each held here so that it stays right.

use std::time::Duration;

use crate::harness::{Gate, GatewayPlan, Reply, Unresponsive, Upstream, ask, get, post, until};
use crate::servers::redis::RedisServer;

#[test]
fn a_target_that_is_neither_a_path_nor_an_address_goes_nowhere() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).route("/", "key = \"required\"").start();
    for target in ["example.com", "example.com:80", "payments", "*"] {
        let answer = gateway.ask(&post(target).key("k"));
        assert_eq!(answer.status, 400, "{target}: {}", answer.shown());
    }
    assert_eq!(upstream.executions(), 0);
    assert_eq!(gateway.ask(&ask("OPTIONS", "*")).status, 201, "an asterisk is for OPTIONS");
}

#[test]
fn a_length_beside_chunks_in_an_answer_makes_it_none() {
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "20\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n";
    let upstream = Upstream::by(move |_| Reply::answer(200).raw([twice, body].concat()));
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(gateway.ask(&get("/elsewhere")).status, 502);
    for status in [502, 409] {
        assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (status, "outcome-unknown".into()));
    }
}

#[test]
fn a_transfer_coding_that_nobody_undoes_makes_an_answer_that_is_none() {
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let upstream = Upstream::by(move |_| Reply::answer(200).raw(coded));
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(gateway.ask(&get("/elsewhere")).status, 502);
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (502, "outcome-unknown".into()));
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem(), (409, "outcome-unknown".into()));
}

#[test]
fn a_connection_that_takes_longer_than_an_answer_may_is_no_unknown_outcome() {
    let silent = Unresponsive::port();
    let plan = GatewayPlan::before_url(&silent.url());
    let gateway =
        plan.upstream("connect_timeout = \"600ms\"").upstream("response_timeout = \"100ms\"").start();
    for _ in 0..2 {
        let answer = gateway.ask(&post("/payments").key("k"));
        assert_eq!(answer.problem(), (504, "upstream-unreachable".into()), "{}", answer.shown());
        assert_eq!(answer.word().as_deref(), Some("released"));
    }
}

#[test]
fn an_upload_that_keeps_moving_is_not_cut_off() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).upstream("response_timeout = \"400ms\"").start();
    let mut client = gateway.client();
    client.say(b"PUT /elsewhere HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for byte in 0..10 {
        // The pace is the claim: each pause is within the limit, all of them are far beyond it.
        std::thread::sleep(Duration::from_millis(100));
        client.say(&[b'0' + byte]);
    }
    assert_eq!(client.read().status, 201);
    assert_eq!(upstream.request(1).body, b"0123456789");
}

#[test]
fn a_route_that_observes_refuses_nothing() {
    let upstream = Upstream::of_payments();
    let observing =
        "mode = \"observe\"\nkey = \"required\"\nkey_format = \"uuid\"\nrequest_body_max = \"4B\"";
    let gateway = GatewayPlan::before(&upstream).policy(observing).start();
    let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
    let asks = [
        (post("/payments"), "key-missing"),
        (post("/payments").key("no-uuid"), "key-invalid"),
        (post("/payments").key(uuid).body("too long"), "request-too-large"),
        (post("/payments").key(uuid).chunked(&["too", " long"], &[]), "request-too-large"),
    ];
    for (number, (ask, would_be)) in asks.into_iter().enumerate() {
        let answer = gateway.ask(&ask);
        assert_eq!((answer.status, answer.word().as_deref()), (201, Some("unprotected")), "{would_be}");
        until("it is logged", || gateway.log().contains(&format!("would_be=\"{would_be}\"")));
        let body = upstream.request(number + 1).body;
        assert!(body == b"amount=100" || body == b"too long", "{would_be}: {body:?}");
    }
}

#[tokio::test]
async fn a_claim_that_redis_takes_after_a_long_silence_blocks_nobody() {
    let (redis, upstream) = (RedisServer::start(), Upstream::of_payments());
    let on_redis = || GatewayPlan::before(&upstream).store(&redis.url()).with_short_sessions();
    let (one, other) = (on_redis().start(), on_redis().start());
    redis.freeze();
    assert_eq!(one.ask(&post("/payments").key("k")).problem(), (503, "store-unavailable".into()));
    // Silence is a length of time. In it the gateway's first removals fail; the write lands after them.
    std::thread::sleep(Duration::from_secs(3));
    redis.thaw();
    until("the other gateway may execute", || other.ask(&post("/payments").key("k")).status == 201);
    assert_eq!(upstream.executions_of("k"), 1);
}

#[test]
fn a_partial_request_after_a_whole_one_does_not_hold_its_answer_back() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.say(
        b"POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\nPOST /paym",
    );
    assert_eq!(client.read().text(), "payment 1");
}

#[test]
fn connection_cannot_take_host_or_length_away() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for ask in [ask("PUT", "/elsewhere").body("abc"), post("/payments").key("k").body("abc")] {
        gateway.ask(&ask.header("Connection", "host, content-length"));
    }
    for number in [1, 2] {
        let request = upstream.request(number);
        assert_eq!(request.body, b"abc");
        assert_ne!(request.header("host").as_deref(), Some(upstream.url().trim_start_matches("http://")));
    }
}

#[test]
fn a_hangup_ends_nothing() {
    let (upstream, gate) = (Upstream::of_payments(), Gate::shut());
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.signal("HUP");
    until("it is logged", || gateway.log().contains("the new configuration holds"));
    gate.open();
    assert_eq!(gateway.ask(&post("/payments").key("k")).status, 201);
}

#[test]
fn a_body_in_chunks_travels_with_every_method() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for (number, method) in ["GET", "DELETE", "OPTIONS", "PUT"].into_iter().enumerate() {
        assert_eq!(
            gateway.ask(&ask(method, "/elsewhere").chunked(&["ab", "c"], &[])).status,
            201,
            "{method}"
        );
        assert_eq!(upstream.request(number + 1).body, b"abc", "{method}");
    }
}

#[test]
fn an_upgrade_that_is_not_granted_does_not_end_the_look_at_framing() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&get("/elsewhere").header("Upgrade", "foo"));
    assert_eq!(client.read().status, 201);
    client.say(b"POST /payments HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n");
    client.say(b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(client.read().problem(), (400, "malformed-request".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn trailers_that_do_not_end_in_cr_lf_are_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let head =
        "POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n";
    for trailers in ["\n", "X: y\n\r\n", "X: y\r\n\n"] {
        let mut client = gateway.client();
        client.say(format!("{head}3\r\nabc\r\n0\r\n{trailers}").as_bytes());
        assert_eq!(client.read().status, 400, "{trailers:?}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_path_that_reads_in_several_ways_is_not_refused_by_a_route_that_observes() {
    let upstream = Upstream::of_payments();
    let observing = GatewayPlan::before(&upstream).policy("mode = \"observe\"").start();
    let enforcing = GatewayPlan::before(&upstream).start();
    let ask = || post("/payments/").key("k");
    assert_eq!(observing.ask(&ask()).status, 201);
    assert_eq!(enforcing.ask(&ask()).problem(), (400, "path-ambiguous".into()));
}
