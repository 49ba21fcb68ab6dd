//! A record without its answer: what head and metadata tell alone.
//!
//! For operators' eyes, not for a decision: the checksum covers the body too, so it is not looked at, and a body that is
//! as long as it should be may still be damaged. Read `../codec.rs` before.

use bytes::Bytes;

use super::seal::{Place, SEAL_LEN};
use super::{COMPRESSED, Codec, HEAD_LEN, MAGIC, PLAIN_LEN, SEALED, check_head, lengths, record};
use crate::protocol::outline::{Outline, Stage};
use crate::protocol::scope::StorageKey;

/// Head and metadata of the record that `value` begins with; of what is none, no more than a head.
pub fn head_of(value: &[u8]) -> &[u8] {
    let meta_len = lengths(value).map_or(0, |(meta_len, _)| meta_len);
    let head_len = if value.starts_with(&MAGIC) { HEAD_LEN.saturating_add(meta_len) } else { HEAD_LEN };
    value.get(..head_len).unwrap_or(value)
}

impl Codec {
    /// What the record under `key` says without its answer, of which `body_len` bytes stand there.
    ///
    /// `None`: its head or metadata cannot be read, or this is no length that its body can have.
    pub fn outline(&self, key: &StorageKey, head: &Bytes, body_len: u64) -> Option<Outline> {
        let done_to_it = check_head(head).ok()?;
        let is_sealed = done_to_it & SEALED != 0;
        if lengths(head)?.1 != body_len || (!is_sealed && self.0.reads_sealed_only) {
            return None;
        }
        let meta = if is_sealed {
            self.open(Place { key, head }, &Bytes::new()).ok()?.0
        } else {
            head.slice(HEAD_LEN..)
        };
        let (meta, plain_len) = if done_to_it == 0 {
            (meta, body_len)
        } else {
            (meta.slice_ref(meta.get(PLAIN_LEN..)?), u64::from_be_bytes(*meta.first_chunk::<PLAIN_LEN>()?))
        };
        if done_to_it & COMPRESSED == 0 && body_len != stored_len(plain_len, is_sealed)? {
            return None;
        }
        let mut outline = Outline::from(&record(head, &meta, Bytes::new())?);
        match &mut outline.stage {
            Stage::Done { body_bytes, .. } => *body_bytes = plain_len,
            Stage::InFlight | Stage::DoneWithoutBody { .. } | Stage::Unknown { .. } if plain_len > 0 => {
                return None;
            }
            Stage::InFlight | Stage::DoneWithoutBody { .. } | Stage::Unknown { .. } => {}
        }
        Some(outline)
    }
}

/// How long a body of `plain_len` bytes is in a store, if it is not compressed.
fn stored_len(plain_len: u64, is_sealed: bool) -> Option<u64> {
    let adds = if is_sealed && plain_len > 0 { u64::try_from(SEAL_LEN).ok()? } else { 0 };
    plain_len.checked_add(adds)
}
