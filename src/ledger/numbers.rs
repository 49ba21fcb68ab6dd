//! How many of what there are, for whoever shows it. Plain reads: nothing here waits or asks the store.
//!
//! Must not know who shows it, nor by what name. Read `mod.rs` before.

use std::time::Duration;

use super::Ledger;

/// What lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Finished records.
    pub records: usize,
    /// What they weigh, with what is known beside them.
    pub bytes: u64,
    /// Requests that were answered from memory.
    pub hits: u64,
    /// Requests that were not.
    pub misses: u64,
}

impl Ledger {
    /// Claims of this process that stand and are not settled, those among them whose outcome the store has yet to take.
    /// A key that is claimed in two ways counts twice.
    pub fn claims_in_flight(&self) -> usize {
        self.shared.attempts.claims()
    }

    /// Requests of this process that wait for another's answer.
    pub fn waiters(&self) -> usize {
        self.shared.waiters.count()
    }

    /// What lies in memory. Nothing is counted where that is switched off.
    pub fn cached(&self) -> Cached {
        let ((records, bytes), (hits, misses)) = (self.shared.answers.size(), self.shared.answers.looks());
        Cached { records, bytes, hits, misses }
    }

    /// How often this process's session may have lapsed since it began.
    pub fn sessions_lapsed(&self) -> u64 {
        // The first renewal is one too: nothing was fresh before it.
        self.shared.sessions.lapses().saturating_sub(1)
    }

    /// How long ago the last heartbeat was sent by which this process may claim. `None`: it may not.
    pub fn heartbeat_age(&self) -> Option<Duration> {
        self.shared.sessions.age()
    }

    /// Whether the store answered the last heartbeat, open or closed.
    pub fn reaches_store(&self) -> bool {
        self.shared.sessions.is_reached()
    }

    /// Whether the store was closed for claims when it last answered.
    pub fn is_store_closed(&self) -> bool {
        self.shared.sessions.is_turned_away()
    }
}
