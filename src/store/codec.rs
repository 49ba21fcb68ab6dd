//! A record as bytes: a fixed head that compare-and-swap reads in place, metadata, and the body last.
//!
//! All integers are big-endian.
//!
//! ```text
//!  0  2  magic "OW"            40  1  fingerprint version
//!  2  1  format, 1 or 2        41 32  fingerprint
//!  3  1  phase                 73  1  what was done to it: 0 nothing, 1 sealed, 2 body compressed, 3 both
//!  4 16  attempt               74  4  length of the metadata, m
//! 20  4  revision              78  8  length of the body, b
//! 24 16  session               86  4  CRC-32 of all other bytes, body included
//! 90  m  metadata              then b bytes of body
//! ```
//!
//! A record to which nothing was done has format 1; its metadata is postcard (`codec/meta.rs`). In format 2
//! the length of the body as it was answered, 8 bytes, goes before that; where it is sealed,
//!
//! ```text
//! metadata = key id (8), nonce (12), ciphertext, tag (16)      body, unless empty = nonce, ciphertext, tag
//! ```
//!
//! The layout is frozen: golden files in `tests/golden` hold it. In every format to come the head's bytes up to
//! 24 and the two lengths stay where they are, so that any version can compare records and take them apart. A
//! record that does not decode is [`Seen::Unreadable`], never absent. Must not know any store.
//!
//! Read `codec/meta.rs`, `codec/seal.rs` and `codec/compress.rs` after.

mod compress;
mod meta;
mod outlined;
mod seal;
mod standing;
mod unreadable;

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::fingerprint::{self, Fingerprint};
use crate::protocol::record::{Attempt, Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

pub use compress::Compression;
pub use outlined::head_of;
use seal::{KEY_ID_LEN, KeyId, Part, Place, RecordKey, SEAL_LEN};
pub use standing::{Standing, standing, version_of};
pub use unreadable::Cause;
use unreadable::Telling;

/// Where in an encoded record its version stands; see [`version_bytes`].
pub const VERSION_AT: Range<usize> = 4..24;

/// Bytes before the metadata.
pub const HEAD_LEN: usize = 90;

const MAGIC: [u8; 2] = *b"OW";
const FORMAT_PLAIN: u8 = 1;
const FORMAT_MAX: u8 = 2;
const FORMAT_AT: usize = 2;
const PHASE_AT: usize = 3;
const FINGERPRINT_VERSION_AT: usize = 40;
const DONE_TO_IT_AT: usize = 73;
const SEALED: u8 = 1;
const COMPRESSED: u8 = 2;
const CHECKSUM_AT: Range<usize> = 86..90;

/// The length of the body as it was answered, before the metadata of format 2.
const PLAIN_LEN: usize = size_of::<u64>();

/// A record as bytes, in the two parts that a store may keep together or apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Head and metadata.
    pub head: Bytes,
    /// The body; empty unless the record is `Done`.
    pub body: Bytes,
}

/// What stands at a key, before the body is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Head, metadata and body.
    Whole(Encoded),
    /// Head and metadata; a body of this many bytes is kept elsewhere.
    BodyApart {
        /// Head and metadata.
        head: Bytes,
        /// Bytes of the body.
        body_len: u64,
    },
    /// Not a record of any format.
    Unreadable,
}

/// The version as it stands at [`VERSION_AT`].
pub fn version_bytes(version: Version) -> [u8; 20] {
    let mut bytes = [0; 20];
    let (attempt, revision) = bytes.split_at_mut(16);
    attempt.copy_from_slice(&version.attempt.0);
    revision.copy_from_slice(&version.revision.to_be_bytes());
    bytes
}

/// Whether `value` is the record of version `seen`, as far as its head tells without being decoded.
pub fn is_version(value: &[u8], seen: Version) -> bool {
    value.get(VERSION_AT) == Some(version_bytes(seen).as_slice())
}

/// Splits a stored value into its parts, by the lengths in its head.
pub fn split(mut value: Bytes) -> Stored {
    let Some((meta_len, body_len)) = lengths(&value) else { return Stored::Unreadable };
    let Some(head_len) = HEAD_LEN.checked_add(meta_len) else { return Stored::Unreadable };
    if value.len() < head_len {
        return Stored::Unreadable;
    }
    let body = value.split_off(head_len);
    match u64::try_from(body.len()) {
        Ok(len) if len == body_len => Stored::Whole(Encoded { head: value, body }),
        Ok(0) => Stored::BodyApart { head: value, body_len },
        Ok(_) | Err(_) => Stored::Unreadable,
    }
}

/// Which records are sealed, and which are read.
#[derive(Clone, Copy, Debug, Default)]
pub enum Sealing<'k> {
    /// None is sealed, and none that is sealed can be read.
    #[default]
    Off,
    /// None is sealed, and those that one of these keys sealed are read too: sealing will be switched on, or was
    /// switched off.
    OpenOnly(&'k [&'k [u8; 32]]),
    /// All are sealed, by the first of the keys; what any of them sealed is read.
    On {
        /// The keys. Without one, this is the same as off.
        keys: &'k [&'k [u8; 32]],
        /// Whether records that are not sealed are read too.
        accept_unsealed: bool,
    },
}

/// How records become bytes and bytes records. Cheap to clone; all clones tell the log together.
#[derive(Clone, Debug, Default)]
pub struct Codec(Arc<Means>);

#[derive(Debug, Default)]
struct Means {
    /// The first seals if records are sealed; all open.
    keys: Vec<RecordKey>,
    seals: bool,
    reads_sealed_only: bool,
    compression: Compression,
    telling: Telling,
}

impl Codec {
    /// One that seals and compresses as it is told; the default does neither.
    pub fn new(sealing: Sealing<'_>, compression: Compression) -> Self {
        let (secrets, seals, accept_unsealed) = match sealing {
            Sealing::Off => ([].as_slice(), false, true),
            Sealing::OpenOnly(keys) => (keys, false, true),
            Sealing::On { keys, accept_unsealed } => (keys, true, accept_unsealed),
        };
        let keys: Vec<RecordKey> = secrets.iter().map(|secret| RecordKey::new(secret)).collect();
        let reads_sealed_only = !accept_unsealed && !keys.is_empty();
        Self(Arc::new(Means { keys, seals, reads_sealed_only, compression, telling: Telling::default() }))
    }

    /// Writes the record that is to stand under `key` as bytes. A body to which nothing is done is not copied.
    pub fn encode(&self, key: &StorageKey, record: &Record) -> Encoded {
        let (meta, plain) = meta::write(record);
        let small = self.0.compression.squeeze(&plain);
        let compressed = if small.is_some() { COMPRESSED } else { 0 };
        let body = small.unwrap_or_else(|| plain.clone());
        if let Some(with) = self.0.keys.first().filter(|_| self.0.seals) {
            return sealed(with, key, record, compressed, &told(&plain, &meta), &body);
        }
        let (format, meta) =
            if compressed == 0 { (FORMAT_PLAIN, meta) } else { (FORMAT_MAX, told(&plain, &meta)) };
        let mut head = head(format, compressed, record, meta.len(), body.len());
        head.put_slice(&meta);
        checked(head, body)
    }

    /// Reads back the record that stands under `key`; tells the log why, where it cannot be read.
    pub fn decode(&self, key: &StorageKey, encoded: Encoded) -> Seen {
        match self.read(key, encoded) {
            Ok(record) => Seen::Record(Box::new(record)),
            Err(cause) => self.unreadable(key, cause),
        }
    }

    /// Reads a record back from one piece.
    pub fn decode_whole(&self, key: &StorageKey, value: Bytes) -> Seen {
        match split(value.clone()) {
            Stored::Whole(encoded) => self.decode(key, encoded),
            // The format is told where it stands, of whatever follows.
            Stored::BodyApart { .. } | Stored::Unreadable => {
                self.decode(key, Encoded { head: value, body: Bytes::new() })
            }
        }
    }

    /// Reads back the record that stands under `key`, and tells nobody.
    ///
    /// Errors: it cannot be read, which is not the same as absent.
    pub fn read(&self, key: &StorageKey, Encoded { head, body }: Encoded) -> Result<Record, Cause> {
        let done_to_it = check(&head, &body)?;
        if done_to_it == 0 {
            if self.0.reads_sealed_only {
                return Err(Cause::Unsealed);
            }
            return record(&head, &head.slice(HEAD_LEN..), body).ok_or(Cause::Damaged);
        }
        let (meta, body) = if done_to_it & SEALED != 0 {
            self.open(Place { key, head: &head }, &body)?
        } else if self.0.reads_sealed_only {
            return Err(Cause::Unsealed);
        } else {
            (head.slice(HEAD_LEN..), body)
        };
        let is_compressed = done_to_it & COMPRESSED != 0;
        restored(&head, &meta, body, is_compressed).ok_or(Cause::Damaged)
    }

    /// Tells the log, now and then, that what stands under `key` cannot be read.
    pub fn unreadable(&self, key: &StorageKey, cause: Cause) -> Seen {
        self.0.telling.tell(key, cause);
        Seen::Unreadable
    }

    /// Opens metadata and body.
    fn open(&self, place: Place<'_>, body: &Bytes) -> Result<(Bytes, Bytes), Cause> {
        let metadata = place.head.get(HEAD_LEN..).unwrap_or_default();
        let (id, sealed) = metadata.split_first_chunk::<KEY_ID_LEN>().ok_or(Cause::Damaged)?;
        let id = KeyId::from_bytes(*id);
        let key = self.0.keys.iter().find(|key| key.id() == id).ok_or(Cause::UnknownKey(id))?;
        let meta = key.open(place, Part::Metadata, sealed).ok_or(Cause::Forged(id))?;
        if body.is_empty() {
            return Ok((meta, Bytes::new()));
        }
        let body = key.open(place, Part::Body { metadata }, body).ok_or(Cause::Forged(id))?;
        Ok((meta, body))
    }
}

/// The metadata of format 2, not sealed.
fn told(plain: &Bytes, meta: &[u8]) -> Vec<u8> {
    let len = u64::try_from(plain.len()).unwrap_or(u64::MAX);
    [&len.to_be_bytes(), meta].concat()
}

fn sealed(
    with: &RecordKey,
    key: &StorageKey,
    record: &Record,
    compressed: u8,
    meta: &[u8],
    body: &Bytes,
) -> Encoded {
    let meta_len = KEY_ID_LEN + SEAL_LEN + meta.len();
    let body_len = if body.is_empty() { 0 } else { SEAL_LEN + body.len() };
    let mut head = head(FORMAT_MAX, SEALED | compressed, record, meta_len, body_len);
    let mut metadata = Vec::with_capacity(meta_len);
    metadata.extend_from_slice(with.id().as_bytes());
    with.seal(Place { key, head: &head }, Part::Metadata, meta, &mut metadata);
    let mut sealed_body = Vec::new();
    if !body.is_empty() {
        with.seal(Place { key, head: &head }, Part::Body { metadata: &metadata }, body, &mut sealed_body);
    }
    head.put_slice(&metadata);
    checked(head, sealed_body.into())
}

/// A head whose checksum is not filled in yet, with room for the metadata.
fn head(format: u8, done_to_it: u8, record: &Record, meta_len: usize, body_len: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(HEAD_LEN + meta_len);
    head.put_slice(&MAGIC);
    head.put_u8(format);
    head.put_u8(meta::phase_byte(&record.phase));
    head.put_slice(&version_bytes(record.version));
    head.put_slice(&record.session.0);
    head.put_u8(fingerprint::VERSION);
    head.put_slice(record.fingerprint.as_bytes());
    head.put_u8(done_to_it);
    head.put_u32(u32::try_from(meta_len).unwrap_or(u32::MAX));
    head.put_u64(u64::try_from(body_len).unwrap_or(u64::MAX));
    head.put_u32(0);
    head
}

/// The record with its checksum filled in.
fn checked(mut head: BytesMut, body: Bytes) -> Encoded {
    let checksum = checksum(&head, &body);
    if let Some(place) = head.get_mut(CHECKSUM_AT) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Encoded { head: head.freeze(), body }
}

/// Makes sure that a record is whole and of a format that is read here. Answers what was done to it.
fn check(head: &[u8], body: &[u8]) -> Result<u8, Cause> {
    let checked = check_head(head);
    let is_whole = lengths(head).is_some_and(|(_, body_len)| u64::try_from(body.len()) == Ok(body_len));
    let stored_checksum = array(head, CHECKSUM_AT).map(u32::from_be_bytes);
    match checked {
        Err(newer @ Cause::NewerFormat(_))
            if head.get(FORMAT_AT).is_some_and(|format| *format > FORMAT_MAX) =>
        {
            Err(newer)
        }
        Ok(_) | Err(Cause::NewerFormat(_)) if !is_whole || stored_checksum != Some(checksum(head, body)) => {
            Err(Cause::Damaged)
        }
        checked => checked,
    }
}

/// Makes sure that a head is of a format that is read here, and has all its metadata.
fn check_head(head: &[u8]) -> Result<u8, Cause> {
    let byte = |at: usize| head.get(at).copied().ok_or(Cause::Damaged);
    if head.first_chunk() != Some(&MAGIC) {
        return Err(Cause::Damaged);
    }
    let format = byte(FORMAT_AT)?;
    if format > FORMAT_MAX {
        return Err(Cause::NewerFormat(format));
    }
    let done_to_it = byte(DONE_TO_IT_AT)?;
    let is_known = match format {
        FORMAT_PLAIN => done_to_it == 0,
        FORMAT_MAX => (SEALED..=SEALED | COMPRESSED).contains(&done_to_it),
        _ => false,
    };
    let is_whole =
        lengths(head).is_some_and(|(meta_len, _)| head.len().checked_sub(HEAD_LEN) == Some(meta_len));
    if !is_known || !is_whole {
        return Err(Cause::Damaged);
    }
    match byte(FINGERPRINT_VERSION_AT)? {
        fingerprint::VERSION => Ok(done_to_it),
        newer if newer > fingerprint::VERSION => Err(Cause::NewerFormat(format)),
        _ => Err(Cause::Damaged),
    }
}

/// The record of format 2 whose parts are open.
fn restored(head: &[u8], meta: &Bytes, body: Bytes, is_compressed: bool) -> Option<Record> {
    let plain_len = u64::from_be_bytes(*meta.first_chunk::<PLAIN_LEN>()?);
    let body = if is_compressed {
        compress::expand(&body, plain_len)?
    } else {
        Some(body).filter(|body| u64::try_from(body.len()) == Ok(plain_len))?
    };
    record(head, &meta.slice(PLAIN_LEN..), body)
}

/// The record whose parts are as they were before anything was done to them.
fn record(head: &[u8], meta: &Bytes, body: Bytes) -> Option<Record> {
    let meta::Told { attempts, opened_at, route, phase } = meta::read(meta, body)?;
    if head.get(PHASE_AT) != Some(&meta::phase_byte(&phase)) {
        return None;
    }
    Some(Record {
        version: Version {
            attempt: Attempt(array(head, 4..20)?),
            revision: u32::from_be_bytes(array(head, 20..24)?),
        },
        session: Session(array(head, 24..40)?),
        fingerprint: Fingerprint::from_bytes(array(head, 41..73)?),
        attempts,
        opened_at,
        route,
        phase,
    })
}

fn lengths(value: &[u8]) -> Option<(usize, u64)> {
    let meta = u32::from_be_bytes(array(value, 74..78)?);
    let body = u64::from_be_bytes(array(value, 78..86)?);
    Some((usize::try_from(meta).ok()?, body))
}

fn array<const N: usize>(bytes: &[u8], at: Range<usize>) -> Option<[u8; N]> {
    bytes.get(at)?.try_into().ok()
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head.get(..CHECKSUM_AT.start).unwrap_or_default());
    hasher.update(head.get(CHECKSUM_AT.end..).unwrap_or_default());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
