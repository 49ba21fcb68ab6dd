//! What the Redis store promises of deployments: records on the move, replicas, failovers, clusters.

use std::collections::HashMap;
use std::time::Duration;

use onceway::protocol::scope::StorageKey;
use onceway::store::codec::Codec;
use onceway::store::redis::RedisStore;
use onceway::store::transfer::{Moved, Page, Transfer};
use onceway::store::{Closure, Gate, Options, Store};

use crate::records::{LONG, a_claim, after, bytes_of, done_with, some_key, some_session};
use crate::servers::redis::{NAMESPACE, RedisServer};

/// Every record of a store, by its key.
async fn walk(store: &impl Transfer, most: usize) -> HashMap<StorageKey, Moved> {
    let (mut found, mut after) = (HashMap::new(), None);
    loop {
        let Page { records, next } = store.page(after, most).await.unwrap();
        found.extend(records.into_iter().map(|moved| (moved.key, moved)));
        after = next;
        if after.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn every_record_is_on_some_page_with_its_body_and_what_is_left_of_its_time() {
    let server = RedisServer::start();
    let store = server.store().await;
    let mut written = HashMap::new();
    for number in 0..200_usize {
        let (key, claim) = (some_key(), a_claim());
        let record = if number % 10 == 0 { after(&claim, done_with(bytes_of(20_000))) } else { claim };
        store.insert(&key, &record, LONG).await.unwrap();
        written.insert(key, Codec::default().encode(&key, &record));
    }
    let found = walk(&store, 30).await;
    assert_eq!(found.len(), written.len());
    for (key, encoded) in written {
        let moved = &found[&key];
        assert_eq!(moved.encoded, encoded);
        assert!(moved.keep_for <= LONG && moved.keep_for > LONG / 2, "{:?}", moved.keep_for);
    }
}

#[tokio::test]
async fn records_that_were_moved_stand_as_they_stood() {
    let (from, to) = (RedisServer::start(), RedisServer::start());
    let (from, to) = (from.store().await, to.store().await);
    for record in
        [a_claim(), after(&a_claim(), done_with("paid")), after(&a_claim(), done_with(bytes_of(90_000)))]
    {
        from.insert(&some_key(), &record, LONG).await.unwrap();
    }
    let records = walk(&from, 100).await;
    to.put(records.values().cloned().collect()).await.unwrap();
    for key in records.keys() {
        assert_eq!(to.fetch(key).await.unwrap(), from.fetch(key).await.unwrap());
    }
    let small = walk(&to, 100).await.into_values().map(|moved| Moved { keep_for: LONG / 4, ..moved });
    to.put(small.collect()).await.unwrap();
    assert!(walk(&to, 100).await.values().all(|moved| moved.keep_for <= LONG / 4));
}

#[tokio::test]
async fn a_walk_goes_on_from_the_beginning_after_a_restart_and_leaves_nothing_out() {
    let mut server = RedisServer::start();
    let store = server.store().await;
    for _ in 0..300 {
        store.insert(&some_key(), &a_claim(), LONG).await.unwrap();
    }
    let first = store.page(None, 20).await.unwrap();
    server.restart();
    let store = server.store().await;
    let (mut keys, mut next) = (std::collections::HashSet::new(), first.next);
    assert!(next.is_some() && first.records.len() < 300);
    while let Some(after) = next {
        let page = store.page(Some(after), 20).await.unwrap();
        keys.extend(page.records.iter().map(|moved| moved.key));
        next = page.next;
    }
    assert_eq!(keys.len(), 300);
}

#[tokio::test]
async fn a_namespace_with_the_signs_of_a_pattern_tells_its_own_records_only() {
    let server = RedisServer::start();
    let open = |namespace: &str| RedisStore::connect(&server.url(), &Options::of(namespace)).unwrap();
    let (plain, odd) = (open("once"), open("o*[n-o]?\\"));
    plain.insert(&some_key(), &a_claim(), LONG).await.unwrap();
    plain.renew_session(some_session(), LONG).await.unwrap();
    assert_eq!((walk(&odd, 10).await.len(), odd.sessions().await.unwrap().len()), (0, 0));
    let (key, session) = (some_key(), some_session());
    odd.insert(&key, &a_claim(), LONG).await.unwrap();
    odd.renew_session(session, LONG).await.unwrap();
    assert_eq!(walk(&odd, 10).await.into_keys().collect::<Vec<_>>(), [key]);
    assert_eq!(odd.sessions().await.unwrap().into_iter().map(|(at, _)| at).collect::<Vec<_>>(), [session]);
}

#[tokio::test]
async fn sessions_are_told_with_what_is_left_of_their_time() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (first, second, ended) = (some_session(), some_session(), some_session());
    for session in [first, second, ended] {
        store.renew_session(session, Duration::from_mins(1)).await.unwrap();
    }
    store.end_session(ended).await.unwrap();
    let sessions: HashMap<_, _> = store.sessions().await.unwrap().into_iter().collect();
    assert!(sessions.len() == 2 && sessions.contains_key(&first) && sessions.contains_key(&second));
    assert!(sessions.values().all(|left| *left <= Duration::from_mins(1) && !left.is_zero()));
}

#[tokio::test]
async fn a_gate_that_is_closed_is_told_with_the_next_heartbeat_of_every_handle() {
    let server = RedisServer::start();
    let (store, another) = (server.store().await, server.store().await);
    assert_eq!(another.renew_session(some_session(), LONG).await.unwrap(), Gate::Open);
    for closure in [Closure::Leaving, Closure::Arriving, Closure::Backup] {
        store.set_gate(Gate::Closed(closure)).await.unwrap();
        assert_eq!(store.gate().await.unwrap(), Gate::Closed(closure));
        assert_eq!(another.renew_session(some_session(), LONG).await.unwrap(), Gate::Closed(closure));
    }
    store.set_gate(Gate::Open).await.unwrap();
    assert_eq!(another.renew_session(some_session(), LONG).await.unwrap(), Gate::Open);
    // A word of a later version.
    server.raw(&[b"SET", format!("{NAMESPACE}:gate").as_bytes(), b"resting"]).await;
    assert!(matches!(another.renew_session(some_session(), LONG).await.unwrap(), Gate::Closed(_)));
}

#[tokio::test]
async fn a_heartbeat_is_one_round_trip_that_writes_the_session_before_it_reads_the_gate() {
    let server = RedisServer::start();
    let store = server.store().await;
    let before = (server.calls("set").await, server.calls("get").await);
    store.renew_session(some_session(), LONG).await.unwrap();
    assert_eq!((server.calls("set").await, server.calls("get").await), (before.0 + 1, before.1 + 1));
}
