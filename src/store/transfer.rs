//! How records leave one store for another: page by page, as bytes, with what is left of their time.
//!
//! Only `../migration/` uses this; the ledger never does. Sealed records move as they are, so no secret is
//! needed to move them. Read `mod.rs` before.

use std::time::Duration;

use async_trait::async_trait;

use super::codec::Encoded;
use super::{Cursor, Gate, Store, StoreError};
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

/// A store whose records can be taken out and put in as bytes.
#[async_trait]
pub trait Transfer: Store {
    /// Some of the records, `most` of them or about as many, beginning after `after`.
    ///
    /// Every record that stands during the whole of a round trip through the pages is in one of them at
    /// least; one may be in two. Records that cannot be decoded are moved as all others are.
    async fn page(&self, after: Option<Cursor>, most: usize) -> Result<Page, StoreError>;

    /// Writes the records, whatever stands under their keys. Durable to the store's own degree on return.
    ///
    /// Errors: any number of them may be written.
    async fn put(&self, records: Vec<Moved>) -> Result<(), StoreError>;

    /// The sessions that the store takes to be alive, with what is left of their time.
    async fn sessions(&self) -> Result<Vec<(Session, Duration)>, StoreError>;

    /// Whether the store takes new claims.
    async fn gate(&self) -> Result<Gate, StoreError>;

    /// Opens or closes the store for new claims. Durable on return.
    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError>;
}

/// Some of a store's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<Moved>,
    /// Where to go on; `None`: these were the last.
    pub next: Option<Cursor>,
}

/// A record on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it stands, in every store.
    pub key: StorageKey,
    /// Its bytes, as they stand.
    pub encoded: Encoded,
    /// How long it is still kept.
    pub keep_for: Duration,
}
