//! The whole story, with nothing scripted between: a service whose answer is lost, the gateway, the page, and the retry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::browser::Browser;
use crate::harness::{Ask, Gateway, GatewayPlan, Reply, Upstream, post};

const TOKEN: &str = "a-token-of-many-characters";

/// A gateway whose operators hold a token, and the folder that its audit log is in.
fn gateway(upstream: &Upstream) -> (Gateway, TempDir) {
    let dir = TempDir::new().unwrap();
    let (token, audit) = (dir.path().join("token"), dir.path().join("audit.jsonl"));
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let lines = format!("token_file = \"{}\"\naudit_file = \"{}\"", token.display(), audit.display());
    (GatewayPlan::before(upstream).admin(&lines).start(), dir)
}

/// A payment whose answer was lost.
fn lost(gateway: &Gateway) -> Ask {
    let payment = post("/payments").key("order-4711").caller("Bearer ann");
    assert_eq!(gateway.ask(&payment).status, 502);
    assert_eq!(gateway.ask(&payment).status, 409, "a retry is refused");
    payment
}

fn opened(gateway: &Gateway) -> Browser {
    let page = Browser::at(&format!("http://{}/", gateway.admin_addr()));
    page.until("document.querySelectorAll('#waiting-rows tr').length === 1");
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page
}

fn resolve(page: &Browser) {
    page.write("#reason", "The bank's books tell");
    page.write("#resolve-token", TOKEN);
    page.click("#resolve-do");
    page.until("document.querySelector('#operation-result .result') !== null");
    assert!(
        page.is("document.querySelector('#operation-result .bad') === null"),
        "{}",
        page.text("#operation-result")
    );
}

#[test]
fn a_payment_released_on_the_page_is_made_by_its_retry() {
    let upstream = Upstream::in_turn([Reply::default().reset(), Reply::payment(2)]);
    let (gateway, dir) = gateway(&upstream);
    let payment = lost(&gateway);
    let page = opened(&gateway);
    page.click("[value=release]");
    resolve(&page);
    let retry = gateway.ask(&payment);
    assert_eq!((retry.status, upstream.executions()), (201, 2));
    page.until("document.getElementById('n-unknown').textContent === '0'");
    assert_eq!(page.complaints(), Vec::<String>::new());
    let audit = fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("The bank's books tell") && !audit.contains("order-4711"), "{audit}");
}

#[test]
fn the_answer_entered_on_the_page_is_what_retries_get() {
    let upstream = Upstream::in_turn([Reply::default().reset(), Reply::payment(2)]);
    let (gateway, _dir) = gateway(&upstream);
    let payment = lost(&gateway);
    let page = opened(&gateway);
    page.click("[value=complete]");
    page.write("#answer-status", "201");
    page.write("#answer-headers", "\nlocation: /payments/7");
    page.write("#answer-body", "{\"id\":7}");
    resolve(&page);
    let retry = gateway.ask(&payment);
    assert_eq!((retry.status, &retry.body[..], upstream.executions()), (201, &b"{\"id\":7}"[..], 1));
    assert_eq!(retry.header("location").as_deref(), Some("/payments/7"));
}

#[test]
fn a_key_that_a_caller_tells_leads_to_its_record() {
    let upstream = Upstream::of_payments();
    let (gateway, _dir) = gateway(&upstream);
    assert_eq!(gateway.ask(&post("/payments").key("order-12").caller("Bearer ann")).status, 201);
    let page = Browser::at(&format!("http://{}/", gateway.admin_addr()));
    page.until("document.querySelector('#find-scope input') !== null");
    page.write("#find-key", "order-12");
    page.write("#find-scope input", "Bearer ann");
    page.click("#find-key-form [type=submit]");
    page.until("document.querySelector('#found button') !== null");
    page.click("#found button");
    page.until("document.getElementById('operation-facts').innerText.includes('201')");
}

#[test]
fn a_key_forgotten_on_the_page_is_free_again() {
    let upstream = Upstream::of_payments();
    let (gateway, _dir) = gateway(&upstream);
    let payment = post("/payments").key("order-12").caller("Bearer ann");
    assert_eq!(gateway.ask(&payment).status, 201);
    let page = Browser::at(&format!("http://{}/", gateway.admin_addr()));
    page.until("document.querySelector('#find-scope input') !== null");
    page.write("#find-key", "order-12");
    page.write("#find-scope input", "Bearer ann");
    page.click("#find-key-form [type=submit]");
    page.until("document.querySelector('#found button') !== null");
    page.click("#found button");
    page.until("!document.getElementById('forget').hidden");
    page.click("#forget summary");
    page.write("#forget-reason", "a test of ours");
    let digits = page.text("#forget-digits");
    page.write("#forget-word", &digits);
    page.write("#forget-token", TOKEN);
    page.click("#forget-form [type=submit]");
    page.until("document.getElementById('operation-result').innerText.includes('Forgotten')");
    gateway.ask(&payment);
    assert_eq!(upstream.executions(), 2);
}
