//! What operators see of the embedded store: records without their answers.
//!
//! A page is read as of one moment, in the order of keys, beside the writers. One page at a time, on a thread that may
//! block: whoever lists takes no place from whoever claims. Must not know what a record means. Read `scan.rs` before.

use bytes::Bytes;

use super::super::codec::{self, Codec};
use super::super::{Cursor, Listed, Listing, StoreError};
use super::EmbeddedStore;
use super::scan::{self, Standing, Stretch};
use crate::protocol::scope::StorageKey;

/// Records of one page at most.
const PAGE_MAX: usize = 1000;

/// Bytes of records after which a page ends: the engine reads a record with its body, wherever that is asked for.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl EmbeddedStore {
    pub(super) async fn listing(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        let stretch = Stretch {
            after: after.as_ref().map(Cursor::key).transpose()?,
            most: most.clamp(1, PAGE_MAX),
            bytes_max: PAGE_BYTES_MAX,
        };
        let codec = self.codec.clone();
        let page = self.look_on(&self.operators, move |engine, now| {
            engine.read(|database| scan::page(database, stretch, now, |standing| listed(&codec, &standing)))
        });
        let (records, stopped_at) = page.await?;
        Ok(Listing { records, next: stopped_at.as_ref().map(Cursor::of) })
    }

    pub(super) async fn listed(&self, key: StorageKey) -> Result<Option<Listed>, StoreError> {
        let codec = self.codec.clone();
        let look = self.look_on(&self.operators, move |engine, now| {
            engine.read(|database| scan::one(database, key, now, |standing| listed(&codec, &standing)))
        });
        look.await
    }
}

fn listed(codec: &Codec, standing: &Standing<'_>) -> Listed {
    let Standing { key, record, keep_for } = *standing;
    let head = codec::head_of(record);
    let body_len = u64::try_from(record.len() - head.len()).unwrap_or(u64::MAX);
    Listed { key, outline: codec.outline(&key, &Bytes::copy_from_slice(head), body_len), keep_for }
}
