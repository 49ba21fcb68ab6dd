//! Stores that are broken on purpose, each in one way that a real one might be, to show that the search
//! finds it. All stand on the store in memory and pause where a race needs a pause.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use onceway::protocol::record::{Phase, Record, Seen, Session, Version};
use onceway::protocol::scope::StorageKey;
use onceway::store::durability::Durability;
use onceway::store::memory::MemoryStore;
use onceway::store::{Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};
use tokio::task::yield_now;

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing: shows that it is not the wrapper that is found.
    None,
    /// A swap replaces whatever stands.
    SwapIgnoresTheVersion,
    /// A removal removes whatever stands.
    RemoveIgnoresTheVersion,
    /// A swap compares, and writes a moment later.
    SwapComparesThenWrites,
    /// An insert looks, and writes a moment later.
    InsertLooksThenWrites,
    /// A swap compares the attempt and not which of its writes it is.
    SwapIgnoresTheRevision,
    /// A fetch answers from a copy that is renewed by every third.
    FetchIsStale,
    /// Every eighth swap is acknowledged and not done.
    SwapIsLost,
    /// Every eighth insert that found nothing is done once more, later: a client that sends again.
    InsertIsDoneAgain,
    /// A fetch puts the body of one record to the head of another.
    BodyOfAnother,
    /// What cannot be had at once is called absent.
    AbsentWhenBusy,
}

impl Fault {
    pub(super) const EVERY: [Self; 10] = [
        Self::SwapIgnoresTheVersion,
        Self::RemoveIgnoresTheVersion,
        Self::SwapComparesThenWrites,
        Self::InsertLooksThenWrites,
        Self::SwapIgnoresTheRevision,
        Self::FetchIsStale,
        Self::SwapIsLost,
        Self::InsertIsDoneAgain,
        Self::BodyOfAnother,
        Self::AbsentWhenBusy,
    ];
}

pub(super) struct Broken {
    fault: Fault,
    inner: MemoryStore,
    calls: AtomicUsize,
    copies: Mutex<HashMap<StorageKey, Seen>>,
    again: Mutex<Option<(StorageKey, Record)>>,
}

impl Broken {
    pub(super) fn by(fault: Fault) -> Self {
        let (inner, calls) = (MemoryStore::new(), AtomicUsize::new(0));
        Self { fault, inner, calls, copies: Mutex::default(), again: Mutex::default() }
    }

    /// Whether this call is one of every `each`.
    fn is_due(&self, each: usize) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) % each == each - 1
    }

    /// Writes whatever stands there.
    async fn overwrite(&self, key: &StorageKey, next: &Record, keep_for: Duration) -> Result<(), StoreError> {
        loop {
            let swapped = match self.inner.fetch(key).await? {
                Seen::Record(stands) => self.inner.swap(key, stands.version, next, keep_for).await?,
                Seen::Nothing | Seen::Unreadable => {
                    self.inner.insert(key, next, keep_for).await?;
                    Swapped::Done
                }
            };
            if swapped == Swapped::Done {
                return Ok(());
            }
        }
    }

    /// The version that stands, if `is_it` takes it for the one that was seen.
    async fn standing(
        &self,
        key: &StorageKey,
        is_it: impl Fn(Version) -> bool,
    ) -> Result<Option<Version>, StoreError> {
        Ok(match self.inner.fetch(key).await? {
            Seen::Record(stands) if is_it(stands.version) => Some(stands.version),
            Seen::Record(_) | Seen::Nothing | Seen::Unreadable => None,
        })
    }
}

#[async_trait]
impl Store for Broken {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        if self.fault == Fault::InsertLooksThenWrites {
            let stands = self.inner.fetch(key).await?;
            yield_now().await;
            if stands == Seen::Nothing {
                self.overwrite(key, fresh, keep_for).await?;
            }
            return Ok(stands);
        }
        let stands = self.inner.insert(key, fresh, keep_for).await?;
        if self.fault == Fault::InsertIsDoneAgain {
            let due = self.again.lock().unwrap().take();
            if let Some((key, record)) = due {
                self.inner.insert(&key, &record, keep_for).await?;
            }
            if stands == Seen::Nothing && self.is_due(8) {
                *self.again.lock().unwrap() = Some((*key, fresh.clone()));
            }
        }
        Ok(stands)
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        if self.fault == Fault::SwapIsLost && self.is_due(8) {
            let is_it = self.standing(key, |it| it == seen).await?.is_some();
            return if is_it { Ok(Swapped::Done) } else { self.inner.swap(key, seen, next, keep_for).await };
        }
        if self.fault == Fault::SwapComparesThenWrites {
            let is_it = self.standing(key, |it| it == seen).await?.is_some();
            yield_now().await;
            if is_it {
                self.overwrite(key, next, keep_for).await?;
                return Ok(Swapped::Done);
            }
        }
        let is_taken_for_it = |it: Version| {
            self.fault == Fault::SwapIgnoresTheVersion
                || self.fault == Fault::SwapIgnoresTheRevision && it.attempt == seen.attempt
        };
        let stands = self.standing(key, is_taken_for_it).await?;
        self.inner.swap(key, stands.unwrap_or(seen), next, keep_for).await
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        let stands = self.standing(key, |_| self.fault == Fault::RemoveIgnoresTheVersion).await?;
        self.inner.remove(key, stands.unwrap_or(seen)).await
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        let stands = self.inner.fetch(key).await?;
        let mut copies = self.copies.lock().unwrap();
        let copy = copies.entry(*key).or_insert_with(|| stands.clone()).clone();
        if self.is_due(3) {
            copies.insert(*key, stands.clone());
        }
        Ok(match (self.fault, &stands, &copy) {
            (Fault::FetchIsStale, _, _) => copy,
            (Fault::AbsentWhenBusy, _, _) if self.is_due(2) => Seen::Nothing,
            (Fault::BodyOfAnother, Seen::Record(one), Seen::Record(other)) => mixed(one, other),
            _ => stands,
        })
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        self.inner.renew_session(session, ttl).await
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.inner.end_session(session).await
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        self.inner.session_life(session).await
    }

    async fn watch(&self, key: &StorageKey) -> Result<Watch, StoreError> {
        self.inner.watch(key).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.inner.list(after, most).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.inner.outline(key).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.inner.count_forgetting().await
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        self.inner.forgettings().await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.inner.inspect().await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

fn mixed(head: &Record, body: &Record) -> Seen {
    let mut record = head.clone();
    if let (Phase::Done { saved, .. }, Phase::Done { saved: other, .. }) = (&mut record.phase, &body.phase) {
        saved.body = other.body.clone();
    }
    Seen::Record(Box::new(record))
}
