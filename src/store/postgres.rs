//! Records in PostgreSQL 15 or later: for teams that trust their database more, shared by any number of
//! gateways.
//!
//! A claim is one statement and a settlement another, each committed before it is answered; those that come
//! at the same time share one (`postgres/lane.rs`). Claims, settlements, small reads and large bodies have a
//! connection each, and so have those who watch and operators (`postgres/link.rs`), so that none holds up
//! another; nobody holds one while waiting. The tables stand in `postgres/001_tables.sql`. Must not know what a record means.

mod address;
mod claims;
mod deployment;
mod lane;
mod link;
mod listing;
mod schema;
mod settlements;
mod sweep;
mod terms;
mod tls;
mod transfer;
mod trouble;
mod watchers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio_postgres::Row;

pub use self::address::InvalidAddress;
pub use self::tls::TlsError;

use self::address::Address;
use self::claims::{BODY_INLINE_MAX, CLAIM, Claim, Claimed, Standing};
use self::lane::Lane;
use self::link::{Connected, Link, Purpose};
use self::listing::{COUNT_FORGETTING, FORGETTINGS, LIST, OUTLINE};
use self::schema::SchemaError;
use self::settlements::{SETTLE, Settlement};
use self::terms::{OneServer, STANDBYS};
use self::trouble::Failure;
use self::watchers::{LISTEN, REGISTER, Watchers};
use super::codec::{Codec, Encoded};
use super::durability::Durability;
use super::{Cursor, Gate, Listed, Listing, Options, SessionLife, Store, StoreError, Swapped, Watch};
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

/// How often an insert asks again when what stood there went away while its body was read.
const INSERT_TRIES: usize = 3;

/// No record outlives this, so that a moment of expiry can always be computed.
const KEEP_FOR_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// How long the body of a record that stands in the way of a claim is waited for: less than a claim as a whole.
const READ_PATIENCE: Duration = Duration::from_millis(500);

/// How much longer than others the connection of large bodies may take.
const BULK_PATIENCE: u32 = 5;

/// Plans by the key's index whatever the statistics say, which lag behind a table that grows from nothing.
const BY_INDEX: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
                        SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan";

const FETCH: &str = "
SELECT head, octet_length(body), CASE WHEN octet_length(body) <= 16384 THEN body END
FROM onceway.record WHERE namespace = $1 AND key = $2 AND expires > now()";

const FETCH_WHOLE: &str = "
SELECT head, body FROM onceway.record WHERE namespace = $1 AND key = $2 AND expires > now()";

const RENEW: &str = "
INSERT INTO onceway.session (namespace, session, expires)
VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 millisecond')
ON CONFLICT (namespace, session) DO UPDATE SET expires = excluded.expires";

const END: &str = "DELETE FROM onceway.session WHERE namespace = $1 AND session = $2";

const LIFE: &str = "SELECT FROM onceway.session WHERE namespace = $1 AND session = $2 AND expires > now()";

const GATE: &str = "SELECT word FROM onceway.gate WHERE namespace = $1";

const PING: &str = "SELECT current_setting('transaction_read_only') = 'on'";

/// A store in PostgreSQL. It may be used from every runtime; its tasks live on the one it was made in, and
/// end when it is dropped. One for a whole process is best: the more callers share it, the fewer statements.
pub struct PostgresStore {
    codec: Codec,
    namespace: String,
    shown: String,
    min_replicas: u32,
    small: Link,
    bulk: Link,
    operators: Link,
    watch_link: Link,
    claims: Lane<Claim>,
    settlements: Lane<Settlement>,
    /// For bodies that must not hold up others.
    large_claims: Lane<Claim>,
    large_settlements: Lane<Settlement>,
    watchers: Watchers,
    /// Keep the connections and the lanes; stopped when the set is dropped.
    _tasks: JoinSet<()>,
}

/// The server takes no writes.
#[derive(Debug, thiserror::Error)]
#[error("write to PostgreSQL: it is read-only")]
struct ReadOnly;

impl PostgresStore {
    /// A store that begins to connect; whether it can is told by its calls.
    ///
    /// Errors: the address cannot be read. It may hold a password, so the error does not name it.
    ///
    /// Panics: outside a tokio runtime.
    pub fn connect(url: &str, options: &Options) -> Result<Self, InvalidAddress> {
        let address = Arc::new(Address::read(url)?);
        let namespace = &*options.namespace;
        let watchers = Watchers::new(namespace);
        let server = OneServer::default();
        let link = |purpose, on_notice| {
            Link::new(Arc::clone(&address), options.min_replicas, server.clone(), purpose, on_notice)
        };
        let claim_link = link(purpose("claims", options, &[CLAIM]), None);
        let settle_link = link(purpose("settlements", options, &[SETTLE]), None);
        let small = link(purpose("reads", options, SMALL), None);
        let bulk = link(bulk_purpose(options), None);
        let operators = link(Purpose { is_eager: false, ..purpose("operators", options, OPERATORS) }, None);
        let watch_purpose =
            Purpose { is_eager: false, greeting: LISTEN, ..purpose("watches", options, &[REGISTER]) };
        let watch_link = link(watch_purpose, Some(watchers.on_notice()));
        let (claims, settlements) =
            (Lane::new(namespace, claim_link.clone()), Lane::new(namespace, settle_link.clone()));
        let (large_claims, large_settlements) =
            (Lane::new(namespace, bulk.clone()), Lane::new(namespace, bulk.clone()));
        let mut tasks = JoinSet::new();
        for link in [&claim_link, &settle_link, &small, &bulk, &operators, &watch_link] {
            tasks.spawn(link.clone().keep());
        }
        for lane in [&claims, &large_claims] {
            tasks.spawn(lane.clone().keep());
        }
        for lane in [&settlements, &large_settlements] {
            tasks.spawn(lane.clone().keep());
        }
        tasks.spawn(watchers.clone().keep(watch_link.clone()));
        tasks.spawn(sweep::keep(bulk.clone()));
        Ok(Self {
            codec: options.codec.clone(),
            namespace: namespace.to_owned(),
            shown: address.shown.clone(),
            min_replicas: options.min_replicas,
            small,
            bulk,
            operators,
            watch_link,
            claims,
            settlements,
            large_claims,
            large_settlements,
            watchers,
            _tasks: tasks,
        })
    }

    /// The statements that make the tables, for somebody who may, where the gateway's role may not.
    pub fn schema() -> String {
        schema::script(0)
    }

    async fn claim(&self, key: &StorageKey, encoded: &Encoded, keep_ms: i64) -> Result<Claimed, Failure> {
        let is_large = encoded.body.len() > BODY_INLINE_MAX;
        let lane = if is_large { &self.large_claims } else { &self.claims };
        lane.submit(Claim { key: *key, encoded: encoded.clone(), keep_ms }).await
    }

    async fn settle(&self, settlement: Settlement) -> Result<Swapped, StoreError> {
        let body_len = settlement.next.as_ref().map_or(0, |next| next.body.len());
        let lane = if body_len > BODY_INLINE_MAX { &self.large_settlements } else { &self.settlements };
        Ok(lane.submit(settlement).await?)
    }

    /// Reads a record whose body is too large to travel with others. It is one row, so it is of one piece.
    async fn fetch_whole(&self, key: &StorageKey) -> Result<Seen, Failure> {
        let rows = self.bulk.ask(FETCH_WHOLE, &[&self.namespace, &key.as_bytes().as_slice()]).await?;
        let Some(row) = rows.first() else { return Ok(Seen::Nothing) };
        let encoded = whole(row).map_err(Failure::unexpected)?;
        Ok(self.codec.decode(key, encoded))
    }

    async fn replicas_waited_for(&self, at: &Connected) -> Result<u32, StoreError> {
        let rows = self.small.ask_on(at, STANDBYS, &[]).await?;
        let setting: Option<&str> =
            rows.first().map(|row| row.try_get(0)).transpose().map_err(Failure::unexpected)?;
        Ok(deployment::replicas_waited_for(setting.unwrap_or_default()))
    }

    async fn read_gate(&self) -> Result<Gate, StoreError> {
        let rows = self.small.ask(GATE, &[&self.namespace]).await?;
        let word: Option<&str> =
            rows.first().map(|row| row.try_get(0)).transpose().map_err(Failure::unexpected)?;
        Ok(Gate::of_word(word.map(str::as_bytes)))
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        let (encoded, keep_ms) = (self.codec.encode(key, fresh), millis(keep_for));
        for _ in 0..INSERT_TRIES {
            match self.claim(key, &encoded, keep_ms).await? {
                Claimed::Written => return Ok(Seen::Nothing),
                Claimed::Stands(Standing::Whole(stands)) => return Ok(self.codec.decode(key, stands)),
                Claimed::Stands(Standing::LargeBody) => {}
            }
            let reading = tokio::time::timeout(READ_PATIENCE, self.fetch_whole(key)).await;
            let reading = reading.map_or(Err(StoreError::TimedOut(READ_PATIENCE)), |read| Ok(read?));
            // Something stands there, whatever becomes of the reading: that must not get lost.
            match reading.map_err(|error| StoreError::Standing(Box::new(error)))? {
                // What stood there went before its body was read. `fresh` is not written, and only
                // whoever has written may hear "nothing".
                Seen::Nothing => {}
                seen @ (Seen::Record(_) | Seen::Unreadable) => return Ok(seen),
            }
        }
        Ok(Seen::Unreadable)
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        let next = Some(self.codec.encode(key, next));
        self.settle(Settlement { key: *key, seen, next, keep_ms: millis(keep_for) }).await
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        self.settle(Settlement { key: *key, seen, next: None, keep_ms: 0 }).await
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        let rows = self.small.ask(FETCH, &[&self.namespace, &key.as_bytes().as_slice()]).await?;
        let Some(row) = rows.first() else { return Ok(Seen::Nothing) };
        match standing(row).map_err(Failure::unexpected)? {
            Standing::Whole(encoded) => Ok(self.codec.decode(key, encoded)),
            Standing::LargeBody => Ok(self.fetch_whole(key).await?),
        }
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&self.namespace, &session.0.as_slice(), &millis(ttl)];
        self.small.ask(RENEW, &parameters).await?;
        // A statement of its own: one that wrote and read would read what stood before it wrote.
        self.read_gate().await
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.small.ask(END, &[&self.namespace, &session.0.as_slice()]).await?;
        Ok(())
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        let rows = self.small.ask(LIFE, &[&self.namespace, &session.0.as_slice()]).await?;
        Ok(if rows.is_empty() { SessionLife::Absent } else { SessionLife::Alive })
    }

    async fn watch(&self, key: &StorageKey) -> Result<Watch, StoreError> {
        Ok(self.watchers.watch(&self.watch_link, *key).await?)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let at = self.small.connected().await?;
        let rows = self.small.ask_on(&at, PING, &[]).await?;
        let is_read_only = rows.first().map(|row| row.try_get(0)).transpose().map_err(Failure::unexpected)?;
        if is_read_only != Some(false) {
            self.small.replace(&at);
            return Err(StoreError::Refused(Box::new(ReadOnly)));
        }
        if self.min_replicas > 0 && self.replicas_waited_for(&at).await? < self.min_replicas {
            return Err(StoreError::Refused(Box::new(SchemaError::TooFewReplicas {
                wanted: self.min_replicas,
            })));
        }
        Ok(())
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.listing(after, most).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.listed(key).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.one_more_forgetting().await
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        self.counted_forgettings().await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        Ok(deployment::inspect(&self.small, self.min_replicas).await?)
    }

    fn describe(&self) -> String {
        self.shown.clone()
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("address", &self.shown).finish_non_exhaustive()
    }
}

fn purpose(name: &'static str, options: &Options, statements: &'static [&'static str]) -> Purpose {
    Purpose { name, is_eager: true, patience: options.timeout, greeting: BY_INDEX, statements }
}

/// For large bodies and for sweeping, which reads a stretch of the table from end to end.
fn bulk_purpose(options: &Options) -> Purpose {
    let patience = options.timeout * BULK_PATIENCE;
    Purpose { patience, ..purpose("bodies", options, BULK) }
}

const SMALL: &[&str] = &[FETCH, RENEW, LIFE, GATE, PING, STANDBYS, FORGETTINGS];

const OPERATORS: &[&str] = &[LIST, OUTLINE, COUNT_FORGETTING];

const BULK: &[&str] = &[CLAIM, SETTLE, FETCH_WHOLE, sweep::PAGES, sweep::SWEEP];

fn standing(row: &Row) -> Result<Standing, tokio_postgres::Error> {
    Ok(claims::standing(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

fn whole(row: &Row) -> Result<Encoded, tokio_postgres::Error> {
    let body: Option<&[u8]> = row.try_get(1)?;
    let head = Bytes::copy_from_slice(row.try_get(0)?);
    Ok(Encoded { head, body: Bytes::copy_from_slice(body.unwrap_or_default()) })
}

fn millis(keep_for: Duration) -> i64 {
    i64::try_from(keep_for.min(KEEP_FOR_MAX).as_millis().max(1)).unwrap_or(i64::MAX)
}
