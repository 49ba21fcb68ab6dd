//! A record without its answer: what head and metadata tell alone.
//!
//! For operators' eyes, not for a decision: the checksum covers the body too and is not looked at. Read `../codec.rs`
//! before.

use bytes::Bytes;

use super::seal::Place;
use super::{Codec, HEAD_LEN, PLAIN_LEN, SEALED, check_head, lengths, record};
use crate::protocol::outline::{Outline, Stage};
use crate::protocol::scope::StorageKey;

impl Codec {
    /// What the record under `key` says without its answer. `None`: its head or metadata cannot be read.
    pub fn outline(&self, key: &StorageKey, head: &Bytes) -> Option<Outline> {
        let done_to_it = check_head(head).ok()?;
        if done_to_it & SEALED == 0 && self.0.reads_sealed_only {
            return None;
        }
        let meta = if done_to_it & SEALED == 0 {
            head.slice(HEAD_LEN..)
        } else {
            self.open(Place { key, head }, &Bytes::new()).ok()?.0
        };
        let (meta, plain_len) = if done_to_it == 0 {
            (meta, lengths(head)?.1)
        } else {
            (meta.slice_ref(meta.get(PLAIN_LEN..)?), u64::from_be_bytes(*meta.first_chunk::<PLAIN_LEN>()?))
        };
        let mut outline = Outline::from(&record(head, &meta, Bytes::new())?);
        if let Stage::Done { body_bytes, .. } = &mut outline.stage {
            *body_bytes = plain_len;
        }
        Some(outline)
    }
}
