//! HTTP/2 towards callers: nghttp2's `nghttp` and `h2load`, floods of frames, and those of `malformed.rs`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::frames::{
    CONTINUATION, Client, DATA, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, block, frame, request,
};
use super::malformed::{self, REACTION, reaction};
use super::site::{Site, letters};
use super::subjects::{self, Door, Subject};
use super::table::{Cell, Kind, Row};
use super::tools::{self, Said};

const LIMIT: Duration = Duration::from_secs(30);

/// Requests that are taken back as soon as they are made.
const RESETS: u32 = 5000;

pub(super) fn play(dir: &Path) -> Result<Vec<Row>, Failure> {
    let site = Site::start()?;
    let subjects = subjects::all(dir, site.address)?;
    std::fs::write(dir.join("upload"), letters(900_000))?;
    let mut rows = nghttp_rows(dir, &subjects);
    rows.extend(h2load_rows(dir, &subjects));
    rows.extend(malformed::rows(&subjects, &site));
    rows.push(rapid_reset(&subjects, &site));
    rows.extend(flood_rows(&subjects));
    Ok(rows)
}

/// A row whose tool may be missing.
fn tool_row(
    tool: &str,
    name: &str,
    subjects: &[Option<Subject>; 3],
    door: Door,
    ask: impl Fn(SocketAddr) -> Result<Cell, Failure>,
) -> Row {
    if tools::is_installed(tool) {
        subjects::row(name, subjects, door, ask)
    } else {
        Row::case(name, [0, 1, 2].map(|_| Cell::none("not installed")))
    }
}

fn nghttp_rows(dir: &Path, subjects: &[Option<Subject>; 3]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (door, scheme) in [(Door::H2c, "http"), (Door::Tls, "https")] {
        type Holds = fn(&Said) -> bool;
        let status_200 = |said: &Said| said.text.contains(":status: 200");
        let errands: [(&str, &[&str], &str, Holds); 5] = [
            ("a request", &["-nv", "--no-dep"], "/hello", status_200),
            ("200 requests at once", &["-nv", "--no-dep", "-m", "200"], "/bytes/20000", |said| {
                said.text.matches(":status: 200").count() == 200
            }),
            ("an upload of 900 kB", &["-v", "--no-dep", "-d", "upload"], "/echo", |said| {
                said.text.contains(":status: 200") && said.text.contains("content-length: 900000")
            }),
            ("trailers of an answer", &["-nv", "--no-dep", "-H", "te: trailers"], "/trailers", |said| {
                said.text.contains("x-sum: 42")
            }),
            (
                "a ping between data",
                &["-nv", "--no-dep", "-w", "30", "-W", "30"],
                "/bytes/900000",
                status_200,
            ),
        ];
        for (what, options, path, holds) in errands {
            let name = format!("nghttp, {scheme}, {what}");
            rows.push(tool_row("nghttp", &name, subjects, door, |address| {
                let url = format!("{scheme}://{address}{path}");
                let arguments: Vec<&str> = options.iter().copied().chain([url.as_str()]).collect();
                let said = tools::run("nghttp", &arguments, dir, LIMIT)?;
                Ok(Cell::of(said.code == Some(0) && holds(&said), "something else came"))
            }));
        }
    }
    rows
}

/// Requests a second of one connection with a hundred streams, and whether all succeeded.
fn h2load_rows(dir: &Path, subjects: &[Option<Subject>; 3]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (door, scheme, path, count) in [
        (Door::H2c, "http", "/hello", "3000"),
        (Door::Tls, "https", "/hello", "3000"),
        (Door::Tls, "https", "/bytes/100000", "300"),
    ] {
        let name = format!("h2load, {scheme}, {count} of {path}, requests/s");
        let row = tool_row("h2load", &name, subjects, door, |address| {
            let url = format!("{scheme}://{address}{path}");
            let said = tools::run("h2load", &["-n", count, "-c", "4", "-m", "25", &url], dir, LIMIT)?;
            let has_all = said.text.contains(&format!("{count} succeeded, 0 failed"));
            let rate = said.text.split(" req/s").next().and_then(|text| text.rsplit(' ').next());
            let rate = rate.and_then(|rate| rate.parse::<f64>().ok()).unwrap_or_default();
            Ok(if has_all {
                Cell::figure(rate, format!("{rate:.0}"), Some(true))
            } else {
                Cell::wrong("some failed")
            })
        });
        rows.push(Row { kind: Kind::HigherIsBetter, ..row });
    }
    rows
}

/// How many of the requests that are taken back at once reach the upstream.
fn rapid_reset(subjects: &[Option<Subject>; 3], site: &Site) -> Row {
    let cells = [0, 1, 2].map(|column| {
        let Some(Some(subject)) = subjects.get(column) else { return Cell::none("not installed") };
        let Some(address) = subject.door(Door::H2c) else { return Cell::no_answer() };
        let path = format!("/rapid-reset-{column}");
        let Ok(mut client) = Client::connect(address) else { return Cell::no_answer() };
        let mut bytes = Vec::new();
        for number in 0..RESETS {
            let stream = 2 * number + 1;
            bytes.extend(request(stream, END_STREAM, &path, &[]));
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        // A server that has had enough closes before it has read everything.
        drop(client.send(&bytes));
        while let Ok(Some(_)) = client.read(REACTION) {}
        let reached = site.count(&path);
        let shown = format!("{reached} of {RESETS}");
        Cell::figure(f64::from(u32::try_from(reached).unwrap_or(u32::MAX)), shown, Some(reached == 0))
    });
    let name = "http/2 rapid reset, requests at the upstream";
    Row { name: name.to_owned(), cells, kind: Kind::LowerIsBetter }
}

/// Floods after which a server must have let go of the caller, or still answer it.
fn flood_rows(subjects: &[Option<Subject>; 3]) -> Vec<Row> {
    type Flood = (&'static str, fn() -> Vec<u8>);
    let floods: [Flood; 4] = [
        ("10,000 pings", || frame(PING, 0, 0, &[0; 8]).repeat(10_000)),
        ("10,000 settings", || frame(SETTINGS, 0, 0, &[]).repeat(10_000)),
        ("1 MB of continuations", || {
            let head = frame(HEADERS, END_STREAM, 1, &block(&[(":method", "GET")]));
            let more = block(&[("x-a", &*"b".repeat(10_000))]);
            [head, frame(CONTINUATION, 0, 1, &more).repeat(100)].concat()
        }),
        ("10,000 empty data frames", || {
            [request(1, 0, "/echo", &[]), frame(DATA, 0, 1, &[]).repeat(10_000)].concat()
        }),
    ];
    let rows = floods.into_iter().map(|(name, flood)| {
        subjects::row(
            &format!("http/2 flood: {name}, then others are served"),
            subjects,
            Door::H2c,
            |address| {
                let mut client = Client::connect(address)?;
                drop(client.send(&flood()));
                let other = reaction(address, &request(1, END_STREAM, "/hello", &[]))?;
                Ok(Cell::of(other == "200", format!("{other} for another")))
            },
        )
    });
    rows.collect()
}
