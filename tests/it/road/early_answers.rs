//! A request that is answered before its body has come: what the answer says of the connection is so.

use crate::harness::{Ask, Client, Gateway, GatewayPlan, Unlistened, Upstream, ask, post};

/// Refuses by what a head says, and by what a body is.
fn refusing(upstream: &Upstream) -> Gateway {
    GatewayPlan::before(upstream)
        .policy("request_body_max = \"1KiB\"")
        .policy("methods = [\"POST\", \"PUT\"]")
        .route("/keyed", "key = \"required\"")
        .route("/scoped", "scope_missing = \"reject\"")
        .route("/shared/{*rest}", "methods = [\"POST\"]")
        .start()
}

/// Requests that are refused by their heads, and the status of each.
fn refused_by_their_heads() -> [(Ask, u16); 8] {
    let loops = "1.1 onceway, ".repeat(20) + "1.1 other";
    [
        (post("/payments").key("a\tb"), 400),
        (post("/keyed"), 400),
        (post("/scoped").key("k"), 400),
        (post("/payments/..%2fpayments").key("k"), 400),
        (post("/payments").key("k").header("Expect", "the-best"), 417),
        (post("/payments").key("k").body([b'x'; 1025]), 413),
        (post("/payments").key("k").header("Via", loops), 508),
        (ask("OPTIONS", "/payments").body("x").header("Max-Forwards", "0"), 204),
    ]
}

/// That the answer says of the connection what becomes of it: it ends.
fn expect_to_be_closed(mut client: Client, status: u16, what: &str) {
    let answer = client.read();
    assert_eq!(answer.status, status, "{what}: {}", answer.shown());
    assert_eq!(answer.header("connection").as_deref(), Some("close"), "{what}: {}", answer.shown());
    assert!(client.wire().is_at_end(), "{what}");
}

#[test]
fn an_answer_that_does_not_wait_for_a_body_says_that_the_connection_ends() {
    let upstream = Upstream::of_payments();
    let gateway = refusing(&upstream);
    for (ask, status) in refused_by_their_heads() {
        let expecting = ask.clone().header("Expect", "100-continue");
        for ask in [ask.clone(), ask.chunked(&["a", "b"], &[]), expecting] {
            let is_chunked = ask.head_bytes().windows(7).any(|bytes| bytes == b"chunked");
            // What is too large is not known of a body in chunks until it has come.
            if is_chunked && status == 413 {
                continue;
            }
            let mut client = gateway.client();
            client.send_head(&ask);
            expect_to_be_closed(client, status, &String::from_utf8_lossy(&ask.head_bytes()));
        }
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn an_answer_to_a_body_that_is_counted_too_large_says_that_the_connection_ends() {
    let upstream = Upstream::of_payments();
    let gateway = refusing(&upstream);
    let mut client = gateway.client();
    let chunk = "x".repeat(1000);
    client.send_head(&post("/payments").key("k").chunked(&[], &[]));
    client.say(format!("3e8\r\n{chunk}\r\n3e8\r\n{chunk}\r\n").as_bytes());
    expect_to_be_closed(client, 413, "two chunks of more");
}

#[test]
fn a_request_that_is_refused_with_its_body_leaves_its_connection_open() {
    let upstream = Upstream::of_payments();
    let gateway = refusing(&upstream);
    let mut client = gateway.client();
    for (ask, status) in refused_by_their_heads() {
        let answer = client.send(&ask).read();
        assert_eq!((answer.status, answer.header("connection")), (status, None), "{}", answer.shown());
    }
    assert_eq!(client.send(&post("/payments").key("k")).read().status, 201);
}

#[test]
fn a_pipelined_request_is_answered_after_one_that_is_refused_with_its_body() {
    let upstream = Upstream::of_payments();
    let gateway = refusing(&upstream);
    let mut client = gateway.client();
    let (refused, next) = (post("/keyed"), post("/payments").key("k"));
    let bytes = [refused.head_bytes(), refused.body_bytes(), next.head_bytes(), next.body_bytes()].concat();
    client.say(&bytes);
    assert_eq!(client.read().header("connection"), None);
    assert_eq!(client.read().status, 201);
}

#[test]
fn an_upstream_that_is_not_reached_ends_the_connection_of_a_body_that_has_not_come() {
    let unlistened = Unlistened::port();
    let gateway = GatewayPlan::before_url(&unlistened.url()).start();
    let mut client = gateway.client();
    client.send_head(&ask("PUT", "/elsewhere").body([b'x'; 5000]));
    expect_to_be_closed(client, 502, "nobody listens");
    let mut client = gateway.client();
    let answer = client.send(&ask("PUT", "/elsewhere").body("x")).read();
    assert_eq!((answer.status, answer.header("connection")), (502, None), "{}", answer.shown());
    assert_eq!(client.send(&ask("PUT", "/elsewhere").body("x")).read().status, 502);
}

#[test]
fn an_upstream_that_does_not_answer_ends_the_connection_of_a_body_that_has_not_come() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).upstream("response_timeout = \"200ms\"").start();
    let mut client = gateway.client();
    client.send_head(&ask("PUT", "/elsewhere").body([b'x'; 5000]));
    expect_to_be_closed(client, 504, "the body does not come");
}
