//! Walking through the records, in the order of keys and round and round, for those that have expired.
//!
//! Must not know when, nor what becomes of them: read `tables.rs` before, `writer.rs` after.

use redb::{Database, ReadableDatabase, ReadableTable};

use super::records::Records;
use super::tables::{Failure, live};
use crate::protocol::scope::StorageKey;

/// Answers where a walk leads, what is left of it, and whether it meets a record that has expired by `now`.
pub(super) fn look_ahead(
    database: &Database,
    from: Walk,
    most: Steps,
    now: u64,
) -> Result<(Walk, Steps, bool), Failure> {
    let records = Records::read(&database.begin_read()?)?;
    let (to, left, expired) = from.over(&records, most, now)?;
    Ok((to, left, !expired.is_empty()))
}

/// How many records there are, expired ones among them.
pub(super) fn count(database: &Database) -> Result<u64, Failure> {
    Records::read(&database.begin_read()?)?.len()
}

/// How far a walk goes at once: until it has looked at so many records, or read so much of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) records: u64,
    /// Of a record all bytes are read.
    pub(super) bytes: u64,
}

impl Steps {
    /// What is left of these steps after others.
    pub(super) fn less(self, done: Self) -> Self {
        Self {
            records: self.records.saturating_sub(done.records),
            bytes: self.bytes.saturating_sub(done.bytes),
        }
    }

    /// As many, but no more than others.
    pub(super) fn at_most(self, most: Self) -> Self {
        Self { records: self.records.min(most.records), bytes: self.bytes.min(most.bytes) }
    }

    /// Whether none is left.
    pub(super) fn are_done(self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// How far the records have been looked through for what has expired, in the order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// The last that was looked at; none at the end, from which it goes on at the beginning.
    after: Option<StorageKey>,
}

impl Walk {
    /// One at the beginning, which is also where it is after the end.
    pub(super) const BEGIN: Self = Self { after: None };

    /// One that begins somewhere, so that what stands last is met too where a process never lives long.
    pub(super) fn somewhere(now: u64) -> Self {
        let [any, ..] = now.to_le_bytes();
        Self { after: Some(StorageKey::from_bytes([any; 32])) }
    }

    /// Whether it has come to the end.
    pub(super) fn is_round(self) -> bool {
        self == Self::BEGIN
    }

    /// Answers where it is when so many steps are done, what is left of them, and which of the records have expired by
    /// `now`.
    pub(super) fn over(
        self,
        records: &Records<impl ReadableTable<&'static [u8; 32], &'static [u8]>>,
        most: Steps,
        now: u64,
    ) -> Result<(Self, Steps, Vec<StorageKey>), Failure> {
        let (mut to, mut left, mut expired) = (self, most, Vec::new());
        let mut records = records.after(self.after.as_ref())?;
        while !left.are_done() {
            let Some(record) = records.next() else { return Ok((Self::BEGIN, left, expired)) };
            let (key, value) = record?;
            let (key, value) = (StorageKey::from_bytes(*key.value()), value.value());
            if live(value, now).is_none() {
                expired.push(key);
            }
            left = left.less(Steps { records: 1, bytes: u64::try_from(value.len()).unwrap_or(u64::MAX) });
            to = Self { after: Some(key) };
        }
        Ok((to, left, expired))
    }
}
