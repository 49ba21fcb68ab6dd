//! `onceway keys` before a real gateway: what an operator does at night.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::{Ended, typed_with};
use crate::harness::{Ask, Gateway, GatewayPlan, Reply, Upstream, post};

/// A gateway, and an operator who has its token.
struct Shift {
    gateway: Gateway,
    files: TempDir,
}

impl Shift {
    fn begun(upstream: &Upstream) -> Self {
        let files = TempDir::new().unwrap();
        let (token, audit) = (files.path().join("token"), files.path().join("audit.jsonl"));
        std::fs::write(&token, "a-token-of-sixteen-or-more\n").unwrap();
        let lines = format!("token_file = \"{}\"\naudit_file = \"{}\"", token.display(), audit.display());
        let gateway = GatewayPlan::before(upstream).admin(&lines).start();
        Self { gateway, files }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Types `onceway keys …`.
    fn keys(&self, arguments: &[&str]) -> Ended {
        let (admin, token) = (format!("http://{}", self.gateway.admin_addr()), self.file("token"));
        let variables = [("ONCEWAY_ADMIN", &*admin), ("ONCEWAY_ADMIN_TOKEN_FILE", token.to_str().unwrap())];
        typed_with(&[&["keys"], arguments].concat(), &variables, "")
    }

    /// What a command for programs wrote.
    fn document(&self, arguments: &[&str]) -> Value {
        let ended = self.keys(&[arguments, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str(&ended.out).unwrap()
    }

    /// The only unknown outcome: its ref, and the first digits of its attempt.
    fn unknown(&self) -> (String, String) {
        let listed = self.document(&["list", "--state", "unknown"]);
        assert_eq!(listed["operations"].as_array().unwrap().len(), 1, "{listed}");
        let text = |name: &str| listed["operations"][0][name].as_str().unwrap().to_owned();
        (text("ref"), text("attempt")[..8].to_owned())
    }

    fn pay(&self) -> (u16, String) {
        let answer = self.gateway.ask(&payment());
        (answer.status, answer.text())
    }
}

fn payment() -> Ask {
    post("/payments").key("order-1").header("Authorization", "Bearer alice")
}

/// A service that breaks off the first request, and answers the others.
fn failing_once() -> Upstream {
    Upstream::in_turn([Reply::default().reset(), Reply::payment(2)])
}

#[test]
fn an_outcome_that_was_unknown_is_released_and_the_retry_runs() {
    let upstream = failing_once();
    let shift = Shift::begun(&upstream);
    assert_eq!(shift.pay().0, 502);
    let (reference, attempt) = shift.unknown();
    let ended = shift.keys(&[
        "resolve",
        &reference,
        "--release",
        "--attempt",
        &attempt,
        "--reason",
        "nothing booked",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(shift.pay(), (201, "payment 2".to_owned()));
    let audit = std::fs::read_to_string(shift.file("audit.jsonl")).unwrap();
    assert!(audit.contains("nothing booked"), "{audit}");
}

#[test]
fn an_outcome_that_was_unknown_is_completed_and_the_retry_gets_that_answer() {
    let upstream = failing_once();
    let shift = Shift::begun(&upstream);
    shift.pay();
    let (reference, attempt) = shift.unknown();
    std::fs::write(shift.file("answer"), b"charge \xff").unwrap();
    let body = shift.file("answer");
    let what =
        ["resolve", &reference, "--complete", "--status", "201", "--attempt", &attempt, "--reason", "booked"];
    let ended = shift.keys(&[&what[..], &["--body-file", body.to_str().unwrap()]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let retried = shift.gateway.ask(&payment());
    assert_eq!((retried.status, &*retried.body, upstream.executions()), (201, &b"charge \xff"[..], 1));
}

#[test]
fn an_operation_is_found_by_key_and_scope_and_by_no_other_scope() {
    let upstream = failing_once();
    let shift = Shift::begun(&upstream);
    shift.pay();
    let found = shift.document(&["show", "--key", "order-1", "--scope", "header:Authorization=Bearer alice"]);
    assert_eq!(found["found"][0]["operation"]["state"], "unknown", "{found}");
    let other = shift.keys(&["show", "--key", "order-1", "--scope", "header:Authorization=Bearer mallory"]);
    assert!(other.code == Some(1) && other.err.contains("would be a first one"), "{other:?}");
    let wrong = shift.keys(&["show", "--key", "order-1", "--scope", "header:X-Account=1"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("request-invalid"), "{wrong:?}");
}

#[test]
fn a_key_that_is_forgotten_is_new_and_stands_in_no_list() {
    let upstream = Upstream::of_payments();
    let shift = Shift::begun(&upstream);
    shift.pay();
    let listed = shift.document(&["list", "--state", "done", "--route", "/payments"]);
    let operation = &listed["operations"][0];
    let (reference, attempt) = (operation["ref"].as_str().unwrap(), operation["attempt"].as_str().unwrap());
    let other = shift.keys(&["forget", reference, "--attempt", "00000000", "--reason", "x"]);
    assert!(other.code == Some(1) && other.err.contains("Nothing was changed"), "{other:?}");
    let ended = shift.keys(&["forget", reference, "--attempt", attempt, "--reason", "a test"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let nothing = shift.keys(&["list"]);
    assert!(nothing.out.starts_with("no operations"), "{nothing:?}");
    assert_eq!(shift.pay(), (201, "payment 2".to_owned()));
}

#[test]
fn what_an_operation_is_shown_as_is_what_the_gateway_says() {
    let upstream = Upstream::of_payments();
    let shift = Shift::begun(&upstream);
    shift.pay();
    let listed = shift.document(&["list"]);
    let reference = listed["operations"][0]["ref"].as_str().unwrap();
    assert_eq!(shift.document(&["show", reference]), listed["operations"][0]);
    let shown = shift.keys(&["show", reference]).out;
    assert!(
        shown.contains("\nanswer    status 201\nbody      9 bytes\n") && shown.contains("expires"),
        "{shown}"
    );
    let resolved = shift.keys(&["resolve", reference, "--release", "--attempt", "00000000", "--reason", "x"]);
    assert!(resolved.code == Some(1) && resolved.err.contains("stands there"), "{resolved:?}");
}
