//! Going through all records of the file: page by page, and to copy them.
//!
//! Both see the records as of one moment each and leave out what has expired. Read `tables.rs` before.

use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::super::Gate;
use super::tables::{EXPIRIES, Failure, RECORDS, begin, expiry_of, keep_clock, keep_gate, live};
use crate::protocol::scope::StorageKey;

/// A record as it stands in the file.
pub(super) struct Standing {
    pub(super) key: StorageKey,
    /// Whole, as in codec.rs.
    pub(super) record: Bytes,
    /// What is left of its time; none for what is too short to hold an expiry, which stands for ever.
    pub(super) keep_for: Option<Duration>,
}

/// Answers the records after `after` in the order of keys that have not expired by `now`, and the key at
/// which it stopped, if it did: having looked at `most` records, or having read `bytes_max` bytes.
pub(super) fn page(
    database: &Database,
    after: Option<&StorageKey>,
    most: usize,
    bytes_max: usize,
    now: u64,
) -> Result<(Vec<Standing>, Option<StorageKey>), Failure> {
    let records = database.begin_read()?.open_table(RECORDS)?;
    let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
    let (mut page, mut bytes) = (Vec::new(), 0);
    for (looked_at, entry) in records.range::<&[u8; 32]>((from, Bound::Unbounded))?.enumerate() {
        let (key, value) = entry?;
        let (key, value) = (StorageKey::from_bytes(*key.value()), value.value());
        if let Some(record) = live(value, now) {
            bytes += record.len();
            let keep_for = expiry_of(value).map(|expiry| Duration::from_millis(expiry - now));
            page.push(Standing { key, record: Bytes::copy_from_slice(record), keep_for });
        }
        if looked_at + 1 >= most || bytes >= bytes_max {
            return Ok((page, Some(key)));
        }
    }
    Ok((page, None))
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
        let mut records = transaction.open_table(RECORDS)?;
        for entry in from.open_table(RECORDS)?.iter()? {
            let (key, value) = entry?;
            if !goes_on() {
                return Ok(None);
            }
            if live(value.value(), now).is_some() {
                records.insert(key.value(), value.value())?;
                copied += 1;
            }
        }
        let mut expiries = transaction.open_table(EXPIRIES)?;
        for entry in from.open_table(EXPIRIES)?.iter()? {
            let (expiry, _) = entry?;
            if !goes_on() {
                return Ok(None);
            }
            if expiry.value().0 > now {
                expiries.insert(expiry.value(), ())?;
            }
        }
    }
    keep_clock(&transaction, now)?;
    keep_gate(&transaction, gate)?;
    transaction.commit()?;
    Ok(Some(copied))
}
