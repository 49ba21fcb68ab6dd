//! Routes: patterns of every kind in equal parts, asked for at random.

use std::fmt::Write as _;
use std::sync::Arc;

use super::Failure;
use super::ask::{Ask, HOST};
use super::callers::{Asks, fresh_key, fresh_number, replays};
use super::gateways::Config;
use super::measure::{Bench, CONNECTIONS, Case, Subject, tell};
use super::process::mib;
use super::table::{self, Row};

const STEPS: [usize; 4] = [1, 10, 100, 1000];

/// Requests answered beforehand, to be asked again.
const ANSWERED: u64 = 1000;

/// A path that no route names, and that servers may read in several ways.
const STRANGE_PATH: &str = "/files/a%20b%2Fc";

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let (mut subjects, mut cases, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    for routes in STEPS {
        tell(&format!("starting with {routes} routes"));
        let config = Config { routes: written(routes)?, ..Config::new(bench.service.address) };
        let mut subject = Subject::start(bench, &config, CONNECTIONS).await?;
        facts.push(format!("{:.0}", mib(subject.rss_bytes()?)));
        let first: Asks = Arc::new(move |caller| on_a_route(routes, Ask::first(caller, fresh_key())));
        let answered: Vec<Ask> = (0..ANSWERED).map(|caller| first(caller)).collect();
        bench.finish(&mut subject.callers, &answered).await?;
        for (work, asks) in works(routes, first, &answered) {
            let row = Row::new(work, routes.to_string());
            cases.push(Case { row, subject: subjects.len(), asks, stint: bench.stint() });
        }
        subjects.push(subject);
    }
    bench.play(&mut subjects, &mut cases).await?;
    let with_facts =
        |case: Case| Row { facts: facts.get(case.subject).cloned().into_iter().collect(), ..case.row };
    let rows: Vec<Row> = cases.into_iter().map(with_facts).collect();
    Ok(table::render(
        "Routes: exact, with a parameter at the end, within and in front, with all below, for a host; records in memory",
        "routes",
        &["RSS MiB"],
        &rows,
    )?)
}

fn works(routes: usize, first: Asks, answered: &[Ask]) -> [(&'static str, Asks); 4] {
    [
        ("passed through, on a route", Arc::new(move |caller| on_a_route(routes, Ask::pass(caller)))),
        (
            "passed through, many readings",
            Arc::new(|caller| Ask { path: STRANGE_PATH.to_owned(), ..Ask::pass(caller) }),
        ),
        ("first request", first),
        ("replay", replays(answered)),
    ]
}

/// So many routes for the configuration.
fn written(routes: usize) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for number in 0..routes {
        let (host, path) = place(number, "{id}", "{*rest}");
        writeln!(text, "[[routes]]\npath = \"{path}\"\nkey = \"required\"")?;
        if let Some(host) = host {
            writeln!(text, "host = \"{host}\"")?;
        }
    }
    Ok(text)
}

/// Host and path of a route, or of a request to it.
fn place(number: usize, id: &str, rest: &str) -> (Option<String>, String) {
    match number % 6 {
        0 => (None, format!("/shop-{number}/payments")),
        1 => (None, format!("/shop-{number}/orders/{id}")),
        2 => (None, format!("/shop-{number}/orders/{id}/refunds")),
        3 => (None, format!("/{id}/kind-{number}/charges")),
        4 => (None, format!("/shop-{number}/files/{rest}")),
        _ => (Some(format!("shop-{number}.example.com")), "/payments".to_owned()),
    }
}

/// The same request to one of the routes.
fn on_a_route(routes: usize, ask: Ask) -> Ask {
    let id = format!("{:08}", fresh_number());
    let (host, path) = place(fastrand::usize(..routes), &id, &format!("a/b/{id}"));
    Ask { host: host.unwrap_or_else(|| HOST.to_owned()), path, ..ask }
}
