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
