//! The statement that settles records, many at once: compares the version in place, writes or removes, and
//! tells whoever watches, if anybody does.
//!
//! It knows where the version stands in a head and nothing else of it. It waits for nobody: a row that
//! another transaction holds is passed by and asked for again, so that one that is held holds up no other,
//! and no two statements can wait for each other.

use std::collections::HashMap;

use async_trait::async_trait;

use super::claims::{key_of, some_body};
use super::lane::Job;
use super::link::{Connected, Link};
use super::trouble::Failure;
use crate::protocol::record::Version;
use crate::protocol::scope::StorageKey;
use crate::store::Swapped;
use crate::store::codec::{self, Encoded};

/// Parameters: namespace, keys, versions, heads (none: remove), bodies, milliseconds to keep. The range is
/// `codec::VERSION_AT`; a test below holds the two together. For `OFFSET 0` see `CLAIM`. A row that is held
/// stays in its place until the end of the statement.
///
/// A settlement that finds another version, or nothing, may have met its own earlier write whose wait for
/// replicas failed, and the ledger takes that for done. A statement that writes nothing waits for nobody, so it
/// leaves a note in the log of the server, for which replicas are waited as for a record.
pub(super) const SETTLE: &str = "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bigint[])
        AS asked (key, version, head, body, keep_ms)
), held AS MATERIALIZED (
    SELECT a.*, r.place FROM asked a CROSS JOIN LATERAL (
        SELECT r.ctid AS place FROM onceway.record r
        WHERE r.namespace = $1 AND r.key = a.key
            AND r.expires > now() AND substring(r.head FROM 5 FOR 20) = a.version
        OFFSET 0 FOR UPDATE SKIP LOCKED) r
), swapped AS (
    UPDATE onceway.record r
    SET expires = clock_timestamp() + h.keep_ms * interval '1 millisecond', head = h.head, body = h.body
    FROM held h WHERE h.head IS NOT NULL AND r.ctid = h.place
    RETURNING r.key
), removed AS (
    DELETE FROM onceway.record r
    USING held h WHERE h.head IS NULL AND r.ctid = h.place
    RETURNING r.key
), settled AS MATERIALIZED (
    SELECT key FROM swapped UNION ALL SELECT key FROM removed
), told AS MATERIALIZED (
    SELECT pg_notify('onceway', $1 || ':' || encode(s.key, 'hex'))
    FROM settled s
    WHERE (SELECT w.expires > now() FROM onceway.watch w WHERE w.namespace = $1 AND w.key = s.key)
), stood AS MATERIALIZED (
    SELECT a.key, substring(r.head FROM 5 FOR 20) = a.version AS is_as_seen
    FROM asked a CROSS JOIN LATERAL (
        SELECT r.head FROM onceway.record r
        WHERE r.namespace = $1 AND r.key = a.key AND r.expires > now() OFFSET 0) r
), noted AS MATERIALIZED (
    SELECT pg_logical_emit_message(true, 'onceway', ''::text)
    WHERE (SELECT count(*) FROM stood WHERE is_as_seen) < (SELECT count(*) FROM asked)
)
SELECT key, true, false FROM settled
WHERE (SELECT count(*) FROM told) >= 0 AND (SELECT count(*) FROM noted) >= 0
UNION ALL
SELECT key, false, is_as_seen FROM stood";

/// A record to be put in the place of another, or another to be removed.
pub(super) struct Settlement {
    pub(super) key: StorageKey,
    pub(super) seen: Version,
    /// Nothing: remove what stands.
    pub(super) next: Option<Encoded>,
    pub(super) keep_ms: i64,
}

#[async_trait]
impl Job for Settlement {
    type Answer = Swapped;

    fn key(&self) -> StorageKey {
        self.key
    }

    fn bytes(&self) -> usize {
        self.next.as_ref().map_or(0, |next| next.head.len() + next.body.len())
    }

    async fn run(
        jobs: &[&Self],
        namespace: &str,
        link: &Link,
        at: &Connected,
    ) -> Result<HashMap<StorageKey, Swapped>, Failure> {
        let keys: Vec<&[u8]> = jobs.iter().map(|job| job.key.as_bytes().as_slice()).collect();
        let versions: Vec<[u8; 20]> = jobs.iter().map(|job| codec::version_bytes(job.seen)).collect();
        let versions: Vec<&[u8]> = versions.iter().map(<[u8; 20]>::as_slice).collect();
        let heads: Vec<Option<&[u8]>> =
            jobs.iter().map(|job| job.next.as_ref().map(|next| &*next.head)).collect();
        let bodies: Vec<Option<&[u8]>> =
            jobs.iter().map(|job| job.next.as_ref().and_then(|next| some_body(&next.body))).collect();
        let keep: Vec<i64> = jobs.iter().map(|job| job.keep_ms).collect();
        let rows = link.ask_on(at, SETTLE, &[&namespace, &keys, &versions, &heads, &bodies, &keep]).await?;
        let mut answers: HashMap<StorageKey, Swapped> =
            jobs.iter().map(|job| (job.key, Swapped::Absent)).collect();
        // What stood when the statement began comes after what it did, so that only the others are left.
        let (mut done, mut stood) = (Vec::new(), Vec::new());
        for row in &rows {
            let Some(key) = key_of(row.try_get(0).map_err(Failure::unexpected)?) else { continue };
            if row.try_get(1).map_err(Failure::unexpected)? {
                done.push(key);
            } else {
                stood.push((key, row.try_get::<_, bool>(2).map_err(Failure::unexpected)?));
            }
        }
        for (key, is_as_seen) in stood {
            if is_as_seen {
                // Settled by this statement, or held by another transaction: then it is asked for again.
                answers.remove(&key);
            } else {
                answers.insert(key, Swapped::Changed);
            }
        }
        answers.extend(done.into_iter().map(|key| (key, Swapped::Done)));
        Ok(answers)
    }

    fn shared(&self, _answer: &Swapped) -> Option<Swapped> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::VERSION_AT;

    #[test]
    fn the_statement_compares_where_the_version_stands() {
        let range = format!("substring(r.head FROM {} FOR {})", VERSION_AT.start + 1, VERSION_AT.len());
        assert_eq!(SETTLE.matches(&range).count(), 2);
    }
}
