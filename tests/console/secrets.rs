//! What the console keeps to itself: tokens, keys and credentials; and that data never becomes markup.

use serde_json::json;

use crate::api::{Api, TOKEN, problem, reference, unknown};
use crate::browser::Browser;

const TRAP: &str = "<img src=x onerror=\"document.title='caught'\"><script>document.title='caught'</script>";
const KEY: &str = "order-4711-secret";
const CREDENTIAL: &str = "Bearer wayward-secret";

/// Everything that outlives a moment in the page or stands in its address.
const KEPT: &str = "return [location.href, JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie, \
     document.documentElement.outerHTML, JSON.stringify(history.state), document.title, \
     ...[...document.querySelectorAll('input, textarea')].map(field => field.value)].join('\\n')";

fn with_a_row(api: &Api) -> Browser {
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length > 0");
    page
}

#[track_caller]
fn keeps_nothing_of(page: &Browser, secret: &str) {
    let kept = page.run(KEPT);
    assert!(!kept.as_str().unwrap().contains(secret), "the page keeps it");
    assert_eq!(page.run("return indexedDB.databases()"), json!([]));
}

#[track_caller]
fn is_inert(page: &Browser) {
    assert_eq!(
        page.run("return document.querySelectorAll('img, body script:not([type=module])').length"),
        json!(0)
    );
    assert!(!page.is("document.title.includes('caught')"));
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn the_token_is_kept_in_memory_alone() {
    let api = Api::with(vec![unknown(1, 90, "/payments")]);
    let page = with_a_row(&api);
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page.click("[value=release]");
    page.write("#reason", "because");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    page.until("document.getElementById('operation-result').innerText.includes('Released')");
    keeps_nothing_of(&page, TOKEN);
    assert!(api.targets().iter().all(|target| !target.contains(TOKEN)));
    page.go(&api.url());
    page.until("document.getElementById('readiness-word').textContent === 'ready'");
    assert!(page.is("document.getElementById('drop-token').hidden"), "a new page holds none");
}

#[test]
fn a_token_that_is_held_can_be_dropped() {
    let api = Api::with(vec![unknown(1, 90, "/payments"), unknown(2, 80, "/payments")]);
    let page = with_a_row(&api);
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page.click("[value=release]");
    page.write("#reason", "because");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    page.until("!document.getElementById('drop-token').hidden");
    page.run("document.getElementById('operation').close()");
    page.click("#drop-token");
    assert!(page.is("document.getElementById('drop-token').hidden"));
    assert!(page.is("!document.querySelector('.token-line').hidden"));
}

#[test]
fn a_key_travels_in_a_body_and_is_cleared() {
    let api = Api::with(vec![unknown(1, 90, "/payments")]);
    let operation = api.state().operations[0].clone();
    api.state().found = json!([
        { "ref": reference(1), "operation": operation, "derivation": "current" },
        { "ref": reference(2), "operation": null, "derivation": "previous" },
    ]);
    let page = with_a_row(&api);
    page.until("document.querySelector('#find-scope input') !== null");
    page.write("#find-key", KEY);
    page.write("#find-scope input", CREDENTIAL);
    page.click("#find-key-form [type=submit]");
    page.until("document.querySelectorAll('.find-result').length === 2");
    let asked = &api.requests("POST", "/v1/operations/find")[0];
    let question: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
    let scope = json!({ "header:Authorization": [CREDENTIAL] });
    assert_eq!(question, json!({ "key": KEY, "route": "/payments", "scope": scope }));
    assert!(api.targets().iter().all(|target| !target.contains(KEY)));
    keeps_nothing_of(&page, KEY);
    keeps_nothing_of(&page, "wayward");
}

#[test]
fn a_route_is_never_markup() {
    let mut operation = unknown(1, 90, TRAP);
    operation["reason"] = json!(TRAP);
    operation["attempt"] = json!(TRAP);
    operation["session"] = json!(TRAP);
    let api = Api::with(vec![operation]);
    let page = with_a_row(&api);
    assert!(page.text("#waiting-rows .route").contains("<img src=x"), "it is shown as it is");
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    is_inert(&page);
}

#[test]
fn a_status_is_never_markup() {
    let api = Api::with(vec![unknown(1, 90, "/payments")]);
    {
        let mut state = api.state();
        let status = &mut state.status;
        status["version"] = json!(TRAP);
        status["readiness"] = json!(TRAP);
        status["store"]["name"] = json!(TRAP);
        status["verdicts"][TRAP] = json!(1);
        status["upstreams"][0]["name"] = json!(TRAP);
        status["upstreams"][0]["servers"][0]["address"] = json!(TRAP);
        status["routes"][0]["path"] = json!(TRAP);
        status["routes"][0]["scope"] = json!([TRAP]);
    }
    let page = with_a_row(&api);
    page.until("document.getElementById('health').innerText.includes('onerror')");
    is_inert(&page);
}

#[test]
fn a_refusal_and_a_header_are_never_markup() {
    let api = Api::with(vec![unknown(1, 90, "/payments")]);
    api.state().refusal = Some(problem(TRAP, 400, TRAP, TRAP));
    let page = with_a_row(&api);
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page.click("[value=complete]");
    page.write("#answer-status", "201");
    page.write("#answer-headers", &format!("\nx-trap: {TRAP}"));
    page.write("#reason", TRAP);
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    page.until("document.getElementById('operation-result').innerText.includes('onerror')");
    assert_eq!(api.resolution()["headers"]["x-trap"], json!(TRAP));
    assert_eq!(page.run("return document.querySelectorAll('img').length"), json!(0));
    assert!(!page.is("document.title.includes('caught')"));
}
