//! What a caller can learn, take or forge of another's.

use std::io::{ErrorKind, Read as _, Write as _};

use crate::harness::certificates::Authority;
use crate::harness::{Ask, GatewayPlan, Upstream, post};

#[test]
fn a_scope_that_connection_would_keep_from_the_upstream_is_refused() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).policy("scope = [\"header:X-Account\"]");
    let gateway = plan.start();
    let stripped = post("/payments").key("k").header("X-Account", "alice").header("Connection", "x-account");
    assert_eq!(gateway.ask(&stripped).problem(), (400, "scope-missing".into()));
    assert_eq!(upstream.executions(), 0);
    let whole = stripped.without_header("Connection");
    assert_eq!(gateway.ask(&whole).word().as_deref(), Some("executed"));
    assert_eq!(upstream.request(1).header("x-account").as_deref(), Some("alice"));
}

#[test]
fn a_caller_is_told_the_same_whether_or_not_another_has_used_its_key() {
    let upstream = Upstream::of_payments();
    let gateway = GatewayPlan::before(&upstream).start();
    for body in ["amount=100", "amount=1"] {
        let used = post("/payments").key(&format!("used-{body}"));
        gateway.ask(&used.clone().caller("Bearer alice"));
        let told = |ask: &Ask| {
            let answer = gateway.ask(&ask.clone().caller("Bearer mallory").body(body));
            let names: Vec<String> = answer.lines.iter().map(|(name, _)| name.clone()).collect();
            (answer.status, answer.word(), names)
        };
        let (of_used, of_fresh) = (told(&used), told(&post("/payments").key(&format!("fresh-{body}"))));
        assert_eq!(of_used, of_fresh);
        assert_eq!(of_used.1.as_deref(), Some("executed"));
    }
}

#[test]
fn an_open_connection_of_a_caller_ends_when_its_authority_is_taken_away() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let upstream = Upstream::of_payments();
    let vouched_by = |asking: &str| {
        let plan = GatewayPlan::before(&upstream).policy("scope = [\"client-cert\"]");
        // A client that does not answer is cut off after this.
        let plan = plan.server("drain_timeout = \"1s\"");
        plan.server(&format!("{}\n{asking}", authority.listener_lines()))
    };
    let gateway = vouched_by(&authority.asking_line()).start();
    let ann = authority.stranger().showing(&authority.caller("ann"));
    for protocol in ["http/1.1", "h2"] {
        assert!(gateway.reload(&vouched_by(&authority.asking_line())));
        let mut open = ann.clone().offering(&[protocol]).connect(gateway.listen_addr()).unwrap();
        if protocol == "h2" {
            open.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        }
        assert!(gateway.reload(&vouched_by(&other.asking_line())));
        // Ends by itself, whether or not in order: nothing is asked on it any more.
        let ended = open.read_to_end(&mut Vec::new());
        let is_patience_over = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!is_patience_over, "{protocol}");
    }
}

#[test]
fn a_certificate_that_a_field_tells_is_none() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::of_payments());
    let lines = format!("{}\n{}", authority.listener_lines(), authority.asking_line());
    let plan = GatewayPlan::before(&upstream).server(&lines).server("tls_client_certificate = \"optional\"");
    let plan = plan.policy("scope = [\"client-cert\"]\nscope_missing = \"reject\"");
    let gateway = plan.start();
    let pem = authority.caller("ann").pem().replace('\n', "%0A");
    for name in
        ["Client-Cert", "X-Client-Cert", "X-SSL-Client-Cert", "X-Forwarded-Client-Cert", "X-SSL-Client-S-DN"]
    {
        let ask = format!(
            "POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n{name}: {pem}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let told = authority.stranger().say(gateway.listen_addr(), ask.as_bytes()).unwrap();
        assert!(told.starts_with("HTTP/1.1 400") && told.contains("scope-missing"), "{name}: {told}");
    }
    assert_eq!(upstream.executions(), 0);
}

#[test]
fn a_request_goes_to_no_host_that_its_target_or_a_field_names() {
    let (upstream, other) = (Upstream::of_payments(), Upstream::of_payments());
    let gateway = GatewayPlan::before(&upstream).start();
    let elsewhere = other.authority();
    let named = |ask: Ask| {
        ask.without_header("Host").header("Host", &elsewhere).header("X-Forwarded-Host", &elsewhere)
    };
    let asks = [
        post(&format!("http://{elsewhere}/payments")).key("one"),
        post(&format!("http://{elsewhere}/elsewhere")),
        post("/payments").key("two"),
        post("/elsewhere").header("X-Original-URL", format!("http://{elsewhere}/")),
    ];
    for ask in asks {
        assert_eq!(gateway.ask(&named(ask)).status, 201);
    }
    assert_eq!((upstream.executions(), other.executions()), (4, 0));
}
