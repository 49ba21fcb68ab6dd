//! A store in memory that a migration can be tried on: sessions live by tokio's clock, every call may be the last
//! one of a run that crashes, and calls may take their time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use onceway::migration::{Ended, Move, MoveError};
use onceway::protocol::record::{Record, Seen, Session, Version};
use onceway::protocol::scope::StorageKey;
use onceway::store::durability::Durability;
use onceway::store::memory::MemoryStore;
use onceway::store::transfer::{Moved, Page, Transfer};
use onceway::store::{Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many calls a run may still make before it crashes, counted over both of its stores.
#[derive(Default)]
pub(crate) struct Fuse {
    calls_left: Mutex<Option<usize>>,
    /// Whether the last call still takes effect.
    takes_effect: Mutex<bool>,
    blown: Notify,
}

/// One of the two stores.
pub(crate) struct Site {
    name: &'static str,
    inner: MemoryStore,
    sessions: Mutex<HashMap<Session, Instant>>,
    fuse: Arc<Fuse>,
}

/// The two stores of a move.
pub(crate) struct Sites {
    pub(crate) from: Arc<Site>,
    pub(crate) to: Arc<Site>,
    pub(crate) fuse: Arc<Fuse>,
}

/// How a run ended that may have crashed.
#[derive(Debug)]
pub(crate) enum Run<T> {
    Ended(T),
    Crashed,
}

impl Fuse {
    pub(crate) fn set(&self, calls: usize, takes_effect: bool) {
        *self.calls_left.lock().unwrap() = Some(calls);
        *self.takes_effect.lock().unwrap() = takes_effect;
    }

    pub(crate) fn remove(&self) {
        *self.calls_left.lock().unwrap() = None;
    }

    /// Runs until the end or the crash.
    pub(crate) async fn guard<T>(&self, run: impl Future<Output = T>) -> Run<T> {
        tokio::select! {
            biased;
            () = self.blown.notified() => Run::Crashed,
            ended = run => Run::Ended(ended),
        }
    }

    /// Answers whether this call is the last one.
    fn burn(&self) -> bool {
        match &mut *self.calls_left.lock().unwrap() {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }
}

impl Site {
    pub(crate) fn new(name: &'static str, fuse: &Arc<Fuse>) -> Arc<Self> {
        let (inner, sessions) = (MemoryStore::new(), Mutex::default());
        Arc::new(Self { name, inner, sessions, fuse: Arc::clone(fuse) })
    }

    pub(crate) async fn gate_now(&self) -> Gate {
        self.inner.gate().await.unwrap()
    }

    pub(crate) async fn close(&self, gate: Gate) {
        self.inner.set_gate(gate).await.unwrap();
    }

    /// What stands under `key`, past the fuse.
    pub(crate) async fn standing(&self, key: &StorageKey) -> Seen {
        self.inner.fetch(key).await.unwrap()
    }

    /// All records but the notes, past the fuse, in the order of their keys.
    pub(crate) async fn records(&self) -> Vec<Moved> {
        let page = self.inner.page(None, usize::MAX).await.unwrap();
        let is_note = |moved: &Moved| moved.key.as_bytes().starts_with(b"onceway store migrate");
        page.records.into_iter().filter(|moved| !is_note(moved)).collect()
    }

    pub(crate) async fn keep(&self, record: &Record) -> StorageKey {
        let key = crate::records::some_key();
        self.inner.insert(&key, record, crate::records::LONG).await.unwrap();
        key
    }

    pub(crate) async fn keep_bytes(&self, moved: Moved) {
        self.inner.put(vec![moved]).await.unwrap();
    }

    pub(crate) async fn change(&self, key: &StorageKey, seen: Version, next: &Record) {
        let swapped = self.inner.swap(key, seen, next, crate::records::LONG).await.unwrap();
        assert_eq!(swapped, Swapped::Done);
    }

    pub(crate) async fn release(&self, key: &StorageKey, seen: Version) {
        assert_eq!(self.inner.remove(key, seen).await.unwrap(), Swapped::Done);
    }

    /// A gateway says that it lives.
    pub(crate) fn lives(&self, session: Session, ttl: Duration) {
        self.sessions.lock().unwrap().insert(session, Instant::now() + ttl);
    }

    async fn guarded<T>(&self, call: impl Future<Output = T>) -> T {
        if !self.fuse.burn() {
            return call.await;
        }
        if *self.fuse.takes_effect.lock().unwrap() {
            call.await;
        }
        self.fuse.blown.notify_one();
        std::future::pending().await
    }

    fn alive(&self) -> Vec<(Session, Duration)> {
        let (now, mut sessions) = (Instant::now(), self.sessions.lock().unwrap());
        sessions.retain(|_, expires| *expires > now);
        sessions.iter().map(|(session, expires)| (*session, *expires - now)).collect()
    }
}

impl Sites {
    pub(crate) fn new() -> Self {
        let fuse = Arc::<Fuse>::default();
        Self { from: Site::new("old", &fuse), to: Site::new("new", &fuse), fuse }
    }

    pub(crate) fn plan(&self) -> Move {
        plan(&self.from, &self.to)
    }

    /// Runs the move to its end.
    pub(crate) async fn run(&self) -> Result<Ended, MoveError> {
        self.plan().run(&mut |_| {}).await
    }
}

pub(crate) fn plan(from: &Arc<Site>, to: &Arc<Site>) -> Move {
    Move {
        from: from.clone(),
        to: to.clone(),
        session_ttl: Duration::from_secs(5),
        settle_timeout: Duration::from_secs(10),
        accept_eviction: false,
        accept_loss: false,
    }
}

#[async_trait]
impl Store for Site {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        self.guarded(self.inner.insert(key, fresh, keep_for)).await
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        self.guarded(self.inner.swap(key, seen, next, keep_for)).await
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        self.guarded(self.inner.remove(key, seen)).await
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        self.guarded(self.inner.fetch(key)).await
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        self.guarded(async { self.lives(session, ttl) }).await;
        self.inner.gate().await
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.guarded(async { self.sessions.lock().unwrap().remove(&session) }).await;
        Ok(())
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        let is_alive = self.alive().iter().any(|(alive, _)| *alive == session);
        Ok(if is_alive { SessionLife::Alive } else { SessionLife::Absent })
    }

    async fn watch(&self, _key: &StorageKey) -> Result<Watch, StoreError> {
        Ok(Watch::never())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.guarded(self.inner.list(after, most)).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.guarded(self.inner.outline(key)).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.guarded(self.inner.count_forgetting()).await
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        self.guarded(self.inner.forgettings()).await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        Ok(Durability::default())
    }

    fn describe(&self) -> String {
        self.name.to_owned()
    }
}

#[async_trait]
impl Transfer for Site {
    async fn page(&self, after: Option<Cursor>, _most: usize) -> Result<Page, StoreError> {
        // Small pages, so that a crash falls between two of them.
        self.guarded(self.inner.page(after, 3)).await
    }

    async fn put(&self, records: Vec<Moved>) -> Result<(), StoreError> {
        self.guarded(self.inner.put(records)).await
    }

    async fn sessions(&self) -> Result<Vec<(Session, Duration)>, StoreError> {
        self.guarded(async { Ok(self.alive()) }).await
    }

    async fn gate(&self) -> Result<Gate, StoreError> {
        self.guarded(self.inner.gate()).await
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError> {
        self.guarded(self.inner.set_gate(gate)).await
    }
}
