//! The description of the operations API, held against what is really there. Every answer that a test of this folder
//! gets is looked up in it (`describes`).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

use super::office::{Office, here, with_token};
use super::schema::{referred, wrong};
use crate::harness::{Answer, Ask, Upstream};

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../src/admin/openapi.json")).unwrap());

/// Whether an answer is as the description says; one to a question that the description has not is none of its
/// business.
pub(super) fn describes(ask: &Ask, answer: &Answer) {
    let Some(operation) = described(ask) else { return };
    let status = answer.status.to_string();
    let response = operation["responses"].get(&status).unwrap_or_else(|| {
        panic!("{} {} is not described to answer {}", ask.method(), ask.path(), answer.shown())
    });
    let response = response.get("$ref").map_or(response, |reference| referred(&DESCRIPTION, reference));
    let Some(contents) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{}", answer.shown());
        return;
    };
    let kind = answer.header("content-type").unwrap();
    let is_of = |described: &str| kind == described || kind.split(';').next() == Some(described);
    let content = contents.iter().find(|(described, _)| is_of(described));
    let (_, content) = content.unwrap_or_else(|| panic!("{kind} is not described: {}", answer.shown()));
    if kind.contains("json") && !answer.body.is_empty() {
        let document = serde_json::from_slice(&answer.body).unwrap();
        let found = wrong(&DESCRIPTION, &content["schema"], &document, ask.path());
        assert!(found.is_empty(), "{}\n{document}", found.join("\n"));
    }
}

/// What the description says of a question, if the method and the path are in it.
fn described(ask: &Ask) -> Option<&'static Value> {
    let asked: Vec<&str> = ask.path().split('/').collect();
    let is_at = |template: &str| {
        let segments: Vec<&str> = template.split('/').collect();
        segments.len() == asked.len()
            && segments
                .iter()
                .zip(&asked)
                .all(|(segment, asked)| segment == asked || (*segment == "{ref}" && !asked.is_empty()))
    };
    let mut templates: Vec<_> = DESCRIPTION["paths"].as_object().unwrap().iter().collect();
    templates.sort_by_key(|(template, _)| template.contains('{'));
    let (_, place) = templates.into_iter().find(|(template, _)| is_at(template))?;
    let method = if ask.method() == "HEAD" { "get".to_owned() } else { ask.method().to_lowercase() };
    place.get(method)
}

/// Every path with every method: of the table, and of the description.
fn places() -> [BTreeSet<(String, String)>; 2] {
    let table = onceway::admin::places().into_iter().flat_map(|(path, methods)| {
        methods.into_iter().map(move |method| (path.to_owned(), method.to_lowercase()))
    });
    let paths = DESCRIPTION["paths"].as_object().unwrap().iter();
    let described = paths.flat_map(|(path, place)| {
        let methods = place.as_object().unwrap().keys().filter(|name| METHODS.contains(&name.as_str()));
        methods.map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
    });
    [table.filter(|(_, method)| method != "head").collect(), described.collect()]
}

fn every<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v Value>) {
    for (member, inner) in value.as_object().into_iter().flatten() {
        if member == name {
            found.push(inner);
        }
        every(inner, name, found);
    }
    for inner in value.as_array().into_iter().flatten() {
        every(inner, name, found);
    }
}

#[test]
fn what_is_there_is_described_and_what_is_described_is_there() {
    let [table, described] = places();
    assert_eq!(table, described);
}

#[test]
fn whatever_is_described_is_answered() {
    let office = Office::before(&Upstream::of_payments());
    let [_, described] = places();
    for (path, method) in described {
        let path = path.replace("{ref}", &"0".repeat(64));
        let ask = with_token(here(&method.to_uppercase(), &path)).header("Content-Type", "application/json");
        let ask = if ["post", "put"].contains(&method.as_str()) { ask.body("{}") } else { ask };
        let answer = office.ask(&ask);
        let code = if answer.status < 300 { String::new() } else { answer.problem().1 };
        assert!(!["path-unknown", "method-not-supported"].contains(&code.as_str()), "{method} {path}");
    }
}

#[test]
fn every_code_that_a_problem_may_have_is_described() {
    let mut enums = Vec::new();
    every(&DESCRIPTION["components"]["responses"], "enum", &mut enums);
    let described: BTreeSet<&str> =
        enums.iter().flat_map(|codes| codes.as_array().unwrap()).map(|code| code.as_str().unwrap()).collect();
    // Told in words for the document as a whole, because they are the answer to what is not in it.
    let everywhere = ["path-unknown", "method-not-supported"];
    let introduction = DESCRIPTION["info"]["description"].as_str().unwrap();
    assert!(everywhere.iter().all(|code| introduction.contains(code)));
    let codes: BTreeSet<&str> = onceway::admin::codes().into_iter().collect();
    assert_eq!(described.into_iter().chain(everywhere).collect::<BTreeSet<_>>(), codes);
}

#[test]
fn every_example_is_as_its_schema_says() {
    let mut contents = Vec::new();
    every(&DESCRIPTION["paths"], "application/json", &mut contents);
    let mut examples = 0;
    for content in contents {
        let many =
            content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
        for example in content.get("example").into_iter().chain(many) {
            examples += 1;
            let found = wrong(&DESCRIPTION, &content["schema"], example, "example");
            assert!(found.is_empty(), "{}", found.join("\n"));
        }
    }
    assert!(examples >= 8);
}

#[test]
fn the_description_is_served_as_it_stands_and_of_this_version() {
    let office = Office::before(&Upstream::of_payments());
    assert_eq!(office.see("/v1/openapi.json"), *DESCRIPTION);
    assert_eq!(DESCRIPTION["info"]["version"], env!("CARGO_PKG_VERSION"));
}
