//! `onceway keys` before a scripted operators' listener: what is asked of it, and what is made of its answers.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Ended, typed, typed_with};
use crate::harness::{Reply, Unlistened, Upstream};

pub(super) const REF: &str = "3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c3f0c";
pub(super) const ATTEMPT: &str = "6f1d2c3b-aaaa-4000-8000-000000000001";

/// An operation as the API tells it.
pub(super) fn operation(state: &str) -> Value {
    json!({
        "ref": REF, "state": state, "reason": (state == "unknown").then_some("response-timeout"),
        "route": "/payments", "attempt": ATTEMPT, "attempts": 1, "session": "a1b2c3d4-0000-4000-8000-000000000000",
        "opened_at": "2026-11-23T07:00:00.250Z", "settled_at": null, "expires_at": null,
        "status": (state == "done").then_some(201), "body_bytes": null,
    })
}

pub(super) fn answer(status: u16, body: &Value) -> Reply {
    Reply::answer(status).header("Content-Type", "application/json").body(body.to_string())
}

pub(super) fn problem(status: u16, code: &str, detail: &str) -> Reply {
    answer(
        status,
        &json!({ "type": "urn:x", "title": code, "status": status, "detail": detail, "code": code }),
    )
}

fn page(operations: usize, next: Option<&str>) -> Reply {
    let operations = vec![operation("unknown"); operations];
    answer(200, &json!({ "operations": operations, "next": next, "looked_through": 10 }))
}

/// Types `onceway keys …` to a gateway.
pub(super) fn keys(gateway: &Upstream, arguments: &[&str]) -> Ended {
    keys_with(gateway, arguments, "")
}

pub(super) fn keys_with(gateway: &Upstream, arguments: &[&str], input: &str) -> Ended {
    let url = gateway.url();
    typed_with(&[&["keys", "--admin", &url], arguments].concat(), &[], input)
}

#[test]
fn a_list_follows_cursors_until_there_are_no_more() {
    let gateway = Upstream::in_turn([page(1, Some("a/b+c")), page(0, Some("d")), page(1, None)]);
    let ended = keys(&gateway, &["list", "--state", "unknown", "--route", "/v1/{*rest}"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out.matches(REF).count(), 2, "{ended:?}");
    assert!(ended.out.ends_with("\n\n2 unknown operations; 30 records looked through\n"), "{ended:?}");
    let targets = gateway.targets();
    assert_eq!(targets[0], "/v1/operations?state=unknown&route=%2Fv1%2F%7B*rest%7D&limit=100");
    assert!(targets[1].ends_with("&cursor=a%2Fb%2Bc&limit=99"), "{targets:?}");
}

#[test]
fn a_list_ends_at_its_limit_and_says_how_to_go_on() {
    let gateway = Upstream::always(page(2, Some("more")));
    let ended = keys(&gateway, &["list", "--limit", "2"]);
    assert!(ended.out.contains("--cursor more"), "{ended:?}");
    assert_eq!(gateway.targets(), ["/v1/operations?limit=2"]);
}

#[test]
fn a_list_for_programs_is_one_document() {
    let gateway = Upstream::in_turn([page(1, Some("a")), page(1, Some("b"))]);
    let ended = keys(&gateway, &["list", "--limit", "2", "--json"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let operation = operation("unknown");
    let expected = json!({ "operations": [operation, operation], "next": "b", "looked_through": 20 });
    assert_eq!(document, expected);
}

#[test]
fn a_list_of_nothing_says_so() {
    let gateway = Upstream::always(page(0, None));
    let ended = keys(&gateway, &["list", "--state", "unknown"]);
    assert_eq!((ended.code, &*ended.out), (Some(0), "no unknown operations; 10 records looked through\n"));
}

#[test]
fn an_operation_is_shown_by_its_ref() {
    let gateway = Upstream::always(answer(200, &operation("done")));
    let ended = keys(&gateway, &["show", &REF.to_uppercase()]);
    assert!(ended.out.contains("\nanswer    status 201\n") && ended.out.contains(ATTEMPT), "{ended:?}");
    assert_eq!(gateway.targets(), [format!("/v1/operations/{REF}")]);
}

#[test]
fn an_operation_is_found_by_what_its_caller_sent_without_that_standing_in_the_command() {
    let found =
        json!({ "found": [{ "ref": REF, "operation": operation("unknown"), "derivation": "current" }] });
    let gateway = Upstream::always(answer(200, &found));
    let directory = TempDir::new().unwrap();
    let credential = directory.path().join("credential");
    std::fs::write(&credential, "Bearer hunter2\n").unwrap();
    let scope = format!("header:Authorization=@{}", credential.display());
    let arguments = ["show", "--key", "-", "--scope", &scope, "--route", "/payments"];
    let ended = keys_with(&gateway, &arguments, "order-1\n");
    assert!(ended.out.contains("unknown, response-timeout"), "{ended:?}");
    let request = gateway.request(1);
    let sought: Value = serde_json::from_slice(&request.body).unwrap();
    let scope = json!({ "header:Authorization": ["Bearer hunter2"] });
    assert_eq!(sought, json!({ "key": "order-1", "route": "/payments", "scope": scope }));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/operations/find"));
}

#[test]
fn a_key_under_which_nothing_stands_is_told_and_ends_with_1() {
    let found = json!({ "found": [{ "ref": REF, "operation": null, "derivation": "current" }] });
    let gateway = Upstream::always(answer(200, &found));
    let ended = keys(&gateway, &["show", "--key", "order-1"]);
    assert_eq!((ended.code, &*ended.out), (Some(1), ""));
    assert!(ended.err.contains("would be a first one") && ended.err.contains(REF), "{ended:?}");
    assert!(!ended.err.contains("order-1"), "{ended:?}");
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_gateway_with_what_to_do_next() {
    let gateway = Upstream::always(problem(403, "operators-only", "this is for operators"));
    let ended = keys(&gateway, &["list"]);
    assert_eq!((ended.code, &*ended.out), (Some(1), ""));
    let expected = "\
onceway failed to list operations: this is for operators (operators-only, status 403)
Run this on the gateway's machine against a loopback address, or show a certificate that admin.tls_client_ca_file \
vouches for, with --cert and --cert-key.
";
    assert_eq!(ended.err, expected);
}

#[test]
fn whoever_is_no_operators_listener_is_told_apart() {
    let gateway = Upstream::always(Reply::answer(404).body("nothing here\n"));
    let ended = keys(&gateway, &["list"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("(status 404)") && ended.err.contains("operators' listener"), "{ended:?}");
}

#[test]
fn a_gateway_that_is_not_there_is_told_by_its_address() {
    let nowhere = Unlistened::port();
    let ended = typed_with(&["keys", "list"], &[("ONCEWAY_ADMIN", &nowhere.url())], "");
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains(&format!("connect to {}", nowhere.url())), "{ended:?}");
}

#[test]
fn the_address_is_taken_from_the_gateways_file() {
    let gateway = Upstream::always(page(0, None));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("onceway.toml");
    let upstream = "[upstreams.default]\nurl = \"http://127.0.0.1:9\"\n";
    std::fs::write(&file, format!("{upstream}[admin]\nlisten = \"{}\"\n", gateway.authority())).unwrap();
    let ended = typed_with(
        &["keys", "list", "--config", file.to_str().unwrap()],
        &[("ONCEWAY_ADMIN", "http://192.0.2.1:1")],
        "",
    );
    assert_eq!((ended.code, gateway.executions()), (Some(0), 1), "{ended:?}");
}

#[test]
fn what_is_no_command_ends_with_2() {
    for arguments in [
        &["keys"][..],
        &["keys", "list", "--state", "lost"],
        &["keys", "list", "--limit", "0"],
        &["keys", "list", "--admin", "127.0.0.1:8081"],
        &["keys", "list", "--admin", "http://127.0.0.1:8081/v1"],
        &["keys", "list", "--config", "no/such.toml"],
        &["keys", "show"],
        &["keys", "show", "3f0c"],
        &["keys", "show", REF, "--key", "order-1"],
        &["keys", "show", "--key", "order-1", "--scope", "Authorization"],
        &["keys", "show", "--key", "-", "--scope", "header:Authorization=-"],
        &["keys", "show", "--key", "@no/such"],
        &["keys", "list", "--cert", "a.pem"],
    ] {
        let ended = typed(arguments);
        assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
}
