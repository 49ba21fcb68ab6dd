//! What happens to a request before its key is claimed.

use crate::harness::{GatewayPlan, Reply, Upstream, ask, get, post};

#[test]
fn a_method_that_is_not_protected_passes_through_untouched_key_or_not() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for _ in 0..2 {
        let answer = gateway.ask(&ask("PUT", "/payments").key("k").body("x"));
        assert_eq!((answer.status, answer.word()), (201, None), "{}", answer.shown());
    }
    assert_eq!((upstream.request(1).method, upstream.executions_of("k")), ("PUT".into(), 2));
}

#[test]
fn a_path_without_a_route_passes_through_untouched() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for _ in 0..2 {
        let answer = gateway.ask(&post("/elsewhere?q=%2F+x").key("k"));
        assert_eq!((answer.status, answer.word()), (201, None), "{}", answer.shown());
    }
    assert_eq!(upstream.executions_of("k"), 2);
    assert_eq!(upstream.request(2).target, "/elsewhere?q=%2F+x");
}

#[test]
fn a_request_without_a_key_passes_through_where_keys_are_optional() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let (first, second) = (gateway.ask(&post("/payments")), gateway.ask(&post("/payments")));
    assert_eq!((first.text(), second.text()), ("payment 1".into(), "payment 2".into()));
    assert_eq!(first.word().as_deref(), Some("none"));
}

#[test]
fn a_request_without_a_key_is_refused_where_keys_are_required() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("key = \"required\"").start();
    let answer = gateway.ask(&post("/payments"));
    assert_eq!(answer.problem(), (400, "key-missing".into()));
    assert_eq!(answer.word().as_deref(), Some("none"));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_key_that_is_none_is_refused_before_the_body_is_read_or_invited() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let too_long = "k".repeat(256);
    for key in ["", "\"\"", "a\tb", "cl\u{e9}", &too_long, "a,b", "\"a\", \"b\"", "a\"b", "\"open"] {
        let ask = post("/payments").header("Idempotency-Key", key).header("Expect", "100-continue");
        // The body never comes: an answer comes all the same, and it is no invitation.
        let answer = gateway.client().send_head(&ask).read();
        assert_eq!(answer.problem(), (400, "key-invalid".into()), "{key:?}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_key_on_two_lines_is_refused_even_if_they_agree() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let answer = gateway.ask(&post("/payments").key("k").key("k"));
    assert_eq!(answer.problem(), (400, "key-invalid".into()));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_key_named_in_connection_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments").key("k").header("Connection", "keep-alive, idempotency-KEY");
    assert_eq!(gateway.ask(&ask).problem(), (400, "key-invalid".into()));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn sources_of_a_key_that_disagree_are_refused() {
    let upstream = Upstream::of_payments();
    let sources = "key_from = [\"header:Idempotency-Key\", \"header:X-Delivery\", \"json:/event/id\"]";
    let gateway = GatewayPlan::before(&upstream).policy(sources).start();
    let body = r#"{"event":{"id":"b"}}"#;
    let headers = post("/payments").key("a").header("X-Delivery", "b");
    for ask in [headers, post("/payments").key("a").body(body)] {
        assert_eq!(gateway.ask(&ask).problem(), (400, "key-invalid".into()));
    }
    assert_eq!(upstream.executions(), 0);
    let agreeing = post("/payments").key("b").header("X-Delivery", "b").body(body);
    assert_eq!(gateway.ask(&agreeing).text(), "payment 1");
    let in_body = post("/payments").body(body);
    assert_eq!(gateway.ask(&in_body).word().as_deref(), Some("replayed"));
}

#[test]
fn a_key_outside_the_configured_format_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .route("/uuid", "key_format = \"uuid\"")
        .route("/strict", "key_format = \"sf-string\"")
        .route("/short", "key_max_length = 4")
        .start();
    for (path, bad, good) in [
        ("/uuid", "not-a-uuid", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("/strict", "bare", "\"quoted\""),
        ("/short", "12345", "1234"),
    ] {
        assert_eq!(gateway.ask(&post(path).key(bad)).problem(), (400, "key-invalid".into()), "{path}");
        assert_eq!(gateway.ask(&post(path).key(good)).status, 201, "{path}");
    }
    assert_eq!(upstream.executions(), 3);
}

#[test]
fn the_quoted_and_the_bare_form_are_the_same_key() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let bare = gateway.ask(&post("/payments").key("abc"));
    let quoted = gateway.ask(&post("/payments").key("\"abc\""));
    assert_eq!((bare.text(), quoted.text()), ("payment 1".into(), "payment 1".into()));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_request_without_its_part_of_the_scope_is_refused_where_callers_must_be_told_apart() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("scope_missing = \"reject\"").start();
    let ask = post("/payments").key("k").header("Expect", "100-continue");
    let answer = gateway.client().send_head(&ask).read();
    assert_eq!(answer.problem(), (400, "scope-missing".into()));
    assert_eq!(upstream.executions(), 0);
    assert_eq!(gateway.ask(&post("/payments").key("k").caller("Bearer a")).status, 201);
}

#[test]
fn a_body_declared_too_large_is_refused_before_it_is_read_or_invited() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("request_body_max = \"1KiB\"").start();
    let ask = post("/payments").key("k").body(vec![b'x'; 1025]).header("Expect", "100-continue");
    let answer = gateway.client().send_head(&ask).read();
    assert_eq!(answer.problem(), (413, "request-too-large".into()));
    assert_eq!(gateway.ask(&post("/payments").key("k").body(vec![b'x'; 1024])).status, 201);
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_body_counted_too_large_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("request_body_max = \"1KiB\"").start();
    let half = "x".repeat(600);
    let answer = gateway.ask(&post("/payments").key("k").chunked(&[&half, &half], &[]));
    assert_eq!(answer.problem(), (413, "request-too-large".into()));
    assert_eq!(upstream.executions(), 0);
    // Nothing was claimed: the key is free.
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
}

#[test]
fn a_caller_that_leaves_before_its_body_is_complete_leaves_no_trace() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for ask in [post("/payments").key("k").body("complete"), post("/payments").key("k").chunked(&[], &[])] {
        let mut client = gateway.client();
        client.send_head(&ask).say(b"2\r\nco");
        client.leave();
    }
    let mut ended = gateway.client();
    ended.send_head(&post("/payments").key("k").body("complete")).say(b"comp").finish_writing();
    ended.try_read();
    let other = gateway.ask(&post("/payments").key("k").body("something else"));
    assert_eq!(other.word().as_deref(), Some("executed"), "{}", other.shown());
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn a_body_is_invited_once_the_head_has_passed_every_check() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments").key("k").header("Expect", "100-continue");
    let mut client = gateway.client();
    assert_eq!(client.send_head(&ask).read_head().status(), 100);
    assert_eq!(upstream.executions(), 0);
    assert_eq!(client.say(&ask.body_bytes()).read().text(), "payment 1");
    assert_eq!(upstream.request(1).header("expect"), None);
}

#[test]
fn a_method_that_is_not_in_upper_case_ends_the_connection() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for method in ["post", "Post", "POsT", "get"] {
        let mut client = gateway.send(&ask(method, "/payments").key("k").body("x"));
        let answer = client.read();
        assert_eq!(answer.status, 400, "{method}");
        assert_eq!(answer.header("connection").as_deref(), Some("close"), "{method}");
        assert!(client.wire().is_at_end(), "{method}: the connection goes on");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_request_without_a_host_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let answer = gateway.ask(&post("/payments").key("k").without_header("Host"));
    assert_eq!(answer.status, 400);
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_tunnel_is_not_opened() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let answer = gateway.ask(&ask("CONNECT", "api.test:443"));
    assert_eq!(answer.status, 405, "{}", answer.shown());
    assert!(answer.header("allow").is_some());
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_grpc_call_passes_through_and_is_never_claimed() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC-web"] {
        let call = post("/payments").key("k").header("Content-Type", kind);
        let answer = gateway.ask(&call);
        assert_eq!((answer.status, answer.word()), (201, None), "{kind}");
    }
    assert_eq!(upstream.executions_of("k"), 3);
}

#[test]
fn an_upgrade_passes_both_ways_on_a_protected_route_too_and_is_never_claimed() {
    let switching = Reply::answer(101).header("Connection", "Upgrade").header("Upgrade", "websocket");
    let upstream = Upstream::always(switching.end_of_head().echo());
    let gateway = GatewayPlan::before(&upstream).start();
    let open = |ask: crate::harness::Ask| ask.header("Connection", "Upgrade").header("Upgrade", "websocket");
    for ask in [open(get("/elsewhere")), open(ask("POST", "/payments").key("k"))] {
        let mut client = gateway.send(&ask);
        let head = client.read_head();
        assert_eq!(head.status(), 101);
        for word in ["hello", "again"] {
            client.say(word.as_bytes());
            assert_eq!(client.wire().counted(word.len()).data, word.as_bytes());
        }
    }
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_request_to_no_route_and_no_default_upstream_is_not_found() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).named("payments").start();
    assert_eq!(gateway.ask(&get("/elsewhere")).problem(), (404, "no-route".into()));
    assert_eq!(gateway.ask(&post("/payments").key("k")).status, 201);
}

#[test]
fn a_key_with_a_control_byte_never_reaches_the_upstream() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for byte in [0x00_u8, 0x01, 0x1b, 0x7f] {
        let ask = post("/payments").header("Idempotency-Key", [b'a', byte, b'b']);
        assert_eq!(gateway.ask(&ask).problem(), (400, "key-invalid".into()), "{byte:#x}");
        let elsewhere = post("/payments").key("k").header("X-Other", [b'a', byte, b'b']);
        assert_eq!(gateway.ask(&elsewhere).problem(), (400, "malformed-request".into()), "{byte:#x}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn broken_framing_ends_the_connection_and_nothing_of_it_reaches_the_upstream() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let head = "POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n";
    for rest in [
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: 3, 4\r\n\r\nabcd",
        "Content-Length: +3\r\n\r\nabc",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\nabc",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        "Content-Length: 3\r\n folded\r\n\r\nabc",
        "Host: b\r\nContent-Length: 3\r\n\r\nabc",
    ] {
        let mut client = gateway.client();
        client.say(format!("{head}{rest}").as_bytes());
        let answer = client.read();
        assert_eq!(answer.status, 400, "{rest:?}: {}", answer.shown());
        assert!(client.wire().is_at_end(), "{rest:?}: the connection goes on");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn two_framings_at_once_are_refused_and_end_the_connection() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.say(b"POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 60\r\n");
    client.say(b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /payments HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read().status, 400);
    assert!(client.wire().is_at_end(), "RFC 9112 section 6.1: the connection is not to be trusted further");
    assert_eq!(upstream.executions(), 0);
}
