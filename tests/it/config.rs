//! The configuration as people meet it: whole files, whole messages. `config/told.rs` holds that each error says enough.

mod told;

use std::fmt::Write;
use std::path::Path;

use onceway::config::{self, Config, ConfigProblems, StoreUrl, keys};
use onceway::protocol::policy::{KeyMode, Policy};
use proptest::prelude::*;

const EMPTY: fn(&str) -> Option<String> = |_| None;
const UPSTREAM: &str = "[upstreams.default]\nurl = \"http://127.0.0.1:9000\"\n";

fn parse(text: &str) -> Result<Config, ConfigProblems> {
    config::parse("onceway.toml", text, &EMPTY)
}

/// The problems of a text, one line each.
fn problems(text: &str) -> Vec<String> {
    let shown = parse(text).expect_err("the text should be refused").to_string();
    let mut lines: Vec<_> = shown.lines().map(str::to_owned).collect();
    assert!(lines.pop().is_some_and(|count| count.contains("problem")), "{shown}");
    lines
}

/// The only problem of a text that follows a sound upstream.
fn problem(text: &str) -> String {
    let found = problems(&format!("{UPSTREAM}{text}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().unwrap()
}

#[test]
fn ten_mistakes_are_told_at_once_each_with_its_place() {
    let text = "\
[server]
listen = \"everywhere\"
drain_timeout = 65
[store]
urll = \"redis://:hunter2@cache\"
local_cache = \"64 MiB\"
[policy]
ttl = \"90\"
methods = [\"POST\", \"GET\"]
in_flight = \"hold\"
mismatch_status = 418
[[routes]]
  path = \"/payments/{id}\"
  upstream = \"billing\"
[[routes]]
  path = \"/payments/{number}\"
  upstream = \"default\"
[upstreams.default]
url = \"http://127.0.0.1:9000\"
";
    let expected = [
        "onceway.toml:2:10  server.listen: found \"everywhere\", expected an address such as \"127.0.0.1:8080\", \
         \"[::1]:8080\" or \":8080\"",
        "onceway.toml:3:17  server.drain_timeout: found 65, expected a duration such as \"90s\"",
        "onceway.toml:5:1  store.urll: found an unknown key, did you mean \"url\"?",
        "onceway.toml:6:15  store.local_cache: found \"64 MiB\", expected a size such as \"64KiB\"",
        "onceway.toml:8:7  policy.ttl: found \"90\", expected a duration such as \"90s\"",
        "onceway.toml:9:20  policy.methods[1]: found \"GET\": a safe method needs no protection, it may be repeated \
         as it is; expected a method in upper case such as \"POST\"",
        "onceway.toml:10:13  policy.in_flight: found \"hold\", expected \"reject\" or \"wait\"",
        "onceway.toml:11:19  policy.mismatch_status: found 418, expected 422, 409 or 400",
        "onceway.toml:14:14  routes[0].upstream: found \"billing\", expected the name of an upstream of this file",
        "onceway.toml:16:10  routes[1].path: found the path \"/payments/{number}\" a second time, expected it once; \
         the first is at line 13",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn the_complete_example_shows_the_defaults() {
    let example = parse(include_str!("../../config/onceway.toml")).unwrap();
    let bare = parse(UPSTREAM).unwrap();
    assert_eq!(format!("{:?}", example.server), format!("{:?}", bare.server));
    assert_eq!(example.admin, bare.admin);
    assert_eq!(format!("{:?}", example.store), format!("{:?}", bare.store));
    assert_eq!(example.upstreams, bare.upstreams);
    assert_eq!(example.log, bare.log);
    assert_eq!(example.traces, bare.traces);
    assert_eq!(example.routes[2].policy, Policy::default());
    assert_eq!(example.routes[0].policy, Policy { key: KeyMode::Required, ..Policy::default() });
}

#[test]
fn the_complete_example_names_every_key() {
    let example = include_str!("../../config/onceway.toml");
    for (table, lists) in &keys::TABLES[1..] {
        for key in lists.iter().copied().flatten() {
            let stands = example.lines().any(|line| {
                line.trim_start_matches("# ")
                    .strip_prefix(key.name)
                    .is_some_and(|rest| rest.starts_with(" = "))
            });
            assert!(stands, "[{table}] {}", key.name);
        }
    }
}

#[test]
fn the_table_of_keys_tells_the_defaults_that_hold() {
    let mut text = String::from(UPSTREAM);
    for (table, lists) in &keys::TABLES[1..] {
        match *table {
            "upstreams.default" => {}
            "routes" => text.push_str("[[routes]]\npath = \"/told\"\n"),
            table => writeln!(text, "[{table}]").unwrap(),
        }
        for key in lists.iter().copied().flatten().filter(|key| !key.default.is_empty()) {
            if *table == "upstreams.default" {
                text = text.replacen("9000\"\n", &format!("9000\"\n{} = {}\n", key.name, key.default), 1);
            } else {
                writeln!(text, "{} = {}", key.name, key.default).unwrap();
            }
        }
    }
    let told = parse(&text).unwrap();
    let held = parse(&format!("{UPSTREAM}[[routes]]\npath = \"/told\"\n")).unwrap();
    let as_text = |config: &Config| format!("{config:?}").replace("is_explicit: true", "is_explicit: false");
    assert_eq!(as_text(&told), as_text(&held));
}

#[test]
fn the_quickstart_protects_one_path() {
    let config = config::load(Path::new("config/quickstart.toml")).unwrap();
    assert_eq!(config.routes.len(), 1);
    assert_eq!(config.routes[0].policy.key, KeyMode::Required);
    assert_eq!(config.default_upstream, Some(0));
}

#[test]
fn a_route_overrides_the_policy_and_inherits_the_rest() {
    let config = parse(&format!(
        "{UPSTREAM}[policy]\nttl = \"2h\"\nkey = \"required\"\n[[routes]]\npath = \"/a\"\nttl = \"3h\"\n"
    ))
    .unwrap();
    let policy = &config.routes[0].policy;
    assert_eq!((policy.ttl.as_secs(), policy.key), (3 * 3600, KeyMode::Required));
}

#[test]
fn a_mistake_in_the_policy_is_told_once_however_many_routes_inherit_it() {
    let found = problem("[policy]\nttl = \"0s\"\n[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/b\"\n");
    assert_eq!(
        found,
        "onceway.toml:4:7  policy.ttl: found \"0s\", expected a duration from \"1s\" to \"3650d\""
    );
}

#[test]
fn a_secret_is_never_shown_wherever_it_stands() {
    for text in [
        "[store]\nurl = \"postgres://me:hunter2@db:0/once\"\n",
        "[store]\nurl = \"redis://:hunter2@cache:0\"\n",
        "[store]\nurl = \"hunter2\"\n",
        "[store]\nurl = [\"hunter2\"]\n",
        "[store]\nurl = \"redis://:hunter2@cache\n",
        "[store]\nurl = redis://:hunter2@cache\n",
        "[store]\nurl = \"redis://:hunter2@\\q\"\n",
        "[store]\nurl = \"a\"\nurl = \"redis://:hunter2@cache\"\n",
        "[store]\nredis = \"redis://:hunter2@cache\"\n",
        "[store]\n\"redis://:hunter2@cache\" = 1\n",
        "[store]\nnamespace = \"redis://:hunter2@cache {\"\n",
        "[store]\nhash_key_file = \"hunter2\"\n",
        "store = \"redis://:hunter2@cache\"\n",
        "[upstreams.b]\nurl = \"http://me:hunter2@127.0.0.1:1\"\n",
        "[upstreams.b]\nurl = \"http://127.0.0.1:1/?token=hunter2\"\n",
        "[upstreams.\"http://me:hunter2@h\"]\nurl = \"http://127.0.0.1:1\"\n",
    ] {
        let shown = parse(&format!("{UPSTREAM}{text}")).expect_err(text);
        for view in [shown.to_string(), format!("{shown:?}")] {
            assert!(!view.contains("hunter2"), "{text}\n{view}");
        }
    }
}

#[test]
fn a_variable_is_filled_in_and_an_unset_one_is_named() {
    let env = |name: &str| (name == "HOST").then(|| "cache:6379".to_owned());
    let text = format!("{UPSTREAM}[store]\nurl = \"redis://${{HOST}}/1\"\nnamespace = \"a$${{b\"\n");
    let refused = config::parse("f", &text, &env).unwrap_err().to_string();
    assert!(
        refused.contains("store.namespace: found \"a$${b\""),
        "braces are no part of a namespace: {refused}"
    );
    let config = config::parse("f", &text.replace("a$${b", "ab"), &env).unwrap();
    assert_eq!(config.store.url.describe(), "redis://cache:6379/1");
    assert_eq!(
        problem("[store]\nurl = \"redis://${CACHE}/1\"\n"),
        "onceway.toml:4:7  store.url: found ${CACHE}, which is not set in the environment, expected it to be set to \
         UTF-8 text, or \"$${\" where it is meant as it stands"
    );
    assert_eq!(
        problem("[log]\nlevel = \"${no end\"\n"),
        "onceway.toml:4:9  log.level: found \"${\" that begins no variable, expected \"${NAME}\", or \"$${\" where \
         it is meant as it stands"
    );
}

#[test]
fn what_a_variable_holds_is_never_shown() {
    let env = |_: &str| Some("hunter2".to_owned());
    let text = format!("{UPSTREAM}[policy]\nttl = \"${{TTL}}\"\n");
    let shown = config::parse("f", &text, &env).unwrap_err().to_string();
    assert!(!shown.contains("hunter2") && shown.contains("${TTL}"), "{shown}");
}

#[test]
fn an_escaped_variable_stays_as_it_is() {
    let text = format!("{UPSTREAM}[server]\nproblem_base = \"urn:$$x$:\"\n");
    assert_eq!(parse(&text).unwrap().server.problem_base, "urn:$$x$:");
    let escaped = parse(&format!("{UPSTREAM}[store]\nurl = \"file:./$${{A}}\"\n")).unwrap();
    assert_eq!(escaped.store.url.describe(), "file:./${A}");
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_or_with_all() {
    assert_eq!(
        problem("[[routes]]\npath = \"/a\"\nkeyfrom = []\n").split("  ").last(),
        Some("routes[0].keyfrom: found an unknown key, did you mean \"key_from\"?")
    );
    assert_eq!(
        problem("[logging]\nlevel = \"info\"\n"),
        "onceway.toml:3:2  logging: found an unknown key, expected server, admin, store, upstreams, policy, routes, \
         log or traces"
    );
}

#[test]
fn text_that_is_not_toml_is_told_with_its_place_and_nothing_else() {
    let found = problems("[server]\nlisten = \n[upstreams.default\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("onceway.toml:2:10  not valid TOML: "), "{found:#?}");
    assert!(found[1].starts_with("onceway.toml:3:19  not valid TOML: "), "{found:#?}");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_not_shift_places() {
    let found = problems("\u{feff}[servr]\r\nx = 1\r\n[upstreams]\r\nurl = \"http://h\"\r\n");
    assert_eq!(found[0], "onceway.toml:1:2  servr: found an unknown key, did you mean \"server\"?");
    assert_eq!(found[1], "onceway.toml:4:7  upstreams.url: found a string (not shown), expected a table");
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_value_where_a_table_belongs_is_told() {
    assert_eq!(
        problem("[routes]\npath = \"/a\"\n"),
        "onceway.toml:3:1  routes: found a table, expected an array of tables: [[routes]]"
    );
    assert_eq!(problem("[[store]]\n"), "onceway.toml:3:1  store: found an array, expected a table");
    let found = problems("log = 1\nupstreams = []\nroutes = [1]\n");
    assert!(found[0].starts_with("onceway.toml:1:7  log: found a number, expected a table"), "{found:#?}");
    assert!(
        found[1].starts_with("onceway.toml:2:13  upstreams: found an empty array, expected"),
        "{found:#?}"
    );
    assert!(
        found[2].starts_with("onceway.toml:3:11  routes[0]: found a number, expected a table"),
        "{found:#?}"
    );
}

#[test]
fn every_form_of_a_whole_number_is_read() {
    let text = format!("{UPSTREAM}[server]\nthreads = 1_0\nheader_count_max = 0x1F\n");
    let server = parse(&text).unwrap().server;
    assert_eq!((server.threads, server.header_count_max), (10, 31));
}

#[test]
fn a_key_that_stands_twice_is_told_beside_the_other_problems() {
    let found =
        problems(&format!("{UPSTREAM}[log]\nlevel = \"info\"\nlevel = \"debug\"\nformat = \"xml\"\n"));
    assert_eq!(
        found[0],
        "onceway.toml:5:1  log.level: found the key a second time, expected it once; the first is at line 4"
    );
    assert_eq!(found[1], "onceway.toml:6:10  log.format: found \"xml\", expected \"human\" or \"json\"");
}

#[test]
fn what_must_be_there_and_is_not_is_told() {
    let found = problems("[[routes]]\nkey = \"off\"\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("onceway.toml:1:1  upstreams: found nothing, expected at least one"),
        "{found:#?}"
    );
    assert!(
        found[1].starts_with("onceway.toml:1:1  routes[0].path: found nothing, expected a path"),
        "{found:#?}"
    );
    let found = problems("[upstreams.billing]\n[[routes]]\npath = \"/a\"\n");
    assert!(found[0].starts_with("onceway.toml:1:1  upstreams.billing.url: found nothing"), "{found:#?}");
    assert!(
        found[1].contains("routes[0].upstream: found nothing, expected the name of an upstream"),
        "{found:#?}"
    );
}

#[test]
fn every_kind_of_wrong_value_is_refused() {
    for line in [
        "key_max_length = 0",
        "key_max_length = -1",
        "key_max_length = 2.5",
        "key_max_length = 99999999999999999999999",
        "key_from = []",
        "methods = []",
        "methods = \"POST\"",
        "methods = [\"POST\", \"POST\"]",
        "scope = [\"jwt:sub\"]",
        "scope = [\"client-cert\"]",
        "fingerprint_headers = [\"Date\"]",
        "release_statuses = [200]",
        "release_statuses = [401, \"407\"]",
        "in_flight_status = 400",
        "request_body_max = \"2GiB\"",
        "response_body_max = 1048576",
        "wait_timeout = \"0s\"",
        "unknown_ttl = \"999ms\"",
        "ttl = 1979-05-27",
        "replay_header = \"Content-Length\"",
        "mode = true",
    ] {
        let found = problem(&format!("[policy]\n{line}\n"));
        let (key, _) = line.split_once(" = ").unwrap();
        assert!(
            found.starts_with("onceway.toml:4:") && found.contains(&format!("policy.{key}")),
            "{line}: {found}"
        );
    }
}

#[test]
fn a_session_shorter_than_half_a_second_is_refused() {
    assert_eq!(
        problem("[store]\nsession_ttl = \"499ms\"\n"),
        "onceway.toml:4:15  store.session_ttl: found \"499ms\", expected a duration from \"500ms\" to \"60m\""
    );
}

#[test]
fn the_hash_key_is_read_trimmed_and_must_be_long() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hash-key");
    let text = format!("{UPSTREAM}[store]\nhash_key_file = '{}'\n", file.display());
    let refused = parse(&text).unwrap_err().to_string();
    assert!(refused.contains("store.hash_key_file: failed to read "), "{refused}");
    std::fs::write(&file, "  too-short-hunter\n").unwrap();
    assert_eq!(parse(&text).unwrap().store.hash_key.unwrap().reveal(), "too-short-hunter");
    std::fs::write(&file, "  hunter2\n").unwrap();
    let refused = parse(&text).unwrap_err().to_string();
    assert!(refused.contains("at least 16 bytes") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn without_a_file_post_and_patch_are_guarded_on_every_path() {
    let config = config::for_upstream("http://127.0.0.1:9000", None, None).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert!(matches!(config.store.url, StoreUrl::Embedded(_)));
    assert_eq!((config.default_upstream, config.routes.len()), (Some(0), 1));
    assert_eq!(config.routes[0].path, "/{*rest}");
    assert!(config.routes[0].policy.guards("PATCH") && !config.routes[0].policy.guards("PUT"));
}

#[test]
fn wrong_arguments_are_told_at_once_by_their_names() {
    let refused =
        config::for_upstream("localhost:9000", Some("8080"), Some("mysql://me:hunter2@h")).unwrap_err();
    let shown = refused.to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[0],
        "--upstream: found \"localhost:9000\", expected an address such as \"http://127.0.0.1:9000\" or \
         \"https://api.internal/base\""
    );
    assert!(lines[1].starts_with("--listen: found \"8080\", expected an address such as"), "{shown}");
    assert!(lines[2].starts_with("--store: found an address (not shown), expected a store"), "{shown}");
    assert_eq!(lines[3], "3 problems");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_file_that_is_not_there_is_told_by_its_name() {
    let shown = config::load(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(shown.starts_with("no/such.toml  failed to read the file: "), "{shown}");
}

fn onceway(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_onceway")).args(arguments).output().unwrap()
}

#[test]
fn check_tells_a_valid_file_on_standard_output_and_ends_with_0() {
    let output = onceway(&["check", "--config", "config/onceway.toml"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{shown}");
    assert!(shown.starts_with("config/onceway.toml is valid\n") && shown.contains("\nwarning: "), "{shown}");
}

#[test]
fn wrong_usage_and_wrong_configuration_are_told_on_standard_error_and_end_with_2() {
    for (arguments, told) in [
        (&["check", "--config", "no/such.toml"][..], "no/such.toml  failed to read the file"),
        (&["serve", "--config", "no/such.toml"], "no/such.toml  failed to read the file"),
        (&["serve", "--upstream", "h:1"], "--upstream: found \"h:1\", expected an address"),
        (&["serve"], "--upstream <URL>"),
        (&["sing"], "unrecognized subcommand"),
    ] {
        let output = onceway(arguments);
        let shown = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {shown}");
        assert!(shown.contains(told), "{arguments:?}: {shown}");
    }
}

/// Lines that make a text which is nearly a configuration.
fn nearly_a_configuration() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("[server]".to_owned()),
        Just("[store]".to_owned()),
        Just("[policy]".to_owned()),
        Just("[[routes]]".to_owned()),
        Just("[upstreams.default]".to_owned()),
        Just("url = \"http://127.0.0.1:9000\"".to_owned()),
        ("(path|host|url|listen|ttl|key|scope|methods|level|threads)", "[ -~é]{0,12}")
            .prop_map(|(key, value)| format!("{key} = \"{value}\"")),
        ("(path|host|url|ttl|methods|scope|key_from|threads)", "[0-9a-z\\[\\]{}\",.:$-]{0,12}")
            .prop_map(|(key, value)| format!("{key} = {value}")),
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![any::<String>(), nearly_a_configuration()]) {
        if let Err(problems) = parse(&text) {
            prop_assert!(problems.count() > 0);
            for line in problems.to_string().lines() {
                prop_assert!(line.starts_with("onceway.toml:") || line.contains("problem"), "{}", line);
            }
        }
    }
}
