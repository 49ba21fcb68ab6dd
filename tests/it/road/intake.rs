//! What comes in: requests that are none, too large, too slow, and what they are told. Nothing of them goes on.

use std::time::Duration;

use crate::harness::{Client, Gate, Gateway, GatewayPlan, Reply, Upstream, get, now, post, until};

/// Holds that each of these is answered so, that its connection ends, and that nobody else ever hears of it.
fn expect_refused(cases: &[impl AsRef<[u8]>], status: u16, code: &str) {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for case in cases {
        let shown = String::from_utf8_lossy(case.as_ref());
        let mut client = gateway.client();
        client.say(case.as_ref());
        let answer = client.read();
        assert_eq!(answer.problem(), (status, code.into()), "{shown:?}: {}", answer.shown());
        assert_eq!(answer.header("connection").as_deref(), Some("close"), "{shown:?}");
        assert!(client.wire().is_at_end(), "{shown:?}: the connection goes on");
    }
    assert_eq!(upstream.executions(), 0);
}

/// A request that would be well-formed without these lines.
fn with(lines: &str) -> String {
    format!("POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n{lines}\r\n")
}

/// The head of a request for this target, to a path that no route guards.
fn for_target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_request_line_that_is_none_is_malformed() {
    let lines = [
        "GET /",
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / http/1.1",
        "G(T / HTTP/1.1",
    ];
    let requests = lines.map(|line| format!("{line}\r\nHost: a\r\n\r\n"));
    expect_refused(&requests, 400, "malformed-request");
    expect_refused(
        &[format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(100_000))],
        400,
        "malformed-request",
    );
}

#[test]
fn what_is_no_http_is_refused_before_its_end() {
    expect_refused(
        &[&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\x05\x01\x00", b"\r\n\r\n\r\n\r\n\r\n\r\n"],
        400,
        "malformed-request",
    );
}

#[test]
fn a_target_that_servers_read_differently_is_malformed() {
    let targets =
        ["/a#b", "/caf\u{e9}", "/a\u{1}", "/a<b", "*", "a", "a:80", "http:///a", "http://u@a/", "ftp://a/"];
    expect_refused(&targets.map(for_target), 400, "malformed-request");
}

#[test]
fn a_target_that_names_another_host_than_the_field_is_malformed() {
    expect_refused(&["http://b/", "http://a:81/", "http://[::1]/"].map(for_target), 400, "malformed-request");
}

#[test]
fn a_host_that_is_none_is_malformed() {
    let hosts = ["", ":80", "a:x", "a:99999", "a b", "a,b", "a/b", "u@a", "[::g]", "a:1:2"];
    let requests = hosts.map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    expect_refused(&requests, 400, "malformed-request");
    expect_refused(&["GET / HTTP/1.1\r\n\r\n", "GET http://a/ HTTP/1.1\r\n\r\n"], 400, "malformed-request");
}

#[test]
fn a_line_of_a_head_that_servers_read_differently_is_malformed() {
    let lines = [
        "X: a\nY: b\r\n",
        "X: a\rY: b\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        "X : a\r\n",
        ": a\r\n",
        "X\r\n",
        "X\u{1}: a\r\n",
        "X: a\u{0}\r\n",
        "caf\u{e9}: a\r\n",
    ];
    expect_refused(&lines.map(with), 400, "malformed-request");
    expect_refused(
        &["GET / HTTP/1.1\nHost: a\n\n", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        400,
        "malformed-request",
    );
}

#[test]
fn a_length_that_servers_read_differently_is_malformed() {
    let values = ["+1", "-1", "0x1", "1 1", "1, 1", "1.0", "", "9223372036854775808", "18446744073709551617"];
    expect_refused(
        &values.map(|value| with(&format!("Content-Length: {value}\r\n"))),
        400,
        "malformed-request",
    );
    expect_refused(&[with("Content-Length: 1\r\nContent-Length: 1\r\n")], 400, "malformed-request");
}

#[test]
fn a_coding_that_frames_no_body_is_malformed() {
    let values = ["gzip", "chunked, gzip", "chunked, chunked", "xchunked", "chunked;a=b", ",chunked", ""];
    expect_refused(
        &values.map(|value| with(&format!("Transfer-Encoding: {value}\r\n"))),
        400,
        "malformed-request",
    );
    let both = with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned();
    expect_refused(&[both, old], 400, "malformed-request");
}

#[test]
fn a_coding_that_is_not_known_is_not_implemented() {
    let values = ["gzip, chunked", "identity, chunked"];
    expect_refused(
        &values.map(|value| with(&format!("Transfer-Encoding: {value}\r\n"))),
        501,
        "not-implemented",
    );
}

#[test]
fn another_version_of_http_is_not_supported() {
    let versions = ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/9.9"];
    let requests = versions.map(|version| format!("GET / {version}\r\nHost: a\r\n\r\n"));
    expect_refused(&requests, 505, "version-not-supported");
}

#[test]
fn an_option_of_the_connection_that_is_none_is_malformed() {
    expect_refused(&[with("Connection: close,\u{e9} x\r\n")], 400, "malformed-request");
}

#[test]
fn an_expectation_that_is_not_known_fails_and_its_body_is_not_invited() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for expectation in ["200-ok", "100-continue, 200-ok"] {
        let ask = post("/payments").key("k").header("Expect", expectation);
        assert_eq!(gateway.client().send_head(&ask).read().problem(), (417, "expectation-failed".into()));
    }
    assert_eq!(upstream.executions(), 0);
}

/// A gateway with small limits, and the answer to these bytes.
fn answer_within_limits(bytes: &[u8]) -> (u16, String) {
    let upstream = Upstream::of_payments();
    let limits = "target_bytes_max = \"1KiB\"\nheader_bytes_max = \"8KiB\"\nheader_count_max = 20";
    let gateway = GatewayPlan::before(&upstream).server(limits).start();
    let mut client = gateway.client();
    client.say(bytes);
    let answer = client.read();
    assert!(client.wire().is_at_end());
    assert_eq!(upstream.executions(), 0);
    assert!(!gateway.log().contains("panicked"));
    answer.problem()
}

#[test]
fn a_target_that_is_too_long_is_told_so() {
    let target = format!("/{}", "t".repeat(1024));
    assert_eq!(answer_within_limits(for_target(&target).as_bytes()), (414, "uri-too-long".into()));
    // Its end never comes.
    let endless = format!("GET /{}", "t".repeat(100_000));
    assert_eq!(answer_within_limits(endless.as_bytes()), (414, "uri-too-long".into()));
}

#[test]
fn a_head_that_is_too_large_is_told_so_before_its_end() {
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(100_000));
    assert_eq!(answer_within_limits(endless.as_bytes()), (431, "headers-too-large".into()));
    let many = with(&"X: y\r\n".repeat(19));
    assert_eq!(answer_within_limits(many.as_bytes()), (431, "headers-too-large".into()));
}

#[test]
fn a_request_is_the_same_in_whatever_pieces_it_comes() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let request = "\r\nPOST /elsewhere HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 2\r\n\r\nab";
    let bytes = request.repeat(3).into_bytes();
    for size in [1, 7, 100, bytes.len()] {
        let mut client = gateway.client();
        for piece in bytes.chunks(size) {
            client.say(piece);
        }
        for _ in 0..3 {
            assert_eq!(client.read().status, 201, "in pieces of {size}");
        }
    }
    assert_eq!(upstream.executions(), 12);
    assert!((1..=12).all(|number| upstream.request(number).body == b"ab"));
}

#[test]
fn a_doubtful_request_ends_the_connection_after_the_answers_to_those_before_it() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.say(
        format!("{}{}{}", for_target("/one"), "GET  /two HTTP/1.1\r\n\r\n", for_target("/three")).as_bytes(),
    );
    upstream.request(1);
    gate.open();
    assert_eq!(client.read().status, 201);
    assert_eq!(client.read().problem(), (400, "malformed-request".into()));
    assert!(client.wire().is_at_end());
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_answer_is_not_lost_to_what_its_caller_still_sends() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.say(with("Content-Length: 1, 1\r\n").as_bytes());
    until("the gateway has answered", || gateway.log().contains("status=400"));
    for _ in 0..20 {
        client.say(&[b'x'; 10_000]);
    }
    assert_eq!(client.read().problem(), (400, "malformed-request".into()));
}

#[test]
fn a_head_cut_short_is_malformed() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.say(b"POST /payments HTTP/1.1\r\nHost: a\r\n").finish_writing();
    assert_eq!(client.read().problem(), (400, "malformed-request".into()));
    let mut silent = gateway.client();
    assert!(silent.finish_writing().try_read().is_none());
}

fn impatient(upstream: &Upstream, limits: &str) -> Gateway {
    GatewayPlan::before(upstream).server(limits).start()
}

#[test]
fn a_head_that_does_not_come_in_time_is_told_so() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, "header_timeout = \"200ms\"");
    let mut client = gateway.client();
    let answer = client.say(b"POST /payments HTTP/1.1\r\nHost: a\r\n").read();
    assert_eq!(answer.problem(), (408, "request-timeout".into()));
    assert!(client.wire().is_at_end());
    let mut next = gateway.send(&get("/elsewhere"));
    assert_eq!(next.read().status, 201);
    assert_eq!(next.say(b"GET /els").read().status, 408);
}

#[test]
fn a_head_that_trickles_in_is_not_waited_for() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, "header_timeout = \"300ms\"");
    let (mut client, began) = (gateway.client(), now());
    client.say(b"GET / HTTP/1.1\r\nHost: a\r\n");
    until("it is answered", || {
        client.wire().write(b"X: y\r\n");
        gateway.log().contains("status=408")
    });
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_word() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, "header_timeout = \"200ms\"\nidle_timeout = \"300ms\"");
    assert!(gateway.client().try_read().is_none(), "nothing was ever asked");
    assert!(gateway.client().say(b"\r\n").try_read().is_none(), "an empty line is nothing");
    let mut kept: Client = gateway.send(&get("/elsewhere"));
    assert_eq!(kept.read().status, 201);
    assert!(kept.try_read().is_none(), "nothing more was asked");
}

const HURRIED: &str = "body_timeout = \"300ms\"\nbody_rate_min = \"1KiB\"";

#[test]
fn a_body_that_does_not_come_in_time_is_told_so_and_nothing_is_claimed_or_passed_on() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, HURRIED);
    for ask in [post("/payments").key("k"), post("/elsewhere"), post("/elsewhere").chunked(&["ab"], &[])] {
        let mut client = gateway.client();
        let answer = client.send_head(&ask).say(b"2\r\na").read();
        assert_eq!(answer.problem(), (408, "request-timeout".into()));
        assert!(client.wire().is_at_end());
    }
    assert_eq!(upstream.executions(), 0);
    until("the requests passed on are given up", || upstream.open_connections() == 0);
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
}

#[test]
fn a_body_that_trickles_in_is_not_waited_for() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, HURRIED);
    for target in ["/payments", "/elsewhere"] {
        let mut client = gateway.client();
        client.send_head(&post(target).key("k").body(vec![b'x'; 1_000_000]));
        let path = format!("path=\"{target}\"");
        let is_refused = |line: &str| line.contains(&path) && line.contains("status=408");
        until("it is answered", || {
            client.wire().write(b"x");
            gateway.log().lines().any(is_refused)
        });
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_body_that_keeps_the_pace_may_take_longer() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, "body_timeout = \"2s\"\nbody_rate_min = \"1B\"");
    let mut client = gateway.client();
    client.send_head(&post("/payments").key("k").body("12345678"));
    for _ in 0..8 {
        // The pace is the claim: four bytes in a second, where one would do.
        std::thread::sleep(Duration::from_millis(250));
        client.say(b"x");
    }
    assert_eq!(client.read().status, 201);
}

#[test]
fn a_call_of_grpc_may_rest_as_long_as_it_likes() {
    let upstream = Upstream::of_payments();
    let gateway = impatient(&upstream, HURRIED);
    let mut client = gateway.client();
    client.send_head(&post("/payments").header("Content-Type", "application/grpc").body("ab")).say(b"a");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(client.say(b"b").read().status, 201);
}

#[test]
fn a_caller_is_not_to_blame_for_an_upstream_that_is_slow_to_take() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = GatewayPlan::before_url(&url).server(HURRIED).start();
    let size: usize = 20_000_000;
    let mut client = gateway.client();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(900));
            let mut left = size;
            let mut bytes = vec![0; 1 << 20];
            while left > 0 {
                left = left.saturating_sub(std::io::Read::read(&mut stream, &mut bytes).unwrap());
            }
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        });
        client.send(&post("/elsewhere").body(vec![b'x'; size]));
        assert_eq!(client.read().status, 201);
    });
}

#[test]
fn a_caller_that_makes_no_room_for_its_answer_is_cut_off() {
    let upstream = Upstream::always(Reply::answer(200).body(vec![b'x'; 50_000_000]));
    let gateway = impatient(&upstream, "write_timeout = \"300ms\"");
    let _client = gateway.send(&get("/elsewhere"));
    until("it is logged", || gateway.log().contains("it made no room within server.write_timeout"));
    until("the upstream is let go", || upstream.open_connections() == 0);
}

#[test]
fn a_body_that_breaks_on_its_way_is_malformed_whatever_its_upstream_makes_of_it() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for broken in ["5 \r\nhello\r\n", "0\r\nGET / HTTP/1.1\n\r\n", &format!("1;{}\r\n", "e".repeat(100_000))]
    {
        let mut client = gateway.client();
        client.send_head(&post("/elsewhere").chunked(&[], &[])).say(b"5\r\nfirst\r\n");
        upstream.await_bytes(b"first");
        client.say(broken.as_bytes());
        assert_eq!(client.read().problem(), (400, "malformed-request".into()), "{broken:.20}");
        assert!(client.wire().is_at_end());
    }
    assert_eq!(upstream.executions(), 0);
}
