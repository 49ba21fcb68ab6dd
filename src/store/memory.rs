//! Records in this process's memory: for trying Onceway out and for tests. Everything is forgotten at exit.
//!
//! Keeps encoded bytes as every other store does, so that what replays here replays there. Must not know
//! what a record means. Read `mod.rs` and `codec.rs` before, `embedded.rs` after.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::codec::{self, Codec, Encoded};
use super::durability::Durability;
use super::transfer::{Moved, Page, Transfer};
use super::{Closure, Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};
use crate::clock;
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

/// Expired records removed by one write. More than one, so that the sweep overtakes the writes.
const SWEPT_PER_WRITE: usize = 8;

/// No record outlives this, so that a moment of expiry can always be computed.
const KEEP_FOR_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    codec: Codec,
    shelf: Mutex<Shelf>,
    sessions: OwnSessions,
    gate: Mutex<Option<Closure>>,
}

/// What is kept, and in which order it expires. Both always name the same keys.
#[derive(Debug, Default)]
struct Shelf {
    /// In order, so that a page of them is found without a look at the others.
    records: BTreeMap<StorageKey, Kept>,
    expiries: BTreeSet<(Instant, StorageKey)>,
}

#[derive(Clone, Debug)]
struct Kept {
    encoded: Encoded,
    expires: Instant,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same store, writing and reading with `codec`.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    fn listed(&self, key: StorageKey, encoded: &Encoded, keep_for: Duration) -> Listed {
        let body_len = u64::try_from(encoded.body.len()).unwrap_or(u64::MAX);
        Listed { key, outline: self.codec.outline(&key, &encoded.head, body_len), keep_for }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing panics between the steps of a change, so a poisoned lock still guards whole data.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        let encoded = self.codec.encode(key, fresh);
        let stands = self.shelf().insert(*key, encoded, keep_for, clock::monotonic());
        // Decoded outside the lock, so that a large answer holds up nobody.
        Ok(stands.map_or(Seen::Nothing, |stands| self.codec.decode(key, stands)))
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        let encoded = self.codec.encode(key, next);
        let now = clock::monotonic();
        let mut held = self.shelf();
        let standing = held.compare(key, seen, now);
        if standing == Swapped::Done {
            held.put(*key, encoded, keep_for, now);
        }
        Ok(standing)
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        let mut held = self.shelf();
        let standing = held.compare(key, seen, clock::monotonic());
        if standing == Swapped::Done {
            held.take(key);
        }
        Ok(standing)
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        let stands = self.shelf().live(key, clock::monotonic()).map(|kept| kept.encoded.clone());
        Ok(stands.map_or(Seen::Nothing, |stands| self.codec.decode(key, stands)))
    }

    async fn renew_session(&self, session: Session, _ttl: Duration) -> Result<Gate, StoreError> {
        self.sessions.register(session);
        self.gate().await
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.sessions.end(session);
        Ok(())
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        Ok(self.sessions.life(session))
    }

    async fn watch(&self, _key: &StorageKey) -> Result<Watch, StoreError> {
        Ok(Watch::never())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        let Page { records, next } = self.page(after, most).await?;
        // Outside the lock: to open what is sealed takes its time.
        let listed = |Moved { key, encoded, keep_for }| self.listed(key, &encoded, keep_for);
        Ok(Listing { records: records.into_iter().map(listed).collect(), next })
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        let now = clock::monotonic();
        let stands = self.shelf().live(key, now).cloned();
        Ok(stands.map(|Kept { encoded, expires }| {
            self.listed(*key, &encoded, expires.saturating_duration_since(now))
        }))
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        Ok(Durability {
            facts: vec![("persistence", "none".to_owned())],
            losses: vec!["the end of the process, by whatever cause: everything".to_owned()],
            faults: Vec::new(),
        })
    }

    fn describe(&self) -> String {
        "memory: (forgets at exit)".to_owned()
    }
}

#[async_trait]
impl Transfer for MemoryStore {
    async fn page(&self, after: Option<Cursor>, most: usize) -> Result<Page, StoreError> {
        let after = after.as_ref().map(Cursor::key).transpose()?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (most, now) = (most.max(1), clock::monotonic());
        let held = self.shelf();
        let mut range = held.records.range((from, Bound::Unbounded));
        let (mut records, mut last) = (Vec::new(), None);
        for (key, kept) in range.by_ref().take(most) {
            last = Some(*key);
            if now < kept.expires {
                let keep_for = kept.expires.saturating_duration_since(now);
                records.push(Moved { key: *key, encoded: kept.encoded.clone(), keep_for });
            }
        }
        let next = if range.next().is_some() { last.as_ref().map(Cursor::of) } else { None };
        Ok(Page { records, next })
    }

    async fn put(&self, records: Vec<Moved>) -> Result<(), StoreError> {
        let now = clock::monotonic();
        let mut held = self.shelf();
        for Moved { key, encoded, keep_for } in records {
            held.put(key, encoded, keep_for, now);
        }
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<(Session, Duration)>, StoreError> {
        Ok(self.sessions.all())
    }

    async fn gate(&self) -> Result<Gate, StoreError> {
        let closure = *self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(closure.map_or(Gate::Open, Gate::Closed))
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError> {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = match gate {
            Gate::Open => None,
            Gate::Closed(closure) => Some(closure),
        };
        Ok(())
    }
}

impl Shelf {
    /// Answers what stands under `key`, or puts `fresh` there.
    fn insert(
        &mut self,
        key: StorageKey,
        fresh: Encoded,
        keep_for: Duration,
        now: Instant,
    ) -> Option<Encoded> {
        if let Some(kept) = self.live(&key, now) {
            return Some(kept.encoded.clone());
        }
        self.put(key, fresh, keep_for, now);
        None
    }

    fn live(&self, key: &StorageKey, now: Instant) -> Option<&Kept> {
        self.records.get(key).filter(|kept| now < kept.expires)
    }

    fn compare(&self, key: &StorageKey, seen: Version, now: Instant) -> Swapped {
        match self.live(key, now) {
            None => Swapped::Absent,
            Some(kept) if codec::is_version(&kept.encoded.head, seen) => Swapped::Done,
            Some(_) => Swapped::Changed,
        }
    }

    fn put(&mut self, key: StorageKey, encoded: Encoded, keep_for: Duration, now: Instant) {
        self.take(&key);
        self.sweep(now);
        let expires = now + keep_for.min(KEEP_FOR_MAX);
        self.expiries.insert((expires, key));
        self.records.insert(key, Kept { encoded, expires });
    }

    fn take(&mut self, key: &StorageKey) {
        if let Some(kept) = self.records.remove(key) {
            self.expiries.remove(&(kept.expires, *key));
        }
    }

    fn sweep(&mut self, now: Instant) {
        for _ in 0..SWEPT_PER_WRITE {
            match self.expiries.first().copied() {
                Some((expires, key)) if expires <= now => self.take(&key),
                Some(_) | None => return,
            }
        }
    }
}

/// The sessions of the one process that a store belongs to. Whatever is not among them cannot live.
///
/// Their time to live does not matter: as long as this process can ask, it lives.
#[derive(Debug, Default)]
pub(super) struct OwnSessions(Mutex<HashSet<Session>>);

impl OwnSessions {
    pub(super) fn register(&self, session: Session) {
        self.live().insert(session);
    }

    pub(super) fn end(&self, session: Session) {
        self.live().remove(&session);
    }

    pub(super) fn life(&self, session: Session) -> SessionLife {
        if self.live().contains(&session) { SessionLife::Alive } else { SessionLife::Dead }
    }

    /// All of them; they live for as long as this process does.
    pub(super) fn all(&self) -> Vec<(Session, Duration)> {
        self.live().iter().map(|session| (*session, Duration::MAX)).collect()
    }

    fn live(&self) -> MutexGuard<'_, HashSet<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> StorageKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        StorageKey::from_bytes(bytes)
    }

    fn encoded() -> Encoded {
        Encoded { head: vec![0; codec::HEAD_LEN].into(), body: bytes::Bytes::new() }
    }

    #[test]
    fn writes_give_back_the_space_of_what_has_expired() {
        let (mut shelf, start) = (Shelf::default(), clock::monotonic());
        for number in 0..100 {
            shelf.put(key(number), encoded(), Duration::from_secs(1), start);
        }
        let later = start + Duration::from_secs(2);
        for number in 100..120 {
            shelf.put(key(number), encoded(), Duration::from_secs(1), later);
        }
        assert_eq!((shelf.records.len(), shelf.expiries.len()), (20, 20));
    }

    #[test]
    fn a_record_that_was_written_again_expires_by_its_last_write() {
        let (mut shelf, start) = (Shelf::default(), clock::monotonic());
        shelf.put(key(1), encoded(), Duration::from_secs(1), start);
        shelf.put(key(1), encoded(), Duration::from_secs(9), start);
        let later = start + Duration::from_secs(2);
        shelf.put(key(2), encoded(), Duration::from_secs(1), later);
        assert!(shelf.live(&key(1), later).is_some());
        assert_eq!(shelf.expiries.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_still_stands() {
        let (mut shelf, now) = (Shelf::default(), clock::monotonic());
        let garbage = Encoded { head: b"short".as_slice().into(), body: bytes::Bytes::new() };
        shelf.put(key(1), garbage, Duration::from_secs(9), now);
        let stands = shelf.insert(key(1), encoded(), Duration::from_secs(9), now);
        assert_eq!(stands.map(|stands| Codec::default().decode(&key(1), stands)), Some(Seen::Unreadable));
        let version = Version { attempt: crate::protocol::record::Attempt([0; 16]), revision: 0 };
        assert_eq!(shelf.compare(&key(1), version, now), Swapped::Changed);
    }

    #[test]
    fn a_retention_beyond_all_clocks_is_kept_and_does_not_overflow() {
        let (mut shelf, now) = (Shelf::default(), clock::monotonic());
        shelf.put(key(1), encoded(), Duration::MAX, now);
        assert!(shelf.live(&key(1), now + Duration::from_hours(1)).is_some());
    }
}
