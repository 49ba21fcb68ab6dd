//! The two tables of records as one.
//!
//! A record that is in flight stands among the claims, every other in the table that is large: so a claim is written
//! where all claims of the moment lie side by side, on few pages, and of the many pages of the large table a request
//! changes one, once. A key stands in one of the two, whatever a record is taken for.
//!
//! Must not know when a record expires: read `tables.rs` after.

use std::iter::Peekable;
use std::ops::Bound;

use redb::{
    AccessGuard, Range, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, StorageError,
    Table, TableDefinition, TableStats, WriteTransaction,
};

use super::super::codec::{self, Standing};
use super::tables::Failure;
use crate::protocol::scope::StorageKey;

type Key = &'static [u8; 32];
type Value = &'static [u8];
type Entry<'a> = (AccessGuard<'a, Key>, AccessGuard<'a, Value>);

const RECORDS: TableDefinition<'_, Key, Value> = TableDefinition::new("records");
const CLAIMS: TableDefinition<'_, Key, Value> = TableDefinition::new("claims");

/// All records, within a transaction that writes.
pub(super) type Writable<'t> = Records<Table<'t, Key, Value>>;

/// All records, as one transaction sees them.
#[derive(Debug)]
pub(super) struct Records<T> {
    claims: T,
    others: T,
}

impl Records<ReadOnlyTable<Key, Value>> {
    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, Failure> {
        Ok(Self { claims: transaction.open_table(CLAIMS)?, others: transaction.open_table(RECORDS)? })
    }

    /// The room that the tables take in the file. Counts page by page.
    pub(super) fn used_bytes(&self) -> Result<u64, Failure> {
        let used =
            |stats: TableStats| stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
        Ok(used(self.claims.stats()?) + used(self.others.stats()?))
    }
}

impl<'t> Writable<'t> {
    /// Makes the tables where there are none.
    pub(super) fn write(transaction: &'t WriteTransaction) -> Result<Self, Failure> {
        Ok(Self { claims: transaction.open_table(CLAIMS)?, others: transaction.open_table(RECORDS)? })
    }

    /// Puts `value`, which holds `record`, under `key`, where nothing stands.
    pub(super) fn add(&mut self, key: &[u8; 32], record: &[u8], value: &[u8]) -> Result<(), Failure> {
        let [its_own, _] = self.tables_of(record);
        its_own.insert(key, value)?;
        Ok(())
    }

    /// Puts `value`, which holds `record`, under `key`, whatever stands there.
    pub(super) fn put(&mut self, key: &[u8; 32], record: &[u8], value: &[u8]) -> Result<(), Failure> {
        let [its_own, other] = self.tables_of(record);
        drop(other.remove(key)?);
        its_own.insert(key, value)?;
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &[u8; 32]) -> Result<(), Failure> {
        drop(self.claims.remove(key)?);
        drop(self.others.remove(key)?);
        Ok(())
    }

    /// The table of such a record, and the other one.
    fn tables_of(&mut self, record: &[u8]) -> [&mut Table<'t, Key, Value>; 2] {
        match codec::standing(record) {
            Standing::InFlight(_) => [&mut self.claims, &mut self.others],
            Standing::Answered | Standing::Other => [&mut self.others, &mut self.claims],
        }
    }
}

impl<T: ReadableTable<Key, Value>> Records<T> {
    pub(super) fn get(&self, key: &StorageKey) -> Result<Option<AccessGuard<'_, Value>>, Failure> {
        // First the small one, in which looking is cheap.
        match self.claims.get(key.as_bytes())? {
            Some(found) => Ok(Some(found)),
            None => Ok(self.others.get(key.as_bytes())?),
        }
    }

    /// In the order of keys: those after `after`, or all.
    pub(super) fn after(&self, after: Option<&StorageKey>) -> Result<InOrder<'_>, Failure> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
        let stretch = (from, Bound::Unbounded);
        Ok(InOrder {
            claims: self.claims.range::<&[u8; 32]>(stretch)?.peekable(),
            others: self.others.range::<&[u8; 32]>(stretch)?.peekable(),
        })
    }
}

impl<T: ReadableTableMetadata> Records<T> {
    pub(super) fn len(&self) -> Result<u64, Failure> {
        Ok(self.claims.len()? + self.others.len()?)
    }
}

/// Goes through the records of both tables in the order of keys.
pub(super) struct InOrder<'a> {
    claims: Peekable<Range<'a, Key, Value>>,
    others: Peekable<Range<'a, Key, Value>>,
}

impl<'a> Iterator for InOrder<'a> {
    type Item = Result<Entry<'a>, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let claim_is_next = match (self.claims.peek(), self.others.peek()) {
            (Some(Ok((claim, _))), Some(Ok((other, _)))) => claim.value() < other.value(),
            // A failure is told at once: behind it, there may be records that cannot be seen.
            (Some(Err(_)), _) | (Some(_), None) => true,
            (None, _) | (_, Some(Err(_))) => false,
        };
        if claim_is_next { self.claims.next() } else { self.others.next() }
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase};

    use super::*;

    /// The head of a record in flight, and of one that is answered.
    const IN_FLIGHT: [u8; codec::HEAD_LEN] = head(0);
    const ANSWERED: [u8; codec::HEAD_LEN] = head(1);

    const fn head(phase: u8) -> [u8; codec::HEAD_LEN] {
        let mut head = [0; codec::HEAD_LEN];
        [head[0], head[1], head[2], head[3]] = [b'O', b'W', 1, phase];
        head
    }

    /// Has `change` write, and answers in which table which keys stand then.
    fn written(change: impl FnOnce(&mut Writable<'_>)) -> [Vec<u8>; 2] {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&mut Records::write(&transaction).unwrap());
        transaction.commit().unwrap();
        let records = Records::read(&database.begin_read().unwrap()).unwrap();
        let keys = records.after(None).unwrap().map(|entry| entry.unwrap().0.value()[0]);
        let keys: Vec<u8> = keys.collect();
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(u64::try_from(keys.len()).unwrap(), records.len().unwrap());
        let keys_of = |table: &ReadOnlyTable<Key, Value>| -> Vec<u8> {
            table.iter().unwrap().map(|entry| entry.unwrap().0.value()[0]).collect()
        };
        [keys_of(&records.claims), keys_of(&records.others)]
    }

    #[test]
    fn what_is_in_flight_stands_among_the_claims_and_everything_else_does_not() {
        let tables = written(|records| {
            for (key, record) in [(1, &IN_FLIGHT[..]), (2, &ANSWERED), (3, &head(3)), (4, b"no record")] {
                records.add(&[key; 32], record, record).unwrap();
            }
        });
        assert_eq!(tables, [vec![1], vec![2, 3, 4]]);
    }

    #[test]
    fn a_key_stands_in_one_table_whatever_was_put_under_it_before() {
        for (first, second, tables) in [
            (IN_FLIGHT, ANSWERED, [vec![], vec![1]]),
            (ANSWERED, IN_FLIGHT, [vec![1], vec![]]),
            (IN_FLIGHT, IN_FLIGHT, [vec![1], vec![]]),
            (ANSWERED, ANSWERED, [vec![], vec![1]]),
        ] {
            let found = written(|records| {
                records.put(&[1; 32], &first, &first).unwrap();
                records.put(&[1; 32], &second, &second).unwrap();
                let key = StorageKey::from_bytes([1; 32]);
                assert_eq!(records.get(&key).unwrap().unwrap().value(), second);
            });
            assert_eq!(found, tables);
        }
    }

    #[test]
    fn what_is_removed_is_gone_from_either_table() {
        let tables = written(|records| {
            records.add(&[1; 32], &IN_FLIGHT, &IN_FLIGHT).unwrap();
            records.add(&[2; 32], &ANSWERED, &ANSWERED).unwrap();
            for key in [1, 2] {
                records.remove(&[key; 32]).unwrap();
            }
            assert!(records.get(&StorageKey::from_bytes([1; 32])).unwrap().is_none());
        });
        assert!(tables.iter().all(Vec::is_empty), "{tables:?}");
    }

    #[test]
    fn both_tables_are_gone_through_in_one_order_from_any_key_on() {
        written(|records| {
            for key in 0..20 {
                let record = if key % 3 == 0 { IN_FLIGHT } else { ANSWERED };
                records.add(&[key; 32], &record, &record).unwrap();
            }
            for from in 0..20 {
                let after = StorageKey::from_bytes([from; 32]);
                let keys = records.after(Some(&after)).unwrap().map(|entry| entry.unwrap().0.value()[0]);
                assert!(keys.eq(from + 1..20), "{from}");
            }
        });
    }
}
