//! Holds `docs/security.md` against the tree: each threat names a test that is there. And what no test of behaviour can
//! show, the text of the sources must.
//!
//! Reads files and runs nothing.

use std::collections::BTreeSet;
use std::fs;

use super::expect_none;
use super::source::{root, rust_files};

/// What stands above the column that names tests.
const SHOWN_BY: &str = "shown by";

/// Every function below `#[test]` or `#[tokio::test]`, and every test that a macro makes of a name.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in rust_files() {
        let lines: Vec<&str> = source.code.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let is_test = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let named =
                lines[at..].iter().take(6).find_map(|line| line.split("fn ").nth(1)).filter(|_| is_test);
            found.extend(named.map(|name| name.split('(').next().unwrap_or_default().to_owned()));
        }
        for line in lines.iter().filter(|line| line.starts_with("async fn ")) {
            let name = line.trim_start_matches("async fn ").split(['(', '<']).next();
            found.extend(name.filter(|_| source.path.starts_with("tests/")).map(str::to_owned));
        }
    }
    found
}

/// The rows of the tables whose last column is [`SHOWN_BY`]: their line, the threat, and what it is shown by.
fn threats() -> Vec<(usize, String, String)> {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (mut rows, mut is_inside) = (Vec::new(), false);
    for (at, line) in page.lines().enumerate() {
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            is_inside = is_inside && line.starts_with("|---");
            continue;
        };
        let cells: Vec<&str> = cells.split(" | ").collect();
        match cells.last() {
            Some(&SHOWN_BY) => is_inside = true,
            Some(shown) if is_inside => rows.push((at + 1, cells[0].to_owned(), (*shown).to_owned())),
            Some(_) | None => {}
        }
    }
    rows
}

#[test]
fn every_threat_names_a_test_that_is_there() {
    let (tests, threats) = (tests(), threats());
    assert!(threats.len() > 40, "{}", threats.len());
    let mut found = Vec::new();
    for (line, threat, shown) in threats {
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            found.push(format!("docs/security.md:{line}: {threat}: no test"));
        }
        let missing = named.into_iter().filter(|name| !tests.contains(*name));
        found.extend(missing.map(|name| format!("docs/security.md:{line}: {threat}: {name}")));
    }
    expect_none("a threat without a test, or with one that is nowhere", found);
}

#[test]
fn secrets_are_compared_in_constant_time() {
    for (file, kind) in [("src/protocol/fingerprint.rs", "Fingerprint"), ("src/admin/token.rs", "Token")] {
        let source = fs::read_to_string(root().join(file)).unwrap();
        assert!(source.contains("verify_slices_are_equal("), "{file}");
        let (before, _) = source.split_once(&format!("pub struct {kind}")).unwrap();
        let derived = before.rsplit("#[derive(").next().unwrap_or_default();
        assert!(!derived.contains("PartialEq"), "{file}: {kind} is compared byte by byte");
    }
}

#[test]
fn the_manifest_forbids_unsafe_code() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\nunsafe_code = \"forbid\"\n"));
}
