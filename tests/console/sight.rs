//! What an operator sees: the figures, the unknown outcomes, and how old it is what is shown.

use serde_json::json;

use crate::api::{Api, members, reference, unknown};
use crate::browser::Browser;

const ROWS: &str = "document.querySelectorAll('#waiting-rows tr').length";

#[test]
fn the_figures_are_those_of_the_status() {
    let api = Api::with(Vec::new());
    let page = Browser::at(&api.url());
    page.until("document.getElementById('n-claims').textContent === '4'");
    let figures = ["n-waiters", "n-requests", "readiness-word"].map(|id| page.text(&format!("#{id}")));
    assert_eq!(figures, ["2", "7", "ready"]);
    assert!(page.text("#health").contains("1 of 2 healthy"), "{}", page.text("#health"));
    assert!(page.text(".about").contains("up 1 h 30 min"), "{}", page.text(".about"));
}

#[test]
fn what_was_counted_is_shown_as_a_rate() {
    const REPLAYED: &str = "[...document.querySelectorAll('#verdict-rows tr')].find(row => \
         row.innerText.includes('replayed')).querySelector('.recent').textContent";
    let api = Api::with(Vec::new());
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#verdict-rows tr').length === 4");
    assert!(page.is(&format!("{REPLAYED} === '0'")), "what was counted before is no news");
    api.state().status["verdicts"]["replayed"] = json!(65);
    page.until(&format!("{REPLAYED} === '45'"));
}

#[test]
fn nothing_is_counted_across_a_restart() {
    const EXECUTED: &str = "document.querySelector('#verdict-rows .recent').textContent";
    let api = Api::with(Vec::new());
    let page = Browser::at(&api.url());
    page.until(&format!("{EXECUTED} === '0'"));
    api.state().status["verdicts"]["executed"] = json!(5);
    page.until("document.querySelector('#verdict-rows .total').textContent === '5'");
    assert!(page.is(&format!("{EXECUTED} === '0'")));
}

#[test]
fn the_oldest_unknown_outcome_stands_first() {
    let api = Api::with(vec![unknown(1, 5, "/a"), unknown(2, 300, "/b"), unknown(3, 70, "/c")]);
    let page = Browser::at(&api.url());
    page.until(&format!("{ROWS} === 3"));
    let routes =
        page.run("return [...document.querySelectorAll('#waiting-rows .route')].map(e => e.textContent)");
    assert_eq!(routes, json!(["/b", "/c", "/a"]));
    assert!(page.text("#n-unknown-note").contains("oldest 5 h"), "{}", page.text("#n-unknown-note"));
}

#[test]
fn every_page_is_walked_and_how_far_is_told() {
    let api = Api::with((0..7).map(|number| unknown(number, 5, "/a")).collect());
    api.state().page = 2;
    let page = Browser::at(&api.url());
    page.until("document.getElementById('walked').textContent.startsWith('All 4,000 records')");
    assert_eq!(page.text("#n-unknown"), "7");
}

#[test]
fn a_thousand_unknown_outcomes_can_be_worked_with() {
    let api = Api::with((0..1000).map(|number| unknown(number, 5 + number, "/a")).collect());
    let page = Browser::at(&api.url());
    page.until("document.getElementById('n-unknown').textContent === '1,000'");
    page.until(&format!("{ROWS} === 200"));
    for shown in [400, 600, 800, 1000] {
        page.click("#more");
        page.until(&format!("{ROWS} === {shown}"));
    }
    assert!(page.is("document.getElementById('more').hidden"));
}

#[test]
fn rows_can_be_narrowed_to_a_route() {
    let api = Api::with(vec![unknown(1, 5, "/a"), unknown(2, 300, "/b")]);
    let page = Browser::at(&api.url());
    page.until(&format!("{ROWS} === 2"));
    page.run("const s = document.getElementById('waiting-route'); s.value = '/b'; s.dispatchEvent(new Event('change'))");
    assert_eq!(page.text("#waiting-rows .route"), "/b");
    assert!(page.is(&format!("{ROWS} === 1")));
}

#[test]
fn where_nothing_waits_it_says_so() {
    let page_of = Api::with(Vec::new());
    let page = Browser::at(&page_of.url());
    page.until("!document.getElementById('waiting-none').hidden");
    assert!(page.text("#waiting-none").contains("Nothing waits for a person"));
}

#[test]
fn a_lost_gateway_is_told_with_the_age_of_what_is_shown() {
    let api = Api::with(vec![unknown(1, 5, "/a")]);
    let page = Browser::at(&api.url());
    page.until("document.getElementById('readiness-word').textContent === 'ready'");
    api.state().is_silent = true;
    page.until("document.body.classList.contains('stale')");
    page.until("/What you see is .* old/.test(document.getElementById('lost').textContent)");
    assert_eq!(page.text("#readiness-word"), "no word from it");
    api.state().is_silent = false;
    page.until("document.getElementById('lost').hidden && !document.body.classList.contains('stale')");
}

#[test]
fn a_gateway_that_is_cut_off_from_its_store_says_so() {
    let api = Api::with(Vec::new());
    let mut status = api.state().status.clone();
    members(&mut status).insert("readiness".to_owned(), json!("store-unreachable"));
    status["store"]["reachable"] = json!(false);
    api.state().status = status;
    let page = Browser::at(&api.url());
    page.until("document.getElementById('readiness-word').textContent.includes('store is out of reach')");
    assert!(page.text("#health").contains("out of reach"));
}

#[test]
fn a_gateway_whose_store_is_not_open_yet_says_so() {
    let api = Api::with(Vec::new());
    let mut status = api.state().status.clone();
    let starting = [
        ("readiness", json!("starting")),
        ("store", json!(null)),
        ("verdicts", json!({})),
        ("upstreams", json!([])),
    ];
    members(&mut status).extend(starting.map(|(name, value)| (name.to_owned(), value)));
    api.state().status = status;
    let page = Browser::at(&api.url());
    page.until("document.getElementById('readiness-word').textContent === 'starting'");
    assert!(page.text("#health").contains("not open yet"));
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn an_address_leads_to_an_operation() {
    let api = Api::with(vec![unknown(1, 5, "/payments")]);
    let page = Browser::at(&format!("{}#{}", api.url(), reference(1)));
    page.until("document.getElementById('operation-facts').innerText.includes('response-timeout')");
    assert_eq!(page.text("#operation-title"), "/payments");
}

#[test]
fn an_operation_that_changes_while_it_is_looked_at_is_shown_anew() {
    let api = Api::with(vec![unknown(1, 5, "/payments")]);
    let page = Browser::at(&format!("{}#{}", api.url(), reference(1)));
    page.until("!document.getElementById('resolve').hidden");
    api.state().operations[0]["state"] = json!("done");
    page.until("document.getElementById('resolve').hidden");
    assert!(page.text("#operation-result").contains("It has changed"));
}

#[test]
fn a_record_that_cannot_be_read_can_be_neither_resolved_nor_forgotten() {
    let mut operation = unknown(1, 5, "/payments");
    for member in ["route", "attempt", "attempts", "session", "opened_at"] {
        operation[member] = json!(null);
    }
    operation["reason"] = json!("unreadable");
    let api = Api::with(vec![operation]);
    let page = Browser::at(&format!("{}#{}", api.url(), reference(1)));
    page.until("!document.getElementById('operation-closed').hidden");
    assert!(page.is("document.getElementById('resolve').hidden && document.getElementById('forget').hidden"));
}

#[test]
fn an_answer_that_is_none_is_told() {
    let api = Api::with(Vec::new());
    let page = Browser::at(&api.url());
    page.until("document.getElementById('readiness-word').textContent === 'ready'");
    api.state().status = json!(null);
    page.until("document.getElementById('lost').textContent.includes('cannot be read')");
    assert!(page.is("document.getElementById('n-claims').textContent === '4'"), "what was seen last stays");
}
