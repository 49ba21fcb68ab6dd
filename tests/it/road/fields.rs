//! Which fields travel on, which end here, and what is told of where a request came from. Each rule with its
//! section stands in `docs/intermediary.md`.

use crate::harness::{GatewayPlan, Reply, Upstream, ask, get, post};

#[test]
fn what_connection_names_in_the_head_ends_here_in_trailers_too() {
    let named = ("X-Own", "1");
    let reply = Reply::answer(200)
        .header("Connection", "X-Own")
        .header("Trailer", "X-Own, X-Sum")
        .chunked(&["body"], &[named, ("X-Sum", "42")]);
    let upstream = Upstream::always(reply);
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments")
        .header("Connection", "X-Own, TE")
        .header("TE", "trailers")
        .header("Trailer", "X-Own, X-Sum")
        .chunked(&["body"], &[named, ("X-Sum", "42")]);
    for (number, ask) in [(1, ask.clone().key("k")), (2, ask)] {
        let answer = gateway.ask(&ask);
        let received = upstream.request(number);
        for trailers in [&answer.trailers, &received.trailers] {
            assert_eq!(*trailers, [("x-sum".to_owned(), b"42".to_vec())]);
        }
        assert_eq!(received.header("trailer").as_deref(), Some("x-sum"));
    }
}

#[test]
fn a_field_meant_for_all_recipients_is_not_taken_away_by_being_named_in_connection() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments")
        .header("Connection", "authorization, cookie, x-forwarded-for, x-real-ip")
        .caller("Basic x")
        .header("Cookie", "a=1")
        .header("X-Real-IP", "198.51.100.1");
    for (number, ask) in [(1, ask.clone().key("k")), (2, ask)] {
        gateway.ask(&ask);
        let received = upstream.request(number);
        assert_eq!(received.header("authorization").as_deref(), Some("Basic x"));
        assert_eq!(received.header("cookie").as_deref(), Some("a=1"));
        assert_eq!(received.header("x-real-ip").as_deref(), Some("198.51.100.1"));
        assert_eq!(received.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    }
}

#[test]
fn credentials_for_a_proxy_are_not_shown_to_the_upstream_nor_its_challenge_to_the_caller() {
    let reply =
        Reply::answer(200).header("Proxy-Authenticate", "Basic").header("Proxy-Authentication-Info", "x");
    let upstream = Upstream::always(reply.body("b"));
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments").header("Proxy-Authorization", "Basic secret");
    for (number, ask) in [(1, ask.clone().key("k")), (2, ask)] {
        let answer = gateway.ask(&ask);
        assert_eq!(upstream.request(number).header("proxy-authorization"), None);
        assert_eq!(answer.header("proxy-authenticate"), None);
        assert_eq!(answer.header("proxy-authentication-info"), None);
    }
}

#[test]
fn trailers_travel_from_a_record_whether_or_not_they_were_announced() {
    let upstream = Upstream::always(Reply::answer(200).chunked(&["body"], &[("X-Sum", "42")]));
    let gateway = GatewayPlan::before(&upstream).start();
    let ask = post("/payments").key("k");
    for _ in 0..2 {
        let taking = gateway.ask(&ask.clone().header("TE", "trailers").header("Connection", "TE"));
        assert_eq!(taking.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
        assert_eq!(taking.header("trailer").as_deref(), Some("x-sum"));
    }
    let plain = gateway.ask(&ask);
    assert_eq!((plain.text(), plain.trailers.len(), plain.header("trailer")), ("body".into(), 0, None));
}

#[test]
fn trailers_of_a_guarded_request_reach_the_upstream_though_they_were_not_announced() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&post("/payments").key("k").chunked(&["body"], &[("X-Sum", "42")]));
    let received = upstream.request(1);
    assert_eq!(received.trailers, [("x-sum".to_owned(), b"42".to_vec())]);
    assert_eq!(received.header("trailer").as_deref(), Some("x-sum"));
}

#[test]
fn only_a_caller_that_takes_trailers_has_the_upstream_send_them() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&get("/elsewhere").header("TE", "gzip, trailers").header("Connection", "TE"));
    gateway.ask(&get("/elsewhere").header("TE", "gzip").header("Connection", "TE"));
    let te = |number| upstream.request(number).header("te");
    assert_eq!((te(1).as_deref(), te(2)), (Some("trailers"), None));
    assert_eq!(upstream.request(1).header("connection").as_deref(), Some("te"));
}

#[test]
fn an_answer_without_a_date_gets_one_and_a_date_that_came_stays() {
    let dated = Reply::answer(200).header("Date", "Sun, 06 Nov 1994 08:49:37 GMT").header("Server", "own/1");
    let upstream = Upstream::in_turn([Reply::answer(200).body("b"), dated.body("b")]);
    let gateway = GatewayPlan::before(&upstream).start();
    let undated = gateway.ask(&get("/elsewhere"));
    assert!(undated.header("date").is_some() && undated.header("server").is_none());
    let dated = gateway.ask(&get("/elsewhere"));
    assert_eq!(dated.header("date").as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(dated.header("server").as_deref(), Some("own/1"));
}

#[test]
fn a_request_that_goes_in_circles_is_stopped() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let circling = |hops: usize| vec!["1.1 onceway"; hops].join(", ");
    for ask in [get("/elsewhere"), post("/payments").key("k")] {
        let answer = gateway.ask(&ask.clone().header("Via", circling(9)));
        assert_eq!(answer.problem(), (508, "loop-detected".into()));
        assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=proxy_loop_detected"));
        assert_eq!(gateway.ask(&ask.header("Via", circling(8))).status, 201);
    }
}

#[test]
fn a_trace_is_not_reflected_and_shows_no_credentials() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let answer = gateway.ask(&ask("TRACE", "/elsewhere").caller("Basic secret"));
    assert_eq!(answer.problem(), (405, "method-not-supported".into()));
    assert!(answer.header("allow").is_some() && !answer.text().contains("secret"));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_count_of_hops_that_is_none_is_refused() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for count in ["x", "-1", "+1", "1, 2"] {
        let answer = gateway.ask(&ask("OPTIONS", "/elsewhere").header("Max-Forwards", count));
        assert_eq!(answer.problem(), (400, "malformed-request".into()), "{count}");
    }
    assert_eq!(upstream.executions(), 0);
    assert_eq!(gateway.ask(&get("/elsewhere").header("Max-Forwards", "0")).status, 201);
}

#[test]
fn an_expectation_is_met_here_or_refused_and_never_forwarded() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for ask in [post("/elsewhere"), post("/payments").key("k")] {
        let mut client = gateway.client();
        client.send_head(&ask.clone().header("Expect", "100-Continue"));
        assert_eq!(client.read_head().status(), 100);
        assert_eq!(client.say(b"amount=100").read().status, 201);
        let unknown = gateway.ask(&ask.header("Expect", "wonders"));
        assert_eq!(unknown.problem(), (417, "expectation-failed".into()));
    }
    for number in [1, 2] {
        assert_eq!(upstream.request(number).header("expect"), None);
    }
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn no_body_is_invited_for_an_upstream_that_is_not_there() {
    let nobody = crate::harness::Unlistened::port();
    let gateway = GatewayPlan::before_url(&nobody.url()).start();
    let mut client = gateway.client();
    client.send_head(&post("/elsewhere").header("Expect", "100-continue"));
    assert_eq!(client.read_head().status(), 502);
}

#[test]
fn conditions_and_ranges_pass_untouched_and_so_do_their_answers() {
    let reply =
        Reply::answer(206).header("Content-Range", "bytes 0-1/9").header("ETag", "W/\"1\"").body("ab");
    let upstream = Upstream::always(reply);
    let gateway = GatewayPlan::before(&upstream).start();
    let conditions = [("Range", "bytes=0-1"), ("If-Range", "\"1\""), ("If-None-Match", "\"2\", *")];
    let answer =
        gateway.ask(&conditions.iter().fold(get("/file"), |ask, (name, value)| ask.header(name, value)));
    assert_eq!((answer.status, answer.header("content-range").as_deref()), (206, Some("bytes 0-1/9")));
    for (name, value) in conditions {
        assert_eq!(upstream.request(1).header(name).as_deref(), Some(value));
    }
}

#[test]
fn an_answer_that_has_no_body_by_its_status_is_passed_on_without_one() {
    for status in [204, 304] {
        let upstream = Upstream::always(Reply::answer(status).header("ETag", "\"1\"").end_of_head());
        let gateway = GatewayPlan::before(&upstream).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            let answer = client.send(&get("/file")).read();
            assert_eq!((answer.status, answer.header("etag").as_deref()), (status, Some("\"1\"")));
            assert_eq!((answer.header("transfer-encoding"), answer.header("content-length")), (None, None));
        }
    }
}

#[test]
fn the_upstream_is_told_in_both_spellings_that_agree() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("forwarded_fields = \"both\"").start();
    let came =
        post("/payments").header("X-Forwarded-For", "2001:db8::1").header("X-Forwarded-Proto", "https");
    for (number, ask) in [(1, came.clone().key("k")), (2, came)] {
        gateway.ask(&ask);
        let received = upstream.request(number);
        assert_eq!(received.header("x-forwarded-for").as_deref(), Some("2001:db8::1, 127.0.0.1"));
        let told = "for=\"[2001:db8::1]\";proto=https, for=127.0.0.1;host=api.test;proto=http";
        assert_eq!(received.header("forwarded").as_deref(), Some(told));
    }
}

#[test]
fn where_a_request_came_from_travels_as_it_is_when_left_alone() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("forwarded = \"leave\"").start();
    gateway.ask(&get("/elsewhere").header("X-Forwarded-For", "192.0.2.1").header("Forwarded", "what=ever"));
    gateway.ask(&get("/elsewhere"));
    let (told, untold) = (upstream.request(1), upstream.request(2));
    assert_eq!(told.header("x-forwarded-for").as_deref(), Some("192.0.2.1"));
    assert_eq!(told.header("forwarded").as_deref(), Some("what=ever"));
    assert_eq!((untold.header("x-forwarded-for"), untold.header("x-forwarded-host")), (None, None));
}

#[test]
fn no_spelling_of_the_callers_address_survives_where_it_is_made_anew() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("forwarded = \"replace\"").start();
    let names = [
        "X-Real-IP",
        "X_Forwarded_For",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "True-Client-IP",
        "Forwarded",
    ];
    gateway.ask(&names.iter().fold(get("/elsewhere"), |ask, name| ask.header(name, "lie")));
    let received = upstream.request(1);
    assert!(!String::from_utf8_lossy(&received.raw).contains("lie"), "{received:?}");
    assert_eq!(received.header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
}

#[test]
fn an_asterisk_reaches_the_upstream_as_it_is_below_whatever_path() {
    let upstream = Upstream::of_payments();
    let url = format!("{}/base", upstream.url());
    let gateway = GatewayPlan::before_url(&url).start();
    gateway.ask(&ask("OPTIONS", "*"));
    gateway.ask(&ask("OPTIONS", "/x"));
    assert_eq!((upstream.request(1).target, upstream.request(2).target), ("*".into(), "/base/x".into()));
}
