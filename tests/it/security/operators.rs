//! What somebody on the operators' network can reach.

use std::io::{Read as _, Write as _};

use serde_json::Value;

use crate::admin::office::{Files, TOKEN};
use crate::harness::certificates::{Authority, TlsCaller};
use crate::harness::{Answer, Ask, Client, Gateway, GatewayPlan, Upstream, ask, get, post, until};

fn read(target: &str) -> Ask {
    get(target).without_header("Host").header("Host", "localhost")
}

fn asked(gateway: &Gateway, ask: &Ask) -> Answer {
    Client::connect(gateway.admin_addr()).send(ask).read()
}

#[test]
fn whoever_comes_through_a_proxy_on_this_machine_is_no_operator() {
    let gateway = GatewayPlan::before(&Upstream::of_payments()).start();
    assert_eq!(asked(&gateway, &read("/v1/operations")).status, 200);
    for (name, value) in [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("Via", "1.1 edge"),
    ] {
        let told = asked(&gateway, &read("/v1/operations").header(name, value));
        assert_eq!(told.problem(), (403, "operators-only".into()), "{name}");
        assert_eq!(asked(&gateway, &read("/readyz").header(name, value)).status, 200, "{name}");
    }
}

#[test]
fn an_open_connection_of_an_operator_ends_when_its_authority_is_taken_away() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let upstream = Upstream::of_payments();
    let admitting = |asking: &str| {
        GatewayPlan::before(&upstream).admin(&format!("{}\n{asking}", authority.listener_lines()))
    };
    let gateway = admitting(&authority.asking_line()).launch();
    let ann = authority.stranger().showing(&authority.caller("ann"));
    let ask = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    until("it is ready", || said(&ann, &gateway, ask).starts_with("HTTP/1.1 200"));
    let mut open = ann.connect(gateway.admin_addr()).unwrap();
    open.write_all(ask).unwrap();
    let mut begun = [0; 12];
    open.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    assert!(gateway.reload(&admitting(&other.asking_line())));
    let mut rest = Vec::new();
    // Ends by itself: nothing is asked on it any more.
    open.read_to_end(&mut rest).unwrap();
    assert_eq!(said(&ann, &gateway, ask), "");
}

#[test]
fn the_reason_for_forgetting_a_key_need_not_stand_in_its_address() {
    let (files, upstream) = (Files::new(), Upstream::of_payments());
    let gateway = GatewayPlan::before(&upstream).admin(&files.lines()).start();
    gateway.ask(&post("/payments").key("k"));
    let listed = asked(&gateway, &read("/v1/operations"));
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    let path = format!("/v1/operations/{}", listed["operations"][0]["ref"].as_str().unwrap());
    let forget = |query: &str, body: &str| {
        let ask =
            ask("DELETE", &format!("{path}?{query}")).without_header("Host").header("Host", "localhost");
        let ask = ask.header("Authorization", format!("Bearer {TOKEN}"));
        asked(&gateway, &ask.header("Content-Type", "application/json").body(body)).status
    };
    assert_eq!(forget("reason=a", r#"{"reason":"b"}"#), 400);
    assert_eq!(forget("", r#"{"reasons":"b"}"#), 400);
    assert_eq!(forget("", r#"{"reason":"a test of ours"}"#), 204);
    assert_eq!(files.audited()[0]["reason"], "a test of ours");
}

/// What is answered on a connection of its own, that is told to close; nothing if there is no connection.
fn said(caller: &TlsCaller, gateway: &Gateway, ask: &[u8]) -> String {
    let ask = [&ask[..ask.len() - 2], b"Connection: close\r\n\r\n"].concat();
    caller.say(gateway.admin_addr(), &ask).unwrap_or_default()
}
