//! Holds the documentation together: every page is in the book, every link leads somewhere, and the runbook knows
//! every problem code and every alert.
//!
//! Reads files and runs nothing. Anchors are made of headings as mdBook makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::expect_none;
use super::source::root;

/// Where the gateway's own answers get their codes, and the function whose first text is one.
const CODES: [(&str, &str); 2] = [("src/proxy/respond.rs", "plain("), ("src/admin/problem.rs", " of(")];

const ALERTS: &str = "deploy/prometheus/alerts.yml";

/// The pages of the book, by name.
fn pages() -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap());
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let pages = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "md"));
    pages.map(|entry| (name(&entry), fs::read_to_string(entry.path()).unwrap())).collect()
}

/// The lines of a page that are not inside a block of code, with their numbers.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    page.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((at + 1, line))
    })
}

/// The anchors of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|sign| match sign {
        ' ' => Some('-'),
        '-' | '_' => Some(sign),
        _ if sign.is_alphanumeric() => Some(sign.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

/// Where the links of a line lead to.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn every_page_is_in_the_book_and_every_chapter_is_a_page() {
    let pages = pages();
    let chapters: BTreeSet<_> = links_of(&pages["SUMMARY.md"]).collect();
    let written: BTreeSet<_> = pages.keys().filter(|name| *name != "SUMMARY.md").cloned().collect();
    assert_eq!(chapters, written, "the links of docs/SUMMARY.md and the pages of docs/");
}

fn links_of(page: &str) -> impl Iterator<Item = String> {
    prose(page).flat_map(|(_, line)| links(line)).map(str::to_owned)
}

#[test]
fn every_link_of_the_book_leads_to_a_page_and_a_heading() {
    let pages = pages();
    let anchors: BTreeMap<_, _> = pages.iter().map(|(name, page)| (name.as_str(), anchors(page))).collect();
    let mut found = Vec::new();
    for (name, page) in &pages {
        for (line, target) in prose(page).flat_map(|(at, line)| links(line).map(move |target| (at, target))) {
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { name } else { file };
            let leads = match anchors.get(file) {
                Some(anchors) => heading.is_empty() || anchors.contains(heading),
                // A picture. What lies outside of the book is not in it.
                None => !file.starts_with("..") && root().join("docs").join(file).is_file(),
            };
            if !leads {
                found.push(format!("docs/{name}:{line}: {target}"));
            }
        }
    }
    expect_none("a link that leads nowhere", found);
}

#[test]
fn the_runbook_has_an_entry_for_every_problem_code() {
    let mut codes = BTreeSet::new();
    for (file, maker) in CODES {
        let source = fs::read_to_string(root().join(file)).unwrap();
        let texts = source.split(maker).skip(1).filter_map(|rest| rest.split('"').nth(1));
        let is_code = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        codes.extend(texts.filter(is_code).map(str::to_owned));
    }
    assert!(codes.len() > 35, "{codes:?}");
    let anchors = anchors(&pages()["runbook.md"]);
    let missing = codes.into_iter().filter(|code| !anchors.contains(code));
    expect_none("docs/runbook.md has no entry for these problem codes", missing);
}

#[test]
fn the_runbook_has_an_entry_for_every_alert() {
    let rules = fs::read_to_string(root().join(ALERTS)).unwrap();
    let names: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert:")).collect();
    assert!(!names.is_empty(), "no alerts in {ALERTS}");
    let anchors = anchors(&pages()["runbook.md"]);
    let missing = names.into_iter().map(str::trim).filter(|name| !anchors.contains(&anchor(name)));
    expect_none("docs/runbook.md has no entry for these alerts", missing.map(str::to_owned));
}
