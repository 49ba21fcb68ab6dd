//! Records of the embedded store on their way from or to another store.
//!
//! Pages are read as of one moment each, in the order of keys, beside the writers; what comes in is written
//! by the writer, a call in one transaction. Read `../transfer.rs` and `../embedded.rs` before.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::super::Cursor;
use super::super::codec::{self, Encoded, Stored};
use super::super::transfer::{Moved, Page, Transfer};
use super::super::{Gate, StoreError};
use super::EmbeddedStore;
use super::scan::{self, Stretch};
use super::tables::Tables;
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

/// Bytes of records after which a page ends, so that one of large answers does not fill the memory.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[async_trait]
impl Transfer for EmbeddedStore {
    async fn page(&self, after: Option<Cursor>, most: usize) -> Result<Page, StoreError> {
        let stretch = Stretch {
            after: after.as_ref().map(Cursor::key).transpose()?,
            most: most.max(1),
            bytes_max: PAGE_BYTES_MAX,
        };
        let (records, stopped_at) = self
            .look(move |engine, now| {
                engine.read(|database| {
                    scan::page(database, stretch, now, |standing| {
                        let record = Bytes::copy_from_slice(standing.record);
                        moved(standing.key, record, standing.keep_for)
                    })
                })
            })
            .await?;
        Ok(Page { records, next: stopped_at.as_ref().map(Cursor::of) })
    }

    async fn put(&self, records: Vec<Moved>) -> Result<(), StoreError> {
        let write = move |tables: &mut Tables<'_>| {
            records.iter().try_for_each(|moved| tables.replace(&moved.key, &moved.encoded, moved.keep_for))
        };
        self.writer.write(write).await
    }

    async fn sessions(&self) -> Result<Vec<(Session, Duration)>, StoreError> {
        Ok(self.sessions.all())
    }

    async fn gate(&self) -> Result<Gate, StoreError> {
        Ok(self.engine.gate())
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError> {
        self.writer.write(move |tables| tables.keep_gate(gate)).await?;
        self.look(|engine, _now| engine.read_gate()).await
    }
}

fn moved(key: StorageKey, record: Bytes, keep_for: Duration) -> Moved {
    let encoded = match codec::split(record.clone()) {
        Stored::Whole(encoded) => encoded,
        // Damaged, or of a later format: it moves in one piece, and is as unreadable there as it is here.
        Stored::BodyApart { .. } | Stored::Unreadable => Encoded { head: record, body: Bytes::new() },
    };
    Moved { key, encoded, keep_for }
}
