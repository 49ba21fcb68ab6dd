//! Finished records kept in memory. An answer never changes, so it may replay without the store until its
//! retention ends, or an operator forgets its key.
//!
//! What an operator forgets anywhere is let go of with all the rest, for the store tells that something was forgotten
//! and not what. A record that was read before that moment may arrive here after it, so whoever reads one says as of
//! when ([`Answers::as_of`], before the store is asked), and what is older than the last letting go is never found.
//!
//! A process that cannot reach the store hears of no forgetting, and goes on replaying from memory: what it replays is
//! the first answer, and nothing runs.
//!
//! Must not know where records come from. Bounded in bytes; least useful records go first.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock;
use crate::protocol::record::{Phase, Record, Settled};
use crate::protocol::scope::StorageKey;

/// What a record costs beside its bytes, roughly.
const RECORD_OVERHEAD: u64 = 256;

/// How large records are expected to be, to size the index.
const RECORD_EXPECTED: u64 = 2048;

pub(super) struct Answers {
    /// `None`: nothing is kept.
    cache: Option<Cache<StorageKey, Kept, ByBytes>>,
    /// How often everything was let go of.
    lettings_go: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A moment between two lettings go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AsOf(u64);

/// A finished record, as it was found.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) record: Record,
    /// Whether the store has it. If not, this process is still trying.
    pub(super) is_stored: bool,
    as_of: AsOf,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<StorageKey, Kept> for ByBytes {
    fn weight(&self, _: &StorageKey, kept: &Kept) -> u64 {
        let held = match &kept.record.phase {
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
        Self {
            cache: (bytes_max > 0).then(|| Cache::with_weighter(items, bytes_max, ByBytes)),
            lettings_go: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The present, to be taken before the store is asked for what will be remembered.
    pub(super) fn as_of(&self) -> AsOf {
        AsOf(self.lettings_go.load(Ordering::Acquire))
    }

    /// The finished record of `key`, while its retention lasts.
    pub(super) fn find(&self, key: &StorageKey) -> Option<Kept> {
        let cache = self.cache.as_ref()?;
        let kept = cache.get(key)?;
        if kept.as_of == self.as_of() && settled(&kept.record.phase).is_some_and(is_kept) {
            return Some(kept);
        }
        cache.remove(key);
        None
    }

    /// Keeps a record that the store holds, or held `as_of` then, if it is finished; anything else may still change.
    pub(super) fn remember(&self, key: StorageKey, record: &Record, as_of: AsOf) {
        self.keep(key, record, true, as_of);
    }

    /// Keeps a finished record that the store has not taken yet.
    pub(super) fn remember_unstored(&self, key: StorageKey, record: &Record) {
        self.keep(key, record, false, self.as_of());
    }

    fn keep(&self, key: StorageKey, record: &Record, is_stored: bool, as_of: AsOf) {
        if let Some(cache) = &self.cache
            && as_of == self.as_of()
            && settled(&record.phase).is_some_and(is_kept)
        {
            cache.insert(key, Kept { record: record.clone(), is_stored, as_of });
        }
    }

    pub(super) fn forget(&self, key: &StorageKey) {
        if let Some(cache) = &self.cache {
            cache.remove(key);
        }
    }

    /// Lets go of everything, and of what was read before now and has yet to come.
    pub(super) fn let_go(&self) {
        self.lettings_go.fetch_add(1, Ordering::AcqRel);
        if let Some(cache) = &self.cache {
            cache.clear();
        }
    }

    /// Counts a look for a request that wants to know whether it is answered from here.
    pub(super) fn count_look(&self, is_hit: bool) {
        if self.cache.is_some() {
            let counter = if is_hit { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Looks that found something, and looks that did not.
    pub(super) fn looks(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }

    /// Records, and bytes.
    pub(super) fn size(&self) -> (usize, u64) {
        self.cache.as_ref().map_or((0, 0), |cache| (cache.len(), cache.weight()))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::protocol::fingerprint::Fingerprint;
    use crate::protocol::record::{Attempt, Session, UnixMillis, Version};
    use crate::protocol::saved::{SavedHead, SavedResponse};

    const KEY: StorageKey = StorageKey::from_bytes([1; 32]);

    fn finished() -> Record {
        let head = SavedHead { status: 201, headers: [].into() };
        let saved = SavedResponse { head, body: Bytes::from_static(b"paid"), trailers: [].into() };
        let settled = Settled { at: clock::unix_millis(), keep_for: Duration::from_hours(1) };
        Record {
            version: Version { attempt: Attempt([1; 16]), revision: 1 },
            session: Session([1; 16]),
            fingerprint: Fingerprint::from_bytes([1; 32]),
            attempts: 1,
            opened_at: clock::unix_millis(),
            route: "/payments".into(),
            phase: Phase::Done { saved, settled },
        }
    }

    #[test]
    fn what_was_let_go_of_is_not_found() {
        let answers = Answers::new(1 << 20);
        answers.remember(KEY, &finished(), answers.as_of());
        assert!(answers.find(&KEY).is_some_and(|kept| kept.is_stored));
        answers.let_go();
        assert!(answers.find(&KEY).is_none());
        assert_eq!(answers.size(), (0, 0));
    }

    #[test]
    fn what_was_read_before_a_letting_go_is_not_kept_after_it() {
        let answers = Answers::new(1 << 20);
        let before = answers.as_of();
        answers.let_go();
        answers.remember(KEY, &finished(), before);
        assert!(answers.find(&KEY).is_none());
        answers.remember(KEY, &finished(), answers.as_of());
        assert!(answers.find(&KEY).is_some());
    }

    #[test]
    fn what_slips_in_while_everything_is_let_go_of_is_never_found() {
        let answers = Answers::new(1 << 20);
        let before = answers.as_of();
        let late = Kept { record: finished(), is_stored: true, as_of: before };
        answers.let_go();
        // The look at the moment and the insert are two steps, and a letting go may come between.
        answers.cache.as_ref().unwrap().insert(KEY, late);
        assert!(answers.find(&KEY).is_none());
    }

    #[test]
    fn nothing_is_kept_and_nothing_counted_where_the_memory_is_switched_off() {
        let answers = Answers::new(0);
        answers.remember(KEY, &finished(), answers.as_of());
        answers.count_look(false);
        assert!(answers.find(&KEY).is_none());
        assert_eq!((answers.looks(), answers.size()), ((0, 0), (0, 0)));
    }

    #[test]
    fn what_has_not_been_stored_is_told_and_what_is_forgotten_is_gone() {
        let answers = Answers::new(1 << 20);
        answers.remember_unstored(KEY, &finished());
        assert!(answers.find(&KEY).is_some_and(|kept| !kept.is_stored));
        answers.forget(&KEY);
        assert!(answers.find(&KEY).is_none());
    }

    #[test]
    fn what_is_not_finished_or_has_ended_is_not_kept() {
        let answers = Answers::new(1 << 20);
        let mut ended = finished();
        let at = UnixMillis(clock::unix_millis().0 - 1000);
        let settled = |millis| Settled { at, keep_for: Duration::from_millis(millis) };
        ended.phase = Phase::DoneWithoutBody {
            head: SavedHead { status: 200, headers: [].into() },
            settled: settled(1000),
        };
        for record in [ended, Record { phase: Phase::InFlight, ..finished() }] {
            answers.remember(KEY, &record, answers.as_of());
            assert!(answers.find(&KEY).is_none(), "{:?}", record.phase);
        }
        assert!(is_kept(settled(100_000)) && !is_kept(settled(999)));
    }

    #[test]
    fn a_record_weighs_its_answer_and_what_stands_beside_it() {
        let answers = Answers::new(1 << 20);
        answers.remember(KEY, &finished(), answers.as_of());
        assert_eq!(answers.size(), (1, 4 + RECORD_OVERHEAD));
        let as_of = answers.as_of();
        let kept = |phase| Kept { record: Record { phase, ..finished() }, is_stored: true, as_of };
        assert_eq!(ByBytes.weight(&KEY, &kept(Phase::InFlight)), RECORD_OVERHEAD);
        let head = SavedHead { status: 200, headers: vec![("a".into(), Bytes::from_static(b"b"))].into() };
        let settled = settled(&finished().phase).unwrap();
        let headed = kept(Phase::DoneWithoutBody { head, settled });
        assert_eq!(ByBytes.weight(&KEY, &headed), 1 + 1 + 32 + RECORD_OVERHEAD);
    }

    #[test]
    fn looks_are_counted_by_what_they_found() {
        let answers = Answers::new(1 << 20);
        for is_hit in [true, false, true, true] {
            answers.count_look(is_hit);
        }
        assert_eq!(answers.looks(), (3, 1));
    }
}
