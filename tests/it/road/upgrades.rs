//! Connections that change their protocol: agreed to by both sides, then carried byte for byte.

use crate::harness::{Ask, Gate, GatewayPlan, Reply, Upstream, get, post, until};

fn opening() -> Ask {
    get("/socket").header("Connection", "keep-alive, Upgrade").header("Upgrade", "websocket")
}

fn switching() -> Reply {
    Reply::answer(101).header("Connection", "Upgrade").header("Upgrade", "websocket")
}

#[test]
fn bytes_that_come_with_the_heads_of_an_upgrade_are_not_lost() {
    let upstream = Upstream::always(switching().end_of_head().raw("from the service").echo());
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.client();
    client.say(&[opening().head_bytes(), b"from the caller".to_vec()].concat());
    assert_eq!(client.read_head().status(), 101);
    assert_eq!(client.wire().counted(16).data, b"from the service");
    assert_eq!(client.wire().counted(15).data, b"from the caller");
}

#[test]
fn the_handshake_of_a_websocket_passes_whole() {
    let reply = switching().header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upstream = Upstream::always(reply.header("Sec-WebSocket-Protocol", "chat").end_of_head().echo());
    let gateway = GatewayPlan::before(&upstream).start();
    let asked = [
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ];
    let mut client =
        gateway.send(&asked.iter().fold(opening(), |ask, (name, value)| ask.header(name, value)));
    let answer = client.read();
    assert_eq!((answer.status, answer.header("upgrade").as_deref()), (101, Some("websocket")));
    assert_eq!(answer.header("connection").as_deref(), Some("upgrade"));
    assert_eq!(answer.header("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let received = upstream.request(1);
    assert_eq!(received.header("connection").as_deref(), Some("upgrade"));
    for (name, value) in asked {
        assert_eq!(received.header(name).as_deref(), Some(value));
    }
}

#[test]
fn either_side_of_an_upgraded_connection_may_end_first() {
    let gate = Gate::shut();
    let upstream =
        Upstream::always(switching().end_of_head().await_end().wait(&gate).raw("last word").close());
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&opening());
    assert_eq!(client.read_head().status(), 101);
    client.say(b"done").finish_writing();
    gate.open();
    assert_eq!(client.wire().counted(9).data, b"last word");
    assert!(client.wire().is_at_end());
}

#[test]
fn the_end_of_the_service_ends_an_upgraded_connection() {
    let upstream = Upstream::always(switching().end_of_head().raw("bye").close());
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&opening());
    client.read_head();
    assert_eq!(client.wire().counted(3).data, b"bye");
    assert!(client.wire().is_at_end());
}

#[test]
fn a_caller_that_leaves_an_upgraded_connection_ends_it_for_the_service() {
    let upstream = Upstream::always(switching().end_of_head().await_end());
    let gateway = GatewayPlan::before(&upstream).start();
    let mut client = gateway.send(&opening());
    client.read_head();
    client.leave();
    until("the service's side has ended", || upstream.open_connections() == 0);
}

#[test]
fn an_upgraded_connection_outlives_the_limits_of_requests() {
    let limits = "header_timeout = \"100ms\"\nbody_timeout = \"100ms\"\nidle_timeout = \"100ms\"";
    let gate = Gate::shut();
    let upstream = Upstream::always(switching().end_of_head().wait(&gate).raw("late").echo());
    let gateway =
        GatewayPlan::before(&upstream).server(limits).upstream("response_timeout = \"100ms\"").start();
    let mut client = gateway.send(&opening());
    client.read_head();
    // Nothing tells that nothing happens: three times the limits is long enough to have been cut.
    std::thread::sleep(std::time::Duration::from_millis(300));
    gate.open();
    assert_eq!(client.wire().counted(4).data, b"late");
    client.say(b"still here");
    assert_eq!(client.wire().counted(10).data, b"still here");
}

#[test]
fn a_change_of_protocol_that_nobody_offered_is_no_answer() {
    let upstream = Upstream::always(switching().end_of_head().await_end());
    let gateway = GatewayPlan::before(&upstream).start();
    let other = get("/socket").header("Connection", "Upgrade").header("Upgrade", "chat");
    for ask in [get("/socket"), other, opening().without_header("Connection")] {
        assert_eq!(gateway.ask(&ask).problem(), (502, "outcome-unknown".into()));
    }
}

#[test]
fn an_offer_of_http_2_is_taken_out_of_an_upgrade_on_the_open_road() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    let offer =
        get("/elsewhere").header("Connection", "Upgrade, HTTP2-Settings").header("HTTP2-Settings", "AAM");
    gateway.ask(&offer.clone().header("Upgrade", "h2c"));
    gateway.ask(&offer.header("Upgrade", "websocket, h2c"));
    let (alone, beside) = (upstream.request(1), upstream.request(2));
    assert_eq!((alone.header("upgrade"), alone.header("connection")), (None, None));
    assert_eq!(beside.header("upgrade").as_deref(), Some("websocket"));
    assert_eq!(beside.header("http2-settings"), None);
}

#[test]
fn an_offer_in_http_1_0_is_passed_over_and_leaves_a_request_guarded() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("key = \"required\"").start();
    let mut client = gateway.client();
    client.say(
        b"POST /payments HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(client.read().problem(), (400, "key-missing".into()));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn an_answer_that_wants_another_protocol_says_which() {
    let wants = Reply::answer(426).header("Connection", "Upgrade").header("Upgrade", "websocket").body("no");
    let upstream = Upstream::always(wants);
    let gateway = GatewayPlan::before(&upstream).start();
    let answer = gateway.ask(&post("/elsewhere"));
    assert_eq!((answer.status, answer.header("upgrade").as_deref()), (426, Some("websocket")));
}
