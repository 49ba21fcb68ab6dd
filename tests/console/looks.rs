//! How the console looks: in both colour schemes, on a phone, to those who listen to it, and to those whom motion disturbs.

use serde_json::{Value, json};

use crate::api::{Api, unknown};
use crate::browser::{Browser, TAB};

const CONTRAST: &str = include_str!("contrast.js");
const WIRING: &str = include_str!("wiring.js");

/// What stands beyond the right edge.
const OUTSIDE: &str = "return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && \
     !e.closest('.unseen, .skip, thead') && e.getBoundingClientRect().right > innerWidth + 1)\
     .map(e => e.outerHTML.slice(0, 80))";

fn three() -> Api {
    Api::with(vec![
        unknown(1, 5, "/payments"),
        unknown(2, 300, "/orders/{id}/refunds"),
        unknown(3, 70, "/payments"),
    ])
}

fn settled(api: &Api) -> Browser {
    let page = Browser::at(&api.url());
    page.until("document.querySelectorAll('#waiting-rows tr').length > 0");
    page.until("document.getElementById('readiness-word').textContent === 'ready'");
    page
}

/// Opens the first operation with every field in sight.
fn with_an_operation(page: &Browser) {
    page.click("#waiting-rows button");
    page.until("!document.getElementById('resolve').hidden");
    page.click("[value=complete]");
    page.click("#forget summary");
    page.until("document.getElementById('operation').getAnimations().length === 0");
}

#[track_caller]
fn can_be_read(page: &Browser) {
    let seen = page.run(CONTRAST);
    assert!(seen["texts"].as_u64().unwrap() > 20, "there is something to read");
    assert_eq!(seen["faint"], json!([]));
}

#[track_caller]
fn fits(page: &Browser) {
    let widths = page.run("return [document.documentElement.scrollWidth, innerWidth]");
    assert_eq!(widths[0], widths[1], "the page scrolls sideways");
    assert_eq!(page.run(OUTSIDE), json!([]));
}

#[test]
fn nothing_is_complained_of_in_the_browsers_console() {
    let api = three();
    let page = settled(&api);
    with_an_operation(&page);
    page.run("document.getElementById('operation').close()");
    page.press("?");
    page.until("document.getElementById('help').open");
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_follows_the_colour_scheme() {
    let api = three();
    let page = settled(&api);
    let shade = || page.run("return getComputedStyle(document.documentElement).backgroundColor");
    page.prefer("prefers-color-scheme", "light");
    let light = shade();
    page.prefer("prefers-color-scheme", "dark");
    assert_ne!(light, shade());
}

#[test]
fn every_text_stands_out_in_light_colours() {
    let api = three();
    let page = settled(&api);
    page.prefer("prefers-color-scheme", "light");
    can_be_read(&page);
    with_an_operation(&page);
    can_be_read(&page);
}

#[test]
fn every_text_stands_out_in_dark_colours() {
    let api = three();
    let page = settled(&api);
    page.prefer("prefers-color-scheme", "dark");
    can_be_read(&page);
    with_an_operation(&page);
    can_be_read(&page);
}

#[test]
fn a_phone_need_not_scroll_sideways() {
    let long = format!("/{}/{{id}}", "a-very-long-segment".repeat(6));
    let api = Api::with(vec![unknown(1, 5, &long), unknown(2, 9000, "/payments")]);
    let page = settled(&api);
    page.resize(360, 740);
    fits(&page);
    with_an_operation(&page);
    fits(&page);
}

#[test]
fn a_wide_screen_need_not_scroll_sideways() {
    let api = three();
    let page = settled(&api);
    for width in [700, 1080, 1280, 2560] {
        page.resize(width, 900);
        fits(&page);
    }
}

#[test]
fn every_control_has_a_name() {
    const CONTROLS: [&str; 9] = [
        "button",
        "textbox",
        "combobox",
        "checkbox",
        "radio",
        "link",
        "table",
        "dialog",
        "DisclosureTriangle",
    ];
    let api = three();
    let page = settled(&api);
    with_an_operation(&page);
    let nodes = page.accessible();
    let word = |node: &Value, what: &str| node[what]["value"].as_str().unwrap_or_default().to_owned();
    let is_control =
        |node: &&Value| CONTROLS.contains(&word(node, "role").as_str()) && node["ignored"] != true;
    let controls: Vec<_> = nodes.iter().filter(is_control).collect();
    assert!(controls.len() > 10, "{} controls", controls.len());
    let nameless: Vec<_> = controls.iter().filter(|node| word(node, "name").trim().is_empty()).collect();
    assert!(nameless.is_empty(), "{nameless:?}");
}

#[test]
fn what_refers_to_something_leads_somewhere() {
    let api = three();
    assert_eq!(settled(&api).run(WIRING), json!([]));
}

#[test]
fn whatever_has_the_focus_shows_it() {
    const IS_SHOWN: &str = "(() => { const style = getComputedStyle(document.activeElement); \
         return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2; })()";
    let api = three();
    let page = settled(&api);
    for _ in 0..14 {
        page.press(TAB);
        assert!(page.is(IS_SHOWN), "{}", page.run("return document.activeElement.outerHTML"));
    }
}

#[test]
fn nothing_moves_for_those_whom_motion_disturbs() {
    let api = three();
    let page = settled(&api);
    page.prefer("prefers-reduced-motion", "reduce");
    page.click("#waiting-rows button");
    assert!(page.is("document.getElementById('operation').open && document.getAnimations().length === 0"));
}
