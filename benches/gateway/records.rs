//! Records as a gateway writes them of one payment: the claim, and what it becomes.

use std::time::Duration;

use bytes::Bytes;
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{Attempt, Phase, Record, Session, Settled, UnixMillis, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;

use super::upstream::ANSWER_BYTES;

/// How long they are kept.
pub(super) const KEEP_FOR: Duration = Duration::from_hours(24);

/// A key like any other: they are hashes.
pub(super) fn any_key() -> StorageKey {
    let mut bytes = [0; 32];
    fastrand::fill(&mut bytes);
    StorageKey::from_bytes(bytes)
}

/// In flight.
pub(super) fn claim() -> Record {
    Record {
        version: Version { attempt: Attempt([7; 16]), revision: 0 },
        session: Session([9; 16]),
        fingerprint: Fingerprint::from_bytes([3; 32]),
        attempts: 1,
        opened_at: UnixMillis(1_700_000_000_000),
        route: "/payments".to_owned(),
        phase: Phase::InFlight,
    }
}

/// Done, with its answer.
pub(super) fn done() -> Record {
    let line = |name: &str, value| (name.to_owned(), Bytes::from_static(value));
    let headers =
        vec![line("content-type", b"application/json"), line("date", b"Thu, 01 Jan 2026 00:00:00 GMT")];
    let body = vec![b'.'; ANSWER_BYTES].into();
    let saved =
        SavedResponse { head: SavedHead { status: 201, headers: headers.into() }, body, trailers: [].into() };
    let settled = Settled { at: UnixMillis(1_700_000_000_100), keep_for: KEEP_FOR };
    let claim = claim();
    let version = Version { revision: 1, ..claim.version };
    Record { version, phase: Phase::Done { saved, settled }, ..claim }
}
