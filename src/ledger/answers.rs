//! Finished records kept in memory. An answer never changes, so it may replay without the store until its
//! retention ends.
//!
//! Must not know where records come from. Bounded in bytes; least useful records go first.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock;
use crate::protocol::record::{Phase, Record, Settled};
use crate::protocol::scope::StorageKey;
use crate::telemetry::metrics::CacheObserved;

/// What a record costs beside its bytes, roughly.
const RECORD_OVERHEAD: u64 = 256;

/// How large records are expected to be, to size the index.
const RECORD_EXPECTED: u64 = 2048;

pub(super) struct Answers {
    /// `None`: nothing is kept.
    kept: Option<Cache<StorageKey, Record, ByBytes>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<StorageKey, Record> for ByBytes {
    fn weight(&self, _: &StorageKey, record: &Record) -> u64 {
        let held = match &record.phase {
            Phase::Done { saved, .. } => u64::try_from(saved.bytes()).unwrap_or(u64::MAX),
            Phase::DoneWithoutBody { head, .. } => u64::try_from(head.bytes()).unwrap_or(u64::MAX),
            Phase::InFlight | Phase::Unknown { .. } => 0,
        };
        held.saturating_add(RECORD_OVERHEAD)
    }
}

impl Answers {
    pub(super) fn new(bytes_max: u64) -> Self {
        let items = usize::try_from(bytes_max / RECORD_EXPECTED).unwrap_or(usize::MAX).max(16);
        let kept = (bytes_max > 0).then(|| Cache::with_weighter(items, bytes_max, ByBytes));
        Self { kept, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// The finished record of `key`, while its retention lasts.
    pub(super) fn find(&self, key: &StorageKey) -> Option<Record> {
        let cache = self.kept.as_ref()?;
        let record = cache.get(key)?;
        if settled(&record.phase).is_some_and(is_kept) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(record);
        }
        cache.remove(key);
        None
    }

    /// Notes that the store had to be asked.
    pub(super) fn missed(&self) {
        if self.kept.is_some() {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is kept, and how well that served.
    pub(super) fn observed(&self) -> CacheObserved {
        CacheObserved {
            bytes: self.kept.as_ref().map_or(0, Cache::weight),
            records: self.kept.as_ref().map_or(0, Cache::len),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// Keeps a record if it is finished; anything else may still change.
    pub(super) fn remember(&self, key: StorageKey, record: &Record) {
        if let Some(cache) = &self.kept
            && settled(&record.phase).is_some_and(is_kept)
        {
            cache.insert(key, record.clone());
        }
    }

    pub(super) fn forget(&self, key: &StorageKey) {
        if let Some(cache) = &self.kept {
            cache.remove(key);
        }
    }
}

fn settled(phase: &Phase) -> Option<Settled> {
    match phase {
        Phase::Done { settled, .. } | Phase::DoneWithoutBody { settled, .. } => Some(*settled),
        Phase::InFlight | Phase::Unknown { .. } => None,
    }
}

fn is_kept(settled: Settled) -> bool {
    let kept_ms = u64::try_from(settled.keep_for.as_millis()).unwrap_or(u64::MAX);
    clock::unix_millis().0 < settled.at.0.saturating_add(kept_ms)
}
