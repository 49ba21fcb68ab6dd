//! What stands in `deploy/` agrees with the gateway: alerts and dashboard name metrics that exist, the manifests hold
//! configurations that it takes, and leave it the time that its drain may need.
//!
//! Reads files and starts nothing; `scripts/deploy-check` asks promtool, helm and systemd.

mod dashboards;
mod manifests;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A file of the repository.
fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expect_none<T: AsRef<str>>(rule: &str, found: impl IntoIterator<Item = T>) {
    let found: BTreeSet<String> = found.into_iter().map(|it| it.as_ref().to_owned()).collect();
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}
