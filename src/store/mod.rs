//! Where records live: one narrow trait, four ways to keep it.
//!
//! A store is dumb on purpose: insert if absent, compare-and-swap by version, fetch, remove, and who is
//! alive. It never decides anything; the transitions stand once, in `../protocol/machine.rs`. Must not
//! know HTTP, policies or the ledger above it.
//!
//! Read this file, then `codec.rs` for the bytes, then any of `memory.rs`, `embedded.rs`, `redis.rs`, `postgres.rs`.
//! `durability.rs` is what a store tells of itself, `transfer.rs` how records leave one for another.
//! Every store passes `conformance.rs` in `tests/it/`.

pub mod codec;
pub mod durability;
pub mod embedded;
pub mod memory;
pub mod postgres;
pub mod redis;
pub mod transfer;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::protocol::outline::Outline;
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

use codec::Codec;
use durability::Durability;

/// A place that keeps records and sessions.
///
/// Every call may take long or forever: the ledger puts its own deadline on each. Every call is
/// cancel safe in this sense only: dropping its future may leave the write done or undone, and may even
/// let it be done later; the version in the record tells whose it is.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes `fresh` if nothing stands under `key`, else answers what stands there.
    ///
    /// [`Seen::Nothing`]: `fresh` is written and durable to the store's own degree.
    /// Errors: nothing is known, the write may have happened or may still happen.
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError>;

    /// Puts `next` in the place of the record of version `seen`, and wakes those who watch `key`.
    ///
    /// Errors: nothing is known, the write may have happened or may still happen.
    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError>;

    /// Removes the record of version `seen`, and wakes those who watch `key`.
    ///
    /// Errors: nothing is known, the removal may have happened or may still happen.
    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError>;

    /// Answers what stands under `key`.
    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError>;

    /// Says that `session` lives, for `ttl` from now. Answers whether the store takes new claims.
    ///
    /// The gate is read after the session is written, so that whoever closes it and then looks for sessions
    /// finds everybody who may not have heard of it.
    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError>;

    /// Says that `session` has ended in order: it left no claim unsettled that it could settle.
    async fn end_session(&self, session: Session) -> Result<(), StoreError>;

    /// Answers whether `session` lives.
    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError>;

    /// Watches `key` for a settled record. A write by this process may or may not be told.
    ///
    /// Whoever calls this must fetch afterwards: changes before the call returned are not told. Changes
    /// may be missed when the store's connection is lost, so a slow poll belongs beside it.
    async fn watch(&self, key: &StorageKey) -> Result<Watch, StoreError>;

    /// Answers whether the store can be reached and takes writes.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Some of the records without their answers, `most` of them or about as many, beginning after `after`. Reads no
    /// more bodies than it must, and holds up no claim.
    ///
    /// Every record that stands during the whole of a round trip through the pages is in one of them at least; one may
    /// be in two. A page may hold fewer records, or none, and have a next one all the same.
    ///
    /// Errors: [`StoreError::StrangeCursor`] where `after` is none of this store.
    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError>;

    /// Answers what stands under `key` without its answer, and for how long. A record that cannot be read stands too.
    ///
    /// What is told is for people: damage to a body that has its length is not seen here, [`Store::fetch`] sees it.
    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError>;

    /// Counts that an operator took a record away, so that whoever keeps finished records in memory lets go of them.
    /// To be called after the removal.
    ///
    /// Errors: nothing is known, it may have been counted; counting twice does no harm.
    async fn count_forgetting(&self) -> Result<(), StoreError>;

    /// How often [`Store::count_forgetting`] was called, by anybody. Stores of one process may answer 0.
    ///
    /// Whoever sees it change must let go: also where it is less, since a store that lost its records counts anew.
    async fn forgettings(&self) -> Result<u64, StoreError>;

    /// Asks the store how well it keeps what it acknowledges.
    async fn inspect(&self) -> Result<Durability, StoreError>;

    /// What the store is and where, for the log: never holds a credential.
    fn describe(&self) -> String;
}

/// Where a page of records ended; means something to the store that gave it and to nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

impl Cursor {
    /// That of a store whose pages are in the order of keys.
    fn of(last: &StorageKey) -> Self {
        Self(last.as_bytes().to_vec())
    }

    /// The key at which such a page ended.
    fn key(&self) -> Result<StorageKey, StoreError> {
        let bytes = self.0.as_slice().try_into().map_err(|_other_length| StoreError::StrangeCursor)?;
        Ok(StorageKey::from_bytes(bytes))
    }
}

/// Some of a store's records, without their answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The records.
    pub records: Vec<Listed>,
    /// Where to go on; `None`: these were the last.
    pub next: Option<Cursor>,
}

/// A record without its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Where it stands.
    pub key: StorageKey,
    /// What it says. `None`: it cannot be read.
    pub outline: Option<Outline>,
    /// How long it is still kept.
    pub keep_for: Duration,
}

/// What a store that is shared by several gateways is told beside its address.
#[derive(Clone, Debug)]
pub struct Options {
    /// Separates installations that share a store.
    pub namespace: String,
    /// How records become bytes.
    pub codec: Codec,
    /// How many replicas must have a write before it is acknowledged.
    pub min_replicas: u32,
    /// The ledger's deadline on every call.
    pub timeout: Duration,
}

impl Options {
    /// Those of a namespace, all else as where nothing is configured.
    pub fn of(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            codec: Codec::default(),
            min_replicas: 0,
            timeout: Duration::from_secs(1),
        }
    }
}

/// Whether a store takes new claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It does.
    Open,
    /// It does not: a key that looks new in it may be known elsewhere. What is in flight can be settled.
    Closed(Closure),
}

/// Why a store takes no new claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closure {
    /// Its records are being moved, or were moved, to another store.
    Leaving,
    /// Another store's records are being moved here, and not all have come.
    Arriving,
    /// It is a backup: what was claimed after it was taken is not in it.
    Backup,
}

impl Closure {
    /// Every closure with the word by which stores keep it. The words are frozen as stored bytes are.
    pub const WORDS: [(&'static str, Self); 3] =
        [("leaving", Self::Leaving), ("arriving", Self::Arriving), ("backup", Self::Backup)];

    /// The word by which stores keep it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Arriving => "arriving",
            Self::Backup => "backup",
        }
    }
}

impl Gate {
    /// Reads the word that a store keeps, or none. A word of a later version closes the store too.
    pub fn of_word(word: Option<&[u8]>) -> Self {
        let Some(word) = word else { return Self::Open };
        let known = Closure::WORDS.iter().find(|(known, _)| known.as_bytes() == word);
        Self::Closed(known.map_or(Closure::Leaving, |(_, closure)| *closure))
    }
}

/// The answer to a compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The version was the one seen; it is done.
    Done,
    /// Another version stands there, or one that cannot be read.
    Changed,
    /// Nothing stands there.
    Absent,
}

/// Whether a session lives, as far as the store can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionLife {
    /// It was renewed within its time.
    Alive,
    /// It is not there. Perhaps dead, perhaps lost in a failover and about to be renewed.
    Absent,
    /// It cannot live: the store belongs to one process, and this is not its session.
    Dead,
}

/// A subscription to one key. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    changed: Option<watch::Receiver<u64>>,
    /// Held for its `Drop`, which ends the subscription in the store.
    _subscription: Option<Box<dyn std::any::Any + Send + Sync>>,
}

impl Watch {
    /// A watch that never tells: for stores of one process, whose waiters the ledger wakes by itself.
    pub fn never() -> Self {
        Self { changed: None, _subscription: None }
    }

    /// A watch that tells each time the counter behind `changed` moves.
    pub fn new(
        mut changed: watch::Receiver<u64>,
        subscription: Box<dyn std::any::Any + Send + Sync>,
    ) -> Self {
        changed.mark_unchanged();
        Self { changed: Some(changed), _subscription: Some(subscription) }
    }

    /// Waits for the next change. Never returns once the store can tell no more.
    ///
    /// Cancel safety: nothing is lost.
    pub async fn changed(&mut self) {
        if let Some(changed) = &mut self.changed
            && changed.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Why a store did not do what it was asked to. But for [`StoreError::Crowded`] it always means: nothing is known of the
/// write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer: not connected, connection lost, or no answer in time.
    #[error("reach the store")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer within the ledger's deadline.
    #[error("get the store's answer within {0:?}")]
    TimedOut(Duration),
    /// The store answered that it will not: out of memory, read-only, no permission.
    #[error("have the store take the command")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record stands under the key, and its body could not be read.
    #[error("read the body of the record that stands under the key")]
    Standing(#[source] Box<StoreError>),
    /// The cursor is none that this store gave. Nothing was asked of it.
    #[error("go on from a cursor that this store did not give")]
    StrangeCursor,
    /// More is asked for than it can do. Nothing was written, and nothing will be.
    #[error("have the store take the command while it is behind")]
    Crowded(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine on this machine failed: disk full, read-only, damaged.
    #[error("use the embedded store")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}
