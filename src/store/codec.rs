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
use crate::protocol::scope::StorageKey;

/// Where in an encoded record its version stands; see [`version_bytes`].
pub const VERSION_AT: Range<usize> = 4..24;

/// Bytes before the metadata.
pub const HEAD_LEN: usize = 90;

const MAGIC: [u8; 2] = *b"OW";
const FORMAT: u8 = 1;
const NOT_SEALED: u8 = 0;
const CHECKSUM_AT: Range<usize> = 86..90;
const PHASE_AT: usize = 3;
const SESSION_AT: Range<usize> = 24..40;
const PHASE_IN_FLIGHT: u8 = 0;
const PHASE_DONE: u8 = 1;
const PHASE_DONE_WITHOUT_BODY: u8 = 2;
const PHASE_UNKNOWN: u8 = 3;

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

/// What the head of an encoded record tells without being decoded, to whoever moves records and holds no key.
/// It may be of a later format: nothing that must not go wrong may depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A claim, made in this session.
    InFlight(Session),
    /// An answer, which never changes.
    Answered,
    /// Anything else.
    Other,
}

/// Reads what the head of `value` tells.
pub fn standing(value: &[u8]) -> Standing {
    let is_record = value.first_chunk() == Some(&MAGIC);
    match (is_record, value.get(PHASE_AT), array(value, SESSION_AT)) {
        (true, Some(&PHASE_IN_FLIGHT), Some(session)) => Standing::InFlight(Session(session)),
        (true, Some(&(PHASE_DONE | PHASE_DONE_WITHOUT_BODY)), Some(_)) => Standing::Answered,
        (true | false, _, _) => Standing::Other,
    }
}

/// Reads the version of the record, if it is one.
pub fn version_of(value: &[u8]) -> Option<Version> {
    let is_record = value.first_chunk() == Some(&MAGIC);
    let version = Version {
        attempt: Attempt(array(value, 4..20)?),
        revision: u32::from_be_bytes(array(value, 20..24)?),
    };
    is_record.then_some(version)
}

/// How records become bytes and bytes records. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Codec {}

impl Codec {
    /// Writes the record that is to stand under `key` as bytes. The body is not copied.
    pub fn encode(&self, _key: &StorageKey, record: &Record) -> Encoded {
        encode(record)
    }

    /// Reads back the record that stands under `key`.
    pub fn decode(&self, _key: &StorageKey, encoded: Encoded) -> Seen {
        match read(encoded) {
            Some(record) => Seen::Record(Box::new(record)),
            None => Seen::Unreadable,
        }
    }

    /// Reads a record back from one piece.
    pub fn decode_whole(&self, key: &StorageKey, value: Bytes) -> Seen {
        match split(value) {
            Stored::Whole(encoded) => self.decode(key, encoded),
            Stored::BodyApart { .. } | Stored::Unreadable => Seen::Unreadable,
        }
    }
}

fn encode(record: &Record) -> Encoded {
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
        session: Session(array(&head, SESSION_AT)?),
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
        Phase::InFlight => PHASE_IN_FLIGHT,
        Phase::Done { .. } => PHASE_DONE,
        Phase::DoneWithoutBody { .. } => PHASE_DONE_WITHOUT_BODY,
        Phase::Unknown { .. } => PHASE_UNKNOWN,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> Record {
        Record {
            version: Version { attempt: Attempt(*b"attempt-16-bytes"), revision: 0x0102_0304 },
            session: Session(*b"session-16-bytes"),
            fingerprint: Fingerprint::from_bytes(*b"a fingerprint has 32 bytes of it"),
            attempts: 300,
            opened_at: UnixMillis(1_700_000_000_123),
            route: "/payments/{id}".to_owned(),
            phase: Phase::InFlight,
        }
    }

    fn with(phase: Phase) -> Record {
        Record { phase, ..claim() }
    }

    fn lines(lines: &[(&str, &'static [u8])]) -> FieldLines {
        lines.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from_static(value))).collect()
    }

    fn done() -> Record {
        with(Phase::Done {
            saved: SavedResponse {
                head: SavedHead { status: 201, headers: lines(&[("location", b"/p/1"), ("x-odd", b"\xff")]) },
                body: Bytes::from_static(b"paid"),
                trailers: lines(&[("x-sum", b"")]),
            },
            settled: Settled { at: UnixMillis(1_700_000_001_456), keep_for: Duration::from_hours(24) },
        })
    }

    fn done_without_body() -> Record {
        with(Phase::DoneWithoutBody {
            head: SavedHead { status: 200, headers: lines(&[("content-type", b"text/event-stream")]) },
            settled: Settled { at: UnixMillis(1), keep_for: Duration::ZERO },
        })
    }

    const KEY: StorageKey = StorageKey::from_bytes([9; 32]);

    fn decode(encoded: Encoded) -> Seen {
        Codec::default().decode(&KEY, encoded)
    }

    fn decode_whole(value: Bytes) -> Seen {
        Codec::default().decode_whole(&KEY, value)
    }

    fn whole(record: &Record) -> Bytes {
        let Encoded { head, body } = encode(record);
        [head, body].concat().into()
    }

    fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// What stands before the lengths in every record of these tests but the phase.
    const COMMON: &str = "617474656d70742d31362d6279746573\
                          01020304\
                          73657373696f6e2d31362d6279746573\
                          01\
                          612066696e6765727072696e74206861732033322062797465732\
                          06f66206974\
                          00";

    fn golden(phase: &str, rest: &str) -> String {
        format!("4f5701{phase}{COMMON}{rest}").replace(' ', "")
    }

    #[test]
    fn the_head_tells_who_works_on_a_claim_and_that_an_answer_stays() {
        let told = |record: &Record| standing(&encode(record).head);
        assert_eq!(told(&claim()), Standing::InFlight(claim().session));
        assert_eq!((told(&done()), told(&done_without_body())), (Standing::Answered, Standing::Answered));
        assert_eq!(told(&with(Phase::Unknown { reason: EVERY_REASON[0] })), Standing::Other);
        assert_eq!((standing(b""), standing(&[0; HEAD_LEN])), (Standing::Other, Standing::Other));
        assert_eq!(version_of(&encode(&done()).head), Some(done().version));
        assert_eq!((version_of(b"OW"), version_of(&[0; HEAD_LEN])), (None, None));
    }

    // Records outlive releases. Where one of the next three fails, the bytes of format 1 have changed:
    // do not mend the test, make a format 2 beside it.

    #[test]
    fn the_bytes_of_a_claim_are_frozen() {
        assert_eq!(hex(&whole(&claim())), golden("00", GOLDEN_CLAIM));
    }

    #[test]
    fn the_bytes_of_an_answer_are_frozen() {
        assert_eq!(hex(&whole(&done())), golden("01", GOLDEN_DONE));
        assert_eq!(hex(&whole(&done_without_body())), golden("02", GOLDEN_WITHOUT_BODY));
    }

    #[test]
    fn the_bytes_of_every_unknown_reason_are_frozen() {
        for (byte, reason) in (0_u8..).zip(EVERY_REASON) {
            let bytes = whole(&with(Phase::Unknown { reason }));
            assert_eq!((bytes[3], bytes[bytes.len() - 1]), (3, byte), "{reason:?}");
            assert_eq!(decode_whole(bytes), Seen::Record(Box::new(with(Phase::Unknown { reason }))));
        }
    }

    const EVERY_REASON: [UnknownReason; 8] = [
        UnknownReason::ConnectionLost,
        UnknownReason::ResponseTimeout,
        UnknownReason::AnswerCutShort,
        UnknownReason::ProtocolSwitched,
        UnknownReason::ServerError,
        UnknownReason::GatewayStopped,
        UnknownReason::SessionDied,
        UnknownReason::Unreadable,
    ];

    // Lengths and checksum; attempts, opened_at, route, phase; then what the phase holds.
    const GOLDEN_CLAIM: &str = "00000018 0000000000000000 badf36ba \
                          ac02 fbd095ffbc31 0e2f7061796d656e74732f7b69647d 00";
    const GOLDEN_DONE: &str = "00000043 0000000000000004 57c7a725 \
                          ac02 fbd095ffbc31 0e2f7061796d656e74732f7b69647d 01 \
                          c901 02 086c6f636174696f6e042f702f3105782d6f646401ff 01 05782d73756d00 \
                          b0db95ffbc31 80b89929 \
                          70616964";
    const GOLDEN_WITHOUT_BODY: &str = "0000003c 0000000000000000 11a2925a \
                          ac02 fbd095ffbc31 0e2f7061796d656e74732f7b69647d 02 \
                          c801 01 0c636f6e74656e742d74797065 11746578742f6576656e742d73747265616d 01 00";

    #[test]
    fn the_version_stands_where_stores_compare_it() {
        let bytes = whole(&done());
        assert!(is_version(&bytes, done().version));
        assert_eq!(bytes[VERSION_AT], version_bytes(done().version));
        let older = Version { revision: 0, ..done().version };
        assert!(!is_version(&bytes, older));
        assert!(!is_version(&bytes[..VERSION_AT.end - 1], done().version));
    }

    #[test]
    fn a_body_that_is_kept_apart_is_told_from_damage() {
        let Encoded { head, body } = encode(&done());
        assert_eq!(split(head.clone()), Stored::BodyApart { head: head.clone(), body_len: 4 });
        assert_eq!(split(whole(&done())), Stored::Whole(Encoded { head: head.clone(), body }));
        assert_eq!(split(whole(&done()).slice(..head.len() + 3)), Stored::Unreadable);
        assert_eq!(split(whole(&claim())), Stored::Whole(encode(&claim())));
        assert_eq!(decode_whole(head), Seen::Unreadable);
    }

    #[test]
    fn a_body_of_another_answer_is_unreadable() {
        let Encoded { head, .. } = encode(&done());
        assert_eq!(decode(Encoded { head, body: Bytes::from_static(b"owed") }), Seen::Unreadable);
    }

    #[test]
    fn no_single_bit_can_change_unnoticed() {
        let bytes = whole(&done());
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode_whole(damaged.into()), Seen::Unreadable, "bit {at}");
        }
    }

    #[test]
    fn a_record_cut_short_or_continued_is_unreadable() {
        let bytes = whole(&done());
        for len in 0..bytes.len() {
            assert_eq!(decode_whole(bytes.slice(..len)), Seen::Unreadable, "{len} bytes");
        }
        assert_eq!(decode_whole([&bytes[..], b"x"].concat().into()), Seen::Unreadable);
    }

    #[test]
    fn a_newer_format_is_unreadable_even_if_it_is_whole() {
        for (at, newer) in [(2, 2), (40, 2), (73, 1)] {
            let mut bytes = whole(&claim()).to_vec();
            bytes[at] = newer;
            let sum = checksum(&bytes, &[]);
            bytes[CHECKSUM_AT].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(decode_whole(bytes.into()), Seen::Unreadable, "byte {at}");
        }
    }

    #[test]
    fn values_are_slices_of_the_stored_bytes() {
        let bytes = whole(&done());
        let range = bytes.as_ptr_range();
        let Seen::Record(record) = decode_whole(bytes.clone()) else { panic!("unreadable") };
        let Phase::Done { saved, .. } = record.phase else { panic!("another phase") };
        assert!(range.contains(&saved.body.as_ptr()));
        assert!(saved.head.headers.iter().all(|(_, value)| range.contains(&value.as_ptr())));
    }

    fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    fn any_lines() -> impl Strategy<Value = FieldLines> {
        prop::collection::vec(("[a-z-]{0,20}", any_bytes(50)), 0..6)
    }

    fn any_head() -> impl Strategy<Value = SavedHead> {
        (any::<u16>(), any_lines()).prop_map(|(status, headers)| SavedHead { status, headers })
    }

    fn any_settled() -> impl Strategy<Value = Settled> {
        (any::<u64>(), any::<u64>())
            .prop_map(|(at, ms)| Settled { at: UnixMillis(at), keep_for: Duration::from_millis(ms) })
    }

    fn any_phase() -> impl Strategy<Value = Phase> {
        prop_oneof![
            Just(Phase::InFlight),
            prop::sample::select(EVERY_REASON.as_slice()).prop_map(|reason| Phase::Unknown { reason }),
            (any_head(), any_settled()).prop_map(|(head, settled)| Phase::DoneWithoutBody { head, settled }),
            (any_head(), any_bytes(2000), any_lines(), any_settled()).prop_map(
                |(head, body, trailers, settled)| Phase::Done {
                    saved: SavedResponse { head, body, trailers },
                    settled
                }
            ),
        ]
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let head = (any::<[u8; 16]>(), any::<u32>(), any::<[u8; 16]>(), any::<[u8; 32]>());
        let meta = (any::<u32>(), any::<u64>(), ".{0,40}", any_phase());
        (head, meta).prop_map(|((attempt, revision, session, print), (attempts, opened_at, route, phase))| {
            Record {
                version: Version { attempt: Attempt(attempt), revision },
                session: Session(session),
                fingerprint: Fingerprint::from_bytes(print),
                attempts,
                opened_at: UnixMillis(opened_at),
                route,
                phase,
            }
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(record in any_record()) {
            prop_assert_eq!(decode_whole(whole(&record)), Seen::Record(Box::new(record.clone())));
            prop_assert_eq!(decode(encode(&record)), Seen::Record(Box::new(record)));
        }

        #[test]
        fn whatever_is_read_does_not_panic(bytes in any_bytes(300), lengths in any::<[u8; 12]>()) {
            let mut bytes = bytes.to_vec();
            if let Some(place) = bytes.get_mut(74..86) {
                place.copy_from_slice(&lengths);
            }
            prop_assert_eq!(decode_whole(bytes.into()), Seen::Unreadable);
        }
    }
}
