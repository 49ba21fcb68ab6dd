//! The bytes of records that are neither sealed nor compressed, and what every record must stand.
//! `tests/sealed.rs` goes on with the others.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::outline::Outline;
use crate::protocol::record::{Phase, Settled, UnixMillis, UnknownReason};
use crate::protocol::saved::{FieldLines, SavedHead, SavedResponse};

mod sealed;

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

fn encode(record: &Record) -> Encoded {
    Codec::default().encode(&KEY, record)
}

fn whole(record: &Record) -> Bytes {
    joined(encode(record))
}

fn joined(Encoded { head, body }: Encoded) -> Bytes {
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

// Records outlive releases. Where one of the next three fails, the bytes of format 1 have changed:
// do not mend the test, make another format beside it.

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

const EVERY_REASON: [UnknownReason; 9] = [
    UnknownReason::ConnectionLost,
    UnknownReason::ResponseTimeout,
    UnknownReason::AnswerCutShort,
    UnknownReason::ProtocolSwitched,
    UnknownReason::ServerError,
    UnknownReason::GatewayStopped,
    UnknownReason::SessionDied,
    UnknownReason::Unreadable,
    UnknownReason::EarlierAttempt,
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
    for (at, newer) in [(2, 2), (2, 3), (40, 2), (73, 1)] {
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
    prop::collection::vec(("[a-z-]{0,20}", any_bytes(50)), 0..6).prop_map(FieldLines::from)
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

/// One for everything that is done to records.
fn every_codec() -> [Codec; 4] {
    let on = Sealing::On { keys: &[&[5; 32]], accept_unsealed: false };
    [
        (Sealing::Off, Compression::Off),
        (Sealing::Off, Compression::Zstd),
        (on, Compression::Off),
        (on, Compression::Zstd),
    ]
    .map(|(sealing, compression)| Codec::new(sealing, compression))
}

#[test]
fn a_record_that_is_read_is_outlined_and_one_that_is_cut_short_or_not_to_be_read_is_not() {
    let outline = |codec: &Codec, value: &[u8]| {
        let head = Bytes::copy_from_slice(head_of(value));
        codec.outline(&KEY, &head, u64::try_from(value.len() - head.len()).unwrap())
    };
    let [plain, _, sealed, _] = every_codec();
    for record in [claim(), done(), done_without_body()] {
        let (open, shut) = (whole(&record), joined(sealed.encode(&KEY, &record)));
        assert_eq!(outline(&plain, &open), Some(Outline::from(&record)));
        for len in 0..open.len() {
            assert_eq!(outline(&plain, &open[..len]), None, "{len} bytes");
        }
        for (codec, value) in [(&plain, &shut), (&sealed, &open)] {
            assert_eq!(outline(codec, value), None);
        }
        let another = StorageKey::from_bytes([1; 32]);
        assert_eq!(sealed.outline(&another, &Bytes::copy_from_slice(head_of(&shut)), 0), None);
    }
}

#[test]
fn a_claim_with_a_body_is_no_more_outlined_than_it_is_read() {
    let mut bytes = [&*whole(&claim()), b"x"].concat();
    bytes[85] = 1;
    let sum = checksum(&bytes, &[]);
    bytes[CHECKSUM_AT].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(decode_whole(bytes.clone().into()), Seen::Unreadable);
    assert_eq!(Codec::default().outline(&KEY, &Bytes::copy_from_slice(head_of(&bytes)), 1), None);
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(record in any_record()) {
        prop_assert_eq!(decode_whole(whole(&record)), Seen::Record(Box::new(record.clone())));
        prop_assert_eq!(decode(encode(&record)), Seen::Record(Box::new(record)));
    }

    #[test]
    fn an_outline_of_the_head_alone_is_that_of_the_record(record in any_record(), how in 0..4_usize) {
        let codec = &every_codec()[how];
        let Encoded { head, body } = codec.encode(&KEY, &record);
        let whole = joined(Encoded { head: head.clone(), body: body.clone() });
        prop_assert_eq!(head_of(&whole), &*head);
        let body_len = u64::try_from(body.len()).unwrap();
        prop_assert_eq!(codec.outline(&KEY, &head, body_len), Some(Outline::from(&record)));
        prop_assert_eq!(codec.outline(&KEY, &head, body_len + 1), None);
    }

    #[test]
    fn whatever_is_outlined_does_not_panic(bytes in any_bytes(300), lengths in any::<[u8; 12]>()) {
        let mut bytes = [b"OW", &*bytes].concat();
        if let Some(place) = bytes.get_mut(74..86) {
            place.copy_from_slice(&lengths);
        }
        let head = Bytes::copy_from_slice(head_of(&bytes));
        let rest = u64::try_from(bytes.len() - head.len()).unwrap();
        prop_assert_eq!(Codec::default().outline(&KEY, &head, rest), None);
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
