//! TLS as `sslscan` sees it: which versions and suites are offered, and what is weak among them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::site::Site;
use super::subjects::{self, Door, Subject};
use super::table::{Cell, Kind, Row};
use super::tools;

const LIMIT: Duration = Duration::from_secs(40);

/// Versions that RFC 8996 and RFC 7568 forbid.
const FORBIDDEN: [&str; 4] = ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"];

/// Parts of the names of suites that RFC 9325 §4 advises against: no forward secrecy, no AEAD, or broken.
const WEAK: [&str; 8] = ["RC4", "DES", "NULL", "EXP", "MD5", "ADH", "CBC", "SEED"];

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let site = Site::start()?;
    let subjects = subjects::all(dir, site.address)?;
    if !tools::is_installed("sslscan") {
        return Ok(vec![Row::case("sslscan", [0, 1, 2].map(|_| Cell::none("not installed")))]);
    }
    let scans = subjects.each_ref().map(|subject| scan(dir, subject.as_ref()));
    let row = |name: &str, judge: &dyn Fn(&str) -> Cell| {
        let cells = scans.each_ref().map(|scan| match scan {
            Ok(text) => judge(text),
            Err(cell) => cell.clone(),
        });
        Row::case(name, cells)
    };
    let count = |name: &str, counted: &dyn Fn(&str) -> usize| {
        let judge = |text: &str| {
            let found = counted(text);
            let figure = f64::from(u32::try_from(found).unwrap_or(u32::MAX));
            Cell::figure(figure, found.to_string(), Some(found == 0))
        };
        Row { kind: Kind::LowerIsBetter, ..row(name, &judge) }
    };
    let enabled = |text: &str, version: &str| {
        text.lines().any(|line| line.starts_with(version) && line.trim_end().ends_with("enabled"))
    };
    Ok(vec![
        row("sslscan, TLS 1.3 is offered", &|text| Cell::of(enabled(text, "TLSv1.3"), "not offered")),
        row("sslscan, TLS 1.2 is offered", &|text| Cell::of(enabled(text, "TLSv1.2"), "not offered")),
        count("sslscan, forbidden versions offered, RFC 8996", &|text| {
            FORBIDDEN.iter().filter(|version| enabled(text, version)).count()
        }),
        count("sslscan, weak suites offered, RFC 9325 §4", &|text| {
            suites(text).filter(|suite| is_weak(suite)).count()
        }),
        row("sslscan, no compression", &|text| {
            Cell::of(
                text.contains("Compression disabled") || !text.contains("Compression enabled"),
                "offered",
            )
        }),
        row("sslscan, no insecure renegotiation", &|text| {
            Cell::of(!text.contains("Insecure session renegotiation supported"), "offered")
        }),
        row("sslscan, not open to Heartbleed", &|text| {
            Cell::of(!text.replace("not vulnerable", "").contains("vulnerable to heartbleed"), "open")
        }),
        row("sslscan, downgrades are told, RFC 7507", &|text| {
            let is_asked = !FORBIDDEN.iter().any(|version| enabled(text, version));
            Cell::of(is_asked || text.contains("Server supports TLS Fallback SCSV"), "not told")
        }),
    ])
}

fn scan(dir: &Path, subject: Option<&Subject>) -> Result<String, Cell> {
    let Some(subject) = subject else { return Err(Cell::none("not installed")) };
    let Some(address) = subject.door(Door::Tls) else { return Err(Cell::no_answer()) };
    text_of(dir, address).map_err(|error| Cell::wrong(error.to_string()))
}

fn text_of(dir: &Path, address: SocketAddr) -> Result<String, Failure> {
    let said = tools::run("sslscan", &["--no-colour", &address.to_string()], dir, LIMIT)?;
    if suites(&said.text).next().is_none() { Err("no handshake".into()) } else { Ok(said.text) }
}

/// The names of the suites that are offered, one a version.
fn suites(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().filter(|line| line.starts_with("Accepted") || line.starts_with("Preferred"));
    lines.filter_map(|line| line.split_whitespace().nth(4))
}

fn is_weak(suite: &str) -> bool {
    let is_broken = WEAK.iter().any(|part| suite.contains(part));
    let has_secrecy = ["TLS_", "ECDHE", "DHE"].iter().any(|start| suite.starts_with(start));
    let is_aead = ["GCM", "POLY1305", "CCM"].iter().any(|part| suite.contains(part));
    is_broken || !has_secrecy || !is_aead
}
