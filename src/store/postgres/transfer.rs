//! How records leave PostgreSQL for another store and come from one; see `../transfer.rs`.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::PostgresStore;
use super::claims::{key_of, some_body};
use super::trouble::Failure;
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;
use crate::store::Cursor;
use crate::store::codec::Encoded;
use crate::store::transfer::{Moved, Page, Transfer};
use crate::store::{Gate, StoreError};

/// Records in one statement at most.
const PUT_MAX: usize = 256;

const PAGE: &str = "
SELECT key, head, body, ceil(extract(epoch FROM expires - now()) * 1000)::bigint
FROM onceway.record
WHERE namespace = $1 AND key > $2 AND octet_length(key) = 32 AND expires > now() ORDER BY key LIMIT $3";

const PUT: &str = "
INSERT INTO onceway.record (namespace, key, head, body, expires)
SELECT $1, key, head, body, clock_timestamp() + keep_ms * interval '1 millisecond'
FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[]) AS put (key, head, body, keep_ms)
ORDER BY key
ON CONFLICT (namespace, key) DO UPDATE
    SET expires = excluded.expires, head = excluded.head, body = excluded.body";

const SESSIONS: &str = "
SELECT session, ceil(extract(epoch FROM expires - now()) * 1000)::bigint
FROM onceway.session WHERE namespace = $1 AND expires > now()";

const CLOSE: &str = "
INSERT INTO onceway.gate (namespace, word) VALUES ($1, $2)
ON CONFLICT (namespace) DO UPDATE SET word = excluded.word";

const OPEN: &str = "DELETE FROM onceway.gate WHERE namespace = $1";

#[async_trait]
impl Transfer for PostgresStore {
    async fn page(&self, after: Option<Cursor>, most: usize) -> Result<Page, StoreError> {
        let after = after.as_ref().map(Cursor::key).transpose()?;
        let after = after.as_ref().map_or([].as_slice(), |key| key.as_bytes().as_slice());
        let limit = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
        let rows = self.bulk.ask(PAGE, &[&self.namespace, &after, &limit]).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            records.extend(moved(row).map_err(Failure::unexpected)?);
        }
        let last = records.last().filter(|_| rows.len() >= most.max(1));
        let next = last.map(|moved| Cursor::of(&moved.key));
        Ok(Page { records, next })
    }

    async fn put(&self, records: Vec<Moved>) -> Result<(), StoreError> {
        // One statement must not write a row twice; the last of a key is the one that counts.
        let records: HashMap<StorageKey, Moved> =
            records.into_iter().map(|moved| (moved.key, moved)).collect();
        let records: Vec<Moved> = records.into_values().collect();
        for some in records.chunks(PUT_MAX) {
            let keys: Vec<&[u8]> = some.iter().map(|moved| moved.key.as_bytes().as_slice()).collect();
            let heads: Vec<&[u8]> = some.iter().map(|moved| &*moved.encoded.head).collect();
            let bodies: Vec<Option<&[u8]>> =
                some.iter().map(|moved| some_body(&moved.encoded.body)).collect();
            let keep: Vec<i64> = some.iter().map(|moved| super::millis(moved.keep_for)).collect();
            self.bulk.ask(PUT, &[&self.namespace, &keys, &heads, &bodies, &keep]).await?;
        }
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<(Session, Duration)>, StoreError> {
        let rows = self.small.ask(SESSIONS, &[&self.namespace]).await?;
        let mut sessions = Vec::with_capacity(rows.len());
        for row in rows {
            let session: &[u8] = row.try_get(0).map_err(Failure::unexpected)?;
            let left = row.try_get(1).map_err(Failure::unexpected)?;
            sessions.extend(
                <[u8; 16]>::try_from(session).ok().map(|session| (Session(session), of_millis(left))),
            );
        }
        Ok(sessions)
    }

    async fn gate(&self) -> Result<Gate, StoreError> {
        self.read_gate().await
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError> {
        match gate {
            Gate::Open => self.small.ask(OPEN, &[&self.namespace]).await?,
            Gate::Closed(closure) => self.small.ask(CLOSE, &[&self.namespace, &closure.word()]).await?,
        };
        Ok(())
    }
}

/// A row that is no record of ours is left behind.
fn moved(row: &tokio_postgres::Row) -> Result<Option<Moved>, tokio_postgres::Error> {
    let Some(key) = key_of(row.try_get(0)?) else { return Ok(None) };
    let (head, body): (&[u8], Option<&[u8]>) = (row.try_get(1)?, row.try_get(2)?);
    let encoded = Encoded {
        head: Bytes::copy_from_slice(head),
        body: Bytes::copy_from_slice(body.unwrap_or_default()),
    };
    Ok(Some(Moved { key, encoded, keep_for: of_millis(row.try_get(3)?) }))
}

pub(super) fn of_millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
