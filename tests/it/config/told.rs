//! That every error of a configuration names its key, says what was found, and says what is wanted.

use std::fmt::Write;

use onceway::config::keys::{self, Shape};

use super::{UPSTREAM, parse, problem, problems};

/// Values of a wrong type for `shape`, and texts that hold nothing.
fn wrong_values(shape: &Shape) -> Vec<&'static str> {
    let is_wrong = |value: &&&str| match shape {
        Shape::Flag => **value != "true",
        Shape::Count(..) | Shape::Status(_) => **value != "7",
        Shape::Texts(_) | Shape::ErrorStatuses | Shape::Tables => **value != "[]",
        Shape::Table => **value != "{}",
        Shape::Text(_) | Shape::SecretText(_) | Shape::Word(_) | Shape::Duration(..) | Shape::Size(..) => {
            true
        }
    };
    let values = ["true", "7", "-1", "2.5", "1979-05-27", "\"\"", "[]", "{}", "[true]", "[[]]", "[{}]"];
    values.iter().filter(is_wrong).copied().collect()
}

/// A file with one line more in a table, and the path of the key in it.
fn file_with(table: &str, key: &str, value: &str) -> (String, String) {
    let mut text = String::new();
    match table {
        "" => {}
        "upstreams.default" if key == "url" => writeln!(text, "[upstreams.default]").unwrap(),
        "upstreams.default" => text.push_str(UPSTREAM),
        "routes" if key == "path" => writeln!(text, "[[routes]]").unwrap(),
        "routes" => writeln!(text, "[[routes]]\npath = \"/told\"").unwrap(),
        table => writeln!(text, "[{table}]").unwrap(),
    }
    writeln!(text, "{key} = {value}").unwrap();
    if !text.contains("[upstreams.default]") && key != "upstreams" {
        text.push_str(UPSTREAM);
    }
    let path = match table {
        "" => key.to_owned(),
        "routes" => format!("routes[0].{key}"),
        table => format!("{table}.{key}"),
    };
    (text, path)
}

#[test]
fn whatever_stands_in_place_of_a_value_the_error_names_the_key_what_was_found_and_what_is_wanted() {
    for (table, lists) in &keys::TABLES {
        for key in lists.iter().copied().flatten() {
            for value in wrong_values(&key.shape) {
                let (text, path) = file_with(table, key.name, value);
                let line = text.lines().position(|line| line.starts_with(&format!("{} = ", key.name)));
                let told = problems(&text);
                let place = format!("onceway.toml:{}:", line.unwrap() + 1);
                let names = |line: &&String| line.starts_with(&place) && line.contains(&format!("  {path}"));
                assert!(told.iter().any(|line| names(&line)), "{path} = {value}: {told:#?}");
                for line in &told {
                    assert!(
                        line.contains(": found ") && line.contains(" expected "),
                        "{path} = {value}: {line}"
                    );
                    assert!(
                        !line.contains("found ,") && !line.contains("found []"),
                        "{path} = {value}: {line}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_kind_of_refusal_says_what_is_wanted() {
    for text in [
        "[policy]\nmethods = [\"GET\"]\n",
        "[policy]\nmethods = [\"CONNECT\"]\n",
        "[policy]\nfingerprint_headers = [\"Date\"]\n",
        "[policy]\nreplay_header = \"Content-Length\"\n",
        "[policy]\nscope = [\"jwt:sub\"]\n",
        "[policy]\nscope = [\"client-cert\"]\n",
        "[upstreams.b]\nurl = \"http://me@127.0.0.1:1\"\n",
        "[upstreams.b]\nurl = \"http://127.0.0.1:1/?a\"\n",
        "[log]\nlevel = \"${NONE}\"\n",
        "[log]\nlevel = \"${\"\n",
    ] {
        let told = problem(text);
        assert!(told.contains(": found ") && told.contains(" expected "), "{told}");
    }
}

#[test]
fn what_is_not_toml_is_told_with_what_is_wanted() {
    for text in [
        "[server\n",
        "a = [,]\n",
        "a = \"\\q\"\n",
        "a = 01\n",
        "a = yes\n",
        "a = foo\n",
        "= 1\n",
        "a = [=]\n",
        "a b\n",
    ] {
        for line in problems(text) {
            assert!(line.contains("not valid TOML: ") && line.contains(" expected "), "{text:?}: {line}");
        }
    }
    assert!(!problems("a = 01\n")[0].contains("expected nothing"));
    assert!(problems("[server]\nlisten = foo\n")[0].contains("expected a string in quotes"));
}

#[test]
fn an_empty_path_is_told_as_a_path_of_its_own_kind() {
    for (line, wanted) in [
        ("[admin]\naudit_file = \"\"", "the path of a file such as \"/var/lib/onceway/audit.jsonl\""),
        ("[store]\nbackup_dir = \"\"", "a directory such as \"/var/backups/onceway\""),
        ("[store]\nhash_key_file = \"\"", "the path of a file that holds a secret"),
        ("[store]\nencryption_key_file = \"\"", "the path of a file that holds encryption keys"),
        ("[admin]\ntoken_file = \"\"\naudit_file = \"a\"", "the path of a file that holds a token"),
        ("[traces]\nca_file = \"\"", "the path of a PEM file with certificates"),
    ] {
        let told = problem(&format!("{line}\n"));
        assert!(told.ends_with(&format!(": found \"\", expected {wanted}")), "{told}");
        let key =
            line.split(['[', ']', '\n', ' ']).filter(|word| !word.is_empty()).take(2).collect::<Vec<_>>();
        assert!(told.contains(&format!("  {}: ", key.join("."))), "{told}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_key_path_reason_and_what_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("no-such").display().to_string();
    for (table, key) in [
        ("store", "hash_key_file"),
        ("store", "encryption_key_file"),
        ("traces", "ca_file"),
        ("server", "tls_certificate_file"),
        ("server", "tls_key_file"),
        ("server", "tls_client_ca_file"),
        ("admin", "token_file"),
    ] {
        let told = problems(&format!("{UPSTREAM}[{table}]\n{key} = '{file}'\n"));
        let line = told.iter().find(|line| line.contains(&format!("  {table}.{key}: "))).unwrap();
        let begin = format!("onceway.toml:4:{}  {table}.{key}: ", key.len() + 4);
        let reason = format!(
            "failed to read \"{file}\": No such file or directory (os error 2); expected the path of"
        );
        assert!(line.starts_with(&(begin + &reason)), "{line}");
    }
}

#[test]
fn what_may_be_the_secret_itself_is_not_shown_in_place_of_its_files_path() {
    for secret in ["hunter2", "/hunter2", "hunter2/hunter2", "/hunter2/hunter2+hunter2=="] {
        let told = problem(&format!("[store]\nhash_key_file = \"{secret}\"\n"));
        assert!(!told.contains("hunter2") && told.contains("store.hash_key_file: failed to read "), "{told}");
        assert!(told.contains("may be the secret itself") && told.contains("(os error 2)"), "{told}");
    }
    for path in ["./no-such", "/"] {
        let told = problem(&format!("[store]\nhash_key_file = \"{path}\"\n"));
        assert!(told.contains(&format!("failed to read \"{path}\": ")), "{told}");
    }
}

#[test]
fn a_key_that_stands_twice_is_named_with_both_lines() {
    for (text, told) in [
        ("[log]\nlevel = \"info\"\nlevel = \"off\"\n", &["5:1  log.level 4"][..]),
        ("[log]\nlevel = \"info\"\n[log]\nlevel = \"off\"\n", &["5:2  log 3", "6:1  log.level 4"]),
        (
            "[upstreams.default]\nurl = \"http://h\"\n",
            &["3:12  upstreams.default 1", "4:1  upstreams.default.url 2"],
        ),
        ("[policy]\nprevious = { scope = [] }\nprevious = {}\n", &["5:1  policy.previous 4"]),
        ("[policy]\nprevious = { scope = [], scope = [] }\n", &["4:26  policy.previous.scope 4"]),
        ("[policy]\nprevious.scope = []\nprevious.scope = []\n", &["5:10  policy.previous.scope 4"]),
        (
            "[policy]\nttl = \"1h\"\nprevious = { scope = [] }\n[[routes]]\npath = \"/a\"\n[[routes]]\npath = \"/b\"\nttl \
             = \"1h\"\nttl = \"2h\"\npath = \"/c\"\n",
            &["11:1  routes[1].ttl 10", "12:1  routes[1].path 9"],
        ),
        ("[store]\n\"names\" = 1\n\"names\" = 2\n", &["5:1  store.names 4"]),
    ] {
        let found: Vec<_> = problems(&format!("{UPSTREAM}{text}"))
            .into_iter()
            .filter(|line| line.contains("a second time"))
            .collect();
        let expected: Vec<_> = told
            .iter()
            .map(|told| {
                let (place, first) = told.rsplit_once(' ').unwrap();
                format!(
                    "onceway.toml:{place}: found the key a second time, expected it once; the first is at line {first}"
                )
            })
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn behind_other_mistakes_a_key_that_stands_twice_is_named_all_the_same() {
    let found = problems("[log]\nlevel = \"info\"\nlevel = \"off\"\nformat = \n");
    assert_eq!(found[0], "onceway.toml:3:1  level: found the key a second time, expected it once");
    let shown = parse("\"http://me:hunter2@h\" = 1\n\"http://me:hunter2@h\" = 1\n").unwrap_err().to_string();
    assert!(!shown.contains("hunter2") && shown.contains("a second time"), "{shown}");
}

#[test]
fn what_is_empty_is_told_to_be_empty() {
    for (text, told) in [
        (
            "[policy]\nmethods = []\n",
            "policy.methods: found an empty array, expected at least one method such as \"POST\", or key = \"off\"",
        ),
        (
            "[policy]\nkey_from = []\n",
            "policy.key_from: found an empty array, expected at least one source such as \"header:Idempotency-Key\", or key = \"off\"",
        ),
        (
            "[log]\nlevel = []\n",
            "log.level: found an empty array, expected a level such as \"info\" or a filter such as \"info,onceway=debug\"",
        ),
        (
            "[policy]\nreplay_header = \"\"\n",
            "policy.replay_header: found \"\", expected a header name such as \"Idempotent-Replayed\"",
        ),
    ] {
        let found = problem(text);
        assert!(found.ends_with(&format!("  {told}")), "{found}");
    }
    let found = problems("[upstreams]\n");
    assert!(
        found[0].contains("upstreams: found an empty table, expected at least one upstream"),
        "{found:?}"
    );
    let found = problems("upstreams = []\n");
    assert!(
        found[0].contains("upstreams: found an empty array, expected at least one upstream"),
        "{found:?}"
    );
}
