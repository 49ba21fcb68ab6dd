//! The statement that claims keys, many at once: what stands is answered, what does not is written.
//!
//! A row that stands is read and never locked, so a claim waits for nobody but another claim of its key that
//! is being committed. A key that is in neither answer was claimed by somebody else after the statement had
//! begun to look: it is asked for again.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::lane::Job;
use super::link::{Connected, Link};
use super::trouble::Failure;
use crate::protocol::scope::StorageKey;
use crate::store::codec::Encoded;

/// A larger body is not read by a claim, so that the answer to a claim stays small. SQL below holds it too.
pub(super) const BODY_INLINE_MAX: usize = 16 * 1024;

/// Parameters: namespace, keys, heads, bodies, milliseconds to keep.
///
/// `OFFSET 0` keeps the planner from turning a look for each key into a walk through the namespace, which it
/// takes for the cheaper way while the table is nearly empty, and keeps to when it is no longer.
pub(super) const CLAIM: &str = "
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[])
        AS asked (key, head, body, keep_ms)
), standing AS MATERIALIZED (
    SELECT r.key, r.head, octet_length(r.body) AS body_len,
        CASE WHEN octet_length(r.body) <= 16384 THEN r.body END AS body
    FROM asked a CROSS JOIN LATERAL (
        SELECT * FROM onceway.record r
        WHERE r.namespace = $1 AND r.key = a.key AND r.expires > now() OFFSET 0) r
), written AS (
    INSERT INTO onceway.record AS r (namespace, key, expires, head, body)
    SELECT $1, a.key, clock_timestamp() + a.keep_ms * interval '1 millisecond', a.head, a.body
    FROM asked a
    WHERE NOT EXISTS (
        SELECT FROM onceway.record s
        WHERE s.namespace = $1 AND s.key = a.key AND s.expires > now() OFFSET 0)
    ORDER BY a.key
    ON CONFLICT (namespace, key) DO UPDATE
        SET expires = excluded.expires, head = excluded.head, body = excluded.body
        WHERE r.expires <= now()
    RETURNING r.key
)
SELECT key, NULL::bytea, NULL::integer, NULL::bytea FROM written
UNION ALL
SELECT key, head, body_len, body FROM standing";

/// A record to be written where none stands.
pub(super) struct Claim {
    pub(super) key: StorageKey,
    pub(super) encoded: Encoded,
    pub(super) keep_ms: i64,
}

/// What became of a claim.
pub(super) enum Claimed {
    Written,
    Stands(Standing),
}

/// What stands under a key.
pub(super) enum Standing {
    /// The whole record.
    Whole(Encoded),
    /// A record whose body is to be read by itself.
    LargeBody,
}

#[async_trait]
impl Job for Claim {
    type Answer = Claimed;

    fn key(&self) -> StorageKey {
        self.key
    }

    fn bytes(&self) -> usize {
        self.encoded.head.len() + self.encoded.body.len()
    }

    async fn run(
        jobs: &[&Self],
        namespace: &str,
        link: &Link,
        at: &Connected,
    ) -> Result<HashMap<StorageKey, Claimed>, Failure> {
        let keys: Vec<&[u8]> = jobs.iter().map(|job| job.key.as_bytes().as_slice()).collect();
        let heads: Vec<&[u8]> = jobs.iter().map(|job| &*job.encoded.head).collect();
        let bodies: Vec<Option<&[u8]>> = jobs.iter().map(|job| some_body(&job.encoded.body)).collect();
        let keep: Vec<i64> = jobs.iter().map(|job| job.keep_ms).collect();
        let rows = link.ask_on(at, CLAIM, &[&namespace, &keys, &heads, &bodies, &keep]).await?;
        let mut answers = HashMap::with_capacity(rows.len());
        for row in rows {
            let Some(key) = key_of(row.try_get(0).map_err(Failure::unexpected)?) else { continue };
            let answer = match row.try_get::<_, Option<&[u8]>>(1).map_err(Failure::unexpected)? {
                None => Claimed::Written,
                Some(head) => {
                    let body_len = row.try_get(2).map_err(Failure::unexpected)?;
                    let body = row.try_get(3).map_err(Failure::unexpected)?;
                    Claimed::Stands(standing(head, body_len, body))
                }
            };
            answers.insert(key, answer);
        }
        Ok(answers)
    }

    /// Whoever asked for the same key in the same statement finds what the first one wrote or found.
    fn shared(&self, answer: &Claimed) -> Option<Claimed> {
        Some(Claimed::Stands(match answer {
            Claimed::Written if self.encoded.body.len() > BODY_INLINE_MAX => Standing::LargeBody,
            Claimed::Written => Standing::Whole(self.encoded.clone()),
            Claimed::Stands(Standing::Whole(encoded)) => Standing::Whole(encoded.clone()),
            Claimed::Stands(Standing::LargeBody) => Standing::LargeBody,
        }))
    }
}

/// What the columns of a row say: the length is there if there is a body, the body only if it is small.
pub(super) fn standing(head: &[u8], body_len: Option<i32>, body: Option<&[u8]>) -> Standing {
    match (body_len, body) {
        (Some(_), None) => Standing::LargeBody,
        (_, body) => Standing::Whole(Encoded {
            head: Bytes::copy_from_slice(head),
            body: Bytes::copy_from_slice(body.unwrap_or_default()),
        }),
    }
}

/// A row without a body has none, so that it takes no room.
pub(super) fn some_body(body: &Bytes) -> Option<&[u8]> {
    if body.is_empty() { None } else { Some(body) }
}

/// A key as a row holds it. Whatever is no key was written by nobody here, and asked for by nobody.
pub(super) fn key_of(bytes: &[u8]) -> Option<StorageKey> {
    <[u8; 32]>::try_from(bytes).ok().map(StorageKey::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_and_the_program_agree_on_what_is_large() {
        assert!(CLAIM.contains(&format!("octet_length(r.body) <= {BODY_INLINE_MAX}")));
    }
}
