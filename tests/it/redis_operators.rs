//! What operators need of Redis beyond the contract of all stores: that bodies stay where they are, and that they are
//! shown records among whatever else is on the server.

use std::sync::Arc;

use onceway::protocol::scope::StorageKey;
use onceway::store::redis::RedisStore;
use onceway::store::{Cursor, Options, Store, StoreError};

use crate::records::{LONG, a_claim, after, bytes_of, done_with, some_key};
use crate::servers::redis::{NAMESPACE, RedisServer, connected};

/// Of an operator, beside those of a gateway; `docs/stores.md` has both.
const PERMISSIONS: &str = "~onceway:* resetchannels &onceway:w:* +hello +ping +get +set +del +exists +getrange \
                           +eval +evalsha +publish +subscribe +unsubscribe +info +config|get +wait +role \
                           +scan +pttl +strlen +incr";

fn words(command: &str) -> Vec<&[u8]> {
    command.split_whitespace().map(str::as_bytes).collect()
}

async fn listed(store: &RedisStore, most: usize) -> Vec<StorageKey> {
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after, most).await.unwrap();
        listed.extend(page.records.into_iter().map(|listed| listed.key));
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    listed.sort_unstable();
    listed.dedup();
    listed
}

#[tokio::test]
async fn a_user_with_the_permissions_that_are_documented_lists_and_counts_forgettings() {
    let server = RedisServer::start();
    server.raw(&words(&format!("ACL SETUSER gateway on >secret {PERMISSIONS}"))).await;
    let url = server.url().replace("redis://", "redis://gateway:secret@");
    let (store, key) = (connected(&url, &Options::of(NAMESPACE)).await, some_key());
    store.insert(&key, &after(&a_claim(), done_with(bytes_of(50_000))), LONG).await.unwrap();
    assert_eq!(listed(&store, 10).await, [key]);
    assert!(store.outline(&key).await.unwrap().unwrap().outline.is_some());
    store.count_forgetting().await.unwrap();
    assert_eq!(store.forgettings().await.unwrap(), 1);
}

#[tokio::test]
async fn a_few_records_among_many_other_names_are_found() {
    let server = RedisServer::start();
    let (store, key) = (server.store().await, some_key());
    let fill = "for at = 1, 20000 do redis.call('SET', 'other:' .. at, '') end";
    server.raw(&[b"EVAL", fill.as_bytes(), b"0"]).await;
    store.insert(&key, &a_claim(), LONG).await.unwrap();
    assert_eq!(listed(&store, 50).await, [key]);
}

#[tokio::test]
async fn bodies_stay_where_they_are() {
    let server = RedisServer::start();
    let store = server.store().await;
    for length in [10_000, 5_000_000] {
        for _ in 0..10 {
            store.insert(&some_key(), &after(&a_claim(), done_with(bytes_of(length))), LONG).await.unwrap();
        }
    }
    let sent = || async {
        let stats = server.text("INFO stats").await;
        let bytes = stats.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        bytes.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = sent().await;
    assert_eq!(listed(&store, 100).await.len(), 20);
    let listing = sent().await - before;
    assert!(listing < 100_000, "{listing} bytes for twenty heads");
}

#[tokio::test]
async fn what_is_no_string_is_listed_as_unreadable_and_ends_no_listing() {
    let server = RedisServer::start();
    let (store, odd, sound) = (server.store().await, some_key(), some_key());
    store.insert(&sound, &a_claim(), LONG).await.unwrap();
    server.raw(&words(&format!("RPUSH {NAMESPACE}:r:{{{odd}}} x"))).await;
    assert_eq!(listed(&store, 10).await.len(), 2);
    assert_eq!(store.outline(&odd).await.unwrap().unwrap().outline, None);
    assert!(store.outline(&sound).await.unwrap().unwrap().outline.is_some());
}

#[tokio::test]
async fn a_listing_goes_on_where_the_scripts_are_forgotten_and_where_the_server_is_another_process() {
    let mut server = RedisServer::start();
    let store = server.store().await;
    let mut keys: Vec<StorageKey> = (0..200).map(|_| some_key()).collect();
    for key in &keys {
        store.insert(key, &a_claim(), LONG).await.unwrap();
    }
    let first = store.list(None, 20).await.unwrap();
    server.raw(&words("SCRIPT FLUSH")).await;
    let second = store.list(first.next, 20).await.unwrap();
    assert!(second.next.is_some());
    server.restart();
    let store = Arc::new(server.store().await);
    let (mut listed, mut after) = (Vec::new(), second.next);
    while let Some(at) = after {
        let page = store.list(Some(at), 20).await.unwrap();
        listed.extend(page.records.into_iter().map(|listed| listed.key));
        after = page.next;
    }
    // Another process has another order, so the walk began anew.
    listed.sort_unstable();
    listed.dedup();
    keys.sort_unstable();
    assert_eq!(listed, keys);
}

#[tokio::test]
async fn a_cursor_that_names_a_server_that_is_not_there_is_refused() {
    let server = RedisServer::start();
    let told = server.store().await.list(Some(Cursor(b"0 99 0 x".to_vec())), 10).await;
    assert!(matches!(told, Err(StoreError::StrangeCursor)), "{told:?}");
}
