//! The operators' listener over TLS.

use std::sync::Arc;

use serde_json::{Value, json};

use super::office::{Files, Office, TOKEN, question};
use crate::harness::certificates::{Authority, TlsCaller};
use crate::harness::{Gateway, GatewayPlan, Upstream, post, until};

fn secured(authority: &Authority, files: &Files, upstream: &Upstream) -> Gateway {
    let lines = [authority.listener_lines(), authority.asking_line(), files.lines()].join("\n");
    let gateway = GatewayPlan::before(upstream).admin(&lines).launch();
    until("it is ready", || say(&authority.stranger(), &gateway, "GET /readyz").starts_with("HTTP/1.1 200"));
    gateway.ask(&post("/payments").key("k"));
    gateway
}

fn say(caller: &TlsCaller, gateway: &Gateway, start: &str) -> String {
    let request = format!(
        "{start} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    );
    caller.say(gateway.admin_addr(), request.as_bytes()).unwrap_or_default()
}

#[test]
fn whoever_shows_a_certificate_is_named_in_the_audit_log() {
    let (authority, files, upstream) = (Authority::new("ca"), Files::new(), Upstream::of_payments());
    let gateway = secured(&authority, &files, &upstream);
    let ann = authority.stranger().showing(&authority.caller("ann"));
    let listed = say(&ann, &gateway, "GET /v1/operations");
    let listed: Value = serde_json::from_str(listed.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let name = listed["operations"][0]["ref"].as_str().unwrap();
    assert!(say(&ann, &gateway, &format!("DELETE /v1/operations/{name}")).starts_with("HTTP/1.1 204"));
    assert_eq!(files.audited()[0]["who"]["certificate"], "CN=ann");
}

#[test]
fn a_certificate_of_another_authority_is_no_certificate() {
    let (authority, other, files) = (Authority::new("ca"), Authority::new("other"), Files::new());
    let gateway = secured(&authority, &files, &Upstream::of_payments());
    let stranger = authority.stranger().showing(&other.caller("ann"));
    assert_eq!(say(&stranger, &gateway, "GET /livez"), "");
    assert!(say(&authority.stranger(), &gateway, "GET /livez").starts_with("HTTP/1.1 200"));
}

#[test]
fn the_key_of_a_caller_with_a_certificate_is_found_by_that_certificate() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::of_payments());
    let lines = [authority.listener_lines(), authority.asking_line()].join("\n");
    let plan = GatewayPlan::before(&upstream).server(&lines).policy("scope = [\"client-cert\"]");
    let office = Office::of(&plan);
    let signed = authority.caller("ann");
    let payment = "POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let paid = authority.stranger().showing(&signed).say(office.gateway.listen_addr(), payment.as_bytes());
    assert!(paid.unwrap().starts_with("HTTP/1.1 201"));
    let find = |certificate: &str| {
        let asked = json!({ "key": "k", "scope": { "client-cert": certificate } });
        let answer = office.ask(&question("/v1/operations/find", &asked));
        serde_json::from_slice::<Value>(&answer.body).unwrap()
    };
    assert_eq!(find(&signed.pem())["found"][0]["operation"]["state"], "done");
    assert_eq!(find(&authority.caller("bob").pem())["found"][0]["operation"], Value::Null);
    assert_eq!(find("no certificate")["code"], "request-invalid");
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let gateway = secured(&authority, &files, &Upstream::of_payments());
    let config = Arc::new(authority.stranger().config());
    authority.renew("other.test");
    gateway.signal("HUP");
    until("the new certificate is shown", || {
        TlsCaller::connect_as(&config, gateway.admin_addr(), "other.test").is_ok()
    });
}
