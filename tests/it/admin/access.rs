//! Who may ask what of the operators' listener, and in which form.

use serde_json::json;

use super::office::{Files, Office, TOKEN, asked, failing_once, here, order, question, read, with_token};
use crate::harness::{Client, GatewayPlan, Upstream, ask, get, until};

const SOME: &str = "/v1/operations/0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn probes_and_metrics_are_for_everybody_under_any_name() {
    let gateway = GatewayPlan::before(&Upstream::of_payments()).start();
    for (path, begins) in [("/livez", "alive"), ("/readyz", "ready"), ("/metrics", "#")] {
        let answer = asked(&gateway, &get(path));
        assert_eq!(answer.status, 200, "{}", answer.shown());
        assert!(answer.text().starts_with(begins), "{}", answer.shown());
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
    }
}

#[test]
fn under_a_name_that_is_not_its_own_the_operations_api_is_not_served() {
    let plan = GatewayPlan::before(&Upstream::of_payments()).admin("host_names = [\"onceway.test\"]");
    let gateway = plan.start();
    for path in ["/v1/status", "/v1/operations", SOME] {
        assert_eq!(asked(&gateway, &get(path)).problem(), (403, "host-unknown".into()), "{path}");
    }
    let own = get("/v1/status").without_header("Host").header("Host", "Onceway.test:8081");
    assert_eq!(asked(&gateway, &own).status, 200);
}

#[test]
fn a_change_needs_the_token_before_anything_of_it_is_looked_at() {
    let office = Office::before(&Upstream::of_payments());
    let changes = [
        question(&format!("{SOME}/resolve"), &json!({})),
        here("POST", &format!("{SOME}/resolve")).body("no json"),
        here("DELETE", SOME),
    ];
    for change in changes {
        let missing = office.ask(&change);
        assert_eq!(missing.problem(), (401, "token-missing".into()));
        assert_eq!(missing.header("www-authenticate").as_deref(), Some("Bearer realm=\"onceway\""));
        let wrong = office.ask(&change.clone().header("Authorization", format!("Bearer {TOKEN}x")));
        assert_eq!(wrong.problem(), (401, "token-wrong".into()));
        assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"));
    }
    until("wrong tokens are logged", || office.gateway.log().contains("an operator showed a wrong token"));
    assert!(!office.gateway.log().contains(TOKEN));
    assert!(office.files.audited().is_empty());
}

#[test]
fn without_a_token_file_nobody_changes_anything() {
    let gateway = GatewayPlan::before(&Upstream::of_payments()).start();
    let told = asked(&gateway, &with_token(here("DELETE", SOME)));
    assert_eq!(told.problem(), (403, "changes-off".into()));
}

#[test]
fn another_token_holds_after_a_reload() {
    let (files, upstream) = (Files::new(), Upstream::of_payments());
    let plan = GatewayPlan::before(&upstream).admin(&files.lines());
    let gateway = plan.start();
    let forget = |token: &str| {
        let forget = here("DELETE", SOME).header("Authorization", format!("Bearer {token}"));
        asked(&gateway, &forget).problem().1
    };
    assert_eq!(forget(TOKEN), "operation-not-found");
    files.change_token("another-token-altogether");
    assert!(gateway.reload(&plan));
    assert_eq!([forget(TOKEN), forget("another-token-altogether")], ["token-wrong", "operation-not-found"]);
}

#[test]
fn what_is_not_there_is_told_and_so_is_which_methods_are() {
    let office = Office::before(&Upstream::of_payments());
    for path in ["/v1", "/v1/operations/", "/livez/", "/v2/status", "/v1/operations/a/b/c"] {
        let told = office.ask(&read(path));
        assert_eq!(told.status, 404, "{path}: {}", told.shown());
    }
    for (method, path, allowed) in [
        ("POST", "/livez", "GET, HEAD"),
        ("PUT", "/v1/operations", "GET, HEAD"),
        ("OPTIONS", SOME, "GET, HEAD, DELETE"),
        ("GET", "/v1/operations/find", "POST"),
        ("DELETE", "/metrics", "GET, HEAD"),
    ] {
        let told = office.ask(&here(method, path));
        assert_eq!(told.problem(), (405, "method-not-supported".into()), "{method} {path}");
        assert_eq!(told.header("allow").as_deref(), Some(allowed));
    }
}

#[test]
fn head_is_answered_as_get_is_without_the_body() {
    let office = Office::before(&Upstream::of_payments());
    let mut client = Client::connect(office.gateway.admin_addr());
    for path in ["/livez", "/v1/operations", SOME] {
        let got = office.ask(&read(path));
        let head = client.send(&here("HEAD", path)).read();
        assert_eq!((head.status, &head.body[..]), (got.status, &b""[..]), "{path}");
        assert_eq!(head.header("content-length").unwrap(), got.body.len().to_string());
    }
}

#[test]
fn a_body_is_json_and_has_a_bound() {
    let office = Office::before(&failing_once());
    let find = here("POST", "/v1/operations/find");
    let as_form = find.clone().header("Content-Type", "application/x-www-form-urlencoded").body("key=k");
    assert_eq!(office.ask(&as_form).problem(), (415, "media-type-not-supported".into()));
    let large = find.header("Content-Type", "application/json").body(vec![b' '; 64 * 1024 + 1]);
    assert_eq!(office.ask(&large).problem(), (413, "request-too-large".into()));
    let resolve = here("POST", &format!("{SOME}/resolve")).header("Content-Type", "application/json");
    let mut client = Client::connect(office.gateway.admin_addr());
    let larger = with_token(resolve).header("Content-Length", (2 * 1024 * 1024 + 1).to_string());
    assert_eq!(client.send_head(&larger).read().problem(), (413, "request-too-large".into()));
    assert!(client.wire().is_at_end());
}

#[test]
fn whoever_is_refused_while_still_sending_hears_why() {
    let office = Office::before(&Upstream::of_payments());
    let large = question(&format!("{SOME}/resolve"), &json!("a".repeat(1_000_000)));
    for _ in 0..5 {
        assert_eq!(office.ask(&large).problem(), (401, "token-missing".into()));
    }
}

#[test]
fn what_is_wrong_with_a_question_is_told_by_its_member_and_never_repeated() {
    let office = Office::before(&Upstream::of_payments());
    for (ask, member) in [
        (read("/v1/operations?state=secret"), "state:"),
        (read("/v1/operations?limit=501"), "limit:"),
        (read("/v1/operations?limit=0"), "limit:"),
        (read("/v1/operations?cursor=*secret"), "cursor:"),
        (read("/v1/operations?secret=1"), "secret:"),
        (read("/v1/operations/secret"), "ref:"),
        (question("/v1/operations/find", &json!({ "route": "/payments" })), "key:"),
        (question("/v1/operations/find", &json!({ "key": "a,secret" })), "key:"),
        (question("/v1/operations/find", &json!({ "key": "k", "route": "/secret" })), "route:"),
        (
            question("/v1/operations/find", &json!({ "key": "k", "scope": { "header:x": "secret" } })),
            "scope:",
        ),
        (order(&format!("{SOME}/resolve"), &json!({ "outcome": "secret" })), "expected_attempt:"),
        (with_token(here("DELETE", &format!("{SOME}?expected_attempt=secret"))), "expected_attempt:"),
    ] {
        let told = office.ask(&ask);
        let document = told.document();
        assert_eq!((told.status, document["code"].as_str()), (400, Some("request-invalid")));
        let detail = document["detail"].as_str().unwrap();
        assert!(
            detail.starts_with(member) && !detail.trim_start_matches(member).contains("secret"),
            "{detail}"
        );
    }
}

#[test]
fn a_name_that_is_none_of_this_machine_is_refused_in_the_target_too() {
    let office = Office::before(&Upstream::of_payments());
    let absolute =
        ask("GET", "http://evil.test/v1/status").without_header("Host").header("Host", "localhost");
    assert_eq!(office.ask(&absolute).problem(), (403, "host-unknown".into()));
}
