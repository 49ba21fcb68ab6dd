//! Going through all records of the file: page by page, and to copy them.
//!
//! Both see the records as of one moment each and leave out what has expired. Read `tables.rs` before.

use std::time::Duration;

use redb::{AccessGuard, Database, ReadTransaction, ReadableDatabase};

use super::super::Gate;
use super::records::Records;
use super::tables::{Failure, begin, expiry_of, keep_clock, keep_format, keep_gate, live};
use crate::protocol::scope::StorageKey;

/// A record as it stands in the file.
pub(super) struct Standing<'a> {
    pub(super) key: StorageKey,
    /// Whole, as in codec.rs.
    pub(super) record: &'a [u8],
    /// What is left of its time; what is too short to hold an expiry stands for ever.
    pub(super) keep_for: Duration,
}

/// Where a page begins, and where it ends at the latest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) after: Option<StorageKey>,
    /// Records that are looked at.
    pub(super) most: usize,
    /// Bytes that are read.
    pub(super) bytes_max: usize,
}

/// Answers what `take` makes of the records of a stretch that have not expired by `now`, in the order of keys, and
/// the key at which it stopped, if it did.
pub(super) fn page<T>(
    database: &Database,
    stretch: Stretch,
    now: u64,
    take: impl Fn(Standing<'_>) -> T,
) -> Result<(Vec<T>, Option<StorageKey>), Failure> {
    let records = Records::read(&database.begin_read()?)?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    for (looked_at, entry) in records.after(stretch.after.as_ref())?.enumerate() {
        let (key, value) = entry?;
        let (key, value) = (StorageKey::from_bytes(*key.value()), value.value());
        bytes += value.len();
        if let Some(record) = live(value, now) {
            page.push(take(Standing { key, record, keep_for: time_left(value, now) }));
        }
        if looked_at + 1 >= stretch.most || bytes >= stretch.bytes_max {
            return Ok((page, Some(key)));
        }
    }
    Ok((page, None))
}

/// Answers what `take` makes of the record under `key`, unless there is none or it has expired by `now`.
pub(super) fn one<T>(
    database: &Database,
    key: StorageKey,
    now: u64,
    take: impl Fn(Standing<'_>) -> T,
) -> Result<Option<T>, Failure> {
    let records = Records::read(&database.begin_read()?)?;
    let stands = records.get(&key)?;
    let value = stands.as_ref().map(AccessGuard::value);
    Ok(value.and_then(|value| {
        let record = live(value, now)?;
        Some(take(Standing { key, record, keep_for: time_left(value, now) }))
    }))
}

fn time_left(value: &[u8], now: u64) -> Duration {
    expiry_of(value).map_or(Duration::MAX, |expiry| Duration::from_millis(expiry.saturating_sub(now)))
}

/// Copies into an empty `database` what `from` holds and has not expired by `now`, and sets its gate.
///
/// Answers how many records it copied; nothing, if `goes_on` said no meanwhile.
pub(super) fn copy(
    from: &ReadTransaction,
    database: &Database,
    now: u64,
    gate: Gate,
    goes_on: impl Fn() -> bool,
) -> Result<Option<u64>, Failure> {
    let transaction = begin(database)?;
    let mut copied = 0;
    {
        let mut records = Records::write(&transaction)?;
        for entry in Records::read(from)?.after(None)? {
            let (key, value) = entry?;
            if !goes_on() {
                return Ok(None);
            }
            if let Some(record) = live(value.value(), now) {
                records.put(key.value(), record, value.value())?;
                copied += 1;
            }
        }
    }
    keep_format(&transaction)?;
    keep_clock(&transaction, now)?;
    keep_gate(&transaction, gate)?;
    transaction.commit()?;
    Ok(Some(copied))
}
