//! Records to put into stores, made so that a test reads as a sentence.

use std::time::{Duration, Instant};

use bytes::Bytes;
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{
    Attempt, Phase, Record, Session, Settled, UnixMillis, UnknownReason, Version,
};
use onceway::protocol::saved::{FieldLines, SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use uuid::Uuid;

/// Long enough that nothing expires during a test.
pub(crate) const LONG: Duration = Duration::from_hours(1);

pub(crate) const EVERY_REASON: [UnknownReason; 9] = [
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

pub(crate) fn some_key() -> StorageKey {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    StorageKey::from_bytes(bytes)
}

pub(crate) fn some_session() -> Session {
    Session(*Uuid::new_v4().as_bytes())
}

/// A fresh claim.
pub(crate) fn a_claim() -> Record {
    Record {
        version: Version { attempt: Attempt(*Uuid::new_v4().as_bytes()), revision: 0 },
        session: some_session(),
        fingerprint: Fingerprint::from_bytes(*some_key().as_bytes()),
        attempts: 1,
        opened_at: UnixMillis(1_700_000_000_123),
        route: "/payments/{id}".to_owned(),
        phase: Phase::InFlight,
    }
}

/// The next write of the same attempt.
pub(crate) fn after(record: &Record, phase: Phase) -> Record {
    let mut next = record.clone();
    next.version.revision += 1;
    next.phase = phase;
    next
}

pub(crate) fn done_with(body: impl Into<Bytes>) -> Phase {
    Phase::Done {
        saved: SavedResponse { head: odd_head(), body: body.into(), trailers: odd_lines("x-trailer") },
        settled: settled(),
    }
}

pub(crate) fn done_without_body() -> Phase {
    Phase::DoneWithoutBody { head: odd_head(), settled: settled() }
}

pub(crate) fn unknown(reason: UnknownReason) -> Phase {
    Phase::Unknown { reason }
}

/// `length` bytes in which no two neighbours are alike.
pub(crate) fn bytes_of(length: usize) -> Bytes {
    (0_u8..251).cycle().take(length).collect::<Vec<u8>>().into()
}

/// Asks again and again until the answer is yes, and fails after ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    #[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
    let now = Instant::now;
    let deadline = now() + Duration::from_secs(10);
    while !holds().await {
        assert!(now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn settled() -> Settled {
    Settled { at: UnixMillis(1_700_000_001_456), keep_for: Duration::from_millis(86_400_001) }
}

fn odd_head() -> SavedHead {
    SavedHead { status: 201, headers: odd_lines("x-odd") }
}

/// Repeats, emptiness and bytes that are no UTF-8.
fn odd_lines(name: &str) -> FieldLines {
    let values: [&'static [u8]; 4] = [b"plain", b"", b"\xff\x80\t\xc3\x28", b"plain"];
    values.iter().map(|value| (name.to_owned(), Bytes::from_static(value))).collect()
}
