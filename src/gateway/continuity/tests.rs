//! What is lost between two configurations, each a few lines of a file.

use std::time::Duration;

use super::{Config, Loss, Lost, losses};
use crate::config;

const DAYS: Duration = Duration::from_hours(24 * 30);

fn parsed(text: &str) -> Config {
    let text = format!("[upstreams.default]\nurl = \"http://127.0.0.1:9\"\n{text}");
    config::parse("f", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn routes(paths: &[&str]) -> String {
    let tables: Vec<_> = paths
        .iter()
        .map(|line| {
            let (path, lines) = line.split_once(' ').unwrap_or((line, ""));
            format!("[[routes]]\npath = \"{path}\"\n{}\n", lines.replace("; ", "\n"))
        })
        .collect();
    tables.concat()
}

fn lost_after(old: &[&str], new: &[&str], stood: Duration) -> Vec<String> {
    let found = losses(&parsed(&routes(old)), &parsed(&routes(new)), stood);
    found
        .into_iter()
        .map(|Loss { route, what }| match what {
            Lost::Guard => format!("{route}: guard"),
            Lost::Derivation(keys) => format!("{route}: {}", keys.join(",")),
            Lost::Previous(_) => format!("{route}: previous"),
        })
        .collect()
}

fn lost(old: &[&str], new: &[&str]) -> Vec<String> {
    lost_after(old, new, Duration::ZERO)
}

fn is_kept(old: &[&str], new: &[&str]) {
    assert_eq!(lost(old, new), Vec::<String>::new(), "{old:?} to {new:?}");
}

#[test]
fn nothing_is_lost_where_nothing_changes_or_only_what_makes_no_key() {
    is_kept(&["/a"], &["/a"]);
    is_kept(&["/a"], &["/a ttl = \"1h\"; in_flight = \"wait\"; key = \"required\"", "/b"]);
    is_kept(&["/a", "/b/{id}"], &["/{*rest} methods = [\"POST\", \"PATCH\"]"]);
    is_kept(&["/a key = \"off\""], &[]);
    is_kept(&["/a mode = \"observe\""], &[]);
    is_kept(&["/a"], &["/a key_from = [\"header:Idempotency-Key\", \"json:/id\"]; key_format = \"uuid\""]);
}

#[test]
fn a_path_that_is_no_longer_guarded_is_told() {
    assert_eq!(lost(&["/a", "/b"], &["/b"]), ["POST /a: guard"]);
    assert_eq!(lost(&["/a"], &["/a key = \"off\""]), ["POST /a: guard"]);
    assert_eq!(lost(&["/a"], &["/a mode = \"observe\""]), ["POST /a: guard"]);
    assert_eq!(lost(&["/a methods = [\"POST\", \"PUT\"]"], &["/a"]), ["PUT /a: guard"]);
    assert_eq!(lost(&["/a"], &["/a host = \"h\""]), ["POST /a: guard"]);
}

#[test]
fn a_more_specific_route_that_guards_less_is_told() {
    assert_eq!(lost(&["/{*rest}"], &["/{*rest}", "/a key = \"off\""]), ["POST /a: guard"]);
    assert_eq!(lost(&["/v1/{id}/x"], &["/v1/{id}/x", "/v1/y/{name} scope = []"]), ["POST /v1/y/x: scope"]);
    assert_eq!(lost(&["/a"], &["/a", "/a host = \"h\"; key = \"off\""]), ["POST h/a: guard"]);
    assert_eq!(lost(&["/v1/{*rest}"], &["/v1/{one}"]).len(), 2, "/v1 itself and what is deeper");
}

#[test]
fn each_part_of_how_keys_and_fingerprints_are_made_is_told() {
    for (line, key) in [
        ("scope = []", "scope"),
        ("key_from = [\"json:/id\"]", "key_from"),
        ("fingerprint_headers = [\"X-Tenant\"]", "fingerprint_headers"),
        ("fingerprint_body = \"json\"", "fingerprint_body"),
    ] {
        assert_eq!(lost(&["/a"], &[&format!("/a {line}")]), [format!("POST /a: {key}")]);
    }
}

#[test]
fn what_is_given_as_previous_is_not_lost() {
    is_kept(
        &["/a"],
        &["/a scope = [\"header:X-Account\"]; previous = { scope = [\"header:Authorization\"] }"],
    );
    let wrong = "/a scope = [\"header:X-Account\"]; previous = { scope = [] }";
    assert_eq!(lost(&["/a"], &[wrong]), ["POST /a: scope"]);
}

#[test]
fn previous_must_stand_until_the_records_from_before_it_have_ended() {
    let during = "/a scope = []; previous = { scope = [\"header:Authorization\"] }";
    assert_eq!(lost(&[during], &["/a scope = []"]), ["POST /a: previous"]);
    assert_eq!(lost_after(&[during], &["/a scope = []"], DAYS), Vec::<String>::new());
    is_kept(&[during], &[during]);
}

#[test]
fn a_route_that_stops_folding_case_or_dropping_a_slash_is_told() {
    let found = lost(&["/Pay path_case = \"insensitive\""], &["/Pay"]);
    assert_eq!(found, ["POST /PAY: guard", "POST /pay: guard"]);
    assert_eq!(lost(&["/orders/"], &["/orders/"]), Vec::<String>::new());
    assert_eq!(lost(&["/orders/"], &["/orders"]), Vec::<String>::new(), "the slash makes it ambiguous");
}

/// Whatever path of a small alphabet loses its guard is told by some witness, over many pairs of configurations.
#[test]
fn no_path_is_lost_that_no_witness_tells() {
    let patterns =
        ["/{*rest}", "/a", "/a/", "/a/{x}", "/a/b", "/{x}/b", "/{x}", "/a/{*rest}", "/b/{*rest}", "/{x}/{y}"];
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut segments = vec![String::new()];
    for _ in 0..3 {
        let longer: Vec<_> =
            segments.iter().flat_map(|path| ["a", "b", "c"].map(|s| format!("{path}/{s}"))).collect();
        segments.extend(longer);
    }
    for _ in 0..300 {
        let mut some = || {
            let chosen: Vec<_> = patterns.iter().filter(|_| random.u8(..) < 100).collect();
            let line = |pattern: &&&str| match random.u8(..) % 3 {
                0 => format!("{pattern} key = \"off\""),
                1 => format!("{pattern} scope = []"),
                _ => (**pattern).to_string(),
            };
            chosen.iter().map(line).collect::<Vec<_>>()
        };
        let (old, new) = (some(), some());
        let [before, after] =
            [&old, &new].map(|lines| parsed(&routes(&lines.iter().map(String::as_str).collect::<Vec<_>>())));
        let is_lost =
            segments.iter().filter(|path| !path.is_empty()).any(|path| is_lost(&before, &after, path));
        assert_eq!(
            is_lost,
            !losses(&before, &after, Duration::ZERO).is_empty(),
            "seed {seed}: {old:?} to {new:?}"
        );
    }
}

/// By trying the path itself.
fn is_lost(before: &Config, after: &Config, path: &str) -> bool {
    let route = |config: &Config| {
        let router = super::Router::new(&config.routes);
        match router.find(None, path, |at| super::guards(&config.routes, at, "POST")) {
            super::Routed::Route(index) => Some(config.routes[index].policy.clone()),
            super::Routed::None => None,
            super::Routed::Ambiguous => panic!("{path} has one reading"),
        }
    };
    let (was, is) = (route(before), route(after));
    was.filter(super::is_guarded)
        .is_some_and(|was| is.filter(super::is_guarded).is_none_or(|is| is.scope != was.scope))
}
