//! HTTP as an intermediary must get it right, on the guarded road and on the open one alike.

use crate::harness::{Ask, GatewayPlan, Reply, Upstream, ask, get, post};

/// The same request down both roads.
fn down_both_roads(ask: &Ask) -> [Ask; 2] {
    [ask.clone().key("k"), ask.clone()]
}

#[test]
fn fields_of_one_hop_end_here_and_so_do_those_that_connection_names() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments")
        .header("Connection", "X-One, close")
        .header("Connection", "x-TWO")
        .header("X-One", "1")
        .header("X-Two", "2")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("X-Stays", "3");
    for (number, ask) in (1..).zip(down_both_roads(&ask)) {
        gateway.ask(&ask);
        let received = upstream.request(number);
        for name in ["x-one", "x-two", "keep-alive", "proxy-connection", "upgrade"] {
            assert_eq!(received.header(name), None, "{name}");
        }
        assert_eq!(received.header("x-stays").as_deref(), Some("3"));
    }
}

#[test]
fn fields_keep_their_values_their_repeats_and_the_order_of_repeats() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let odd: &[u8] = b"caf\xe9 \t=;\"'";
    let ask = post("/payments")
        .header("X-Many", "2")
        .header("X-Other", "between")
        .header("X-Many", "1")
        .header("X-Many", "2")
        .header("X-Odd", odd)
        .header("X-Empty", "");
    for (number, ask) in (1..).zip(down_both_roads(&ask)) {
        gateway.ask(&ask);
        let received = upstream.request(number);
        assert_eq!(received.headers("x-many"), ["2", "1", "2"]);
        assert!(received.raw.windows(odd.len()).any(|window| window == odd));
        assert_eq!(received.header("x-empty").as_deref(), Some(""));
        assert_eq!(received.header("host").as_deref(), Some("api.test"));
    }
}

#[test]
fn the_gateway_signs_its_work_and_tells_who_asked() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments").header("Via", "1.0 first").header("X-Forwarded-For", "192.0.2.1");
    for (number, ask) in (1..).zip(down_both_roads(&ask)) {
        let answer = gateway.ask(&ask);
        let received = upstream.request(number);
        assert_eq!(received.headers("via").join(", "), "1.0 first, 1.1 onceway");
        assert_eq!(received.header("x-forwarded-for").as_deref(), Some("192.0.2.1, 127.0.0.1"));
        assert_eq!(received.header("x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!(received.header("x-forwarded-host").as_deref(), Some("api.test"));
        assert_eq!(answer.header("via").as_deref(), Some("1.1 onceway"));
    }
}

#[test]
fn what_callers_say_of_who_they_are_is_replaced_where_they_are_not_trusted() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("forwarded = \"replace\"").start();
    let names = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"];
    let lie = names.iter().fold(post("/payments"), |ask, name| ask.header(name, "for=lie"));
    for (number, ask) in (1..).zip(down_both_roads(&lie)) {
        gateway.ask(&ask);
        let received = upstream.request(number);
        assert!(!String::from_utf8_lossy(&received.raw).contains("lie"), "{received:?}");
        assert_eq!(received.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    }
}

#[test]
fn a_body_reaches_the_upstream_byte_for_byte_however_it_was_framed() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let bytes: Vec<u8> = (0..=255).collect();
    let chunked = post("/payments").chunked(&["one", "two"], &[("X-Sum", "42")]).header("Trailer", "X-Sum");
    for ask in down_both_roads(&post("/payments").body(&bytes)) {
        gateway.ask(&ask);
    }
    assert_eq!((upstream.request(1).body, upstream.request(2).body), (bytes.clone(), bytes));
    for ask in [chunked.clone().key("c"), chunked] {
        gateway.ask(&ask);
    }
    for number in [3, 4] {
        let received = upstream.request(number);
        assert_eq!(received.body, b"onetwo");
        assert_eq!(received.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
    }
}

#[test]
fn a_request_without_a_body_is_sent_without_one() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&ask("POST", "/payments").key("none"));
    gateway.ask(&post("/payments").key("empty").body(""));
    gateway.ask(&get("/elsewhere"));
    assert_eq!(upstream.request(1).header("transfer-encoding"), None);
    assert_eq!(upstream.request(2).header("content-length").as_deref(), Some("0"));
    assert_eq!(upstream.request(3).header("content-length"), None);
}

#[test]
fn conditions_and_codings_are_the_upstreams_business() {
    let upstream = Upstream::always(Reply::answer(412).header("Content-Encoding", "gzip").body([31, 139, 8]));
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments").header("If-Match", "\"v0\"").header("Accept-Encoding", "gzip, br");
    for (number, ask) in (1..).zip(down_both_roads(&ask)) {
        let answer = gateway.ask(&ask);
        assert_eq!((answer.status, answer.body), (412, vec![31, 139, 8]));
        let received = upstream.request(number);
        assert_eq!(received.header("if-match").as_deref(), Some("\"v0\""));
        assert_eq!(received.header("accept-encoding").as_deref(), Some("gzip, br"));
    }
}

#[test]
fn the_answer_to_a_head_request_has_the_head_of_a_get_and_no_body() {
    let upstream = Upstream::always(Reply::answer(200).header("Content-Length", "1000").end_of_head());
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&ask("HEAD", "/payments"));
    for _ in 0..2 {
        let answer = client.read();
        assert_eq!((answer.status, answer.header("content-length").as_deref()), (200, Some("1000")));
        client.send(&ask("HEAD", "/payments"));
    }
    assert_eq!(client.read().status, 200);
}

#[test]
fn an_offer_of_http2_is_not_taken_up_and_leaves_a_request_guarded() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let offer = post("/payments")
        .key("k")
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA");
    for word in ["executed", "replayed"] {
        assert_eq!(gateway.ask(&offer).word().as_deref(), Some(word));
    }
    let received = upstream.request(1);
    assert_eq!((received.header("upgrade"), received.header("http2-settings")), (None, None));
}

#[test]
fn a_caller_that_speaks_http_1_0_is_answered_in_a_framing_it_knows() {
    let upstream = Upstream::always(Reply::answer(201).chunked(&["pay", "ment"], &[]));
    let gateway = GatewayPlan::before(&upstream).start();
    for word in ["executed", "replayed"] {
        let mut client = gateway.client();
        client.say(b"POST /payments HTTP/1.0\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx");
        let answer = client.read();
        assert_eq!((answer.text(), answer.word().as_deref()), ("payment".into(), Some(word)));
        assert_eq!(answer.header("transfer-encoding"), None);
        assert!(client.wire().is_at_end());
    }
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn what_the_upstream_says_of_idempotency_is_not_passed_off_as_the_gateways_word() {
    let spoof = Reply::answer(201).header("Idempotency-Status", "replayed").body("payment 1");
    let upstream = Upstream::always(spoof);
    let gateway = GatewayPlan::before(&upstream).start();
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("replayed"));
    assert_eq!(gateway.ask(&get("/elsewhere")).word(), None);
}

#[test]
fn a_caller_that_does_not_finish_its_head_or_body_is_not_waited_for() {
    let upstream = Upstream::of_payments();
    let limits = "header_timeout = \"200ms\"\nbody_timeout = \"200ms\"";
    let gateway = GatewayPlan::before(&upstream).server(limits).start();
    let mut slow_head = gateway.client();
    slow_head.say(b"POST /payments HTTP/1.1\r\nHost: a\r\n");
    slow_head.try_read();
    assert!(slow_head.wire().is_at_end());
    let mut slow_body = gateway.client();
    let answer = slow_body.send_head(&post("/payments").key("k")).say(b"amo").read();
    assert_eq!(answer.problem(), (408, "request-timeout".into()));
    assert!(slow_body.wire().is_at_end());
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_head_that_is_too_large_or_has_too_many_fields_is_refused() {
    let upstream = Upstream::of_payments();
    let limits = "header_bytes_max = \"8KiB\"\nheader_count_max = 20";
    let gateway = GatewayPlan::before(&upstream).server(limits).start();
    let large = post("/payments").key("k").header("X-Large", vec![b'x'; 20_000]);
    let many = (0..30).fold(post("/payments").key("k"), |ask, _| ask.header("X-Many", "1"));
    for ask in [large, many] {
        assert_eq!(gateway.ask(&ask).status, 431);
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn fields_of_one_hop_in_answers_and_trailers_end_here() {
    let reply = Reply::answer(200)
        .header("Connection", "X-One")
        .header("X-One", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Authenticate", "Basic")
        .header("Trailer", "X-Sum, Connection")
        .chunked(&["body"], &[("X-Sum", "42"), ("Connection", "close"), ("Content-Length", "9")]);
    let upstream = Upstream::always(reply);
    let gateway = GatewayPlan::before(&upstream).start();
    for ask in down_both_roads(&post("/payments").header("TE", "trailers")) {
        let answer = gateway.ask(&ask);
        for name in ["x-one", "keep-alive"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        let names: Vec<_> = answer.trailers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-sum"]);
    }
}

#[test]
fn trailers_of_one_hop_in_requests_end_here() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let trailers = [("X-Sum", "42"), ("Connection", "close"), ("Host", "b"), ("Content-Length", "9")];
    let ask = post("/payments").header("Trailer", "X-Sum, Connection, Host").chunked(&["body"], &trailers);
    for (number, ask) in (1..).zip(down_both_roads(&ask)) {
        gateway.ask(&ask);
        let received = upstream.request(number);
        let names: Vec<_> = received.trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        assert_eq!(names, ["x-sum"]);
    }
}

#[test]
fn the_last_permitted_hop_answers_itself() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for method in ["OPTIONS", "TRACE"] {
        gateway.ask(&ask(method, "/elsewhere").header("Max-Forwards", "0"));
        assert_eq!(upstream.executions(), 0, "{method}");
    }
    gateway.ask(&ask("OPTIONS", "/elsewhere").header("Max-Forwards", "3"));
    assert_eq!(upstream.request(1).header("max-forwards").as_deref(), Some("2"));
}
