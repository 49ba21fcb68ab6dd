//! The log level, seen and changed while the gateway runs.

use serde_json::{Value, json};

use super::office::{Office, here, read, with_token};
use crate::harness::{Ask, Upstream, post, until};

fn set(level: &Value) -> Ask {
    let put = here("PUT", "/v1/log-level").header("Content-Type", "application/json");
    with_token(put.body(json!({ "level": level }).to_string()))
}

#[test]
fn the_log_level_is_changed_while_the_gateway_runs_and_that_is_put_down() {
    let upstream = Upstream::of_payments();
    let office = Office::before(&upstream);
    assert_eq!(office.see("/v1/log-level")["level"], "info");
    assert_eq!(office.ask(&set(&json!("error"))).status, 204);
    assert_eq!(office.see("/v1/log-level")["level"], "error");
    office.gateway.ask(&post("/payments").key("silent").header("X-Request-Id", "a"));
    assert_eq!(office.ask(&set(&json!("info"))).status, 204);
    office.gateway.ask(&post("/payments").key("told"));
    let requests = || office.gateway.log().matches("path=\"/payments\"").count();
    until("a request is logged again", || requests() > 0);
    assert_eq!(requests(), 1);
    let audited = office.files.audited();
    assert_eq!((&audited[0]["action"], &audited[0]["level"]), (&json!("log-level"), &json!("error")));
}

#[test]
fn what_is_no_level_changes_nothing() {
    let office = Office::before(&Upstream::of_payments());
    for level in [json!("inof"), json!(""), json!(5), Value::Null] {
        assert_eq!(office.ask(&set(&level)).problem(), (400, "request-invalid".into()), "{level}");
    }
    assert_eq!(office.ask(&read("/v1/log-level")).status, 200);
    assert_eq!(office.see("/v1/log-level")["level"], "info");
    assert!(office.files.audited().is_empty());
}
