//! What an operator does: resolves, forgets, by mouse and by keyboard; and what comes of it when it goes wrong.

use serde_json::json;

use crate::api::{Api, TOKEN, problem, reference, unknown};
use crate::browser::{Browser, DOWN, ENTER, ESCAPE, TAB};

const RESULT: &str = "document.getElementById('operation-result').innerText";

fn one() -> Api {
    Api::with(vec![unknown(1, 90, "/payments")])
}

fn opened(api: &Api) -> Browser {
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length > 0");
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page
}

fn release(page: &Browser, token: &str) {
    page.click("[value=release]");
    page.write("#reason", "Asked the ledger team");
    page.write("#resolve-token", token);
    page.click("#resolve-do");
}

#[test]
fn an_unknown_outcome_is_released_by_the_keyboard_alone() {
    let api = one();
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length > 0");
    page.press("u");
    page.press(ENTER);
    page.until(
        "!document.getElementById('resolve').hidden && document.activeElement.id === 'operation-title'",
    );
    // After the title come the button to close and the choices.
    page.press(TAB);
    page.press(TAB);
    page.press(" ");
    page.until("document.querySelector('[value=release]').checked");
    page.press(TAB);
    page.press("Asked the ledger team");
    page.press(TAB);
    page.press(TOKEN);
    page.press(ENTER);
    page.until(&format!("{RESULT}.includes('Released')"));
    let expected = unknown(1, 90, "")["attempt"].clone();
    let sent =
        json!({ "outcome": "release", "expected_attempt": expected, "reason": "Asked the ledger team" });
    assert_eq!(api.resolution(), sent);
}

#[test]
fn the_true_answer_is_sent_as_it_was_entered() {
    let api = one();
    let page = opened(&api);
    page.click("[value=complete]");
    page.write("#answer-status", "201");
    page.write("#answer-headers", "\nLocation: /payments/7\nset-cookie: a=1\nset-cookie: b=2");
    page.write("#answer-body", "{\"id\":7,\"to\":\"Zoë\"}");
    page.write("#reason", "It stands in the bank's books");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    page.until(&format!("{RESULT}.includes('Recorded')"));
    let sent = api.resolution();
    let headers = json!({ "content-type": "application/json", "location": "/payments/7", "set-cookie": ["a=1", "b=2"] });
    assert_eq!((&sent["status"], &sent["headers"]), (&json!(201), &headers));
    assert_eq!(sent["body"], json!("{\"id\":7,\"to\":\"Zoë\"}"));
}

#[test]
fn what_the_button_does_is_said_before_it() {
    let api = one();
    let page = opened(&api);
    page.click("[value=release]");
    let told = page.text("#consequence");
    assert!(told.contains("The next request with this key will be sent to the service again"), "{told}");
    page.click("[value=complete]");
    page.write("#answer-status", "204");
    page.write("#answer-body", "abc");
    let told = page.text("#consequence");
    assert!(
        told.contains("Every retry of this request will get 204, 1 header and a body of 3 bytes"),
        "{told}"
    );
    let order = "document.getElementById('consequence').compareDocumentPosition(document.getElementById('resolve-do'))";
    assert_eq!(page.run(&format!("return {order}")), json!(4), "the words come first");
}

#[test]
fn nothing_is_resolved_without_a_reason() {
    let api = one();
    let page = opened(&api);
    page.click("[value=release]");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    assert_eq!(page.focus(), "reason");
    assert!(page.text("#reason-error").contains("Say why"));
    assert!(api.requests("POST", "/v1/operations/").is_empty());
}

#[test]
fn an_answer_with_a_header_that_is_none_is_not_sent() {
    let api = one();
    let page = opened(&api);
    page.click("[value=complete]");
    page.write("#answer-status", "201");
    page.write("#answer-headers", "\nthis is none");
    page.write("#reason", "because");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    assert_eq!(page.focus(), "answer-headers");
    assert!(api.requests("POST", "/v1/operations/").is_empty());
}

#[test]
fn a_refusal_is_shown_with_its_code() {
    let api = one();
    let page = opened(&api);
    api.state().refusal =
        Some(problem("attempt-changed", 409, "The attempt has changed", "Another one stands there."));
    release(&page, TOKEN);
    page.until(&format!("{RESULT}.includes('The attempt has changed')"));
    let told = page.text("#operation-result");
    assert!(told.contains("Another one stands there.") && told.contains("409 attempt-changed"), "{told}");
}

#[test]
fn a_change_without_an_answer_is_told_to_be_in_doubt() {
    let api = one();
    let page = opened(&api);
    api.state().is_silent_to_changes = true;
    release(&page, TOKEN);
    page.until(&format!("{RESULT}.includes('Nobody knows whether the change was made')"));
    assert_eq!(page.run("return document.getElementById('reason').value"), json!("Asked the ledger team"));
}

#[test]
fn a_wrong_token_is_asked_for_again() {
    let api = one();
    let page = opened(&api);
    release(&page, "not-the-token-at-all");
    page.until("document.getElementById('resolve-token-error').textContent !== ''");
    assert_eq!(page.focus(), "resolve-token");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    page.until(&format!("{RESULT}.includes('Released')"));
}

#[test]
fn the_token_is_asked_for_once() {
    let api = Api::with(vec![unknown(1, 90, "/payments"), unknown(2, 80, "/payments")]);
    let page = opened(&api);
    release(&page, TOKEN);
    page.until(&format!("{RESULT}.includes('Released')"));
    page.press(ESCAPE);
    page.until("document.querySelectorAll('#waiting-rows tr').length === 1");
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page.click("[value=release]");
    assert!(page.is("!document.getElementById('resolve-token').checkVisibility()"));
    page.write("#reason", "the same");
    page.click("#resolve-do");
    page.until("document.getElementById('n-unknown').textContent === '0'");
}

#[test]
fn a_key_is_forgotten_only_by_who_types_its_reference() {
    let api = one();
    let page = opened(&api);
    page.click("#forget summary");
    page.write("#forget-reason", "a test of ours");
    page.write("#forget-token", TOKEN);
    page.write("#forget-word", "yes");
    page.click("#forget-form [type=submit]");
    assert_eq!(page.focus(), "forget-word");
    assert!(api.requests("DELETE", "/").is_empty());
    page.run("document.getElementById('forget-word').value = ''");
    page.write("#forget-word", &reference(1)[..8]);
    page.click("#forget-form [type=submit]");
    page.until(&format!("{RESULT}.includes('Forgotten')"));
    let attempt = unknown(1, 90, "")["attempt"].as_str().unwrap().to_owned();
    let target = format!("/v1/operations/{}?expected_attempt={attempt}", reference(1));
    let request = &api.requests("DELETE", "/")[0];
    // Why stands in the body, since others log addresses.
    assert_eq!((&*request.target, &request.body[..]), (&*target, &br#"{"reason":"a test of ours"}"#[..]));
}

#[test]
fn the_log_is_given_another_level_by_who_holds_the_token() {
    let api = one();
    let page = Browser::at(&api.url());
    page.until("!document.getElementById('level-form').hidden");
    page.run("document.getElementById('level').value = 'debug'");
    page.click("#level-form [type=submit]");
    page.until("document.getElementById('ask-token').open");
    page.press(TOKEN);
    page.press(ENTER);
    page.until("document.getElementById('announce').textContent === 'The log level is debug.'");
    let sent: serde_json::Value =
        serde_json::from_slice(&api.requests("PUT", "/v1/log-level")[0].body).unwrap();
    assert_eq!(sent, json!({ "level": "debug" }));
}

#[test]
fn where_changes_are_off_none_are_offered() {
    let api = one();
    api.state().status["changes"] = json!("off");
    let page = Browser::at(&api.url());
    page.until("document.getElementById('gateway-facts').innerText.includes('switched off')");
    page.click("#waiting-rows button");
    page.until("!document.getElementById('operation-closed').hidden");
    assert!(page.is("document.getElementById('resolve').hidden && document.getElementById('forget').hidden"));
}

#[test]
fn escape_leads_back_to_the_row() {
    let api = Api::with(vec![unknown(1, 90, "/payments"), unknown(2, 80, "/payments")]);
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length === 2");
    page.press("u");
    page.press(DOWN);
    page.press(ENTER);
    page.until("document.getElementById('operation').open && !document.getElementById('resolve').hidden");
    page.press(ESCAPE);
    page.until("!document.getElementById('operation').open");
    let row = page.run("return document.activeElement.closest('tr').dataset.ref");
    assert_eq!(row, json!(reference(2)));
}

#[test]
fn a_question_mark_lists_the_shortcuts() {
    let api = one();
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length > 0");
    page.press("?");
    page.until("document.getElementById('help').open");
    page.press(ESCAPE);
    page.until("!document.getElementById('help').open");
    page.press("/");
    assert_eq!(page.focus(), "find-ref");
}

#[test]
fn shortcuts_can_be_switched_off() {
    let api = one();
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length > 0");
    page.press("?");
    page.click("#shortcuts");
    page.press(ESCAPE);
    page.press("/");
    assert_ne!(page.focus(), "find-ref");
}
