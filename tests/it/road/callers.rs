//! Who is asking, and for what: scopes and fingerprints.

use crate::harness::{Ask, Gateway, GatewayPlan, Reply, Upstream, ask, post};

/// Two requests that must be one operation.
fn expect_same(gateway: &Gateway, one: &Ask, other: &Ask) {
    let (first, second) = (gateway.ask(one), gateway.ask(other));
    assert_eq!(first.word().as_deref(), Some("executed"), "{}", first.shown());
    assert_eq!(second.word().as_deref(), Some("replayed"), "{}", second.shown());
    assert_eq!(first.text(), second.text());
}

/// Two requests of one key that must not be taken for each other.
fn expect_mismatch(gateway: &Gateway, one: &Ask, other: &Ask) {
    assert_eq!(gateway.ask(one).word().as_deref(), Some("executed"));
    assert_eq!(gateway.ask(other).problem(), (422, "key-reused".into()));
}

#[test]
fn callers_with_the_same_key_and_body_are_served_apart_and_never_see_each_others_answers() {
    let upstream = Upstream::by(|request| {
        Reply::answer(201).body(format!("for {}", request.header("authorization").unwrap_or_default()))
    });
    let gateway = GatewayPlan::before(&upstream).start();
    for round in ["executed", "replayed"] {
        for caller in ["Bearer alice", "Bearer bob", "Basic Ym9i"] {
            let answer = gateway.ask(&post("/payments").key("k").caller(caller));
            assert_eq!((answer.text(), answer.word().as_deref()), (format!("for {caller}"), Some(round)));
        }
    }
    assert_eq!(upstream.executions_of("k"), 3);
}

#[test]
fn callers_of_the_same_key_do_not_even_learn_that_it_is_in_use() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&post("/payments").key("k").caller("a"));
    let other = gateway.ask(&post("/payments").key("k").caller("b").body("another body"));
    assert_eq!(other.word().as_deref(), Some("executed"));
}

#[test]
fn a_caller_without_credentials_is_another_than_one_with_empty_ones() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    gateway.ask(&post("/payments").key("k"));
    assert_eq!(gateway.ask(&post("/payments").key("k").caller("")).word().as_deref(), Some("executed"));
    assert_eq!(gateway.ask(&post("/payments").key("k")).word().as_deref(), Some("replayed"));
}

#[test]
fn a_shared_space_is_shared_by_all_callers() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("scope = []").start();
    expect_same(&gateway, &post("/payments").key("k").caller("a"), &post("/payments").key("k").caller("b"));
}

#[test]
fn a_scope_of_several_headers_needs_all_of_them_to_agree() {
    let upstream = Upstream::of_payments();
    let scope = "scope = [\"header:X-Account\", \"header:X-User\"]";
    let gateway = GatewayPlan::before(&upstream).policy(scope).start();
    let of = |account, user| post("/payments").key("k").header("X-Account", account).header("X-User", user);
    expect_same(&gateway, &of("1", "a").caller("old token"), &of("1", "a").caller("new token"));
    for other in [of("1", "b"), of("2", "a"), of("1a", ""), of("", "1a"), of("a", "1")] {
        assert_eq!(gateway.ask(&other).word().as_deref(), Some("executed"));
    }
    assert_eq!(upstream.executions(), 6);
}

#[test]
fn a_key_is_kept_apart_by_no_more_than_the_scope() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).route("/refunds", "").start();
    // The same key on another path of the same caller is a reuse, not a new operation.
    expect_mismatch(&gateway, &post("/payments").key("k"), &post("/refunds").key("k"));
}

#[test]
fn method_path_query_content_type_and_body_make_another_request() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .without_routes()
        .route("/{*rest}", "methods = [\"POST\", \"PATCH\"]")
        .start();
    let kind = |value| post("/payments").header("Content-Type", value);
    for (number, (one, other)) in (1..).zip([
        (post("/payments"), ask("PATCH", "/payments").body("amount=100")),
        (post("/payments"), post("/refunds")),
        (post("/payments?a=1&b=2"), post("/payments?b=2&a=1")),
        (post("/payments"), post("/payments?")),
        (kind("application/json"), kind("text/plain")),
        (kind("text/plain"), post("/payments")),
        (post("/payments").body("1"), post("/payments").body("2")),
        (post("/payments").body("1"), post("/payments").body("")),
    ]) {
        let key = format!("k{number}");
        expect_mismatch(&gateway, &one.key(&key), &other.key(&key));
    }
}

#[test]
fn what_changes_with_every_retry_does_not_make_another_request() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let tried_at = |time: &str| {
        let names = ["Date", "User-Agent", "Cookie", "traceparent", "X-Request-Id", "X-Forwarded-For"];
        names.iter().fold(post("/payments").key("k"), |ask, name| ask.header(name, time))
    };
    expect_same(&gateway, &tried_at("now"), &tried_at("later"));
}

#[test]
fn the_framing_of_a_body_does_not_make_another_request() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let whole = post("/payments").key("k").body("amount=100");
    expect_same(&gateway, &whole, &post("/payments").key("k").chunked(&["amo", "unt=1", "00"], &[]));
}

#[test]
fn chosen_headers_make_another_request() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("fingerprint_headers = [\"X-Currency\"]").start();
    let of = |currency| post("/payments").key("k").header("X-Currency", currency);
    expect_mismatch(&gateway, &of("EUR"), &of("USD"));
    assert_eq!(gateway.ask(&post("/payments").key("k")).problem().0, 422);
    assert_eq!(gateway.ask(&of("EUR")).word().as_deref(), Some("replayed"));
}

#[test]
fn bodies_are_compared_byte_by_byte_unless_the_route_says_otherwise() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream)
        .route("/json", "fingerprint_body = \"json\"")
        .route("/off", "fingerprint_body = \"off\"")
        .start();
    let of = |path: &str, key: &str, body: &str| post(path).key(key).body(body);
    let (one, reordered) = (r#"{"a":1,"b":[1,2]}"#, "{ \"b\": [1, 2],\n\"a\": 1 }");
    expect_mismatch(&gateway, &of("/payments", "1", one), &of("/payments", "1", reordered));
    expect_same(&gateway, &of("/json", "2", one), &of("/json", "2", reordered));
    expect_mismatch(&gateway, &of("/json", "3", one), &of("/json", "3", r#"{"a":1,"b":[2,1]}"#));
    expect_mismatch(&gateway, &of("/json", "4", "{\"a\":1"), &of("/json", "4", "{\"a\": 1"));
    expect_same(&gateway, &of("/off", "5", "one"), &of("/off", "5", "quite another"));
}

#[test]
fn callers_with_the_same_key_at_the_same_moment_each_get_their_own_answer() {
    let upstream = Upstream::by(|request| Reply::answer(201).body(request.header("authorization").unwrap()));
    let gateway = GatewayPlan::before(&upstream).policy("in_flight = \"wait\"").start();
    let of = |number: usize| format!("Bearer {}", number % 50);
    let ask = |number| post("/payments").key("k").caller(&of(number));
    let mut clients: Vec<_> = (0..200).map(|number| gateway.send(&ask(number))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.read().text(), of(number));
    }
    assert_eq!(upstream.executions_of("k"), 50);
}
