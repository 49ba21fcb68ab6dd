//! First requests on the embedded store per second, beside a bare loop over the same engine.
//!
//! The gateway waits for the disk before it forwards and again before it answers. So does the loop: for each request it
//! inserts the claim, waits for its commit, puts the outcome in its place and waits for that, with nothing around it. As
//! in the store, one thread takes whatever waits, commits it, and tells everybody. Unlike the store it has one table: it is
//! what anybody would write first.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use onceway::protocol::record::Record;
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::Codec;
use redb::{Database, Durability, TableDefinition};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Failure;
use super::bars::{Bar, Held};
use super::extent::Extent;
use super::load::Callers;
use super::measure::{WARM_UP, counted};
use super::records;
use super::servers::Server;
use super::site::Site;
use super::subjects::Subject;
use super::table::{median, ratio};
use super::work::{Role, Work};

/// What `--only` is compared with.
pub(super) const TITLE: &str = "first request, file:, 64 callers";

const CALLERS: usize = 64;

/// As many as the store takes into one commit, and as many as it lets wait.
const BATCH_MAX: usize = 256;
const QUEUE_MAX: usize = 1024;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bare");

/// The gateway and the loop, with their rates so far.
pub(super) struct Commits<'a> {
    site: &'a Site,
    time: Duration,
    gateway: Subject,
    bare: Bare,
    gateways: Vec<f64>,
    bares: Vec<f64>,
}

/// The loop, for as long as somebody holds it.
#[derive(Clone)]
struct Bare {
    queue: mpsc::Sender<Waiting>,
    claim: Bytes,
    done: Bytes,
}

/// Something to be written, and who waits for it.
struct Waiting {
    key: StorageKey,
    value: Bytes,
    written: oneshot::Sender<()>,
}

impl<'a> Commits<'a> {
    pub(super) fn start(site: &'a Site, extent: &Extent) -> Result<Self, Failure> {
        let server = Server::gateway(site.dir(), "commits", "file:./records", None, site.upstream.address)?;
        let gateway = Subject::new(&Arc::new(server), Role::Gateway, "file:");
        let bare = Bare::start(&site.dir().join("bare"))?;
        Ok(Self { site, time: extent.loops, gateway, bare, gateways: Vec::new(), bares: Vec::new() })
    }

    pub(super) async fn round(&mut self, round: usize) -> Result<(), Failure> {
        let mut callers = Callers::connect(self.gateway.server.address, CALLERS).await?;
        let mut rate = 0.0;
        for (word, requests) in [("warm", WARM_UP), ("counted", usize::MAX)] {
            let prefix = format!("commits-{round}-{word}");
            let plan = self.gateway.plan(Work::First, &prefix, requests, self.time);
            let seen = counted(&mut callers, &plan, &self.site.upstream).await?;
            rate = f64::from(u32::try_from(seen.latencies.len())?) / seen.took.as_secs_f64();
        }
        self.gateways.push(rate);
        self.bares.push(self.bare.rate(self.time).await?);
        Ok(())
    }

    pub(super) fn held(&self) -> Held {
        Held {
            work: TITLE.to_owned(),
            measured: format!("{:.0} /s", median(self.gateways.clone())),
            reference: format!("bare loop: {:.0} /s", median(self.bares.clone())),
            value: ratio(&self.gateways, &self.bares),
            unit: "",
            bar: Bar::AtLeast(0.8),
        }
    }
}

impl Bare {
    fn start(file: &Path) -> Result<Self, Failure> {
        let database = Database::create(file)?;
        let (queue, mut waiting) = mpsc::channel::<Waiting>(QUEUE_MAX);
        thread::Builder::new().name("bare".to_owned()).spawn(move || {
            let mut batch = Vec::new();
            while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                // Whoever waits is told of a failure by the end of its channel.
                if commit(&database, &batch).is_err() {
                    return;
                }
                for Waiting { written, .. } in batch.drain(..) {
                    // Whoever asked waits until the end.
                    written.send(()).ok();
                }
            }
        })?;
        Ok(Self { queue, claim: bytes_of(&records::claim()), done: bytes_of(&records::done()) })
    }

    /// Requests per second of as many callers as the gateway has.
    async fn rate(&self, time: Duration) -> Result<f64, Failure> {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let bare = self.clone();
            callers.spawn(async move {
                let mut requests = 0_u32;
                while began.elapsed() < time {
                    let key = records::any_key();
                    bare.write(key, bare.claim.clone()).await?;
                    bare.write(key, bare.done.clone()).await?;
                    requests += 1;
                }
                Ok::<_, Failure>(requests)
            });
        }
        let mut requests = 0;
        while let Some(caller) = callers.join_next().await {
            requests += caller??;
        }
        Ok(f64::from(requests) / began.elapsed().as_secs_f64())
    }

    async fn write(&self, key: StorageKey, value: Bytes) -> Result<(), Failure> {
        let (written, waiting) = oneshot::channel();
        self.queue.send(Waiting { key, value, written }).await?;
        Ok(waiting.await?)
    }
}

/// A record as it stands in a store.
fn bytes_of(record: &Record) -> Bytes {
    let encoded = Codec::default().encode(&records::any_key(), record);
    let mut bytes = BytesMut::from(&*encoded.head);
    bytes.extend_from_slice(&encoded.body);
    bytes.freeze()
}

fn commit(database: &Database, batch: &[Waiting]) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut table = transaction.open_table(TABLE)?;
    for Waiting { key, value, .. } in batch {
        table.insert(key.as_bytes().as_slice(), &**value)?;
    }
    drop(table);
    Ok(transaction.commit()?)
}
