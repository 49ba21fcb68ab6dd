//! The layout of the embedded store's file, and what is done to it within one transaction.
//!
//! File format 3:
//!
//! ```text
//! claims    storage key (32)               → expiry (8, big-endian), then the record as in codec.rs, in flight
//! records   storage key (32)               → the same, of every other record
//! meta      "format", "clock"              → u64
//! words     "gate"                         → why the file takes no claims, as in Closure::WORDS
//! ```
//!
//! `words` is there only while the file takes none. A key stands in `claims` or in `records`: see `records.rs`.
//!
//! No table has the keys in the order of expiry: to keep one costs as much as the records do, at each write. What has
//! expired is found by walking through the records, round and round (`walk.rs`). What stands side by side is then removed
//! together, and shares its pages.
//!
//! In formats 1 and 2, which builds before the first version wrote, all records stand in `records`, and 2 is a file with
//! `words`. Either becomes format 3 when it is opened, so that a build that would not look among the claims refuses it;
//! what is in flight then moves when it is next written.
//!
//! Moments are milliseconds of the store's own clock, [`StoreClock`]. Must not know threads or futures.
//! Read `../codec.rs` and `records.rs` before, `writer.rs` after.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use redb::{
    AccessGuard, CommitError, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable,
    SetDurabilityError, StorageError, TableDefinition, TableError, TransactionError, WriteTransaction,
};

use super::super::codec::{self, Encoded};
use super::super::{Gate, Swapped};
use super::records::{Records, Writable};
use super::walk::{Steps, Walk};
use crate::clock;
use crate::protocol::record::{UnixMillis, Version};
use crate::protocol::scope::StorageKey;

/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: u64 = 3;

/// The same keys in the order of expiry, as builds before the first version kept them.
const EXPIRIES: TableDefinition<'_, (u64, &[u8; 32]), ()> = TableDefinition::new("expiries");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_CLOCK: &str = "clock";
const WORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("words");
const WORD_GATE: &str = "gate";

const EXPIRY_LEN: usize = 8;

/// What the engine could not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("begin a transaction")]
    Begin(#[from] TransactionError),
    #[error("set a transaction's durability")]
    Durability(#[from] SetDurabilityError),
    #[error("open a table")]
    Table(#[from] TableError),
    #[error("read or write a table")]
    Storage(#[from] StorageError),
    #[error("commit")]
    Commit(#[from] CommitError),
    #[error("open the file")]
    Open(#[source] Box<DatabaseError>),
    #[error("use the file: it is damaged, and the engine panicked")]
    Panicked,
    #[error("use the file: it could not be opened anew after a failure")]
    NotOpen,
    #[error("read the file: after a failed sync, nothing has been written to the disk yet")]
    InDoubt,
    #[error("write to the file: the last write has failed, and the next attempt is not due yet")]
    Ailing,
}

/// The time by which records expire: never behind what the file has seen, and deaf to changes of the
/// wall clock while the store is open.
///
/// A clock that is set back between two runs makes records live longer. One that is set far ahead cannot
/// be told from a long stop, and ends them early.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreClock {
    anchor: u64,
    since: Instant,
}

impl StoreClock {
    fn from(wall: UnixMillis, last_seen: u64) -> Self {
        Self { anchor: wall.0.max(last_seen), since: clock::monotonic() }
    }

    pub(super) fn now(&self) -> u64 {
        let elapsed = clock::monotonic().saturating_duration_since(self.since);
        self.anchor.saturating_add(millis(elapsed))
    }
}

/// Makes the tables and checks the format. Answers the clock, or the format that is too new.
pub(super) fn prepare(database: &Database) -> Result<Result<StoreClock, u64>, Failure> {
    let transaction = begin(database)?;
    let store_clock = {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(META_FORMAT)?.map_or(FORMAT, |found| found.value());
        if format > FORMAT {
            return Ok(Err(format));
        }
        let last_seen = meta.get(META_CLOCK)?.map_or(0, |found| found.value());
        let store_clock = StoreClock::from(clock::unix_millis(), last_seen);
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_CLOCK, store_clock.now())?;
        Records::write(&transaction)?;
        transaction.delete_table(EXPIRIES)?;
        store_clock
    };
    transaction.commit()?;
    Ok(Ok(store_clock))
}

/// Begins a transaction whose commit is on the disk when it returns, and quick to recover from.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Commits the time, and nothing else.
pub(super) fn prove(database: &Database, now: u64) -> Result<(), Failure> {
    let transaction = begin(database)?;
    keep_clock(&transaction, now)?;
    Ok(transaction.commit()?)
}

/// Writes down by whom the file can be read.
pub(super) fn keep_format(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    Ok(())
}

/// Writes the time down, so that the next run does not begin before it.
pub(super) fn keep_clock(transaction: &WriteTransaction, now: u64) -> Result<(), Failure> {
    transaction.open_table(META)?.insert(META_CLOCK, now)?;
    Ok(())
}

/// Answers what is committed under `key` and has not expired by `now`.
pub(super) fn read(database: &Database, key: &StorageKey, now: u64) -> Result<Option<Bytes>, Failure> {
    let records = Records::read(&database.begin_read()?)?;
    let stands = records.get(key)?;
    Ok(stands.and_then(|value| live(value.value(), now).map(Bytes::copy_from_slice)))
}

/// Answers whether the file takes new claims, as committed.
pub(super) fn gate(database: &impl ReadableDatabase) -> Result<Gate, Failure> {
    let words = match database.begin_read()?.open_table(WORDS) {
        Ok(words) => words,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Gate::Open),
        Err(other) => return Err(other.into()),
    };
    let word = words.get(WORD_GATE)?;
    Ok(Gate::of_word(word.as_ref().map(AccessGuard::value)))
}

/// Writes into the file whether it takes new claims.
pub(super) fn keep_gate(transaction: &WriteTransaction, gate: Gate) -> Result<(), Failure> {
    match gate {
        Gate::Open => drop(transaction.delete_table(WORDS)?),
        Gate::Closed(closure) => {
            transaction.open_table(WORDS)?.insert(WORD_GATE, closure.word().as_bytes())?;
        }
    }
    Ok(())
}

/// The tables within one write transaction.
pub(super) struct Tables<'t> {
    transaction: &'t WriteTransaction,
    records: Writable<'t>,
    now: u64,
    changed: bool,
    written: u64,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, now: u64) -> Result<Self, Failure> {
        Ok(Self { transaction, records: Records::write(transaction)?, now, changed: false, written: 0 })
    }

    /// Whether there is something to commit.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Bytes of records that were put.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Answers what stands under `key`, or puts `fresh` there.
    pub(super) fn insert(
        &mut self,
        key: &StorageKey,
        fresh: &Encoded,
        keep_for: Duration,
    ) -> Result<Option<Bytes>, Failure> {
        let stands = self.records.get(key)?;
        match stands.map(|value| live(value.value(), self.now).map(Bytes::copy_from_slice)) {
            None => self.write(key, fresh, keep_for, Records::add)?,
            Some(None) => self.put(key, fresh, keep_for)?,
            Some(Some(record)) => return Ok(Some(record)),
        }
        Ok(None)
    }

    pub(super) fn swap(
        &mut self,
        key: &StorageKey,
        seen: Version,
        next: &Encoded,
        keep_for: Duration,
    ) -> Result<Swapped, Failure> {
        let standing = self.compare(key, seen)?;
        if standing == Swapped::Done {
            self.put(key, next, keep_for)?;
        }
        Ok(standing)
    }

    pub(super) fn remove(&mut self, key: &StorageKey, seen: Version) -> Result<Swapped, Failure> {
        let standing = self.compare(key, seen)?;
        if standing == Swapped::Done {
            self.take(key)?;
        }
        Ok(standing)
    }

    /// Walks on and removes what has expired. Answers where the walk goes on.
    pub(super) fn sweep(&mut self, from: Walk, most: Steps) -> Result<Walk, Failure> {
        let (to, _, expired) = from.over(&self.records, most, self.now)?;
        for key in expired {
            self.take(&key)?;
        }
        Ok(to)
    }

    /// Writes the time down, so that the next run does not begin before it.
    pub(super) fn keep_clock(&mut self) -> Result<(), Failure> {
        keep_clock(self.transaction, self.now)
    }

    /// Writes down whether the file takes new claims.
    pub(super) fn keep_gate(&mut self, gate: Gate) -> Result<(), Failure> {
        self.changed = true;
        keep_gate(self.transaction, gate)
    }

    /// Puts a record under `key`, whatever stands there.
    pub(super) fn replace(
        &mut self,
        key: &StorageKey,
        encoded: &Encoded,
        keep_for: Duration,
    ) -> Result<(), Failure> {
        self.put(key, encoded, keep_for)
    }

    fn compare(&self, key: &StorageKey, seen: Version) -> Result<Swapped, Failure> {
        let stands = self.records.get(key)?;
        Ok(match stands.as_ref().and_then(|value| live(value.value(), self.now)) {
            None => Swapped::Absent,
            Some(record) if codec::is_version(record, seen) => Swapped::Done,
            Some(_) => Swapped::Changed,
        })
    }

    fn put(&mut self, key: &StorageKey, encoded: &Encoded, keep_for: Duration) -> Result<(), Failure> {
        self.write(key, encoded, keep_for, Records::put)
    }

    fn write(
        &mut self,
        key: &StorageKey,
        encoded: &Encoded,
        keep_for: Duration,
        how: impl FnOnce(&mut Writable<'t>, &[u8; 32], &[u8], &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let expiry = self.now.saturating_add(millis(keep_for));
        let mut value = BytesMut::with_capacity(EXPIRY_LEN + encoded.head.len() + encoded.body.len());
        value.extend_from_slice(&expiry.to_be_bytes());
        value.extend_from_slice(&encoded.head);
        value.extend_from_slice(&encoded.body);
        how(&mut self.records, key.as_bytes(), &encoded.head, &value)?;
        self.changed = true;
        self.written += u64::try_from(value.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn take(&mut self, key: &StorageKey) -> Result<(), Failure> {
        self.records.remove(key.as_bytes())?;
        self.changed = true;
        Ok(())
    }
}

/// The record in `value` unless it has expired. What is too short to hold an expiry stands for ever: it
/// cannot be read, and what cannot be read is not absent.
pub(super) fn live(value: &[u8], now: u64) -> Option<&[u8]> {
    match expiry_of(value) {
        Some(expiry) if expiry <= now => None,
        Some(_) | None => Some(value.get(EXPIRY_LEN..).unwrap_or_default()),
    }
}

pub(super) fn expiry_of(value: &[u8]) -> Option<u64> {
    value.first_chunk::<EXPIRY_LEN>().map(|bytes| u64::from_be_bytes(*bytes))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::super::walk::look_ahead;
    use super::*;

    fn database() -> Database {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        prepare(&database).unwrap().unwrap();
        database
    }

    fn within(database: &Database, now: u64, work: impl FnOnce(&mut Tables<'_>)) {
        let transaction = begin(database).unwrap();
        let mut tables = Tables::open(&transaction, now).unwrap();
        work(&mut tables);
        drop(tables);
        transaction.commit().unwrap();
    }

    fn put(tables: &mut Tables<'_>, key: u8, keep_for: u64) {
        let encoded = Encoded { head: Bytes::from_static(&[7; codec::HEAD_LEN]), body: Bytes::new() };
        tables.put(&StorageKey::from_bytes([key; 32]), &encoded, Duration::from_millis(keep_for)).unwrap();
    }

    /// The head of a record in flight, as far as that counts here.
    fn in_flight() -> Encoded {
        let mut head = [0; codec::HEAD_LEN];
        head[..3].copy_from_slice(b"OW\x01");
        Encoded { head: Bytes::copy_from_slice(&head), body: Bytes::new() }
    }

    const BEGIN: Walk = Walk::BEGIN;

    fn steps(records: u64) -> Steps {
        Steps { records, bytes: u64::MAX }
    }

    #[test]
    fn a_walk_removes_what_has_expired_and_nothing_else() {
        let database = database();
        within(&database, 1000, |tables| {
            (0..10).for_each(|key| put(tables, key, 5));
            (10..15).for_each(|key| put(tables, key, 50));
        });
        assert!(look_ahead(&database, BEGIN, steps(100), 1005).unwrap().2);
        within(&database, 1005, |tables| {
            assert!(tables.sweep(BEGIN, steps(100)).unwrap().is_round());
            assert_eq!(tables.records.len().unwrap(), 5);
        });
        assert!(!look_ahead(&database, BEGIN, steps(100), 1005).unwrap().2);
    }

    #[test]
    fn a_walk_stops_at_its_bound_and_goes_on_there_and_at_the_end_from_the_beginning() {
        let database = database();
        within(&database, 1000, |tables| (0..10).for_each(|key| put(tables, key, 5)));
        let mut walk = BEGIN;
        within(&database, 2000, |tables| {
            walk = tables.sweep(walk, steps(4)).unwrap();
            assert_eq!((walk.is_round(), tables.records.len().unwrap()), (false, 6));
            walk = tables.sweep(walk, steps(4)).unwrap();
            walk = tables.sweep(walk, steps(4)).unwrap();
            assert_eq!((walk.is_round(), tables.records.len().unwrap()), (true, 0));
        });
        within(&database, 2000, |tables| {
            put(tables, 0, 5);
            tables.now = 3000;
            tables.sweep(walk, steps(4)).unwrap();
            assert_eq!(tables.records.len().unwrap(), 0);
        });
    }

    #[test]
    fn a_walk_stops_when_it_has_read_enough_and_never_before_it_has_moved() {
        let database = database();
        within(&database, 1000, |tables| (0..10).for_each(|key| put(tables, key, 5)));
        let each = u64::try_from(EXPIRY_LEN + codec::HEAD_LEN).unwrap();
        for (bytes, moved) in [(1, 1), (each, 1), (each + 1, 2), (3 * each, 3)] {
            let most = Steps { records: 8, bytes };
            let (_, left, _) = look_ahead(&database, BEGIN, most, 0).unwrap();
            assert_eq!(left.records, 8 - moved, "{bytes}");
        }
    }

    #[test]
    fn a_walk_that_begins_somewhere_comes_by_everything() {
        let database = database();
        within(&database, 1000, |tables| (0..10).for_each(|key| put(tables, key * 25, 5)));
        for somewhere in [0, 77, 255] {
            let (end, ..) = look_ahead(&database, Walk::somewhere(somewhere), steps(100), 0).unwrap();
            assert!(end.is_round());
        }
        within(&database, 2000, |tables| {
            let end = tables.sweep(Walk::somewhere(77), steps(100)).unwrap();
            assert_eq!(tables.records.len().unwrap(), 4, "those before it are left");
            tables.sweep(end, steps(100)).unwrap();
            assert_eq!(tables.records.len().unwrap(), 0);
        });
    }

    #[test]
    fn a_record_that_was_written_again_is_not_swept_by_its_first_expiry() {
        let database = database();
        within(&database, 1000, |tables| put(tables, 1, 5));
        within(&database, 1001, |tables| put(tables, 1, 500));
        within(&database, 1100, |tables| {
            tables.sweep(BEGIN, steps(100)).unwrap();
            assert_eq!(tables.records.len().unwrap(), 1);
        });
    }

    #[test]
    fn a_claim_in_the_place_of_what_has_expired_leaves_nothing_of_it() {
        let database = database();
        let key = StorageKey::from_bytes([1; 32]);
        within(&database, 1000, |tables| put(tables, 1, 5));
        within(&database, 1100, |tables| {
            assert!(tables.insert(&key, &in_flight(), Duration::from_secs(1)).unwrap().is_none());
            assert_eq!(tables.records.len().unwrap(), 1);
        });
        assert_eq!(read(&database, &key, 1100).unwrap(), Some(in_flight().head));
    }

    #[test]
    fn a_walk_removes_what_has_expired_among_the_claims_too() {
        let database = database();
        within(&database, 1000, |tables| {
            for (key, keep_for) in [(0, 5), (4, 5), (9, 50)] {
                let key = StorageKey::from_bytes([key; 32]);
                tables.put(&key, &in_flight(), Duration::from_millis(keep_for)).unwrap();
            }
            for key in [1, 2, 5] {
                put(tables, key, 50);
            }
        });
        within(&database, 1005, |tables| {
            assert!(tables.sweep(BEGIN, steps(100)).unwrap().is_round());
            assert_eq!(tables.records.len().unwrap(), 4);
        });
        assert!(!look_ahead(&database, BEGIN, steps(100), 1005).unwrap().2);
    }

    #[test]
    fn the_table_of_expiries_of_earlier_builds_is_dropped() {
        let database = database();
        let transaction = begin(&database).unwrap();
        transaction.open_table(EXPIRIES).unwrap().insert((5, &[1; 32]), ()).unwrap();
        transaction.commit().unwrap();
        prepare(&database).unwrap().unwrap();
        assert!(database.begin_read().unwrap().open_table(EXPIRIES).is_err());
    }

    #[test]
    fn what_is_too_short_for_an_expiry_stands() {
        let database = database();
        let key = StorageKey::from_bytes([1; 32]);
        within(&database, 1000, |tables| {
            tables.records.put(key.as_bytes(), b"", b"short").unwrap();
            let encoded = Encoded { head: Bytes::new(), body: Bytes::new() };
            assert!(tables.insert(&key, &encoded, Duration::from_secs(1)).unwrap().is_some());
        });
        assert!(read(&database, &key, u64::MAX).unwrap().is_some());
    }

    #[test]
    fn the_clock_does_not_go_behind_what_the_file_has_seen() {
        let ahead = StoreClock::from(UnixMillis(10), 5_000);
        assert!(ahead.now() >= 5_000);
        let forwards = StoreClock::from(UnixMillis(9_000), 5_000);
        assert!(forwards.now() >= 9_000);
    }
}
