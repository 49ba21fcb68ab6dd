//! Removes what has expired, a stretch of the table at a time.
//!
//! There is no index on expiry: it would make every settlement change an index, to save a scan that reads
//! eight megabytes a second at most. One gateway sweeps, the one that holds an advisory lock; a row that
//! somebody else holds is left for the next round. What is expired reads as absent long before it is removed,
//! so a removal that a crash undoes is no loss, and none waits for the disk. Must not know records.

use std::time::Duration;

use super::link::{Connected, Link};
use super::trouble::{Chain, Failure};
use crate::store::StoreError;

/// Pages of the table in one statement: eight megabytes.
const STRETCH: i64 = 1024;

/// Between stretches in which little has expired.
const PAUSE: Duration = Duration::from_secs(1);

/// A stretch in which this many had expired is followed by the next one at once.
const MANY: i64 = 256;

/// After this many stretches, sessions and watches are swept too.
const OTHERS_EVERY: u32 = 60;

/// Held by the connection of the gateway that sweeps.
const LOCK: i64 = 0x6f6e_6365_7761_7902;

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";

pub(super) const PAGES: &str =
    "SELECT pg_relation_size('onceway.record') / current_setting('block_size')::bigint";

/// Parameters: the first page, and the first page after the stretch.
pub(super) const SWEEP: &str = "
WITH swept AS (
    DELETE FROM onceway.record r
    USING (
        SELECT e.ctid AS at FROM onceway.record e
        WHERE e.ctid >= ('(' || $1::bigint || ',0)')::tid AND e.ctid < ('(' || $2::bigint || ',0)')::tid
            AND e.expires <= now()
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) expired
    WHERE r.ctid = expired.at AND r.expires <= now()
        AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
    RETURNING 1
)
SELECT count(*) FROM swept";

/// As many as one statement removes; the same number stands in it.
const SWEPT_MAX: i64 = 1000;

const SWEEP_SESSIONS: &str = "DELETE FROM onceway.session WHERE expires < now() - interval '1 hour'";

const SWEEP_WATCHES: &str = "DELETE FROM onceway.watch WHERE expires < now()";

/// Sweeps for ever. To be run as a task; stops when dropped.
pub(super) async fn keep(link: Link) {
    let mut sweeper = Sweeper { link, held_on: None, page: 0, stretches: 0 };
    loop {
        match sweeper.sweep().await {
            Ok(swept) if swept >= MANY => {}
            Ok(_) => tokio::time::sleep(PAUSE).await,
            Err(failure) => {
                let error = StoreError::from(failure);
                tracing::debug!(error = %Chain(&error), "could not sweep");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

struct Sweeper {
    link: Link,
    /// The connection that holds the lock.
    held_on: Option<u64>,
    page: i64,
    stretches: u32,
}

impl Sweeper {
    /// Sweeps one stretch, if it is this gateway's to sweep. Answers how many records went.
    async fn sweep(&mut self) -> Result<i64, Failure> {
        let at = self.link.connected().await?;
        if !self.holds_lock(&at).await? {
            return Ok(0);
        }
        let pages: i64 = self.number(&at, PAGES, &[]).await?;
        if self.page >= pages {
            self.page = 0;
        }
        let (first, end) = (self.page, self.page.saturating_add(STRETCH));
        let swept = self.number(&at, SWEEP, &[&first, &end]).await?;
        if swept < SWEPT_MAX {
            self.page = end;
        }
        if self.stretches.is_multiple_of(OTHERS_EVERY) {
            for sql in [SWEEP_SESSIONS, SWEEP_WATCHES] {
                self.link.ask_on(&at, sql, &[]).await?;
            }
        }
        self.stretches = self.stretches.wrapping_add(1);
        Ok(swept)
    }

    async fn holds_lock(&mut self, at: &Connected) -> Result<bool, Failure> {
        if self.held_on == Some(at.generation) {
            return Ok(true);
        }
        let rows = self.link.ask_on(at, TRY_LOCK, &[&LOCK]).await?;
        let is_held = rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false));
        self.held_on = is_held.then_some(at.generation);
        Ok(is_held)
    }

    async fn number(
        &self,
        at: &Connected,
        sql: &'static str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<i64, Failure> {
        let rows = self.link.ask_on(at, sql, parameters).await?;
        rows.first().map_or(Ok(0), |row| row.try_get(0).map_err(Failure::unexpected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_and_the_program_agree_on_how_many_go_at_once() {
        assert!(SWEEP.contains(&format!("LIMIT {SWEPT_MAX} ")));
    }
}
