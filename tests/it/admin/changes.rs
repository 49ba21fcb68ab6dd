//! What operators change, and what is put down of it.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::office::{Office, failing_once, here, order, read_from, with_token};
use crate::harness::{Answer, Gate, GatewayPlan, Reply, Upstream, post};

fn resolve(office: &Office, path: &str, body: &Value) -> Answer {
    office.ask(&order(&format!("{path}/resolve"), body))
}

fn release(attempt: &str) -> Value {
    json!({ "outcome": "release", "expected_attempt": attempt, "reason": "the service has no such payment" })
}

#[test]
fn a_released_key_runs_once_more_and_then_replays() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    let released = resolve(&office, &path, &release(&attempt));
    assert_eq!((released.status, read_from(&released)), (200, json!({ "operation": null })));
    assert_eq!(office.pay("k"), ("payment 2".into(), "executed".into()));
    assert_eq!(office.pay("k"), ("payment 2".into(), "replayed".into()));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_completed_key_replays_the_answer_that_was_given() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    let given = json!({
        "outcome": "complete", "expected_attempt": attempt, "reason": "found in the books",
        "status": 201, "headers": { "Content-Type": "text/plain", "X-Part": ["a", "b"] }, "body": "payment 1",
    });
    let completed = resolve(&office, &path, &given);
    assert_eq!(completed.status, 200, "{}", completed.shown());
    let operation = &read_from(&completed)["operation"];
    assert_eq!(
        (&operation["state"], &operation["status"], &operation["body_bytes"]),
        (&json!("done"), &json!(201), &json!(9))
    );
    let replay = office.gateway.ask(&post("/payments").key("k"));
    assert_eq!((replay.status, replay.text()), (201, "payment 1".into()));
    assert_eq!(replay.header("idempotent-replayed").as_deref(), Some("true"));
    assert_eq!(replay.headers("x-part"), ["a", "b"]);
    assert!(replay.header("date").is_some() && replay.header("age").is_some());
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn bytes_that_are_no_text_are_given_as_base64() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    let given = json!({
        "outcome": "complete", "expected_attempt": attempt, "reason": "r", "status": 200, "body_base64": "AP8=",
    });
    assert_eq!(resolve(&office, &path, &given).status, 200);
    assert_eq!(office.gateway.ask(&post("/payments").key("k")).body, [0, 255]);
}

#[test]
fn only_the_attempt_that_was_seen_is_resolved() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    let another = "00000000-0000-4000-8000-000000000000";
    assert_eq!(resolve(&office, &path, &release(another)).problem(), (409, "attempt-changed".into()));
    assert_eq!(resolve(&office, &path, &release(&attempt)).status, 200);
    assert_eq!(resolve(&office, &path, &release(&attempt)).problem(), (404, "operation-not-found".into()));
    office.pay("k");
    assert_eq!(resolve(&office, &path, &release(&attempt)).problem(), (409, "attempt-changed".into()));
    let now = office.only_operation()["attempt"].as_str().unwrap().to_owned();
    assert_eq!(resolve(&office, &path, &release(&now)).problem(), (409, "not-unknown".into()));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_forgotten_key_runs_as_a_first_one() {
    let upstream = Upstream::of_payments();
    let office = Office::before(&upstream);
    assert_eq!(office.pay("k").1, "executed");
    let operation = office.only_operation();
    let path = format!("/v1/operations/{}", operation["ref"].as_str().unwrap());
    let wrong = format!("{path}?expected_attempt=00000000-0000-4000-8000-000000000000");
    assert_eq!(office.ask(&with_token(here("DELETE", &wrong))).problem(), (409, "attempt-changed".into()));
    let attempt = operation["attempt"].as_str().unwrap();
    let forget = format!("{path}?expected_attempt={attempt}&reason=a%20test");
    let forgotten = office.ask(&with_token(here("DELETE", &forget)));
    assert_eq!((forgotten.status, &forgotten.body[..]), (204, &b""[..]));
    assert_eq!(office.pay("k"), ("payment 2".into(), "executed".into()));
}

#[test]
fn a_request_at_work_is_neither_forgotten_nor_resolved() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let office = Office::before(&upstream);
    let mut caller = office.gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let operation = office.only_operation();
    let path = format!("/v1/operations/{}", operation["ref"].as_str().unwrap());
    assert_eq!(office.ask(&with_token(here("DELETE", &path))).problem(), (409, "in-flight".into()));
    let told = resolve(&office, &path, &release(operation["attempt"].as_str().unwrap()));
    assert_eq!(told.problem(), (409, "not-unknown".into()));
    gate.open();
    assert_eq!(caller.read().text(), "payment 1");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn each_change_is_put_down_before_and_after_without_what_was_answered() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    let given = json!({
        "outcome": "complete", "expected_attempt": attempt, "reason": "line\u{2028}\"two\"",
        "status": 201, "headers": { "Set-Cookie": "planted-cookie" }, "body": "planted-body",
    });
    assert_eq!(resolve(&office, &path, &given).status, 200);
    let other = json!({ "outcome": "complete", "expected_attempt": attempt, "reason": given["reason"], "status": 201, "body": "planted-text" });
    assert_eq!(resolve(&office, &path, &other).problem(), (409, "not-unknown".into()));
    let lines = office.files.audited();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["intended", "done", "intended", "failed"]);
    assert_eq!(lines[3]["code"], "not-unknown");
    assert!(lines[0]["change"] == lines[1]["change"] && lines[1]["change"] != lines[2]["change"]);
    for line in &lines {
        assert_eq!(
            (&line["action"], &line["expected_attempt"]),
            (&json!("complete"), &json!(attempt)),
            "{line}"
        );
        assert!(path.ends_with(line["ref"].as_str().unwrap()));
        assert_eq!((&line["reason"], &line["status"]), (&given["reason"], &json!(201)));
        assert_eq!(line["body"]["bytes"], 12);
        assert_eq!(line["body"]["sha256"].as_str().unwrap().len(), 64);
        assert!(line["who"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(!line.to_string().contains("planted"), "{line}");
    }
}

#[test]
fn a_change_that_cannot_be_put_down_is_not_made() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    office.files.lose_audit();
    assert_eq!(resolve(&office, &path, &release(&attempt)).problem(), (503, "audit-unavailable".into()));
    let forget = office.ask(&with_token(here("DELETE", &path)));
    assert_eq!(forget.problem(), (503, "audit-unavailable".into()));
    assert_eq!(office.see(&path)["state"], "unknown");
    assert_eq!(office.pay("k").1, "unknown");
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn an_audit_log_that_cannot_be_opened_is_told_at_the_start() {
    let office = Office::before(&Upstream::of_payments());
    let elsewhere = office.files.lines().replace("audit/log.jsonl", "audit/log.jsonl/nowhere");
    std::fs::write(office.files.audit(), "").unwrap();
    let plan = GatewayPlan::before(&Upstream::of_payments()).admin(&elsewhere);
    assert_eq!(plan.fail(), (Some(1), true));
}

#[test]
fn what_was_put_down_and_what_was_resolved_survive_a_restart() {
    let (dir, upstream) = (TempDir::new().unwrap(), failing_once());
    let plan = GatewayPlan::before(&upstream).store(&format!("file:{}", dir.path().display()));
    let mut office = Office::of(&plan);
    assert_eq!(office.pay("k").1, "unknown");
    let operation = office.only_operation();
    let path = format!("/v1/operations/{}", operation["ref"].as_str().unwrap());
    let given = json!({
        "outcome": "complete", "expected_attempt": operation["attempt"], "reason": "r", "status": 200, "body": "true",
    });
    assert_eq!(resolve(&office, &path, &given).status, 200);
    office.gateway.kill();
    office.gateway = plan.admin(&office.files.lines()).start();
    assert_eq!(office.pay("k"), ("true".into(), "replayed".into()));
    assert_eq!(office.ask(&with_token(here("DELETE", &path))).status, 204);
    assert_eq!(office.files.audited().len(), 4);
}

#[test]
fn what_an_upstream_could_not_have_answered_is_not_taken() {
    let upstream = failing_once();
    let (office, path, attempt) = Office::with_unknown(&upstream);
    for (name, value) in [
        ("status", json!(101)),
        ("status", json!(null)),
        ("headers", json!({ "Content-Length": "3" })),
        ("headers", json!({ "x": "a\r\nb: c" })),
        ("body", json!("a".repeat(1024 * 1024 + 1))),
        ("outcome", json!("undo")),
        ("reason", json!("")),
        ("expected_attempt", json!(7)),
    ] {
        let mut given =
            json!({ "outcome": "complete", "expected_attempt": attempt, "reason": "r", "status": 200 });
        given[name] = value;
        let told = resolve(&office, &path, &given);
        assert_eq!(told.problem(), (400, "request-invalid".into()), "{name}");
        assert!(told.document()["detail"].as_str().unwrap().starts_with(name));
    }
    assert_eq!(office.see(&path)["state"], "unknown");
    assert!(office.files.audited().is_empty());
}
