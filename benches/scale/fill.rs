//! Answered payments put into a store past the gateway, as it would have written them: filling millions of them by
//! requests takes hours. They are written in the order of their storage keys, which the store of one file takes at its
//! full speed; real keys come in any order, and leave its pages about two thirds full.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use onceway::protocol::fingerprint::{Covered, CoveredBody, Fingerprint};
use onceway::protocol::key::{IdempotencyKey, KeyFormat, KeyRules};
use onceway::protocol::record::{Attempt, Phase, Record, Session, Settled, UnixMillis, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::{HashKey, ScopePart, StorageKey};
use onceway::store::codec::Codec;
use onceway::store::transfer::{Moved, Transfer};

use super::Failure;
use super::ask::{Ask, GUARDED_PATH, answer_body, credential};
use super::gateways::NAMESPACE;

/// Records in one call of the store.
const BATCH: usize = 50_000;

/// Longer than any run.
const KEEP_FOR: Duration = Duration::from_hours(24);

/// Who asked for what was answered before, in turn.
const CALLERS: u64 = 1000;

/// One of so many answered payments.
pub(super) fn answered(keys: u64, number: u64) -> Ask {
    Ask::first(number % CALLERS, format!("filled-{keys}-{number:08}"))
}

/// Puts so many answered payments into a store.
pub(super) async fn fill(store: &impl Transfer, keys: u64) -> Result<(), Failure> {
    let hash_key = HashKey::new(None);
    let mut places = Vec::with_capacity(usize::try_from(keys)?);
    for number in 0..keys {
        places.push((storage_key(&hash_key, &answered(keys, number))?, number));
    }
    places.sort_unstable_by_key(|(key, _)| *key);
    let now = UnixMillis(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?);
    let codec = Codec::default();
    let mut keep_for = KEEP_FOR;
    for some in places.chunks(BATCH) {
        let mut records = Vec::with_capacity(some.len());
        for (key, number) in some {
            let record = record(&hash_key, &answered(keys, *number), *number, now);
            // A moment apart each, as they would have come.
            keep_for += Duration::from_micros(100);
            records.push(Moved { key: *key, encoded: codec.encode(key, &record), keep_for });
        }
        store.put(records).await?;
    }
    Ok(())
}

fn storage_key(hash_key: &HashKey, ask: &Ask) -> Result<StorageKey, Failure> {
    let text = ask.key.as_deref().unwrap_or_default();
    let rules = KeyRules { format: KeyFormat::Any, max_length: 255 };
    let credential = credential(ask.caller);
    let scope = [ScopePart { source: "header:authorization", values: &[credential.as_bytes()] }];
    Ok(hash_key.storage_key(NAMESPACE, &scope, &IdempotencyKey::from_text(text, rules)?))
}

fn record(hash_key: &HashKey, ask: &Ask, number: u64, now: UnixMillis) -> Record {
    let mut attempt = [7; 16];
    attempt.iter_mut().zip(number.to_be_bytes()).for_each(|(place, byte)| *place = byte);
    let line = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    let head = SavedHead {
        status: 200,
        headers: vec![
            line("content-type", "application/json"),
            line("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ]
        .into(),
    };
    let body = answer_body(ask.key.as_deref(), ask.answer_bytes).into();
    let covered = Covered {
        method: ask.method,
        path: GUARDED_PATH.as_bytes(),
        query: None,
        content_type: Some(b"application/json"),
        headers: &[],
        body: CoveredBody::Bytes(&ask.body()),
    };
    Record {
        version: Version { attempt: Attempt(attempt), revision: 1 },
        session: Session([1; 16]),
        fingerprint: Fingerprint::of(hash_key, &covered),
        attempts: 1,
        opened_at: now,
        route: GUARDED_PATH.to_owned(),
        phase: Phase::Done {
            saved: SavedResponse { head, body, trailers: [].into() },
            settled: Settled { at: now, keep_for: KEEP_FOR },
        },
    }
}
