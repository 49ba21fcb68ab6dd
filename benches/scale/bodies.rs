//! Bodies: of requests and of answers, passed through, guarded, and replayed from memory and from each store.

use std::sync::Arc;

use super::Failure;
use super::ask::{ANSWER_BYTES, Ask, REQUEST_BYTES};
use super::callers::{Asks, Stint, fresh_key, replays};
use super::gateways::{self, Config};
use super::measure::{Bench, Case, Subject, tell};
use super::process::{mib, number};
use super::servers;
use super::table::{self, Row};

const STEPS: [(usize, &str); 5] = [
    (ANSWER_BYTES, "300 B"),
    (10 * 1024, "10 KiB"),
    (100 * 1024, "100 KiB"),
    (1024 * 1024, "1 MiB"),
    (10 * 1024 * 1024, "10 MiB"),
];

/// Few, since what is under way is held in memory.
const CONNECTIONS: usize = 4;

/// Bytes of bodies in one measurement, as far as there are more than
const BYTES: usize = 96 * 1024 * 1024;

/// so many requests.
const REQUESTS_MIN: usize = 8;

/// Of bodies from this on it is told what a mebibyte costs.
const LARGE: usize = 100 * 1024;

/// Answers that are asked for again.
const ANSWERED: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// In the store that is memory, and in the memory before it; the others have none before them.
    Memory,
    File,
    Redis,
}

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let dir = servers::directory()?;
    let redis = gateways::redis(dir.path())?;
    let mut rows = Vec::new();
    for (kept, name) in [(Kept::Memory, "memory:"), (Kept::File, "file:"), (Kept::Redis, "redis://")] {
        tell(&format!("bodies on {name}"));
        let (mut subjects, mut cases) = (Vec::new(), Vec::new());
        for (bytes, size) in STEPS {
            let url = match kept {
                Kept::Memory => name.to_owned(),
                Kept::File => format!("file:{}", dir.path().join(bytes.to_string()).display()),
                Kept::Redis => format!("redis://{}/0", redis.address),
            };
            let mut subject = Subject::start(bench, &config(bench, kept, url), CONNECTIONS).await?;
            let requests = bench.extent.requests.min(BYTES / bytes).max(REQUESTS_MIN);
            let stint = Stint { at_once: CONNECTIONS, requests, time: bench.extent.each * 5 };
            for (work, asks) in works(bench, &mut subject, (kept, name), bytes).await? {
                let row = Row::new(&work, size.to_owned());
                cases.push(Case { row, subject: subjects.len(), asks, stint });
            }
            subjects.push(subject);
        }
        bench.play(&mut subjects, &mut cases).await?;
        rows.extend(cases.into_iter().map(with_facts));
    }
    let own = ["µs/MiB", "peak MiB"];
    Ok(table::render("Bodies: of a request and, by itself, of its answer", "body", &own, &rows)?)
}

fn config(bench: &Bench, kept: Kept, store_url: String) -> Config {
    let cache = if kept == Kept::Memory { "1GiB" } else { "0" };
    Config {
        store_url,
        server: "buffered_bytes_max = \"1GiB\"\n".to_owned(),
        store: format!("local_cache = \"{cache}\"\n"),
        policy: "request_body_max = \"16MiB\"\nresponse_body_max = \"16MiB\"\n".to_owned(),
        ..Config::new(bench.service.address)
    }
}

/// What is asked of a gateway with bodies of one size. What has nothing to do with the store is asked of one alone.
async fn works(
    bench: &Bench,
    subject: &mut Subject,
    (kept, name): (Kept, &str),
    bytes: usize,
) -> Result<Vec<(String, Asks)>, Failure> {
    let first = move |caller| Ask { answer_bytes: bytes, ..Ask::first(caller, fresh_key()) };
    let answered: Vec<Ask> = (0..ANSWERED).map(first).collect();
    bench.finish(&mut subject.callers, &answered).await?;
    let asked = move |ask: Ask| Ask { body_bytes: bytes.max(REQUEST_BYTES), ..ask };
    let mut works: Vec<(String, Asks)> = Vec::new();
    if kept == Kept::Memory {
        works.push(("request passed through".to_owned(), Arc::new(move |caller| asked(Ask::pass(caller)))));
        works.push((
            "answer passed through".to_owned(),
            Arc::new(move |caller| Ask { answer_bytes: bytes, ..Ask::pass(caller) }),
        ));
        works.push((
            "request, first".to_owned(),
            Arc::new(move |caller| asked(Ask::first(caller, fresh_key()))),
        ));
    }
    works.push((format!("answer, first, {name}"), Arc::new(first)));
    works.push((format!("answer, replayed, {name}"), replays(&answered)));
    Ok(works)
}

fn with_facts(case: Case) -> Row {
    let bytes = STEPS.iter().find(|(_, size)| *size == case.row.step).map_or(0, |(bytes, _)| *bytes);
    let mebibytes = number(u64::try_from(bytes).unwrap_or(u64::MAX)) / (1024.0 * 1024.0);
    // The rest of a small request costs more than its body.
    let is_large = bytes >= LARGE;
    let per_mebibyte =
        if is_large { format!("{:.0}", case.row.cpu_micros() / mebibytes) } else { "–".to_owned() };
    let peak = format!("{:.0}", mib(case.row.peak_bytes()));
    Row { facts: vec![per_mebibyte, peak], ..case.row }
}
