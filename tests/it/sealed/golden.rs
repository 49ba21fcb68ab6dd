//! Records outlive releases: what any of them wrote is read by all that follow. The files in `tests/golden` were
//! written by the first release that knew their format. Where a test fails here, do not mend the file: make
//! another format.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{
    Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, UnknownReason, Version,
};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::{Cause, Codec, Compression, Encoded, Sealing};

const KEY: StorageKey = StorageKey::from_bytes([9; 32]);
const SECRET: [u8; 32] = *b"a golden key is known to anybody";

/// A record of each phase, with the word by which its file is named.
fn records() -> [(&'static str, Record); 4] {
    let done = Phase::Done { saved: answer(b"paid".as_slice().into()), settled: settled() };
    [
        ("in-flight", record(Phase::InFlight)),
        ("done", record(done)),
        ("done-without-body", record(Phase::DoneWithoutBody { head: head(), settled: settled() })),
        ("unknown", record(Phase::Unknown { reason: UnknownReason::EarlierAttempt })),
    ]
}

fn record(phase: Phase) -> Record {
    Record {
        version: Version { attempt: Attempt(*b"attempt-16-bytes"), revision: 0x0102_0304 },
        session: Session(*b"session-16-bytes"),
        fingerprint: Fingerprint::from_bytes(*b"a fingerprint has 32 bytes of it"),
        attempts: 300,
        opened_at: UnixMillis(1_700_000_000_123),
        route: "/payments/{id}".to_owned(),
        phase,
    }
}

fn head() -> SavedHead {
    let lines = [("location", "/p/1".as_bytes()), ("x-odd", b"\xff"), ("x-odd", b"")];
    let headers = lines.map(|(name, value)| (name.to_owned(), Bytes::from_static(value)));
    SavedHead { status: 201, headers: headers.into() }
}

fn answer(body: Bytes) -> SavedResponse {
    SavedResponse {
        head: head(),
        body,
        trailers: vec![("x-sum".to_owned(), Bytes::from_static(b"1"))].into(),
    }
}

fn settled() -> Settled {
    Settled { at: UnixMillis(1_700_000_001_456), keep_for: Duration::from_hours(24) }
}

/// An answer that can be made smaller.
fn long() -> Record {
    let body = b"{\"id\":\"pay_17\",\"status\":\"captured\"}\n".repeat(100).into();
    record(Phase::Done { saved: answer(body), settled: settled() })
}

fn sealing() -> Codec {
    Codec::new(Sealing::On { keys: &[&SECRET], accept_unsealed: false }, Compression::Off)
}

fn golden(name: &str) -> Bytes {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("record-{name}.bin"));
    std::fs::read(file).unwrap().into()
}

fn seen(record: Record) -> Seen {
    Seen::Record(Box::new(record))
}

fn written(codec: &Codec, record: &Record) -> Bytes {
    let Encoded { head, body } = codec.encode(&KEY, record);
    [head, body].concat().into()
}

#[test]
fn records_of_the_first_format_are_read_and_written_as_ever() {
    for (name, record) in records() {
        let bytes = golden(&format!("1-{name}"));
        assert_eq!(written(&Codec::default(), &record), bytes, "{name}");
        assert_eq!(Codec::default().decode_whole(&KEY, bytes), seen(record), "{name}");
    }
}

#[test]
fn sealed_records_of_the_second_format_are_read_as_ever() {
    for (name, record) in records() {
        let bytes = golden(&format!("2-sealed-{name}"));
        assert_eq!(sealing().decode_whole(&KEY, bytes), seen(record), "{name}");
    }
    assert_eq!(sealing().decode_whole(&KEY, golden("2-sealed-compressed-done")), seen(long()));
}

#[test]
fn compressed_records_of_the_second_format_are_read_as_ever() {
    assert_eq!(Codec::default().decode_whole(&KEY, golden("2-compressed-done")), seen(long()));
}

#[test]
fn the_key_of_a_golden_record_has_the_id_that_stands_in_it() {
    let head = golden("2-sealed-in-flight");
    let Err(Cause::UnknownKey(id)) = Codec::default().read(&KEY, Encoded { head, body: Bytes::new() }) else {
        panic!("it should name the key that is missing");
    };
    assert_eq!(id.to_string(), "207b6eaa802b6402");
}
