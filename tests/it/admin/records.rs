//! Records as operators are shown them, and how they find one.

use serde_json::{Value, json};

use super::office::{Office, failing_once, question, read, read_from};
use crate::harness::{Gate, GatewayPlan, Reply, Upstream, post, until};

fn found(office: &Office, asked: &Value) -> Vec<Value> {
    let answer = office.ask(&question("/v1/operations/find", asked));
    assert_eq!(answer.status, 200, "{}", answer.shown());
    read_from(&answer)["found"].as_array().unwrap().clone()
}

#[test]
fn an_operation_is_shown_from_its_claim_to_its_answer() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let office = Office::before(&upstream);
    let mut caller = office.gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let begun = office.only_operation();
    assert_eq!(
        (&begun["state"], &begun["status"], &begun["settled_at"]),
        (&json!("in-flight"), &Value::Null, &Value::Null)
    );
    gate.open();
    caller.read();
    let path = format!("/v1/operations/{}", begun["ref"].as_str().unwrap());
    until("it is done", || office.see(&path)["state"] == "done");
    let done = office.see(&path);
    assert_eq!(
        (&done["status"], &done["body_bytes"], &done["attempts"]),
        (&json!(201), &json!(9), &json!(1))
    );
    assert_eq!((&done["route"], &done["reason"]), (&json!("/payments"), &Value::Null));
    for same in ["attempt", "session", "opened_at"] {
        assert_eq!(done[same], begun[same], "{same}");
    }
    assert!(done["opened_at"].as_str() <= done["settled_at"].as_str());
    assert!(done["settled_at"].as_str() < done["expires_at"].as_str());
}

#[test]
fn pages_hold_every_operation_between_them() {
    let upstream = Upstream::of_payments();
    let office = Office::before(&upstream);
    for key in ["a", "b", "c", "d", "e"] {
        office.pay(key);
    }
    let (mut refs, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = office.see(&format!("/v1/operations?limit=2{cursor}"));
        let shown = page["operations"].as_array().unwrap();
        assert!(shown.len() <= 2, "{page}");
        refs.extend(shown.iter().map(|operation| operation["ref"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    refs.sort();
    refs.dedup();
    assert_eq!(refs.len(), 5);
}

#[test]
fn operations_are_picked_by_their_state_and_by_their_route() {
    let upstream = failing_once();
    let office = Office::of(&GatewayPlan::before(&upstream).route("/orders/{id}/refunds", ""));
    assert_eq!(office.pay("lost").1, "unknown");
    office.gateway.ask(&post("/orders/1/refunds").key("k"));
    let routes = |query: &str| -> Vec<Value> {
        let listed = office.see(&format!("/v1/operations?{query}"));
        listed["operations"].as_array().unwrap().iter().map(|operation| operation["route"].clone()).collect()
    };
    assert_eq!(routes("state=unknown"), ["/payments"]);
    assert_eq!(routes("route=%2Forders%2F%7Bid%7D%2Frefunds"), ["/orders/{id}/refunds"]);
    assert!(routes("state=unknown&route=/orders/{id}/refunds").is_empty());
    assert_eq!(office.see("/v1/operations?state=unknown")["operations"][0]["reason"], "connection-lost");
}

#[test]
fn a_key_is_found_by_what_its_caller_sent_in_either_form() {
    let upstream = Upstream::of_payments();
    let office = Office::before(&upstream);
    office.gateway.ask(&post("/payments").key("k-1").caller("Bearer ann"));
    let stands = office.only_operation();
    let scope = json!({ "header:Authorization": ["Bearer ann"] });
    for key in ["k-1", "\"k-1\"", " k-1"] {
        let found = found(&office, &json!({ "key": key, "scope": scope }));
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["operation"], &found[0]["derivation"]), (&stands, &json!("current")), "{key}");
        assert_eq!(found[0]["ref"], stands["ref"]);
    }
    let another = found(&office, &json!({ "key": "k-1", "scope": { "header:authorization": "Bearer bob" } }));
    assert_eq!(another[0]["operation"], Value::Null);
    assert_eq!(found(&office, &json!({ "key": "k-1", "route": "/payments" }))[0]["operation"], Value::Null);
    assert!(!office.gateway.log().contains("k-1"));
}

#[test]
fn a_key_that_was_made_in_another_way_is_found_as_previous() {
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).without_routes();
    let before = plan.clone().route("/payments", "scope = [\"header:X-Account\"]");
    let office = Office::of(&before);
    office.gateway.ask(&post("/payments").key("k").header("X-Account", "7").caller("ann"));
    let stands = office.only_operation();
    let changed = "scope = [\"header:Authorization\"]\nprevious = { scope = [\"header:X-Account\"] }";
    let after = plan.route("/payments", changed).admin(&office.files.lines());
    assert!(office.gateway.reload(&after));
    let scope = json!({ "header:authorization": "ann", "header:x-account": "7" });
    let found = found(&office, &json!({ "key": "k", "scope": scope }));
    assert_eq!((&found[0]["derivation"], &found[0]["operation"]), (&json!("current"), &Value::Null));
    assert_eq!((&found[1]["derivation"], &found[1]["ref"]), (&json!("previous"), &stands["ref"]));
}

#[test]
fn which_of_several_routes_is_meant_has_to_be_said() {
    let upstream = Upstream::of_payments();
    let office = Office::of(&GatewayPlan::before(&upstream).route("/orders", "scope = []"));
    let told = office.ask(&question("/v1/operations/find", &json!({ "key": "k" })));
    assert_eq!(told.problem(), (400, "request-invalid".into()));
    office.gateway.ask(&post("/orders").key("k"));
    let found = found(&office, &json!({ "key": "k", "route": "/orders" }));
    assert_eq!(found[0]["operation"]["route"], "/orders");
}

#[test]
fn a_cursor_that_no_page_has_told_is_wrong_and_says_nothing_of_the_store() {
    let upstream = Upstream::of_payments();
    let office = Office::before(&upstream);
    for cursor in ["AAAA", "", "bm9uc2Vuc2U", "%20", "*"] {
        let told = office.ask(&read(&format!("/v1/operations?cursor={cursor}")));
        assert_eq!(told.problem(), (400, "request-invalid".into()), "{cursor}");
    }
}

#[test]
fn no_record_is_a_404() {
    let upstream = Upstream::of_payments();
    let office = Office::before(&upstream);
    let path = format!("/v1/operations/{}", "0".repeat(64));
    assert_eq!(office.ask(&read(&path)).problem(), (404, "operation-not-found".into()));
}

#[test]
fn the_status_tells_how_the_gateway_does() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let office = Office::before(&upstream);
    let mut caller = office.gateway.send(&post("/payments").key("k"));
    upstream.request(1);
    let status = office.see("/v1/status");
    assert_eq!((&status["readiness"], &status["changes"]), (&json!("ready"), &json!("token")));
    assert_eq!((&status["claims_in_flight"], &status["requests_in_flight"]), (&json!(1), &json!(1)));
    assert_eq!(
        status["store"],
        json!({ "name": "memory: (forgets at exit)", "reachable": true }),
        "{status}"
    );
    let server = json!({ "address": upstream.authority(), "healthy": true, "in_flight": 1 });
    assert_eq!(status["upstreams"], json!([{ "name": "default", "servers": [server] }]));
    let route =
        json!({ "path": "/payments", "host": null, "guarded": true, "scope": ["header:authorization"] });
    assert_eq!(status["routes"], json!([route]));
    gate.open();
    caller.read();
    until("nothing is in flight", || office.see("/v1/status")["claims_in_flight"] == 0);
}
