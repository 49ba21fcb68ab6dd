//! Connections before their first request: PROXY headers, how many there may be, and who is turned away.

use crate::harness::{Ask, Client, Gateway, GatewayPlan, Upstream, get, post, until};

const FOUR: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 2, 0x1f, 0x90, 0, 80];

fn version_2(command: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11][..], &length, rest].concat()
}

/// Asks behind a header; whether there was an answer.
fn ask_behind(gateway: &Gateway, header: &[u8], ask: &Ask) -> Option<u16> {
    let mut client = gateway.client();
    client.wire().write(&[header, &ask.head_bytes(), &ask.body_bytes()].concat());
    client.try_read().map(|answer| answer.status)
}

fn behind_a_balancer(upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).server("proxy_protocol = true")
}

#[test]
fn a_proxy_header_of_either_version_tells_who_asks() {
    let upstream = Upstream::of_payments();
    let gateway = behind_a_balancer(&upstream).start();
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.2 8080 80\r\n";
    for (number, header) in (1..).zip([&line[..], &version_2(0x21, &FOUR)]) {
        assert_eq!(ask_behind(&gateway, header, &get("/elsewhere")), Some(201));
        let told = upstream.request(number).header("x-forwarded-for");
        assert_eq!(told.as_deref(), Some("192.0.2.7"));
    }
    until("the log tells it", || gateway.log().contains("192.0.2.7"));
}

#[test]
fn a_proxy_header_that_names_nobody_leaves_the_peer() {
    let upstream = Upstream::of_payments();
    let gateway = behind_a_balancer(&upstream).start();
    for (number, header) in (1..).zip([b"PROXY UNKNOWN\r\n".to_vec(), version_2(0x20, &[])]) {
        assert_eq!(ask_behind(&gateway, &header, &get("/elsewhere")), Some(201));
        assert_eq!(upstream.request(number).header("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    }
}

#[test]
fn a_connection_without_a_sound_proxy_header_in_time_is_closed_and_told_in_the_log() {
    let upstream = Upstream::of_payments();
    let gateway = behind_a_balancer(&upstream).server("header_timeout = \"300ms\"").start();
    for header in [&b""[..], b"PROXY TCP4 192.0.2.7\r\n", b"PROXY TCP5 a b 1 2\r\n"] {
        assert_eq!(ask_behind(&gateway, header, &get("/elsewhere")), None);
    }
    let mut slow = gateway.client();
    slow.say(b"PROXY TCP4 192.0");
    assert!(slow.try_read().is_none());
    until("the log tells it", || gateway.log().contains("no PROXY header"));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_proxy_header_of_a_peer_that_is_not_trusted_ends_the_connection() {
    let upstream = Upstream::of_payments();
    let gateway = behind_a_balancer(&upstream).server("trusted_peers = [\"192.0.2.0/24\"]").start();
    assert_eq!(ask_behind(&gateway, b"PROXY TCP4 192.0.2.7 ::1 1 2\r\n", &get("/elsewhere")), None);
    until("the log tells it", || gateway.log().contains("trusted_peers"));
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_proxy_header_that_nobody_expects_is_a_bad_request() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for header in [b"PROXY TCP4 192.0.2.7 192.0.2.2 8080 80\r\n".to_vec(), version_2(0x21, &FOUR)] {
        assert!(ask_behind(&gateway, &header, &get("/elsewhere")).is_none_or(|status| status == 400));
    }
    assert_eq!(upstream.executions(), 0);
}

/// Whether a connection is served.
fn is_served(client: &mut Client) -> bool {
    client.wire().write(&get("/elsewhere").head_bytes());
    client.try_read().is_some_and(|answer| answer.status == 201)
}

#[test]
fn one_connection_too_many_is_turned_away_at_once_and_its_place_is_free_when_another_ends() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("connections_max = 2").start();
    let mut served = [gateway.client(), gateway.client()];
    assert!(served.iter_mut().all(is_served));
    until("one too many is turned away", || !is_served(&mut gateway.client()));
    assert!(served.iter_mut().all(is_served), "the others are not held up");
    drop(served);
    until("there is room again", || is_served(&mut gateway.client()));
    assert!(gateway.log().contains("connections_max"));
}

#[test]
fn a_peer_has_as_many_connections_as_it_may_and_others_are_served() {
    let upstream = Upstream::of_payments();
    let gateway = behind_a_balancer(&upstream).server("connections_per_peer_max = 1").start();
    let header = |last| format!("PROXY TCP4 192.0.2.{last} 192.0.2.2 8080 80\r\n").into_bytes();
    let connect = |last| {
        let mut client = gateway.client();
        client.say(&header(last));
        client
    };
    let mut first = connect(1);
    assert!(is_served(&mut first));
    let mut second = connect(1);
    second.wire().write(&get("/elsewhere").head_bytes());
    assert_eq!(second.try_read().map(|answer| answer.status), Some(503));
    assert!(is_served(&mut connect(2)) && is_served(&mut first));
    assert!(gateway.log().contains("connections_per_peer_max"));
}

#[test]
fn a_connection_that_asks_for_nothing_is_closed() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).server("header_timeout = \"200ms\"").start();
    let mut silent = gateway.client();
    assert!(silent.wire().is_at_end());
    let mut half = gateway.client();
    half.say(b"PRI * HTTP/2.0\r\n");
    half.try_read();
    assert!(half.wire().is_at_end());
}

#[test]
fn an_answer_given_before_the_request_was_read_whole_is_not_lost() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).policy("request_body_max = \"1KiB\"").start();
    let large = vec![b'x'; 4_000_000];
    for _ in 0..10 {
        let mut client = gateway.client();
        client.send_head(&post("/payments").key("k").body(&large));
        // The gateway may stop taking it at any time.
        client.wire().write(&large[..100_000]);
        assert_eq!(client.read().status, 413);
    }
}
