//! The JSON Schema of a file, held against the reader.

use std::sync::LazyLock;

use boon::{Compiler, SchemaIndex, Schemas};
use onceway::config;
use proptest::prelude::*;
use serde_json::{Value, json};

static JUDGE: LazyLock<Judge> = LazyLock::new(Judge::new);

/// The schema, ready to look at files.
struct Judge {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Judge {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("urn:schema", config::schema::document()).unwrap();
        let index = compiler.compile("urn:schema", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn takes(&self, file: &Value) -> bool {
        self.schemas.validate(file, self.index).is_ok()
    }
}

fn as_json(text: &str) -> Value {
    let table: toml::Table = text.parse().unwrap();
    serde_json::to_value(table).unwrap()
}

/// A sound file, with one key of one table set.
fn with(table: &str, key: &str, value: Value) -> Value {
    let mut file =
        json!({ "upstreams": { "default": { "url": "http://127.0.0.1:9" } }, "routes": [{ "path": "/a" }] });
    match table {
        "upstreams.default" => file["upstreams"]["default"][key] = value,
        "routes" => file["routes"][0][key] = value,
        "policy.previous" => file["policy"] = json!({ "previous": { key: value } }),
        "" => file[key] = value,
        table => file[table] = json!({ key: value }),
    }
    file
}

#[test]
fn the_examples_are_valid_by_the_schema() {
    let judge = &*JUDGE;
    for text in [
        include_str!("../../../config/onceway.toml"),
        include_str!("../../../config/quickstart.toml"),
        include_str!("../../../config/compose.toml"),
    ] {
        let file = as_json(text);
        let judged = judge.schemas.validate(&file, judge.index);
        assert!(judged.is_ok(), "{}", judged.unwrap_err());
    }
}

#[test]
fn every_key_is_known_to_the_schema_and_may_have_its_default() {
    let judge = &*JUDGE;
    for (table, lists) in &config::keys::TABLES[1..] {
        for key in lists.iter().copied().flatten().filter(|key| !key.default.is_empty()) {
            let default = serde_json::from_str(key.default).unwrap();
            assert!(judge.takes(&with(table, key.name, default)), "[{table}] {}", key.name);
        }
        for key in lists.iter().copied().flatten() {
            let nonsense = with(table, key.name, json!({ "no": [null] }));
            assert!(!judge.takes(&nonsense), "[{table}] {} may be anything", key.name);
        }
        assert!(!judge.takes(&with(table, "no_such_key", json!("x"))), "[{table}] knows every key");
    }
}

#[test]
fn what_must_be_there_is_asked_for() {
    let judge = &*JUDGE;
    let sound = with("log", "level", json!("info"));
    assert!(judge.takes(&sound));
    for path in ["/upstreams", "/upstreams/default/url", "/routes/0/path"] {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut file = sound.clone();
        file.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        assert!(!judge.takes(&file), "{path}");
    }
}

#[test]
fn a_value_that_check_refuses_for_itself_is_refused_by_the_schema() {
    let judge = &*JUDGE;
    let upstream = "[upstreams.default]\nurl = \"http://127.0.0.1:9\"\n";
    assert!(judge.takes(&as_json(upstream)));
    for text in [
        "protocol = \"http3\"",
        "[upstreams.\"a b\"]\nurl = \"http://h\"",
        "[server]\nthreads = 0",
        "[server]\nhttp2 = \"yes\"",
        "[server]\ndrain_timeout = 65",
        "[server]\ndrain_timeout = \"65\"",
        "[store]\ntimeout = \"0s\"",
        "[store]\nlocal_cache = \"64 MiB\"",
        "[policy]\nin_flight = \"hold\"",
        "[policy]\nmismatch_status = 418",
        "[policy]\nrelease_statuses = [200]",
        "[policy]\nmethods = [\"POST\", \"POST\"]",
        "[[routes]]\npath = \"/a\"\nttl = \"90\"",
        "[routes]",
    ] {
        let text = format!("{upstream}{text}\n");
        assert!(!judge.takes(&as_json(&text)), "{text}");
        assert!(config::parse("f", &text, &|_| None).is_err(), "{text}");
    }
    assert!(!judge.takes(&json!({ "upstreams": {} })));
}

#[test]
fn a_string_that_is_completed_from_the_environment_is_taken() {
    let judge = &*JUDGE;
    for (table, key) in
        [("policy", "ttl"), ("policy", "in_flight"), ("store", "local_cache"), ("store", "url")]
    {
        assert!(judge.takes(&with(table, key, json!("${VALUE}"))), "{key}");
    }
}

proptest! {
    #[test]
    fn the_schema_and_the_reader_agree_on_what_a_duration_is(text in "[0-9hdms]{0,6}") {
        let is_taken = JUDGE.takes(&with("server", "drain_timeout", json!(text)));
        prop_assert_eq!(is_taken, config::parse_duration(&text).is_ok(), "{}", text);
    }
}
