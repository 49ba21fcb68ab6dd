//! Claims on records that leave a store as bytes and come into another.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::{Codec, Compression, Encoded, Sealing};
use onceway::store::memory::MemoryStore;
use onceway::store::transfer::{Moved, Transfer};
use onceway::store::{Store, Swapped};

use super::records::{insert, seen};
use super::{Bench, SHORT};
use crate::records::{
    EVERY_REASON, LONG, a_claim, after, bytes_of, done_with, done_without_body, eventually, some_key, unknown,
};

/// More than a walk through a few records can take.
const PAGES_MAX: usize = 10_000;

/// What a walk finds under each key, beginning to end. A record may be told twice; then it must be the same.
pub(super) async fn walk(store: &Arc<dyn Transfer>, most: usize) -> HashMap<StorageKey, Moved> {
    let (mut found, mut after) = (HashMap::new(), None);
    for _ in 0..PAGES_MAX {
        let page = store.page(after, most).await.unwrap();
        found.extend(page.records.into_iter().map(|moved| (moved.key, moved)));
        let Some(next) = page.next else { return found };
        after = Some(next);
    }
    panic!("the walk has not ended after {PAGES_MAX} pages");
}

pub(super) fn sealing() -> Codec {
    Codec::new(Sealing::On { keys: &[&[7; 32]], accept_unsealed: false }, Compression::default())
}

pub(super) fn records_of_every_kind() -> Vec<(StorageKey, Record)> {
    let mut phases: Vec<_> = EVERY_REASON.into_iter().map(unknown).collect();
    phases.extend([0, 1, 16 * 1024, 16 * 1024 + 1, 1024 * 1024].map(|length| done_with(bytes_of(length))));
    phases.push(done_without_body());
    let settled = phases.into_iter().map(|phase| after(&a_claim(), phase));
    settled.chain([a_claim()]).map(|record| (some_key(), record)).collect()
}

fn on_its_way(key: StorageKey, record: &Record, keep_for: Duration) -> Moved {
    Moved { key, encoded: Codec::default().encode(&key, record), keep_for }
}

/// A record that cannot be read is told in one piece or in two, according to what can be made of its head.
pub(super) fn bytes(encoded: &Encoded) -> Vec<u8> {
    [&*encoded.head, &*encoded.body].concat()
}

pub(super) async fn every_record_is_in_the_pages_byte_for_byte_whatever_their_size(bench: &impl Bench) {
    let (store, records) = (bench.store(), records_of_every_kind());
    for (key, record) in &records {
        insert(&store, key, record).await;
    }
    for most in [1, 3, 1000] {
        let found = walk(&bench.transfer(), most).await;
        assert_eq!(found.len(), records.len(), "pages of {most}");
        for (key, record) in &records {
            assert_eq!(found[key].encoded, Codec::default().encode(key, record), "pages of {most}");
        }
    }
}

pub(super) async fn records_put_into_a_store_are_what_they_were(bench: &impl Bench) {
    let (store, records) = (bench.transfer(), records_of_every_kind());
    let source: Arc<dyn Transfer> = Arc::new(MemoryStore::new());
    for (key, record) in &records {
        source.insert(key, record, LONG).await.unwrap();
    }
    store.put(walk(&source, 1000).await.into_values().collect()).await.unwrap();
    for (key, record) in &records {
        assert_eq!(store.fetch(key).await.unwrap(), seen(record), "fetched");
        assert_eq!(store.insert(key, &a_claim(), LONG).await.unwrap(), seen(record), "met by an insert");
    }
}

pub(super) async fn what_cannot_be_read_moves_as_it_stands(bench: &impl Bench) {
    let store = bench.transfer();
    let whole = |length| {
        let record = after(&a_claim(), done_with(bytes_of(length)));
        bytes(&Codec::default().encode(&some_key(), &record))
    };
    let (mut of_a_later_format, mut damaged, mut torn) = (whole(100), whole(100), whole(100));
    of_a_later_format[2] = 200;
    damaged[100] ^= 1;
    torn.pop();
    let (mut without_its_body, mut large) = (whole(50_000), whole(10_000));
    without_its_body.truncate(whole(0).len() + 4);
    large.extend(vec![0; 50_000]);
    let short = b"short".to_vec();
    for garbage in [of_a_later_format, damaged, torn, without_its_body, large, short, vec![0; 500]] {
        let key = some_key();
        let encoded = Encoded { head: garbage.clone().into(), body: Bytes::new() };
        store.put(vec![Moved { key, encoded, keep_for: LONG }]).await.unwrap();
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable);
        assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Unreadable);
        assert_eq!(store.remove(&key, a_claim().version).await.unwrap(), Swapped::Changed);
        let found = walk(&store, 10).await;
        assert!(bytes(&found[&key].encoded) == garbage, "{} bytes came back otherwise", garbage.len());
    }
}

pub(super) async fn a_record_that_is_put_replaces_whatever_stands(bench: &impl Bench) {
    let (store, key) = (bench.transfer(), some_key());
    let large = after(&a_claim(), done_with(bytes_of(200_000)));
    let records = [a_claim(), large.clone(), after(&a_claim(), done_with("small")), large, a_claim()];
    for record in records {
        store.put(vec![on_its_way(key, &record, LONG)]).await.unwrap();
        assert_eq!(store.fetch(&key).await.unwrap(), seen(&record));
        let found = walk(&store, 10).await;
        assert_eq!((found.len(), &found[&key].encoded), (1, &Codec::default().encode(&key, &record)));
    }
}

pub(super) async fn a_record_that_is_put_is_settled_as_any_other(bench: &impl Bench) {
    let (store, key, claim) = (bench.transfer(), some_key(), a_claim());
    let done = after(&claim, done_with(bytes_of(20_000)));
    store.put(vec![on_its_way(key, &claim, LONG)]).await.unwrap();
    assert_eq!(store.swap(&key, done.version, &done, LONG).await.unwrap(), Swapped::Changed);
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
}

pub(super) async fn the_time_that_is_left_moves_along(bench: &impl Bench) {
    let store = bench.transfer();
    let (hour, year) = (Duration::from_hours(1), Duration::from_hours(365 * 24));
    let lasting = [(some_key(), hour), (some_key(), year), (some_key(), Duration::MAX)];
    let (passing, claim) = (some_key(), a_claim());
    let put = lasting.iter().map(|(key, keep_for)| on_its_way(*key, &claim, *keep_for));
    store.put(put.chain([on_its_way(passing, &claim, SHORT)]).collect()).await.unwrap();
    eventually("the record expires", || async { store.fetch(&passing).await.unwrap() == Seen::Nothing })
        .await;
    let found = walk(&store, 10).await;
    assert_eq!(found.len(), lasting.len());
    for (key, keep_for) in lasting {
        let left = found[&key].keep_for;
        // Nothing that is kept for ever need be kept for longer than some generations.
        let is_kept = keep_for.min(50 * year) < left.saturating_add(hour / 2);
        assert!(is_kept && left <= keep_for, "{left:?} of {keep_for:?}");
    }
}

pub(super) async fn what_has_expired_or_was_removed_is_in_no_page(bench: &impl Bench) {
    let (store, expired, removed) = (bench.transfer(), some_key(), some_key());
    let record = after(&a_claim(), done_with(bytes_of(20_000)));
    assert_eq!(store.insert(&removed, &record, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.remove(&removed, record.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.insert(&expired, &record, SHORT).await.unwrap(), Seen::Nothing);
    eventually("the record expires", || async { store.fetch(&expired).await.unwrap() == Seen::Nothing })
        .await;
    assert_eq!(walk(&store, 10).await, HashMap::new());
}

pub(super) async fn a_record_that_stands_throughout_is_in_a_page_whatever_comes_and_goes(bench: &impl Bench) {
    let (store, is_over) = (bench.transfer(), Arc::new(AtomicBool::new(false)));
    let mut standing = Vec::new();
    for _ in 0..60 {
        standing.push(some_key());
        store.insert(&standing[standing.len() - 1], &a_claim(), LONG).await.unwrap();
    }
    let coming_and_going = come_and_go(bench.store(), is_over.clone());
    let walking = async {
        for most in [1, 2, 7] {
            let found = walk(&store, most).await;
            assert!(standing.iter().all(|key| found.contains_key(key)), "pages of {most}");
        }
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::join!(coming_and_going, walking);
}

/// Writes and removes other records, many at a time so that a hash table grows and shrinks.
pub(super) async fn come_and_go(store: Arc<dyn Store>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::SeqCst) {
        let others: Vec<_> = (0..100).map(|_| (some_key(), a_claim())).collect();
        for (key, claim) in &others {
            store.insert(key, claim, LONG).await.unwrap();
            tokio::task::yield_now().await;
        }
        for (key, claim) in &others {
            store.remove(key, claim.version).await.unwrap();
        }
    }
}

pub(super) async fn a_walk_through_an_empty_store_ends(bench: &impl Bench) {
    let store = bench.transfer();
    store.renew_session(onceway::protocol::record::Session([1; 16]), LONG).await.unwrap();
    assert_eq!(walk(&store, 1).await, HashMap::new());
    store.put(Vec::new()).await.unwrap();
    assert_eq!(walk(&store, 1).await, HashMap::new());
}

pub(super) async fn sealed_records_move_without_their_secret<B: Bench>(bench: &B) {
    let (knowing, unknowing) = (B::set_up_with(sealing()).await, bench.transfer());
    let records = records_of_every_kind();
    for (key, record) in &records {
        insert(&knowing.store(), key, record).await;
    }
    unknowing.put(walk(&knowing.transfer(), 5).await.into_values().collect()).await.unwrap();
    let back = B::set_up_with(sealing()).await;
    back.transfer().put(walk(&unknowing, 5).await.into_values().collect()).await.unwrap();
    for (key, record) in &records {
        assert_eq!(unknowing.fetch(key).await.unwrap(), Seen::Unreadable);
        assert_eq!(back.store().fetch(key).await.unwrap(), seen(record));
    }
}
