//! Redis as it is run in earnest, and what happens to its servers: a master that goes, comes back or is cut off, a
//! replica that lags, a slot that moves. Nothing that was acknowledged by replicas is lost, what cannot be
//! known is an error, and the store finds its way by itself.

use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store, StoreError, Swapped};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::records::{LONG, a_claim, after, bytes_of, done_with, some_key};
use crate::servers::SETTLED_WITHIN;
use crate::servers::redis::{NAMESPACE, RedisServer, connected};
use crate::servers::redis_cluster::RedisCluster;
use crate::servers::redis_sentinels::RedisSentinels;

/// No call takes as long as this, whatever happens.
const PATIENCE: Duration = Duration::from_secs(30);

/// Claims of a test that makes several.
const SEVERAL: usize = 20;

fn acknowledged_by(min_replicas: u32) -> Options {
    Options { min_replicas, ..Options::of(NAMESPACE) }
}

fn seen(record: &Record) -> Seen {
    Seen::Record(Box::new(record.clone()))
}

/// Tries until the store takes it; a failover takes its time.
async fn claimed(store: &RedisStore) -> (StorageKey, Record) {
    let trying = async {
        loop {
            let (key, claim) = (some_key(), a_claim());
            match store.insert(&key, &claim, LONG).await {
                Ok(found) => {
                    assert_eq!(found, Seen::Nothing);
                    return (key, claim);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(SETTLED_WITHIN, trying).await.expect("the store takes a claim")
}

/// Tries until the store says that it is done, or that it was done by a try that got no answer.
async fn settled(store: &RedisStore, key: &StorageKey, claim: &Record, done: &Record) {
    let trying = async {
        loop {
            match store.swap(key, claim.version, done, LONG).await {
                Ok(Swapped::Done | Swapped::Changed) => return,
                Ok(Swapped::Absent) => panic!("the claim is lost"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(SETTLED_WITHIN, trying).await.expect("the store takes an answer");
}

/// Reads until the store answers.
async fn found(store: &RedisStore, key: &StorageKey) -> Seen {
    let reading = async {
        loop {
            match store.fetch(key).await {
                Ok(seen) => return seen,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(SETTLED_WITHIN, reading).await.expect("the store answers a reader")
}

/// Records in several states, all of them acknowledged.
async fn several(store: &RedisStore) -> Vec<(StorageKey, Record)> {
    let mut records = Vec::new();
    for number in 0..SEVERAL {
        let (key, claim) = claimed(store).await;
        if number % 2 == 0 {
            records.push((key, claim));
            continue;
        }
        let size = if number % 4 == 1 { 10 } else { 50_000 };
        let done = after(&claim, done_with(bytes_of(size)));
        settled(store, &key, &claim, &done).await;
        records.push((key, done));
    }
    records
}

async fn all_are_found(store: &RedisStore, records: &[(StorageKey, Record)]) {
    for (key, record) in records {
        assert_eq!(found(store, key).await, seen(record));
    }
}

/// Whether the server at `node` has the record.
fn holds(set: &RedisSentinels, node: usize, key: &StorageKey) -> bool {
    set.nodes[node].ask::<bool>(&format!("EXISTS {NAMESPACE}:r:{{{key}}}")).unwrap()
}

#[tokio::test]
async fn a_master_that_was_frozen_and_replaced_does_not_get_the_store_back() {
    let set = RedisSentinels::start();
    let store = connected(&set.url(), &Options::of(NAMESPACE)).await;
    set.nodes[0].freeze();
    let new = set.master_after(0).await;
    let (before, _) = claimed(&store).await;
    // It wakes as the master it was, and takes whatever it is given.
    set.nodes[0].thaw();
    assert!(set.nodes[0].ask::<String>("INFO replication").unwrap().contains("role:master"));
    let fresh = connected(&set.url(), &Options::of(NAMESPACE)).await;
    for _ in 0..SEVERAL {
        for store in [&store, &fresh] {
            let (key, _) = claimed(store).await;
            assert!(holds(&set, new, &key), "it went to the old master");
        }
    }
    assert!(holds(&set, new, &before));
}

#[tokio::test]
async fn claims_on_a_master_that_was_cut_off_from_its_replicas_fail_and_its_death_takes_none_that_did_not() {
    let mut set = RedisSentinels::start();
    let store = Arc::new(connected(&set.url(), &acknowledged_by(1)).await);
    let records = several(&store).await;
    set.others(0).for_each(RedisServer::freeze);
    set.nodes[0].ask::<i64>("CLIENT KILL TYPE replica").unwrap();
    let mut claims = JoinSet::new();
    for _ in 0..SEVERAL {
        let store = Arc::clone(&store);
        claims.spawn(async move { store.insert(&some_key(), &a_claim(), LONG).await.is_err() });
    }
    assert!(timeout(PATIENCE, claims.join_all()).await.unwrap().into_iter().all(|has_failed| has_failed));
    set.nodes[0].kill();
    set.others(0).for_each(RedisServer::thaw);
    set.master_after(0).await;
    all_are_found(&store, &records).await;
}

#[tokio::test]
async fn claims_fail_closed_in_time_while_a_replica_that_has_to_acknowledge_is_frozen_and_readers_go_on() {
    let set = RedisSentinels::start();
    let store = connected(&set.url(), &acknowledged_by(2)).await;
    let (key, claim) = claimed(&store).await;
    set.nodes[1].freeze();
    let refused = timeout(PATIENCE, store.insert(&some_key(), &a_claim(), LONG)).await.unwrap();
    assert!(matches!(refused, Err(StoreError::Refused(_) | StoreError::Unreachable(_))), "{refused:?}");
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    // What stands is told without them: it promises nothing.
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claim));
    set.nodes[1].thaw();
    claimed(&store).await;
}

#[tokio::test]
async fn an_answer_that_stands_on_the_master_alone_is_shown_to_nobody_until_replicas_have_it() {
    let set = RedisSentinels::start();
    let store = connected(&set.url(), &acknowledged_by(1)).await;
    let (key, claim) = claimed(&store).await;
    set.others(0).for_each(RedisServer::freeze);
    let done = after(&claim, done_with(bytes_of(10)));
    assert!(store.swap(&key, claim.version, &done, LONG).await.is_err());
    assert!(holds(&set, 0, &key));
    let read = timeout(PATIENCE, store.fetch(&key)).await.unwrap();
    assert!(read.is_err(), "it would be lost with the master: {read:?}");
    let found_in_the_way = timeout(PATIENCE, store.insert(&key, &a_claim(), LONG)).await.unwrap();
    assert!(matches!(found_in_the_way, Err(StoreError::Standing(_))), "{found_in_the_way:?}");
    set.others(0).for_each(RedisServer::thaw);
    assert_eq!(found(&store, &key).await, seen(&done));
}

#[tokio::test]
async fn a_frozen_replica_of_two_is_not_waited_for_where_one_suffices() {
    let set = RedisSentinels::start();
    let store = connected(&set.url(), &acknowledged_by(1)).await;
    set.nodes[1].freeze();
    for _ in 0..SEVERAL {
        claimed(&store).await;
    }
    set.nodes[1].thaw();
}

#[tokio::test]
async fn a_claim_that_too_few_replicas_acknowledged_may_stand_and_is_told_by_its_attempt() {
    let set = RedisSentinels::start();
    let store = connected(&set.url(), &acknowledged_by(1)).await;
    set.others(0).for_each(RedisServer::freeze);
    let (key, claim) = (some_key(), a_claim());
    assert!(timeout(PATIENCE, store.insert(&key, &claim, LONG)).await.unwrap().is_err());
    set.others(0).for_each(RedisServer::thaw);
    claimed(&store).await;
    let stands = found(&store, &key).await;
    assert!(stands == seen(&claim) || stands == Seen::Nothing);
}

#[tokio::test]
async fn a_store_finds_the_master_though_sentinels_are_dead_or_silent_and_stays_with_it_without_any() {
    let mut set = RedisSentinels::start();
    set.kill_sentinel(0);
    set.sentinels()[1].freeze();
    let store = connected(&set.url(), &Options::of(NAMESPACE)).await;
    claimed(&store).await;
    set.kill_sentinel(2);
    for _ in 0..SEVERAL {
        claimed(&store).await;
    }
    set.sentinels()[1].thaw();
}

#[tokio::test]
async fn when_a_whole_shard_is_down_its_keys_alone_fail_closed() {
    let mut cluster = RedisCluster::start();
    let store = connected(&cluster.url(), &Options::of(NAMESPACE)).await;
    let records = several(&store).await;
    let is_lost = |cluster: &RedisCluster, key: &StorageKey| cluster.slot_of(&key.to_string()) <= 5460;
    for node in [0, 3] {
        cluster.nodes[node].kill();
    }
    for (key, record) in &records {
        let told = timeout(PATIENCE, store.insert(key, &a_claim(), LONG)).await.unwrap();
        if is_lost(&cluster, key) {
            assert!(matches!(told, Err(StoreError::Unreachable(_))), "{told:?}");
        } else {
            assert_eq!(told.unwrap(), seen(record));
        }
    }
}
