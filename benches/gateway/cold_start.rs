//! From the start of the process to its first answer, on an embedded store that holds many records.
//!
//! Once after a gateway that ended in order, and once after one that was killed. The file has just been written or read,
//! so the system has most of it in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onceway::store::codec::Codec;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::transfer::{Moved, Transfer as _};

use super::Failure;
use super::bars::{Bar, Held};
use super::extent::Extent;
use super::load::Callers;
use super::measure::counted;
use super::records::{self, KEEP_FOR};
use super::servers::Server;
use super::site::Site;
use super::subjects::Subject;
use super::table::median;
use super::work::{Role, Work};

/// What `--only` is compared with.
pub(super) const TITLE: &str = "cold start, file:";

/// What the bar is about.
const RECORDS: u32 = 1_000_000;

/// Records written in one transaction.
const BATCH: u32 = 5000;

/// How a gateway ends.
#[derive(Clone, Copy)]
enum End {
    InOrder,
    Killed,
}

/// Fills a store and starts gateways on it, and as many on an empty one.
pub(super) async fn measure(site: &Site, extent: &Extent) -> Result<[Held; 2], Failure> {
    let (full, empty) = (site.dir().join("full"), site.dir().join("empty"));
    fill(&full, extent.records).await?;
    // Makes the empty store's file.
    first_answer("start-made", &empty, End::InOrder, site).await?;
    let (mut after_stop, mut after_kill, mut on_empty) = (Vec::new(), Vec::new(), Vec::new());
    for time in 0..extent.starts {
        after_stop.push(first_answer(&format!("start-a-{time}"), &full, End::Killed, site).await?);
        after_kill.push(first_answer(&format!("start-b-{time}"), &full, End::InOrder, site).await?);
        on_empty.push(first_answer(&format!("start-c-{time}"), &empty, End::InOrder, site).await?);
    }
    let of = if extent.records < RECORDS { format!(" of {RECORDS}") } else { String::new() };
    let on_empty = median(on_empty);
    let held = |word: &str, millis| {
        let millis = median(millis);
        Held {
            work: format!("{TITLE}, {}{of}, {word}", extent.records),
            measured: format!("{millis:.1} ms"),
            reference: format!("empty store: {on_empty:.1} ms"),
            value: millis,
            unit: "ms",
            bar: Bar::AtMost(50.0),
        }
    };
    Ok([held("stopped", after_stop), held("killed", after_kill)])
}

/// Starts a gateway, asks it one first request, and ends it. Answers after how many milliseconds it was answered.
async fn first_answer(name: &str, store: &Path, end: End, site: &Site) -> Result<f64, Failure> {
    let url = format!("file:{}", store.display());
    let server = Arc::new(Server::gateway(site.dir(), name, &url, None, site.upstream.address)?);
    let gateway = Subject::new(&server, Role::Gateway, "file:");
    let mut callers = Callers::connect(server.address, 1).await?;
    let plan = gateway.plan(Work::First, name, 1, Duration::from_secs(10));
    counted(&mut callers, &plan, &site.upstream).await?;
    let millis = server.since.elapsed().as_secs_f64() * 1e3;
    drop((callers, gateway));
    let server = Arc::into_inner(server).ok_or("somebody still holds the server")?;
    match end {
        End::InOrder => server.stop()?,
        End::Killed => drop(server),
    }
    Ok(millis)
}

/// Writes so many finished records under keys of their own.
async fn fill(dir: &Path, records: u32) -> Result<(), Failure> {
    let store = EmbeddedStore::open(dir)?;
    let (codec, done) = (Codec::default(), records::done());
    let mut left = records;
    while left > 0 {
        let batch = left.min(BATCH);
        let moved = (0..batch).map(|_| {
            let key = records::any_key();
            Moved { key, encoded: codec.encode(&key, &done), keep_for: KEEP_FOR }
        });
        store.put(moved.collect()).await?;
        left -= batch;
    }
    Ok(())
}
