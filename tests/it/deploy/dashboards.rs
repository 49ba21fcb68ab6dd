//! Alerts and dashboard against the metrics and each other.

use std::collections::BTreeSet;

use onceway::telemetry::metrics::{FAMILIES, Kind, PROBLEM_CODES, VERDICTS};
use serde_json::Value;

use super::{expect_none, file};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const DASHBOARD: &str = "deploy/grafana/onceway.json";

/// Labels that every series has from its scrape.
const OF_THE_SCRAPE: &[&str] = &["job", "instance"];

/// What an operator is told of, and what each section of the runbook is called.
const TOLD: &[&str] = &[
    "OncewayAddedLatencyHigh",
    "OncewayDown",
    "OncewayInFlightOld",
    "OncewayLogLinesDropped",
    "OncewayOverloaded",
    "OncewayReloadRefused",
    "OncewayStoreUnreachable",
    "OncewaySupersededClaims",
    "OncewayUnknownOutcomes",
    "OncewayUnprotectedRequests",
    "OncewayUnstoredAnswers",
    "OncewayUpstreamDown",
];

/// The labels of a metric, or nothing if there is none of the name. A histogram goes without `_bucket`.
fn labels(metric: &str) -> Option<Vec<&'static str>> {
    let family = FAMILIES.iter().find(|family| family.page_name() == metric)?;
    let bound = (family.kind == Kind::Histogram).then_some("le");
    Some(family.labels.iter().copied().chain(bound).collect())
}

/// The metrics that `text` names, as the gateway calls them, each with the labels in the braces behind it.
fn selections(text: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut rest = text;
    let mut found = Vec::new();
    while let Some(at) = ["onceway_", "process_"].iter().filter_map(|prefix| rest.find(prefix)).min() {
        let begins = !rest[..at].ends_with(is_word);
        let end = rest[at..].find(|character| !is_word(character)).map_or(rest.len(), |length| at + length);
        let name = &rest[at..end];
        let (braces, behind) = match rest[end..].strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((braces, behind)) => (braces, behind),
            None => ("", &rest[end..]),
        };
        if begins {
            let matchers = braces.split(", ").filter_map(|matcher| matcher.split_once(['=', '!', '~']));
            found.push((family(name), matchers.map(|(label, _)| label.to_owned()).collect()));
        }
        rest = behind;
    }
    found
}

/// The name of the histogram that a series belongs to, or the name itself.
fn family(series: &str) -> String {
    let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| series.strip_suffix(part));
    let histogram = parts.filter(|name| labels(name).is_some_and(|labels| labels.contains(&"le")));
    histogram.unwrap_or(series).to_owned()
}

fn unknown_selections(text: &str) -> Vec<String> {
    let unknown = selections(text).into_iter().flat_map(|(metric, used)| match labels(&metric) {
        None => vec![format!("{metric} is no metric")],
        Some(known) => {
            let strange = used
                .into_iter()
                .filter(|label| !known.contains(&label.as_str()) && !OF_THE_SCRAPE.contains(&label.as_str()));
            strange.map(|label| format!("{metric} has no label {label}")).collect()
        }
    });
    unknown.collect()
}

/// The alerts, each from its name to the next one's.
fn alerts() -> Vec<(String, String)> {
    let text = file(ALERTS);
    let alerts = text.split("- alert: ").skip(1).filter_map(|alert| alert.split_once('\n'));
    alerts.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&file(DASHBOARD)).unwrap()
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let marks = dashboard["annotations"]["list"].as_array().unwrap();
    let targets =
        panels(dashboard).into_iter().flat_map(|panel| panel["targets"].as_array().unwrap()).chain(marks);
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alerts_name_metrics_and_labels_that_exist() {
    let expressions = file(ALERTS);
    assert!(selections(&expressions).len() > 20, "the alerts are read");
    expect_none(ALERTS, unknown_selections(&expressions));
}

#[test]
fn the_tests_of_the_alerts_name_metrics_and_labels_that_exist() {
    expect_none("alerts_test.yml", unknown_selections(&file("deploy/prometheus/alerts_test.yml")));
}

#[test]
fn the_dashboard_names_metrics_and_labels_that_exist() {
    expect_none(DASHBOARD, expressions(&dashboard()).iter().flat_map(|text| unknown_selections(text)));
}

#[test]
fn alerts_and_dashboard_name_verdicts_and_codes_that_exist() {
    let text = file(ALERTS) + &expressions(&dashboard()).join("\n");
    let named = |label: &str| {
        let begin = format!("{label}=\"");
        let values = text.split(&begin).skip(1).filter_map(|rest| rest.split_once('"'));
        values.map(|(value, _)| value.to_owned()).collect::<BTreeSet<_>>()
    };
    let (verdicts, codes) = (named("verdict"), named("code"));
    assert!(verdicts.len() >= 2 && !codes.is_empty());
    expect_none("no verdict", verdicts.iter().filter(|verdict| !VERDICTS.contains(&verdict.as_str())));
    expect_none("no code", codes.iter().filter(|code| !PROBLEM_CODES.contains(&code.as_str())));
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown: BTreeSet<_> = expressions(&dashboard()).iter().flat_map(|text| selections(text)).collect();
    let shown: BTreeSet<_> = shown.into_iter().map(|(metric, _)| metric).collect();
    let names = FAMILIES.iter().map(|family| family.page_name());
    expect_none("no panel shows", names.filter(|name| !shown.contains(name)));
}

#[test]
fn there_is_an_alert_for_everything_that_an_operator_is_told_of() {
    let names: BTreeSet<_> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, TOLD.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn every_alert_says_how_bad_it_is_what_is_so_and_where_to_read_on() {
    let lacking = alerts().into_iter().flat_map(|(name, rule)| {
        let runbook = format!("runbook_url: docs/runbook.md#{}\n", name.to_lowercase());
        let wanted = ["severity: ", "summary: ", "description: >-\n", &runbook].map(str::to_owned);
        let missing = wanted.into_iter().filter(|part| !rule.contains(part.as_str()));
        missing.map(|part| format!("{name} lacks {}", part.trim_end())).collect::<Vec<_>>()
    });
    expect_none(ALERTS, lacking);
    let severities: BTreeSet<_> =
        file(ALERTS).lines().filter_map(|line| Some(line.split_once("severity: ")?.1.to_owned())).collect();
    assert_eq!(severities, BTreeSet::from(["critical".to_owned(), "warning".to_owned()]));
}

#[test]
fn the_runbook_has_a_section_for_every_alert() {
    let runbook = file("docs/runbook.md");
    let lacking = TOLD.iter().filter(|name| !runbook.lines().any(|line| line == format!("### {name}")));
    expect_none("no section in docs/runbook.md", lacking);
}

#[test]
fn every_panel_says_what_it_shows_and_goes_by_the_chosen_gateways() {
    let dashboard = dashboard();
    let found = panels(&dashboard).into_iter().filter(|panel| {
        let is_told = panel["description"].as_str().is_some_and(|text| !text.is_empty());
        let targets = panel["targets"].as_array().unwrap().iter();
        let selects = targets.map(|target| target["expr"].as_str().unwrap());
        let selects = selects
            .flat_map(selections)
            .all(|(_, used)| used.starts_with(&["job".to_owned(), "instance".to_owned()]));
        !is_told || !selects || panel["datasource"]["uid"] != "${datasource}"
    });
    expect_none(DASHBOARD, found.map(|panel| panel["title"].to_string()));
}

#[test]
fn no_panel_lies_over_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let found = panels(&dashboard).into_iter().filter(|panel| {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        let mut cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
        x + w > 24 || !cells.all(|cell| taken.insert(cell))
    });
    expect_none(DASHBOARD, found.map(|panel| panel["title"].to_string()));
}
