//! Claims on what operators are shown: records without their answers, and how often some were forgotten.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use onceway::protocol::outline::Outline;
use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::{Codec, Compression, Encoded, Sealing};
use onceway::store::transfer::Moved;
use onceway::store::{Closure, Cursor, Gate, Listed, Store, StoreError, Swapped};
use tokio::task::JoinSet;

use super::moving::{bytes, come_and_go, records_of_every_kind};
use super::records::insert;
use super::{Bench, SHORT, Shared};
use crate::harness::now;
use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};

/// More than a walk through a few records can take.
const PAGES_MAX: usize = 10_000;

/// What a walk lists under each key. A record may be told twice; then it must be the same.
pub(super) async fn listed(store: &Arc<dyn Store>, most: usize) -> HashMap<StorageKey, Listed> {
    let (mut found, mut after) = (HashMap::new(), None);
    for _ in 0..PAGES_MAX {
        let page = store.list(after, most).await.unwrap();
        found.extend(page.records.into_iter().map(|listed| (listed.key, listed)));
        let Some(next) = page.next else { return found };
        after = Some(next);
    }
    panic!("the walk has not ended after {PAGES_MAX} pages");
}

fn sealing_and_compressing() -> Codec {
    Codec::new(Sealing::On { keys: &[&[7; 32]], accept_unsealed: false }, Compression::Zstd)
}

/// Says what the record says, and has some of an hour left.
fn shows(listed: &Listed, record: &Record) -> bool {
    let is_left = LONG / 2 < listed.keep_for && listed.keep_for <= LONG;
    is_left && listed.outline == Some(Outline::from(record))
}

pub(super) async fn what_is_listed_is_what_stands_in_pages_of_any_size<B: Bench>(bench: &B) {
    let sealed = B::set_up_with(sealing_and_compressing()).await;
    for store in [bench.store(), sealed.store()] {
        let records = records_of_every_kind();
        for (key, record) in &records {
            insert(&store, key, record).await;
        }
        for most in [1, 7, 1000] {
            let found = listed(&store, most).await;
            assert_eq!(found.len(), records.len(), "pages of {most}");
            assert!(
                records.iter().all(|(key, record)| shows(&found[key], record)),
                "pages of {most}: {found:?}"
            );
        }
    }
}

pub(super) async fn a_record_alone_is_outlined_as_it_is_fetched<B: Bench>(bench: &B) {
    let sealed = B::set_up_with(sealing_and_compressing()).await;
    for store in [bench.store(), sealed.store()] {
        assert_eq!(store.outline(&some_key()).await.unwrap(), None);
        for (key, record) in records_of_every_kind() {
            insert(&store, &key, &record).await;
            let Seen::Record(fetched) = store.fetch(&key).await.unwrap() else { panic!("it cannot be read") };
            let outlined = store.outline(&key).await.unwrap().unwrap();
            assert!(outlined.key == key && shows(&outlined, &fetched), "{outlined:?}");
        }
    }
}

pub(super) async fn what_has_expired_or_was_removed_is_not_listed(bench: &impl Bench) {
    let (store, expired, removed) = (bench.store(), some_key(), some_key());
    let record = after(&a_claim(), done_with(bytes_of(20_000)));
    insert(&store, &removed, &record).await;
    assert_eq!(store.remove(&removed, record.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.insert(&expired, &record, SHORT).await.unwrap(), Seen::Nothing);
    eventually("the record expires", || async { store.fetch(&expired).await.unwrap() == Seen::Nothing })
        .await;
    assert_eq!(listed(&store, 10).await, HashMap::new());
    for key in [expired, removed] {
        assert_eq!(store.outline(&key).await.unwrap(), None);
    }
}

pub(super) async fn the_time_that_is_left_is_that_of_the_last_write(bench: &impl Bench) {
    let (store, key, mut stands) = (bench.store(), some_key(), a_claim());
    insert(&store, &key, &stands).await;
    for keep_for in [8 * LONG, LONG] {
        let next = after(&stands, done_with("paid"));
        assert_eq!(store.swap(&key, stands.version, &next, keep_for).await.unwrap(), Swapped::Done);
        for told in [store.outline(&key).await.unwrap().unwrap(), listed(&store, 1).await[&key].clone()] {
            assert!(keep_for / 2 < told.keep_for && told.keep_for <= keep_for, "{told:?} of {keep_for:?}");
        }
        stands = next;
    }
}

pub(super) async fn what_cannot_be_read_is_listed_without_an_outline<B: Bench>(bench: &B) {
    let store = bench.transfer();
    let whole = |length| {
        let record = after(&a_claim(), done_with(bytes_of(length)));
        bytes(&Codec::default().encode(&some_key(), &record))
    };
    let (mut of_a_later_format, mut torn, mut large) = (whole(100), whole(100), whole(10_000));
    of_a_later_format[2] = 200;
    torn.pop();
    large.extend(vec![0; 50_000]);
    let mut without_its_body = whole(50_000);
    without_its_body.truncate(whole(0).len() + 4);
    let garbage =
        [of_a_later_format, torn, large, without_its_body, b"short".to_vec(), b"OW".to_vec(), vec![255; 500]];
    let keys = garbage.each_ref().map(|_| some_key());
    for (key, garbage) in keys.into_iter().zip(garbage) {
        let encoded = Encoded { head: garbage.into(), body: Bytes::new() };
        store.put(vec![Moved { key, encoded, keep_for: LONG }]).await.unwrap();
    }
    let (store, found) = (bench.store(), listed(&bench.store(), 2).await);
    assert_eq!(found.len(), keys.len());
    for key in keys {
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable);
        for told in [found[&key].clone(), store.outline(&key).await.unwrap().unwrap()] {
            let is_left = LONG / 2 < told.keep_for && told.keep_for <= LONG;
            assert!(is_left && told.outline.is_none(), "{told:?}");
        }
    }
}

pub(super) async fn what_another_secret_sealed_is_listed_without_an_outline<B: Bench>(bench: &B) {
    let (store, key) = (bench.transfer(), some_key());
    let encoded = sealing_and_compressing().encode(&key, &after(&a_claim(), done_with(bytes_of(30_000))));
    store.put(vec![Moved { key, encoded, keep_for: LONG }]).await.unwrap();
    assert_eq!(store.outline(&key).await.unwrap().unwrap().outline, None);
    assert_eq!(listed(&bench.store(), 10).await[&key].outline, None);
}

pub(super) async fn what_is_no_record_is_not_listed(bench: &impl Bench) {
    let store = bench.store();
    store.renew_session(some_session(), LONG).await.unwrap();
    store.count_forgetting().await.unwrap();
    bench.transfer().set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
    let _watch = store.watch(&some_key()).await.unwrap();
    for most in [1, 1000] {
        assert_eq!(listed(&store, most).await, HashMap::new());
    }
}

pub(super) async fn a_cursor_that_the_store_did_not_give_is_refused(bench: &impl Bench) {
    let store = bench.store();
    insert(&store, &some_key(), &a_claim()).await;
    let strange: [&[u8]; 5] = [b"", b"nonsense", b"0 1", &[255; 31], &[0; 33]];
    for bytes in strange {
        let told = store.list(Some(Cursor(bytes.to_vec())), 10).await;
        assert!(matches!(told, Err(StoreError::StrangeCursor)), "{bytes:?}: {told:?}");
        let told = bench.transfer().page(Some(Cursor(bytes.to_vec())), 10).await;
        assert!(matches!(told, Err(StoreError::StrangeCursor)), "{bytes:?}: {told:?}");
    }
}

pub(super) async fn a_record_that_stands_throughout_is_listed_whatever_comes_and_goes(bench: &impl Bench) {
    let (store, is_over) = (bench.store(), Arc::new(AtomicBool::new(false)));
    let standing: Vec<StorageKey> = (0..60).map(|_| some_key()).collect();
    for key in &standing {
        insert(&store, key, &a_claim()).await;
    }
    let walking = async {
        for most in [1, 7] {
            let found = listed(&store, most).await;
            assert!(standing.iter().all(|key| found.contains_key(key)), "pages of {most}");
        }
        is_over.store(true, Ordering::SeqCst);
    };
    tokio::join!(come_and_go(bench.store(), is_over.clone()), walking);
}

pub(super) async fn counting_a_forgetting_is_answered(bench: &impl Bench) {
    let store = bench.store();
    let before = store.forgettings().await.unwrap();
    store.count_forgetting().await.unwrap();
    assert!(store.forgettings().await.unwrap() >= before);
}

pub(super) async fn each_forgetting_is_seen_through_another_handle(bench: &impl Shared) {
    let (store, another) = (bench.store(), bench.another());
    let told = || async { another.forgettings().await };
    eventually("the handle connects", || async { told().await.is_ok() }).await;
    for _ in 0..3 {
        let before = told().await.unwrap();
        store.count_forgetting().await.unwrap();
        assert_ne!(told().await.unwrap(), before);
        assert_eq!(told().await.unwrap(), store.forgettings().await.unwrap());
    }
}

pub(super) async fn of_forgettings_that_come_at_once_none_is_lost(bench: &impl Shared) {
    let store = bench.store();
    let before = store.forgettings().await.unwrap();
    let mut counting = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        counting.spawn(async move { store.count_forgetting().await });
    }
    assert!(counting.join_all().await.iter().all(Result::is_ok));
    assert_eq!(store.forgettings().await.unwrap(), before + 20);
}

pub(super) async fn installations_that_share_a_server_list_and_forget_apart(bench: &impl Shared) {
    let (here, there): (_, Arc<dyn Store>) = (bench.store(), bench.elsewhere());
    eventually("the handle connects", || async { there.ping().await.is_ok() }).await;
    let before = there.forgettings().await.unwrap();
    let key = some_key();
    insert(&here, &key, &a_claim()).await;
    here.count_forgetting().await.unwrap();
    assert_eq!(there.forgettings().await.unwrap(), before);
    assert_eq!(listed(&there, 10).await, HashMap::new());
    assert_eq!(there.outline(&key).await.unwrap(), None);
}

/// Claims, one after another, as first requests make them. Answers how long each took, the shortest first.
async fn times_of_claims(store: &Arc<dyn Store>, claims: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(claims);
    for _ in 0..claims {
        let (key, claim, began) = (some_key(), a_claim(), now());
        assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times
}

#[expect(clippy::print_stdout, reason = "the long form is run for what it tells")]
fn tell(what: &str, times: &[Duration]) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: median {:?}, 99 of 100 {:?}, longest {:?}", at(50), at(99), at(100));
}

/// The long form, which tells how long claims take: `ONCEWAY_TEST_LISTED=1000000 cargo test --test it
/// redis::claims_go_on -- --nocapture`.
pub(super) async fn claims_go_on_while_somebody_lists(bench: &impl Bench) {
    let listed_long: Option<usize> =
        std::env::var("ONCEWAY_TEST_LISTED").ok().map(|number| number.parse().unwrap());
    let (standing, claims) = listed_long.map_or((600, 40), |standing| (standing, 5000));
    let encoded = Codec::default().encode(&some_key(), &after(&a_claim(), done_with(bytes_of(300))));
    for at in (0..standing).step_by(1000) {
        let some = 0..(standing - at).min(1000);
        let moved = some.map(|_| Moved { key: some_key(), encoded: encoded.clone(), keep_for: LONG });
        bench.transfer().put(moved.collect()).await.unwrap();
    }
    let (store, is_over) = (bench.store(), Arc::new(AtomicBool::new(false)));
    let alone = times_of_claims(&store, claims).await;
    let mut listing = JoinSet::new();
    listing.spawn(list_until(bench.store(), is_over.clone()));
    let beside = times_of_claims(&store, claims).await;
    is_over.store(true, Ordering::SeqCst);
    let (pages, found) = listing.join_next().await.unwrap().unwrap();
    assert!(pages > 0);
    if listed_long.is_some() {
        tell("alone", &alone);
        tell(&format!("beside a listing of {found} records in {pages} pages"), &beside);
    }
}

/// Answers how many pages were listed, and how many records.
async fn list_until(store: Arc<dyn Store>, is_over: Arc<AtomicBool>) -> (usize, usize) {
    let (mut pages, mut found, mut after) = (0, 0, None);
    loop {
        let page = store.list(after, 500).await.unwrap();
        pages += 1;
        found += page.records.len();
        after = page.next;
        if is_over.load(Ordering::SeqCst) {
            return (pages, found);
        }
        tokio::task::yield_now().await;
    }
}
