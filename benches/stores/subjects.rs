//! The stores measured, each on a server or a directory of its own, and for each the plain write that it is
//! held against: the same bytes over the same library and nothing more.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::Record;
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::Codec;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::memory::MemoryStore;
use onceway::store::postgres::PostgresStore;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store};
use redb::{Database, Durability, TableDefinition};
use redis::aio::MultiplexedConnection;
use tokio::sync::{mpsc, oneshot};

use super::Failure;
use super::cpu::Used;
use super::postgres::{self, Plain, Postgres};
use super::servers::Server;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("plain");

/// A store has to be connected by then.
const CONNECT_TRIES: u32 = 500;

/// A store under measurement.
pub(super) struct Subject {
    pub(super) name: &'static str,
    pub(super) store: Arc<dyn Store>,
    pub(super) raw: Option<Raw>,
    server: Option<Stands>,
}

/// What a store stands on.
enum Stands {
    Redis(Server),
    Postgres(Postgres),
}

/// A plain write.
#[derive(Clone)]
pub(super) enum Raw {
    /// `SET key value NX GET PX` on one connection that all callers share.
    Redis(MultiplexedConnection),
    /// An insert into one table of redb; whatever waits when a commit begins is in it.
    Redb(mpsc::Sender<Waiting>),
    /// An insert of one row and its commit, on as many connections as there are callers, up to some.
    Postgres(Arc<Plain>),
}

/// Something to be written by the plain loop around redb, and who waits for it.
pub(super) struct Waiting {
    key: StorageKey,
    value: Vec<u8>,
    written: oneshot::Sender<()>,
}

impl Subject {
    pub(super) fn memory() -> Self {
        Self { name: "memory:", store: Arc::new(MemoryStore::new()), raw: None, server: None }
    }

    pub(super) fn file(dir: &Path) -> Result<Self, Failure> {
        let store = EmbeddedStore::open(&dir.join("records"))?;
        let raw = Raw::Redb(plain_redb(&dir.join("plain"))?);
        Ok(Self { name: "file:", store: Arc::new(store), raw: Some(raw), server: None })
    }

    /// Redis as it is by default with its log on, or with every write on the disk before it is acknowledged.
    pub(super) async fn redis(dir: &Path, is_synced: bool) -> Result<Self, Failure> {
        let (name, word) = if is_synced { ("redis://, synced", "always") } else { ("redis://", "everysec") };
        let dir = dir.join(word);
        fs::create_dir(&dir)?;
        let server = Server::redis(&dir)?;
        let client = redis::Client::open(format!("redis://{}/0?protocol=resp3", server.address))?;
        let mut raw = client.get_multiplexed_async_connection().await?;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("appendfsync").arg(word).exec_async(&mut raw).await?;
        let store = redis_store(server.address).await?;
        Ok(Self { name, store, raw: Some(Raw::Redis(raw)), server: Some(Stands::Redis(server)) })
    }

    /// The database as it is by default: every commit is on the disk before it is acknowledged.
    pub(super) async fn postgres(dir: &Path) -> Result<Self, Failure> {
        let server = Postgres::start(dir)?;
        // It listens before it serves, and only the store waits for that.
        let store = postgres_store(server.address()).await?;
        let plain = Plain::connect(server.address()).await?;
        let raw = Some(Raw::Postgres(Arc::new(plain)));
        Ok(Self { name: "postgres://", store, raw, server: Some(Stands::Postgres(server)) })
    }

    /// The same store through another address, where it has one.
    pub(super) async fn through(
        &self,
        address: impl AsyncFnOnce(SocketAddr) -> io::Result<SocketAddr>,
    ) -> Result<Option<Arc<dyn Store>>, Failure> {
        Ok(Some(match &self.server {
            None => return Ok(None),
            Some(Stands::Redis(server)) => redis_store(address(server.address).await?).await?,
            Some(Stands::Postgres(server)) => postgres_store(address(server.address()).await?).await?,
        }))
    }

    /// The processor time of this process and of the server, if there is one.
    pub(super) fn used(&self) -> io::Result<(Used, Option<Used>)> {
        let server = match &self.server {
            None => None,
            Some(Stands::Redis(server)) => Some(Used::by(server.pid())?),
            Some(Stands::Postgres(server)) => Some(server.used()?),
        };
        Ok((Used::by(std::process::id())?, server))
    }
}

async fn redis_store(address: SocketAddr) -> Result<Arc<dyn Store>, Failure> {
    connected(RedisStore::connect(&format!("redis://{address}/0"), &Options::of("bench"))?).await
}

async fn postgres_store(address: SocketAddr) -> Result<Arc<dyn Store>, Failure> {
    connected(PostgresStore::connect(&postgres::url(address), &Options::of("bench"))?).await
}

async fn connected(store: impl Store) -> Result<Arc<dyn Store>, Failure> {
    for _ in 0..CONNECT_TRIES {
        if store.ping().await.is_ok() {
            return Ok(Arc::new(store));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("{} cannot be reached", store.describe()).into())
}

impl Raw {
    /// Answers whether it was written, and nothing stood there.
    pub(super) async fn write(
        &self,
        key: &StorageKey,
        claim: &Record,
        keep_for: Duration,
    ) -> Result<bool, Failure> {
        let encoded = Codec::default().encode(key, claim);
        match self {
            Self::Redis(connection) => {
                let mut command = redis::cmd("SET");
                command.arg(format!("plain:{{{key}}}")).arg(&*encoded.head);
                command.arg("NX").arg("GET").arg("PX").arg(keep_for.as_secs() * 1000);
                let stood: Option<Vec<u8>> = command.query_async(&mut connection.clone()).await?;
                Ok(stood.is_none())
            }
            Self::Postgres(plain) => plain.write(key.as_bytes(), &encoded.head).await,
            Self::Redb(writer) => {
                let (written, waiting) = oneshot::channel();
                writer.send(Waiting { key: *key, value: encoded.head.to_vec(), written }).await?;
                Ok(waiting.await.is_ok())
            }
        }
    }
}

/// The plainest way to share commits: take what waits, insert it, commit, tell everybody.
fn plain_redb(path: &Path) -> Result<mpsc::Sender<Waiting>, Failure> {
    let database = Database::create(path)?;
    let (sender, mut queue) = mpsc::channel::<Waiting>(1024);
    std::thread::Builder::new().name("plain".to_owned()).spawn(move || {
        let mut batch = Vec::new();
        while queue.blocking_recv_many(&mut batch, 256) > 0 {
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
    Ok(sender)
}

fn commit(database: &Database, batch: &[Waiting]) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut table = transaction.open_table(TABLE)?;
    for Waiting { key, value, .. } in batch {
        table.insert(key.as_bytes().as_slice(), value.as_slice())?;
    }
    drop(table);
    Ok(transaction.commit()?)
}
