//! Holds the house to its plan: who may import whom, which outside crate may be named where, how long a
//! file may be, and what must not stand in the repository.
//!
//! Reads files and runs nothing. The tables are the truth, and `ARCHITECTURE.md` is compared with them.
//! Where a rule hurts, change it here in the same commit and say why. `tidy/source.rs` reads the files, `tidy/book.rs` holds the
//! documentation together, `tidy/security.rs` the threats and the tests that they are held against.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

#[path = "tidy/book.rs"]
mod book;
#[path = "tidy/security.rs"]
mod security;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use source::{Source, files, root, rust_files};

/// Each room of `src/` and the rooms that it may import. A room names only rooms that stand above it, so
/// the arrows run one way. `main` is the binary; everything else is the library.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("clock", &["protocol"]),
    ("net", &[]),
    ("octets", &[]),
    ("config", &["protocol"]),
    ("store", &["protocol", "clock"]),
    ("telemetry", &["protocol", "clock", "config"]),
    ("ledger", &["protocol", "clock", "store", "telemetry"]),
    ("migration", &["protocol", "clock", "store"]),
    ("upstream", &["config", "net", "octets", "telemetry"]),
    ("proxy", &["protocol", "clock", "config", "ledger", "upstream", "telemetry"]),
    ("server", &["clock", "config", "net", "octets", "telemetry", "proxy"]),
    ("admin", &["protocol", "clock", "config", "store", "ledger", "telemetry", "server"]),
    (
        "gateway",
        &[
            "protocol",
            "clock",
            "net",
            "config",
            "store",
            "ledger",
            "upstream",
            "telemetry",
            "proxy",
            "server",
            "admin",
        ],
    ),
    ("simulation", &["protocol", "clock", "net", "config", "store", "ledger", "gateway"]),
    ("cli", &["protocol", "clock", "config", "store", "migration", "admin", "gateway"]),
    ("main", &["protocol", "config", "telemetry", "gateway", "cli"]),
];

/// May be named everywhere: plain data, and errors.
const ANYWHERE: &[&str] = &["src/"];

/// Each outside crate and the paths below which it may be named.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("arc_swap", &["src/proxy/entrance.rs", "src/server/", "src/gateway"]),
    ("async_trait", &["src/gateway/collector.rs", "src/simulation/", "src/store/"]),
    ("aws_lc_rs", &["src/admin/", "src/migration/", "src/protocol/", "src/store/codec/"]),
    ("base64", &["src/admin/", "src/cli/keys"]),
    ("bytes", ANYWHERE),
    ("bytesize", &["src/config/units.rs"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("clap_complete", &["src/cli/"]),
    ("clap_mangen", &["src/cli/"]),
    ("crc16", &["src/store/redis/cluster/"]),
    ("crc32fast", &["src/store/codec.rs"]),
    ("h2", &["src/upstream/"]),
    (
        "http",
        &[
            "src/admin/",
            "src/cli/demo",
            "src/cli/keys",
            "src/config/",
            "src/gateway/collector.rs",
            "src/proxy/",
            "src/server/",
            "src/telemetry/",
            "src/upstream/",
        ],
    ),
    ("http_body", &["src/proxy/", "src/upstream/"]),
    (
        "http_body_util",
        &["src/admin/", "src/cli/demo", "src/cli/keys", "src/gateway/collector.rs", "src/proxy/"],
    ),
    ("httpdate", &["src/admin/", "src/proxy/headers.rs"]),
    (
        "humantime",
        &[
            "src/admin/",
            "src/cli/demo",
            "src/cli/keys",
            "src/config/units.rs",
            "src/telemetry/access/line.rs",
        ],
    ),
    ("hyper", &["src/admin/", "src/cli/demo", "src/cli/keys", "src/proxy/", "src/server/", "src/upstream/"]),
    (
        "hyper_util",
        &["src/admin/", "src/cli/demo", "src/cli/keys", "src/proxy/", "src/server/", "src/upstream/"],
    ),
    ("ipnet", &["src/config/", "src/server/", "src/proxy/"]),
    ("itoa", &["src/telemetry/access/line.rs"]),
    ("jsonptr", &["src/config/terms.rs"]),
    ("listenfd", &["src/gateway/systemd.rs"]),
    ("memchr", &["src/server/framing/head.rs", "src/upstream/http1/"]),
    ("mimalloc", &["src/main.rs"]),
    ("opentelemetry", &["src/telemetry/trace/otlp.rs"]),
    ("opentelemetry_http", &["src/telemetry/trace/otlp.rs", "src/gateway/collector.rs"]),
    ("opentelemetry_otlp", &["src/telemetry/trace/otlp.rs"]),
    ("opentelemetry_sdk", &["src/telemetry/trace/otlp.rs"]),
    ("postcard", &["src/store/codec/meta.rs"]),
    ("prometheus_client", &["src/telemetry/"]),
    ("proxy_header", &["src/server/proxy_protocol.rs"]),
    ("quick_cache", &["src/ledger/answers.rs"]),
    ("redb", &["src/store/embedded.rs", "src/store/embedded/"]),
    ("redis", &["src/store/redis.rs", "src/store/redis/"]),
    (
        "rustix",
        &[
            "src/clock.rs",
            "src/server/limits.rs",
            "src/store/embedded/disk.rs",
            "src/telemetry/metrics/process.rs",
        ],
    ),
    ("rustls", &["src/cli/keys", "src/config/", "src/server/", "src/store/postgres/tls.rs", "src/upstream/"]),
    ("rustls_native_certs", &["src/cli/keys", "src/store/postgres/tls.rs", "src/upstream/tls.rs"]),
    ("sd_notify", &["src/gateway/systemd.rs"]),
    ("serde", &["src/cli/demo", "src/cli/keys", "src/proxy/canonical.rs", "src/store/codec/meta.rs"]),
    (
        "serde_json",
        &[
            "src/admin/",
            "src/cli/demo",
            "src/cli/keys",
            "src/config/schema",
            "src/proxy/",
            "src/telemetry/access/line.rs",
        ],
    ),
    ("sfv", &["src/protocol/key.rs"]),
    ("socket2", &["src/net.rs", "src/server/", "src/store/redis/address.rs"]),
    ("strsim", &["src/config/section.rs"]),
    ("thiserror", ANYWHERE),
    (
        "tokio",
        &[
            "src/clock.rs",
            "src/admin/",
            "src/cli/demo",
            "src/cli/keys",
            "src/gateway",
            "src/ledger/",
            "src/main.rs",
            "src/migration/",
            "src/net",
            "src/proxy/",
            "src/server/",
            "src/simulation/",
            "src/store/",
            "src/upstream/",
        ],
    ),
    ("tokio_postgres", &["src/store/postgres.rs", "src/store/postgres/"]),
    (
        "tokio_rustls",
        &["src/cli/keys", "src/server/tls.rs", "src/store/postgres/tls.rs", "src/upstream/connect.rs"],
    ),
    (
        "tokio_util",
        &[
            "src/admin/",
            "src/cli/demo",
            "src/gateway",
            "src/ledger/",
            "src/proxy/",
            "src/server/",
            "src/upstream/",
        ],
    ),
    ("toml", &["src/config/"]),
    ("tower_service", &["src/upstream/connect.rs", "src/upstream/resolve.rs"]),
    (
        "tracing",
        &[
            "src/admin/",
            "src/gateway",
            "src/ledger/",
            "src/proxy/",
            "src/server/",
            "src/store/",
            "src/telemetry/",
            "src/upstream/",
        ],
    ),
    ("tracing_subscriber", &["src/config/terms.rs", "src/telemetry/access/line.rs", "src/telemetry/log"]),
    ("url", &["src/admin/", "src/cli/demo", "src/cli/keys", "src/config/address.rs"]),
    (
        "uuid",
        &[
            "src/admin/",
            "src/cli/demo",
            "src/cli/keys",
            "src/gateway/collector.rs",
            "src/ledger/",
            "src/migration/",
            "src/proxy/respond.rs",
            "src/telemetry/",
        ],
    ),
    ("x509_parser", &["src/server/tls.rs"]),
    ("zeroize", &["src/config/", "src/store/codec/seal.rs"]),
    ("zstd", &["src/store/codec/compress.rs"]),
];

/// Where status codes are chosen.
const CHOOSES_STATUS: &[&str] = &["src/proxy/respond.rs", "src/proxy/turned_away.rs", "src/admin/"];

/// Where status codes are named to be recognised. The demo plays a service and its client, not the gateway.
const RECOGNISES_STATUS: &[(&str, &str)] = &[
    ("src/proxy/aside.rs", "CONTINUE"),
    ("src/proxy/headers.rs", "UPGRADE_REQUIRED"),
    ("src/proxy/upgrade.rs", "SWITCHING_PROTOCOLS"),
    ("src/proxy/received.rs", "SWITCHING_PROTOCOLS"),
    ("src/server/http1.rs", "SWITCHING_PROTOCOLS"),
    ("src/upstream/http1.rs", "NO_CONTENT"),
    ("src/upstream/http1.rs", "SWITCHING_PROTOCOLS"),
    ("src/upstream/http2/exchange.rs", "NO_CONTENT"),
    ("src/cli/demo", ""),
];

/// Lines of a file, the tests at its end not counted. A file of nothing but tests has only the larger bound.
const LINES_MAX: usize = 400;
const LINES_WITH_A_REASON_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// What the header of a file says that is longer than [`LINES_MAX`].
const THE_REASON: &str = "Longer than 400 lines";

fn expect_none(rule: &str, found: impl IntoIterator<Item = String>) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn may_import(room: &str) -> Option<&'static [&'static str]> {
    MAY_IMPORT.iter().find(|(name, _)| *name == room).map(|(_, rooms)| *rooms)
}

fn is_below(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

#[test]
fn every_room_imports_only_whom_it_may() {
    let mut found = Vec::new();
    for source in rust_files().iter().filter(|source| source.is_of_the_house()) {
        let room = source.room();
        let allowed = may_import(room).unwrap_or_default();
        for (line, imported) in source.imports() {
            if imported != room && !allowed.contains(&imported.as_str()) {
                found.push(format!("{}:{line}: {room} imports {imported}", source.path));
            }
        }
    }
    expect_none("an arrow that is not in the table MAY_IMPORT", found);
}

#[test]
fn the_arrows_run_one_way() {
    let mut above: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for (room, imports) in MAY_IMPORT {
        let backward = imports.iter().filter(|imported| !above.contains(imported));
        found.extend(backward.map(|imported| format!("{room} -> {imported}")));
        above.push(room);
    }
    expect_none("a room may import only what stands above it in MAY_IMPORT", found);
}

#[test]
fn every_room_stands_in_the_table() {
    let rooms: BTreeSet<String> = rust_files()
        .iter()
        .filter(|source| source.is_of_the_house() && source.path != "src/lib.rs")
        .map(|source| source.room().to_owned())
        .collect();
    let table: BTreeSet<String> = MAY_IMPORT.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, table, "the folders of src/ and the rows of MAY_IMPORT");
}

#[test]
fn the_drawn_arrows_are_the_true_ones() {
    let drawing = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let missing = MAY_IMPORT.iter().filter_map(|(room, imports)| {
        let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") };
        let row = format!("| `{room}` | {imports} |");
        (!drawing.contains(&row)).then_some(row)
    });
    expect_none("ARCHITECTURE.md does not hold these rows of MAY_IMPORT", missing);
}

#[test]
fn no_path_climbs_out_of_its_room() {
    let mut found = Vec::new();
    for source in rust_files().iter().filter(|source| source.is_of_the_house()) {
        let lines = source.climbs_out().into_iter();
        found.extend(lines.map(|line| format!("{}:{line}", source.path)));
    }
    expect_none("name another room by crate::, so that it can be seen", found);
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let mut found = Vec::new();
    for source in rust_files().iter().filter(|source| source.is_of_the_house()) {
        for (name, places) in MAY_NAME.iter().filter(|(_, places)| !is_below(&source.path, places)) {
            let lines = source.names_crate(name).into_iter();
            found.extend(lines.map(|line| format!("{}:{line}: {name}, at home in {places:?}", source.path)));
        }
    }
    expect_none("an outside crate is named outside the rooms that MAY_NAME gives it", found);
}

#[test]
fn every_dependency_has_a_room() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let dependencies: BTreeSet<String> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect();
    let table: BTreeSet<String> = MAY_NAME.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(dependencies, table, "[dependencies] of Cargo.toml and the rows of MAY_NAME");
}

#[test]
fn status_codes_are_chosen_in_one_place() {
    let mut found = Vec::new();
    for source in rust_files().iter().filter(|source| source.is_of_the_house()) {
        if is_below(&source.path, CHOOSES_STATUS) {
            continue;
        }
        for (line, code) in source.status_codes() {
            let is_recognised = RECOGNISES_STATUS
                .iter()
                .any(|(place, name)| source.path.starts_with(place) && (name.is_empty() || *name == code));
            if !is_recognised {
                found.push(format!("{}:{line}: StatusCode::{code}", source.path));
            }
        }
    }
    expect_none("a status code outside proxy/respond.rs and admin", found);
}

#[test]
fn files_are_short_or_say_why() {
    let mut found = Vec::new();
    for source in rust_files() {
        let lines = source.lines_without_tests();
        let may_be_long = source.is_test() || source.header().contains(THE_REASON);
        let max = if may_be_long { LINES_WITH_A_REASON_MAX } else { LINES_MAX };
        if lines > max {
            found.push(format!("{}: {lines} lines, at most {max}", source.path));
        }
    }
    expect_none(&format!("split the file, or say in its header why it is \"{THE_REASON}\""), found);
}

#[test]
fn functions_fit_a_screen() {
    let mut found = Vec::new();
    for source in rust_files() {
        for (line, name, lines) in source.functions() {
            if lines > FUNCTION_LINES_MAX && !source.expects_many_lines(line) {
                found.push(format!("{}:{line}: fn {name} has {lines} lines", source.path));
            }
        }
    }
    expect_none(&format!("a function has at most {FUNCTION_LINES_MAX} lines"), found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = rust_files().into_iter().filter(|source| !source.text.starts_with("//! "));
    expect_none("a file starts with //!", silent.map(|source| source.path));
}

#[test]
fn no_file_is_named_for_nothing() {
    const NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "imp"];
    let is_empty_name = |path: &str| path.split(['/', '.', '_']).any(|part| NAMES.contains(&part));
    let found = rust_files().into_iter().map(|source| source.path).filter(|path| is_empty_name(path));
    expect_none("a file is named for what it owns", found);
}

#[test]
fn only_tests_take_everything_from_their_parent() {
    let mut found = Vec::new();
    for source in rust_files() {
        let code = source.code_without_tests();
        found.extend(source::lines_with(code, "use super::*").map(|line| format!("{}:{line}", source.path)));
    }
    expect_none("name what is used", found);
}

#[test]
fn nothing_is_left_unfinished() {
    // Taken apart, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"]].map(|parts| parts.concat());
    let code = [["todo", "!("], ["unimplemented", "!("], ["#[ign", "ore"]].map(|parts| parts.concat());
    let mut found = Vec::new();
    for (path, text) in files() {
        for word in &words {
            found.extend(source::lines_with(&text, word).map(|line| format!("{path}:{line}: {word}")));
        }
    }
    for source in rust_files() {
        for word in &code {
            let lines = source::lines_with(&source.code, word);
            found.extend(lines.map(|line| format!("{}:{line}: {word}", source.path)));
        }
    }
    expect_none("finish it, or open an issue and leave no trace", found);
}

#[test]
fn nothing_names_a_machine() {
    // Taken apart, so that this file does not find itself.
    let places = [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/tmp/w", "t-"]]
        .map(|parts| parts.concat());
    let mut found = Vec::new();
    for (path, text) in files() {
        for place in &places {
            found.extend(source::lines_with_path(&text, place).map(|line| format!("{path}:{line}: {place}")));
        }
    }
    expect_none("a path of one machine", found);
}

#[test]
fn scripts_can_be_run() {
    let scripts = files().into_iter().filter(|(path, _)| is_below(path, &["scripts/", ".ci/"]));
    let found = scripts.filter(|(path, text)| {
        let mode = fs::metadata(root().join(path)).unwrap().permissions().mode();
        !text.starts_with("#!") || mode & 0o100 == 0
    });
    expect_none("a script starts with #! and is executable", found.map(|(path, _)| path));
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let source = Source::new(
        "src/store/a.rs",
        "//! crate::a\nuse crate::{protocol::key, clock};\n/* crate::b /* crate::c */ */\n\
         const A: &str = \"crate::d\"; const B: char = '\"'; fn f<'a>() { crate::ledger::g::<'a>(r#\"\"#) }\n\
         #[cfg(test)]\nmod tests {\n    use crate::proxy;\n}\n",
    );
    let rooms: Vec<_> = source.imports().into_iter().map(|(line, room)| format!("{line} {room}")).collect();
    assert_eq!(rooms, ["2 protocol", "2 clock", "4 ledger", "7 proxy"]);
    assert_eq!(source.lines_without_tests(), 4);
    assert_eq!(source.functions(), [(4, "f".to_owned(), 1)]);
    assert!(
        Source::new("src/proxy/b.rs", "crate::store::redis::X; let http = 1;")
            .names_crate("redis")
            .is_empty()
    );
    assert_eq!(Source::new("src/proxy/b.rs", "x;\nuse redis::X;").names_crate("redis"), [2]);
}
