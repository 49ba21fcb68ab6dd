//! Seals the parts of a record, and opens them: AES-256-GCM-SIV, each part with a fresh random nonce.
//!
//! A part is sealed to its place: to the storage key, to the record's head and to what part it is; the body
//! moreover to the metadata beside it. So nothing opens that was moved from one record to another. Must not
//! know what a part holds. Read `../codec.rs` before.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use bytes::Bytes;
use zeroize::Zeroizing;

use super::{CHECKSUM_AT, HEAD_LEN};
use crate::protocol::scope::StorageKey;

/// Bytes of a key's id.
pub(super) const KEY_ID_LEN: usize = 8;

/// Bytes of the tag behind every sealed part.
const TAG_LEN: usize = 16;

/// By how much sealing makes a part longer.
pub(super) const SEAL_LEN: usize = NONCE_LEN + TAG_LEN;

/// Frozen, as everything here is from which stored bytes are made.
const PLACE_LABEL: &[u8] = b"onceway sealed record v2";
const KEY_ID_LABEL: &[u8] = b"onceway record key id v1";
const SEALING_LABEL: &[u8] = b"onceway record sealing key v1";

/// Tells records which key sealed them. Says nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; KEY_ID_LEN]);

/// A key that seals and opens.
pub(super) struct RecordKey {
    id: KeyId,
    key: LessSafeKey,
}

/// Where a record stands, as far as its parts are sealed to it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) key: &'a StorageKey,
    /// The record's head, with or without what follows it.
    pub(super) head: &'a [u8],
}

/// Which part of a record is sealed.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    Metadata,
    /// The body beside this metadata, as that stands in the record.
    Body {
        metadata: &'a [u8],
    },
}

impl RecordKey {
    /// The key made of a secret.
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut id = [0; KEY_ID_LEN];
        let digest = hmac::sign(&root, KEY_ID_LABEL);
        id.copy_from_slice(digest.as_ref().first_chunk::<KEY_ID_LEN>().unwrap_or(&[0; KEY_ID_LEN]));
        let mut sealing = Zeroizing::new([0; 32]);
        sealing.copy_from_slice(hmac::sign(&root, SEALING_LABEL).as_ref());
        #[expect(clippy::expect_used, reason = "the key has the one length that the cipher takes")]
        let key = UnboundKey::new(&AES_256_GCM_SIV, sealing.as_slice()).expect("a key of 32 bytes");
        Self { id: KeyId(id), key: LessSafeKey::new(key) }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Appends `plain`, sealed: nonce, ciphertext, tag.
    pub(super) fn seal(&self, place: Place<'_>, part: Part<'_>, plain: &[u8], out: &mut Vec<u8>) {
        let nonce = fresh_nonce();
        out.reserve(plain.len() + SEAL_LEN);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let ciphertext = out.get_mut(start..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(place.bytes(part)), ciphertext);
        #[expect(clippy::expect_used, reason = "fails only for a text of more than 64 GiB")]
        let tag = sealed.expect("a part is shorter than the cipher's limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens a sealed part. `None`: it was not sealed by this key for this place, or was changed.
    pub(super) fn open(&self, place: Place<'_>, part: Part<'_>, sealed: &[u8]) -> Option<Bytes> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut plain = vec![0; ciphertext.len()];
        let opened =
            self.key.open_separate_gather(nonce, Aad::from(place.bytes(part)), ciphertext, tag, &mut plain);
        opened.ok().map(|()| plain.into())
    }
}

impl KeyId {
    pub(super) fn from_bytes(bytes: [u8; KEY_ID_LEN]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_ID_LEN] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({}, redacted)", self.id)
    }
}

impl Place<'_> {
    /// What a part is sealed to, as bytes. All but the end has a fixed length, so no two places are alike.
    fn bytes(&self, part: Part<'_>) -> Vec<u8> {
        let metadata = match part {
            Part::Metadata => [].as_slice(),
            Part::Body { metadata } => metadata,
        };
        let mut bytes = Vec::with_capacity(PLACE_LABEL.len() + 32 + HEAD_LEN + 1 + metadata.len());
        bytes.extend_from_slice(PLACE_LABEL);
        bytes.extend_from_slice(self.key.as_bytes());
        // The checksum covers what is sealed here, so it cannot be part of it.
        bytes.extend_from_slice(self.head.get(..CHECKSUM_AT.start).unwrap_or_default());
        bytes.extend_from_slice(&[0; CHECKSUM_AT.end - CHECKSUM_AT.start]);
        bytes.push(match part {
            Part::Metadata => 0,
            Part::Body { .. } => 1,
        });
        bytes.extend_from_slice(metadata);
        bytes
    }
}

/// The cipher bears a nonce that comes twice: it would tell that two parts of one place are equal, no more.
fn fresh_nonce() -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    #[expect(clippy::expect_used, reason = "without randomness no claim could be made either")]
    rand::fill(&mut nonce).expect("the system gives random bytes");
    nonce
}
