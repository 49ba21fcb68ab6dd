//! A record as bytes: a fixed head that compare-and-swap reads in place, metadata, and the body last.
//!
//! Format 1, all integers big-endian:
//!
//! ```text
//!  0  2  magic "OW"            40  1  fingerprint version
//!  2  1  format = 1            41 32  fingerprint
//!  3  1  phase                 73  1  sealing key id, 0 = not sealed
//!  4 16  attempt               74  4  length of the metadata, m
//! 20  4  revision              78  8  length of the body, b
//! 24 16  session               86  4  CRC-32 of all other bytes, body included
//! 90  m  metadata (postcard)   then b bytes of body
//! ```
//!
//! The layout is frozen: golden bytes stand in the tests below, and a record that does not decode is
//! [`Seen::Unreadable`], never absent. Must not know any store.

use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::protocol::fingerprint::{self, Fingerprint};
use crate::protocol::record::{
    Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, UnknownReason, Version,
};
use crate::protocol::saved::{FieldLines, SavedHead, SavedResponse};

/// Where in an encoded record its version stands; see [`version_bytes`].
pub const VERSION_AT: Range<usize> = 4..24;

/// Bytes before the metadata.
pub const HEAD_LEN: usize = 90;

const MAGIC: [u8; 2] = *b"OW";
const FORMAT: u8 = 1;
const NOT_SEALED: u8 = 0;
const CHECKSUM_AT: Range<usize> = 86..90;

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
    /// Not a record of this format.
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

/// Writes a record as bytes. The body is not copied.
pub fn encode(record: &Record) -> Encoded {
    let (meta, body) = meta_of(record);
    #[expect(clippy::expect_used, reason = "serialising plain data into memory has no failing case")]
    let meta = postcard::to_stdvec(&meta).expect("postcard writes plain data into a growing vector");
    let mut head = BytesMut::with_capacity(HEAD_LEN + meta.len());
    head.put_slice(&MAGIC);
    head.put_u8(FORMAT);
    head.put_u8(phase_byte(&record.phase));
    head.put_slice(&version_bytes(record.version));
    head.put_slice(&record.session.0);
    head.put_u8(fingerprint::VERSION);
    head.put_slice(record.fingerprint.as_bytes());
    head.put_u8(NOT_SEALED);
    head.put_u32(u32::try_from(meta.len()).unwrap_or(u32::MAX));
    head.put_u64(u64::try_from(body.len()).unwrap_or(u64::MAX));
    head.put_u32(0);
    head.put_slice(&meta);
    let checksum = checksum(&head, &body);
    if let Some(place) = head.get_mut(CHECKSUM_AT) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    Encoded { head: head.freeze(), body }
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

/// Reads a record back.
pub fn decode(encoded: Encoded) -> Seen {
    match read(encoded) {
        Some(record) => Seen::Record(Box::new(record)),
        None => Seen::Unreadable,
    }
}

/// Reads a record back from one piece.
pub fn decode_whole(value: Bytes) -> Seen {
    match split(value) {
        Stored::Whole(encoded) => decode(encoded),
        Stored::BodyApart { .. } | Stored::Unreadable => Seen::Unreadable,
    }
}

fn read(Encoded { head, body }: Encoded) -> Option<Record> {
    let stored_checksum = u32::from_be_bytes(array(&head, CHECKSUM_AT)?);
    if head.first_chunk() != Some(&MAGIC)
        || *head.get(2)? != FORMAT
        || *head.get(40)? != fingerprint::VERSION
        || *head.get(73)? != NOT_SEALED
        || stored_checksum != checksum(&head, &body)
    {
        return None;
    }
    let meta: Meta<'_> = postcard::from_bytes(head.get(HEAD_LEN..)?).ok()?;
    Some(Record {
        version: Version {
            attempt: Attempt(array(&head, 4..20)?),
            revision: u32::from_be_bytes(array(&head, 20..24)?),
        },
        session: Session(array(&head, 24..40)?),
        fingerprint: Fingerprint::from_bytes(array(&head, 41..73)?),
        attempts: meta.attempts,
        opened_at: UnixMillis(meta.opened_at),
        route: meta.route.to_owned(),
        phase: phase_from(meta.phase, &head, body)?,
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

/// The metadata of format 1. Postcard identifies variants and fields by position: append only, and only
/// in a new format.
#[derive(Serialize, Deserialize)]
struct Meta<'a> {
    attempts: u32,
    opened_at: u64,
    route: &'a str,
    #[serde(borrow)]
    phase: MetaPhase<'a>,
}

#[derive(Serialize, Deserialize)]
enum MetaPhase<'a> {
    InFlight,
    Done {
        #[serde(borrow)]
        head: MetaHead<'a>,
        #[serde(borrow)]
        trailers: MetaLines<'a>,
        settled: MetaSettled,
    },
    DoneWithoutBody {
        #[serde(borrow)]
        head: MetaHead<'a>,
        settled: MetaSettled,
    },
    Unknown {
        reason: u8,
    },
}

#[derive(Serialize, Deserialize)]
struct MetaHead<'a> {
    status: u16,
    #[serde(borrow)]
    headers: MetaLines<'a>,
}

#[derive(Serialize, Deserialize)]
struct MetaSettled {
    at: u64,
    keep_for_ms: u64,
}

type MetaLines<'a> = Vec<(&'a str, &'a [u8])>;

fn meta_of(record: &Record) -> (Meta<'_>, Bytes) {
    let (phase, body) = match &record.phase {
        Phase::InFlight => (MetaPhase::InFlight, Bytes::new()),
        Phase::Done { saved, settled } => (
            MetaPhase::Done {
                head: meta_head(&saved.head),
                trailers: meta_lines(&saved.trailers),
                settled: meta_settled(*settled),
            },
            saved.body.clone(),
        ),
        Phase::DoneWithoutBody { head, settled } => (
            MetaPhase::DoneWithoutBody { head: meta_head(head), settled: meta_settled(*settled) },
            Bytes::new(),
        ),
        Phase::Unknown { reason } => (MetaPhase::Unknown { reason: reason_byte(*reason) }, Bytes::new()),
    };
    let meta = Meta { attempts: record.attempts, opened_at: record.opened_at.0, route: &record.route, phase };
    (meta, body)
}

fn phase_from(meta: MetaPhase<'_>, source: &Bytes, body: Bytes) -> Option<Phase> {
    Some(match meta {
        MetaPhase::InFlight => Phase::InFlight,
        MetaPhase::Done { head, trailers, settled } => Phase::Done {
            saved: SavedResponse {
                head: head_from(head, source),
                body,
                trailers: lines_from(trailers, source),
            },
            settled: settled_from(&settled),
        },
        MetaPhase::DoneWithoutBody { head, settled } => {
            Phase::DoneWithoutBody { head: head_from(head, source), settled: settled_from(&settled) }
        }
        MetaPhase::Unknown { reason } => Phase::Unknown { reason: reason_from(reason)? },
    })
}

fn meta_head(head: &SavedHead) -> MetaHead<'_> {
    MetaHead { status: head.status, headers: meta_lines(&head.headers) }
}

fn head_from(head: MetaHead<'_>, source: &Bytes) -> SavedHead {
    SavedHead { status: head.status, headers: lines_from(head.headers, source) }
}

fn meta_lines(lines: &FieldLines) -> MetaLines<'_> {
    lines.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect()
}

/// Values are slices of the stored bytes, not copies.
fn lines_from(lines: MetaLines<'_>, source: &Bytes) -> FieldLines {
    lines.into_iter().map(|(name, value)| (name.to_owned(), source.slice_ref(value))).collect()
}

fn meta_settled(settled: Settled) -> MetaSettled {
    let keep_for_ms = u64::try_from(settled.keep_for.as_millis()).unwrap_or(u64::MAX);
    MetaSettled { at: settled.at.0, keep_for_ms }
}

fn settled_from(settled: &MetaSettled) -> Settled {
    Settled { at: UnixMillis(settled.at), keep_for: Duration::from_millis(settled.keep_for_ms) }
}

fn phase_byte(phase: &Phase) -> u8 {
    match phase {
        Phase::InFlight => 0,
        Phase::Done { .. } => 1,
        Phase::DoneWithoutBody { .. } => 2,
        Phase::Unknown { .. } => 3,
    }
}

fn reason_byte(reason: UnknownReason) -> u8 {
    match reason {
        UnknownReason::ConnectionLost => 0,
        UnknownReason::ResponseTimeout => 1,
        UnknownReason::AnswerCutShort => 2,
        UnknownReason::ProtocolSwitched => 3,
        UnknownReason::ServerError => 4,
        UnknownReason::GatewayStopped => 5,
        UnknownReason::SessionDied => 6,
        UnknownReason::Unreadable => 7,
        UnknownReason::EarlierAttempt => 8,
    }
}

fn reason_from(byte: u8) -> Option<UnknownReason> {
    Some(match byte {
        0 => UnknownReason::ConnectionLost,
        1 => UnknownReason::ResponseTimeout,
        2 => UnknownReason::AnswerCutShort,
        3 => UnknownReason::ProtocolSwitched,
        4 => UnknownReason::ServerError,
        5 => UnknownReason::GatewayStopped,
        6 => UnknownReason::SessionDied,
        7 => UnknownReason::Unreadable,
        8 => UnknownReason::EarlierAttempt,
        _ => return None,
    })
}
