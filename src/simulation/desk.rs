//! A gateway's handle to the simulated store: each call becomes a message that the world carries, or does not, and waits
//! for the answer that the world brings, or does not.
//!
//! Records travel as bytes, by the codec of every store. Must not know what happens to a message (`shelf.rs` does what
//! it asks, `world.rs` carries it).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use crate::net::simulated::Port;
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;
use crate::store::codec::{Codec, Encoded};
use crate::store::durability::Durability;
use crate::store::{Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};

/// What a store is asked to do.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Insert { key: StorageKey, fresh: Written, keep_for: Duration },
    Swap { key: StorageKey, seen: Version, next: Written, keep_for: Duration },
    Remove { key: StorageKey, seen: Version },
    Fetch { key: StorageKey },
    Renew { session: Session, ttl: Duration },
    EndSession { session: Session },
    Life { session: Session },
    Watch { key: StorageKey, tell: watch::Sender<u64> },
    Ping,
    Forget,
    Forgettings,
}

/// A record on its way: the bytes that are kept, and what they say, for the checker.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) encoded: Encoded,
    pub(super) record: Arc<Record>,
}

/// What a store answers.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Stands(Option<(Encoded, Duration)>),
    Swapped(Swapped),
    Life(SessionLife),
    Count(u64),
    Done,
}

/// A question on its way, with the place for its answer.
pub(super) struct Message {
    pub(super) ask: Ask,
    pub(super) reply: oneshot::Sender<Result<Told, StoreError>>,
}

/// A process's handle to the store.
pub(super) struct Desk {
    codec: Codec,
    port: Arc<Port>,
    outbox: Mutex<Vec<Message>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the simulated connection to the store broke")]
pub(super) struct Broke;

impl Desk {
    pub(super) fn of(port: &Arc<Port>) -> Arc<Self> {
        Arc::new(Self { codec: Codec::default(), port: Arc::clone(port), outbox: Mutex::default() })
    }

    /// What was asked since this was called last, in order.
    pub(super) fn take_messages(&self) -> Vec<Message> {
        std::mem::take(&mut self.outbox.lock().unwrap())
    }

    async fn ask(&self, ask: Ask) -> Result<Told, StoreError> {
        let (reply, told) = oneshot::channel();
        if !self.port.is_dead() {
            self.outbox.lock().unwrap().push(Message { ask, reply });
            self.port.act();
        }
        match told.await {
            Ok(told) => told,
            // The message, or its answer, was lost: nobody ever tells.
            Err(_lost) => std::future::pending().await,
        }
    }

    fn written(&self, key: &StorageKey, record: &Record) -> Written {
        Written { encoded: self.codec.encode(key, record), record: Arc::new(record.clone()) }
    }

    fn seen(&self, key: &StorageKey, told: Told) -> Seen {
        match told {
            Told::Stands(Some((encoded, _))) => self.codec.decode(key, encoded),
            Told::Stands(None) | Told::Swapped(_) | Told::Life(_) | Told::Count(_) | Told::Done => {
                Seen::Nothing
            }
        }
    }
}

fn swapped(told: &Told) -> Swapped {
    match told {
        Told::Swapped(swapped) => *swapped,
        Told::Stands(_) | Told::Life(_) | Told::Count(_) | Told::Done => {
            panic!("{told:?} is no answer to this")
        }
    }
}

#[async_trait]
impl Store for Desk {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        let told = self.ask(Ask::Insert { key: *key, fresh: self.written(key, fresh), keep_for }).await?;
        Ok(self.seen(key, told))
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        let next = self.written(key, next);
        self.ask(Ask::Swap { key: *key, seen, next, keep_for }).await.map(|told| swapped(&told))
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        self.ask(Ask::Remove { key: *key, seen }).await.map(|told| swapped(&told))
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        let told = self.ask(Ask::Fetch { key: *key }).await?;
        Ok(self.seen(key, told))
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        self.ask(Ask::Renew { session, ttl }).await.map(|_| Gate::Open)
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.ask(Ask::EndSession { session }).await.map(drop)
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        match self.ask(Ask::Life { session }).await? {
            Told::Life(life) => Ok(life),
            told @ (Told::Stands(_) | Told::Swapped(_) | Told::Count(_) | Told::Done) => panic!("{told:?}"),
        }
    }

    async fn watch(&self, key: &StorageKey) -> Result<Watch, StoreError> {
        let (tell, told) = watch::channel(0);
        self.ask(Ask::Watch { key: *key, tell }).await?;
        Ok(Watch::new(told, Box::new(())))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.ask(Ask::Ping).await.map(drop)
    }

    async fn list(&self, _after: Option<Cursor>, _most: usize) -> Result<Listing, StoreError> {
        Ok(Listing { records: Vec::new(), next: None })
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        let Told::Stands(stands) = self.ask(Ask::Fetch { key: *key }).await? else { return Ok(None) };
        Ok(stands.map(|(Encoded { head, body }, keep_for)| {
            let outline = self.codec.outline(key, &head, u64::try_from(body.len()).unwrap());
            Listed { key: *key, outline, keep_for }
        }))
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.ask(Ask::Forget).await.map(drop)
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        match self.ask(Ask::Forgettings).await? {
            Told::Count(count) => Ok(count),
            Told::Stands(_) | Told::Swapped(_) | Told::Life(_) | Told::Done => Ok(0),
        }
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        Ok(Durability::default())
    }

    fn describe(&self) -> String {
        "simulated:".to_owned()
    }
}
