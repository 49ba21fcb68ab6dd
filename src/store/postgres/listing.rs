//! What operators see of PostgreSQL: records without their answers.
//!
//! Bodies have a column of their own, which is not read. A page is a stretch of the primary key, so it takes no longer
//! at the end of the table than at its beginning. All of it has a connection of its own, and so has the counting of what
//! operators took away: that is a commit, and while replicas are waited for, no heartbeat may wait behind it. Must not
//! know what a record means.

use bytes::Bytes;
use tokio_postgres::Row;

use super::PostgresStore;
use super::claims::key_of;
use super::transfer::of_millis;
use super::trouble::Failure;
use crate::protocol::scope::StorageKey;
use crate::store::{Cursor, Listed, Listing, StoreError};

/// Records of one page at most.
const PAGE_MAX: usize = 1000;

/// Records that are opened and read without a pause.
const OPENED_AT_ONCE: usize = 32;

/// Parameters: namespace, the key after which to begin, how many rows to look at. What has expired is told without its
/// head, so that a stretch of such rows is gone through a page at a time. A row whose key is none was written by nobody
/// here.
pub(super) const LIST: &str = "
SELECT key, CASE WHEN expires > now() THEN head END, octet_length(body),
    ceil(extract(epoch FROM expires - now()) * 1000)::bigint
FROM onceway.record WHERE namespace = $1 AND key > $2 AND octet_length(key) = 32 ORDER BY key LIMIT $3";

/// Parameters: namespace and key. The same columns.
pub(super) const OUTLINE: &str = "
SELECT key, head, octet_length(body), ceil(extract(epoch FROM expires - now()) * 1000)::bigint
FROM onceway.record WHERE namespace = $1 AND key = $2 AND expires > now()";

pub(super) const COUNT_FORGETTING: &str = "
INSERT INTO onceway.forgetting AS f (namespace, count) VALUES ($1, 1)
ON CONFLICT (namespace) DO UPDATE SET count = f.count + 1";

pub(super) const FORGETTINGS: &str = "SELECT count FROM onceway.forgetting WHERE namespace = $1";

impl PostgresStore {
    pub(super) async fn listing(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        let after = after.as_ref().map(Cursor::key).transpose()?;
        let after = after.as_ref().map_or([].as_slice(), |key| key.as_bytes().as_slice());
        let most = most.clamp(1, PAGE_MAX);
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.operators.ask(LIST, &[&self.namespace, &after, &limit]).await?;
        let (mut records, mut last) = (Vec::with_capacity(rows.len()), None);
        for some in rows.chunks(OPENED_AT_ONCE) {
            for row in some {
                let (key, listed) = self.told(row).map_err(Failure::unexpected)?;
                last = key;
                records.extend(listed);
            }
            // The connections of claims may be driven by this very thread.
            tokio::task::yield_now().await;
        }
        let next = last.filter(|_| rows.len() >= most).as_ref().map(Cursor::of);
        Ok(Listing { records, next })
    }

    pub(super) async fn listed(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        let rows = self.operators.ask(OUTLINE, &[&self.namespace, &key.as_bytes().as_slice()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(self.told(row).map_err(Failure::unexpected)?.1)
    }

    pub(super) async fn one_more_forgetting(&self) -> Result<(), StoreError> {
        self.operators.ask(COUNT_FORGETTING, &[&self.namespace]).await?;
        Ok(())
    }

    pub(super) async fn counted_forgettings(&self) -> Result<u64, StoreError> {
        let rows = self.small.ask(FORGETTINGS, &[&self.namespace]).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        let count: i64 = row.try_get(0).map_err(Failure::unexpected)?;
        Ok(count.unsigned_abs())
    }

    /// The key of a row, and what the row says unless it has expired.
    fn told(&self, row: &Row) -> Result<(Option<StorageKey>, Option<Listed>), tokio_postgres::Error> {
        let key = key_of(row.try_get(0)?);
        let (Some(key), Some(head)) = (key, row.try_get::<_, Option<&[u8]>>(1)?) else {
            return Ok((key, None));
        };
        let body_len: Option<i32> = row.try_get(2)?;
        let body_len = u64::try_from(body_len.unwrap_or(0)).unwrap_or(0);
        let outline = self.codec.outline(&key, &Bytes::copy_from_slice(head), body_len);
        Ok((Some(key), Some(Listed { key, outline, keep_for: of_millis(row.try_get(3)?) })))
    }
}
