//! The JSON Schema (2020-12) of a file, made from the table of its keys: for editors, and for programs that write files.
//!
//! It takes every file that is valid. It refuses what can be told from one value alone: unknown keys, wrong types, words
//! and numbers out of bounds. Bounds of durations and sizes stand in their descriptions, and what several keys say
//! together is left to `check`. Must not know how a value is read.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::keys::{Known, ROOT, TABLES};
use super::shape::{Key, Shape};

/// A duration: numbers with units, one after the other.
const DURATION: &str = "^([0-9]+(d|h|m|s|ms))+$";
/// The same, and one of the numbers is not nought.
const DURATION_NOT_ZERO: &str = "^([0-9]+(d|h|m|s|ms))*[0-9]*[1-9][0-9]*(d|h|m|s|ms)([0-9]+(d|h|m|s|ms))*$";
/// A size: a number, with a unit or none.
const SIZE: &str = "^[0-9]+(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)?$";
/// A string that is completed from the environment, so that nothing can be said of it here.
const VARIABLE: &str = "\\$\\{[A-Za-z_]";
/// Names of upstreams.
const UPSTREAM_NAME: &str = "^[A-Za-z0-9_-]{1,64}$";

/// What must stand in a table, by the table's name in [`TABLES`].
const NEEDED: [(&str, &str); 3] = [("", "upstreams"), ("upstreams.default", "url"), ("routes", "path")];

/// The schema as text of several lines, with a line break at its end.
pub fn text() -> String {
    // A document of maps with text as keys always has a text.
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema.
pub fn document() -> Value {
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:onceway:schema:configuration",
        "title": "The configuration of onceway",
        "description": "Durations are \"250ms\", \"30s\", \"24h\", \"7d\"; sizes are \"64KiB\", \"1MiB\". ${NAME} in a \
                        string is taken from the environment.",
    });
    let tables: Map<_, _> = TABLES
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, known)| (definition(name).to_owned(), table(name, known)))
        .collect();
    if let (Some(document), Value::Object(root)) = (document.as_object_mut(), table("", &[&ROOT, &[]])) {
        document.extend(root);
        document.insert("$defs".to_owned(), Value::Object(tables));
    }
    document
}

/// What a table is called among the definitions.
fn definition(table: &str) -> &str {
    match table {
        "upstreams.default" => "upstream",
        "routes" => "route",
        "policy.previous" => "previous",
        other => other,
    }
}

fn table(name: &str, known: &Known) -> Value {
    let keys = known.iter().copied().flatten();
    let properties: Map<_, _> = keys.map(|key| (key.name.to_owned(), property(key))).collect();
    let needed: Vec<_> =
        NEEDED.iter().filter(|(table, _)| *table == name).map(|(_, key)| Value::from(*key)).collect();
    let mut table = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if let Some(table) = table.as_object_mut()
        && !needed.is_empty()
    {
        table.insert("required".to_owned(), Value::Array(needed));
    }
    table
}

fn property(key: &Key) -> Value {
    let mut property = shape(key);
    if let Some(property) = property.as_object_mut() {
        property.insert("description".to_owned(), Value::from(description(key)));
        if let Ok(default) = serde_json::from_str(key.default) {
            property.insert("default".to_owned(), default);
        }
    }
    property
}

fn description(key: &Key) -> String {
    match &key.shape {
        shape @ (Shape::Duration(..) | Shape::Size(..)) => {
            let bounds = shape.bounds();
            let mut letters = bounds.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            format!("{} {}{}.", key.meaning, first.unwrap_or_default(), letters.as_str())
        }
        Shape::Table
        | Shape::Tables
        | Shape::Text(_)
        | Shape::SecretText(_)
        | Shape::Texts(_)
        | Shape::Word(_)
        | Shape::Count(..)
        | Shape::Flag
        | Shape::Status(_)
        | Shape::ErrorStatuses => key.meaning.to_owned(),
    }
}

fn shape(key: &Key) -> Value {
    match &key.shape {
        Shape::Table if key.name == "upstreams" => json!({
            "type": "object",
            "minProperties": 1,
            "patternProperties": { UPSTREAM_NAME: reference("upstream") },
            "additionalProperties": false,
        }),
        Shape::Table => reference(key.name),
        Shape::Tables => json!({ "type": "array", "items": reference("route") }),
        Shape::Text(_) | Shape::SecretText(_) => json!({ "type": "string" }),
        Shape::Texts(_) => json!({ "type": "array", "items": { "type": "string" }, "uniqueItems": true }),
        Shape::Word(words) => text_of(&json!({ "enum": words() })),
        Shape::Duration(min, _) if *min > Duration::ZERO => text_of(&json!({ "pattern": DURATION_NOT_ZERO })),
        Shape::Duration(..) => text_of(&json!({ "pattern": DURATION })),
        Shape::Size(..) => text_of(&json!({ "pattern": SIZE })),
        Shape::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Status(statuses) => json!({ "type": "integer", "enum": statuses }),
        Shape::ErrorStatuses => json!({
            "type": "array",
            "items": { "type": "integer", "minimum": 400, "maximum": 599 },
            "uniqueItems": true,
        }),
    }
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}") })
}

/// A string of this kind, or one that is completed from the environment.
fn text_of(kind: &Value) -> Value {
    json!({ "type": "string", "anyOf": [kind, { "pattern": VARIABLE }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_told_as_json() {
        for (table, lists) in &TABLES {
            for key in lists.iter().copied().flatten().filter(|key| !key.default.is_empty()) {
                assert!(property(key).get("default").is_some(), "[{table}] {}", key.name);
            }
        }
    }

    #[test]
    fn every_reference_leads_to_a_definition() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#/$defs/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["$defs"][name].is_object(), "{name}");
        }
    }
}
