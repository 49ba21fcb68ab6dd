//! Whether a document is as a JSON schema says: the few words of JSON Schema that our own description uses. A word that
//! is not known here fails, so that none is written in vain.

use serde_json::Value;

/// Words that say nothing that is looked at here.
const NOT_LOOKED_AT: [&str; 5] = ["default", "description", "example", "format", "contentEncoding"];

/// What is wrong with `value`, beginning with where; nothing if it is as `schema` says. `root` is what `$ref` refers to.
pub(super) fn wrong(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().unwrap() {
        let is_right = match word.as_str() {
            "$ref" => {
                found.extend(wrong(root, referred(root, rule), value, at));
                true
            }
            "type" => listed(rule).any(|kind| is_of_kind(value, kind.as_str().unwrap())),
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "minLength" => value.as_str().is_none_or(|text| text.len() >= size(rule)),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= size(rule)),
            "pattern" => value.as_str().is_none_or(|text| is_64_digits(text, rule)),
            "anyOf" => listed(rule).any(|one| wrong(root, one, value, at).is_empty()),
            "allOf" => {
                found.extend(listed(rule).flat_map(|one| wrong(root, one, value, at)));
                true
            }
            "items" => {
                let items = value.as_array().into_iter().flatten();
                found.extend(items.flat_map(|item| wrong(root, rule, item, &format!("{at}[]"))));
                true
            }
            "required" => {
                let members = value.as_object();
                members.is_none_or(|members| {
                    listed(rule).all(|name| members.contains_key(name.as_str().unwrap()))
                })
            }
            "properties" | "additionalProperties" => {
                found.extend(wrong_members(root, schema, word, value, at));
                true
            }
            other => NOT_LOOKED_AT.contains(&other),
        };
        if !is_right {
            found.push(format!("{at}: {value} is against {word}: {rule}"));
        }
    }
    found
}

fn wrong_members(root: &Value, schema: &Value, word: &str, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten() {
        let (known, place) =
            (schema.get("properties").and_then(|known| known.get(name)), format!("{at}.{name}"));
        match (word, known, &schema["additionalProperties"]) {
            ("properties", Some(rule), _) => found.extend(wrong(root, rule, member, &place)),
            ("additionalProperties", None, Value::Bool(false)) => found.push(format!("{place} is not known")),
            ("additionalProperties", None, rule @ Value::Object(_)) => {
                found.extend(wrong(root, rule, member, &place));
            }
            _ => {}
        }
    }
    found
}

/// What a reference within the same document refers to.
pub(super) fn referred<'r>(root: &'r Value, reference: &Value) -> &'r Value {
    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
    root.pointer(pointer).unwrap_or_else(|| panic!("nothing is at {reference}"))
}

fn listed(rule: &Value) -> impl Iterator<Item = &Value> {
    let one = (!rule.is_array()).then_some(rule);
    rule.as_array().into_iter().flatten().chain(one)
}

fn is_of_kind(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => panic!("{kind} is no type"),
    }
}

/// The only patterns that are used are those of a reference.
fn is_64_digits(text: &str, pattern: &Value) -> bool {
    assert!(["^[0-9a-f]{64}$", "^[0-9a-fA-F]{64}$"].contains(&pattern.as_str().unwrap()));
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn size(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}

#[test]
fn what_is_against_a_schema_is_told() {
    let root = serde_json::json!({ "a": { "type": "object", "required": ["n"], "additionalProperties": false,
        "properties": { "n": { "type": ["integer", "null"], "minimum": 1 } } } });
    let schema = serde_json::json!({ "$ref": "#/a" });
    let count = |value: Value| wrong(&root, &schema, &value, "").len();
    assert_eq!(count(serde_json::json!({ "n": 1 })), 0);
    assert_eq!(count(serde_json::json!({ "n": null })), 0);
    assert_eq!(count(serde_json::json!({})), 1);
    assert_eq!(count(serde_json::json!({ "n": 0 })), 1);
    assert_eq!(count(serde_json::json!({ "n": "1", "m": 1 })), 2);
    assert_eq!(count(serde_json::json!([])), 1);
}
