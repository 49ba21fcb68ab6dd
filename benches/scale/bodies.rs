//! Bodies: of requests and of answers, passed through, guarded, and replayed from memory and from each store.

use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::ask::{ANSWER_BYTES, Ask, REQUEST_BYTES};
use super::callers::{Asks, Callers, Stint, fresh_key, replays};
use super::gateways::{Config, Gateway};
use super::measure::{Bench, Case, tell};
use super::process::{Held, mib, number, reset_peak};
use super::servers::{self, Server};
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

/// Answers that are asked for again.
const ANSWERED: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// In the store that is memory, and the memory before it.
    Memory,
    /// In a store alone.
    Apart,
}

pub(super) async fn measure(bench: &Bench) -> Result<String, Failure> {
    let dir = servers::directory()?;
    let redis = Server::redis(dir.path())?;
    let file = format!("file:{}", dir.path().join("records").display());
    let stores = [
        (Kept::Memory, "memory:", "memory:".to_owned()),
        (Kept::Apart, "file:", file),
        (Kept::Apart, "redis://", format!("redis://{}/0", redis.address)),
    ];
    let mut rows = Vec::new();
    for (kept, name, url) in stores {
        tell(&format!("bodies on {name}"));
        let cache = if kept == Kept::Memory { "1GiB" } else { "0" };
        let config = Config {
            store_url: url,
            server: "buffered_bytes_max = \"1GiB\"\n".to_owned(),
            store: format!("local_cache = \"{cache}\"\ntimeout = \"30s\"\n"),
            policy: "request_body_max = \"16MiB\"\nresponse_body_max = \"16MiB\"\ncommit_timeout = \"30s\"\n"
                .to_owned(),
            ..Config::new(bench.service.address)
        };
        let gateway = Gateway::start(bench.dir.path(), &config)?;
        for (bytes, size) in STEPS {
            rows.extend(step(bench, &gateway, (kept, name), (bytes, size)).await?);
        }
    }
    Ok(table::render(
        "Bodies: processor time for a request and, in the last columns but one, for each MiB of its body",
        "body",
        &["µs/MiB", "peak MiB"],
        &rows,
    )?)
}

async fn step(
    bench: &Bench,
    gateway: &Gateway,
    (kept, name): (Kept, &str),
    (bytes, size): (usize, &str),
) -> Result<Vec<Row>, Failure> {
    let mut callers = Callers::connect(gateway.address(), CONNECTIONS).await?;
    let most = bench.extent.requests.min(BYTES / bytes).max(REQUESTS_MIN);
    let stint = Stint { at_once: CONNECTIONS, requests: most, time: bench.extent.each * 5 };
    let answers: Vec<Ask> =
        (0..ANSWERED).map(|_| Ask { answer_bytes: bytes, ..Ask::first(0, fresh_key()) }).collect();
    bench.finish(&mut callers, &answers).await?;
    let mut works: Vec<(String, Asks)> = Vec::new();
    if kept == Kept::Memory {
        let request = bytes.max(REQUEST_BYTES);
        works.push((
            "request passed through".to_owned(),
            Arc::new(move |caller| Ask { body_bytes: request, ..Ask::pass(caller) }),
        ));
        works.push((
            "answer passed through".to_owned(),
            Arc::new(move |caller| Ask { answer_bytes: bytes, ..Ask::pass(caller) }),
        ));
        works.push((
            "request, first".to_owned(),
            Arc::new(move |caller| Ask { body_bytes: request, ..Ask::first(caller, fresh_key()) }),
        ));
    }
    works.push((
        format!("answer, first, {name}"),
        Arc::new(move |caller| Ask { answer_bytes: bytes, ..Ask::first(caller, fresh_key()) }),
    ));
    works.push((format!("answer, replayed, {name}"), replays(&answers)));
    let mut rows = Vec::new();
    for (work, asks) in works {
        // Each by itself, so that it has a peak of its own.
        let mut cases = [Case { row: Row::new(&work, size.to_owned()), asks, stint }];
        reset_peak(gateway.pid())?;
        bench.play(gateway, &mut callers, &mut cases).await?;
        // What the last request held is given back.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let peak = mib(Held::by(gateway.pid())?.peak_bytes);
        let mebibytes = number(u64::try_from(bytes)?) / (1024.0 * 1024.0);
        for Case { row, .. } in cases {
            let facts = vec![format!("{:.0}", row.cpu_micros() / mebibytes), format!("{peak:.0}")];
            rows.push(Row { facts, ..row });
        }
    }
    Ok(rows)
}
