//! What the Redis store promises of deployments: records on the move, replicas, failovers, clusters.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::Codec;
use onceway::store::redis::RedisStore;
use onceway::store::transfer::{Moved, Page, Transfer};
use onceway::store::{Closure, Gate, Options, Store, StoreError, Swapped};
use tokio::time::timeout;

use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};
use crate::servers::redis::{NAMESPACE, RedisServer, connected};
use crate::servers::redis_cluster::RedisCluster;
use crate::servers::redis_sentinels::{MASTER_NAME, RedisSentinels};

/// Longer than the ledger's own on every call, for a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(5);

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

/// Claims a key that nobody has claimed, as soon as the store takes it, and fails after a minute.
async fn claimed(store: &RedisStore) -> (StorageKey, Record) {
    let claiming = async {
        loop {
            let (key, claim) = (some_key(), a_claim());
            if matches!(timeout(DEADLINE, store.insert(&key, &claim, LONG)).await, Ok(Ok(Seen::Nothing))) {
                return (key, claim);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), claiming).await.expect("the store takes no claim within a minute")
}

fn seen(record: &Record) -> Seen {
    Seen::Record(Box::new(record.clone()))
}

fn waiting_for(replicas: u32) -> Options {
    Options { min_replicas: replicas, timeout: DEADLINE, ..Options::of(NAMESPACE) }
}

/// A master with one replica that follows it.
async fn followed() -> (RedisServer, RedisServer) {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.raw(&[b"CONFIG", b"SET", b"repl-diskless-sync-delay", b"0"]).await;
    replica.raw(&[b"REPLICAOF", b"127.0.0.1", master.port().as_bytes()]).await;
    eventually("the replica follows", || async {
        master.text("INFO replication").await.contains("state=online")
    })
    .await;
    (master, replica)
}

#[tokio::test]
async fn a_write_that_waits_for_replicas_is_on_them_when_it_is_answered() {
    let (master, replica) = followed().await;
    let store = connected(&master.url(), &waiting_for(1)).await;
    for record in [a_claim(), after(&a_claim(), done_with(bytes_of(40_000)))] {
        let key = some_key();
        assert_eq!(store.insert(&key, &record, LONG).await.unwrap(), Seen::Nothing);
        assert_eq!(replica.raw(&[b"DBSIZE"]).await, master.raw(&[b"DBSIZE"]).await);
        let next = after(&record, done_with(bytes_of(50_000)));
        assert_eq!(store.swap(&key, record.version, &next, LONG).await.unwrap(), Swapped::Done);
        assert_eq!(store.fetch(&key).await.unwrap(), seen(&next));
        assert_eq!(store.remove(&key, next.version).await.unwrap(), Swapped::Done);
        assert_eq!(replica.raw(&[b"DBSIZE"]).await, redis::Value::Int(0));
    }
}

#[tokio::test]
async fn a_settlement_that_finds_another_version_or_nothing_writes_what_can_be_waited_for_and_changes_nothing()
 {
    let (master, replica) = followed().await;
    let store = connected(&master.url(), &waiting_for(1)).await;
    let (key, claim) = claimed(&store).await;
    let name: Vec<u8> = format!("{NAMESPACE}:r:{{{key}}}").into_bytes();
    let before = master.raw(&[b"PEXPIRETIME", &name]).await;
    for (key, found) in [(key, Swapped::Changed), (some_key(), Swapped::Absent)] {
        let heard = replica.calls("set").await;
        assert_eq!(store.remove(&key, a_claim().version).await.unwrap(), found);
        assert!(replica.calls("set").await > heard, "{found:?}: there was nothing to wait for");
    }
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    assert_eq!(master.raw(&[b"PEXPIRETIME", &name]).await, before);
}

#[tokio::test]
async fn without_enough_replicas_every_write_fails_and_only_what_promises_nothing_is_told() {
    let (master, mut replica) = followed().await;
    let soon = Options { min_replicas: 1, ..Options::of(NAMESPACE) };
    let store = connected(&master.url(), &soon).await;
    let (key, claim) = claimed(&store).await;
    replica.kill();
    let refused = timeout(DEADLINE, store.insert(&some_key(), &a_claim(), LONG)).await.unwrap();
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claim));
    let done = after(&claim, done_with("paid"));
    assert!(store.swap(&key, claim.version, &done, LONG).await.is_err());
    // It was done all the same, and is not taken for done before a replica has it.
    assert!(store.swap(&key, claim.version, &done, LONG).await.is_err());
    // Whoever relied on the answer would lose it with the master.
    let untold = store.insert(&key, &a_claim(), LONG).await;
    assert!(matches!(untold, Err(StoreError::Standing(_))), "{untold:?}");
    let found = store.inspect().await.unwrap().faults;
    assert!(found.iter().any(|fault| fault.text.contains("every claim is refused")), "{found:?}");
}

#[tokio::test]
async fn writes_that_come_together_wait_once_and_nothing_else_waits_behind_them() {
    let (master, replica) = followed().await;
    let store = Arc::new(connected(&master.url(), &waiting_for(1)).await);
    claimed(&store).await;
    let before = master.calls("wait").await;
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = store.clone();
        claims.spawn(async move { store.insert(&some_key(), &a_claim(), LONG).await.unwrap() });
    }
    assert!(claims.join_all().await.into_iter().all(|seen| seen == Seen::Nothing));
    assert!(master.calls("wait").await - before < 100, "each claim waits by itself");
    replica.freeze();
    let waiting = store.clone();
    let waiting = tokio::task::JoinSet::from_iter([async move {
        waiting.insert(&some_key(), &a_claim(), LONG).await.is_err()
    }]);
    eventually("the claim waits", || async {
        master.text("INFO clients").await.contains("blocked_clients:1")
    })
    .await;
    store.renew_session(some_session(), LONG).await.unwrap();
    store.fetch(&some_key()).await.unwrap();
    store.ping().await.unwrap();
    assert_eq!(waiting.join_all().await, [true]);
    replica.thaw();
}

#[tokio::test]
async fn a_store_follows_the_sentinels_through_a_failover() {
    let mut set = RedisSentinels::start();
    for node in &set.nodes {
        node.raw(&words(&format!("ACL SETUSER narrow on >secret {RIGHTS}"))).await;
    }
    for sentinel in set.sentinels() {
        sentinel
            .raw(&words(
                "ACL SETUSER guard on >hidden -@all +hello +ping +sentinel|master \
                             +sentinel|get-master-addr-by-name",
            ))
            .await;
    }
    let url = set.url().replace("://", "://narrow:secret@") + "?sentinel_user=guard&sentinel_password=hidden";
    let store = RedisStore::connect(&url, &waiting_for(1)).unwrap();
    assert_eq!(store.describe(), set.url());
    let (key, claim) = claimed(&store).await;
    let old = set.master().unwrap();
    set.nodes[old].kill();
    let (later, _) = claimed(&store).await;
    assert_ne!(set.master_after(old).await, old);
    assert!(matches!(store.fetch(&later).await.unwrap(), Seen::Record(_)));
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    let told = store.inspect().await.unwrap();
    assert!(told.facts.contains(&("sentinels", "3 of 3 answer".to_owned())), "{told:?}");
}

#[tokio::test]
async fn a_master_that_the_sentinels_name_no_more_is_left_although_it_takes_writes() {
    let (set, another) = (RedisSentinels::start(), RedisServer::start());
    let store = RedisStore::connect(&set.url(), &Options::of(NAMESPACE)).unwrap();
    claimed(&store).await;
    for sentinel in set.sentinels() {
        sentinel.ask::<redis::Value>(&format!("SENTINEL REMOVE {MASTER_NAME}")).unwrap();
        let monitor = format!("SENTINEL MONITOR {MASTER_NAME} 127.0.0.1 {} 2", another.port());
        sentinel.ask::<redis::Value>(&monitor).unwrap();
    }
    eventually("claims go to the other", || async {
        claimed(&store).await;
        another.raw(&[b"DBSIZE"]).await != redis::Value::Int(0)
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_that_has_missed_a_failover_is_not_believed_when_it_is_alone() {
    let mut set = RedisSentinels::start();
    let store = RedisStore::connect(&set.url(), &Options::of(NAMESPACE)).unwrap();
    claimed(&store).await;
    set.kill_sentinel(2);
    set.nodes[0].kill();
    set.master_after(0).await;
    claimed(&store).await;
    set.kill_sentinel(0);
    set.kill_sentinel(1);
    set.nodes[0].restart();
    set.restart_sentinel(2);
    eventually("the one that is left is asked again and again", || async {
        let clients = set.sentinels()[2].text("CLIENT LIST").await;
        let age = |client: &str| client.split_once(" age=")?.1.split(' ').next()?.parse::<u32>().ok();
        let asks = |client: &&str| client.contains(" cmd=sentinel|master ");
        clients.lines().filter(asks).filter_map(age).any(|age| age >= 2)
    })
    .await;
    let before = set.nodes[0].raw(&[b"DBSIZE"]).await;
    for _ in 0..10 {
        claimed(&store).await;
    }
    assert_eq!(set.nodes[0].raw(&[b"DBSIZE"]).await, before, "claims on a master that was replaced");
}

/// All that a store asks of a server, as the rights of a user.
const RIGHTS: &str = "~onceway:* &onceway:* -@all +get +set +del +exists +pttl +getrange +eval +evalsha \
                      +publish +subscribe +unsubscribe +scan +ping +info +wait +role +hello +select";

/// And in a cluster.
const CLUSTER_RIGHTS: &str = "+cluster|slots +cluster|info +cluster|nodes +asking";

fn words(command: &str) -> Vec<&[u8]> {
    command.split_whitespace().map(str::as_bytes).collect()
}

/// What a store does with one key, from the claim to its end.
async fn lives(store: &RedisStore, key: StorageKey, body: usize) {
    let claim = a_claim();
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claim));
    let done = after(&claim, done_with(bytes_of(body)));
    let mut watch = store.watch(&key).await.unwrap();
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    timeout(Duration::from_secs(20), watch.changed()).await.expect("the watcher is told");
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Changed);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done));
    assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
}

#[tokio::test]
async fn a_cluster_keeps_records_sessions_and_the_gate_wherever_their_slots_are() {
    let cluster = RedisCluster::start();
    for node in &cluster.nodes {
        node.raw(&words(&format!("ACL SETUSER narrow on >secret {RIGHTS} {CLUSTER_RIGHTS}"))).await;
    }
    let url = cluster.url().replace("://", "://narrow:secret@");
    let store = connected(&url, &waiting_for(1)).await;
    assert!(!format!("{store:?}").contains("secret"));
    for number in 0..30 {
        lives(&store, some_key(), number % 3 * 10_000).await;
    }
    let mut keys = std::collections::HashSet::new();
    for _ in 0..60 {
        let key = some_key();
        store.insert(&key, &a_claim(), LONG).await.unwrap();
        keys.insert(key);
    }
    let found = walk(&store, 10).await;
    assert_eq!(found.keys().copied().collect::<std::collections::HashSet<_>>(), keys);
    store.put(found.into_values().collect()).await.unwrap();
    let sessions: Vec<_> = (0..12).map(|_| some_session()).collect();
    store.set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
    for session in &sessions {
        assert_eq!(store.renew_session(*session, LONG).await.unwrap(), Gate::Closed(Closure::Leaving));
    }
    assert_eq!(store.sessions().await.unwrap().len(), sessions.len());
    let told = store.inspect().await.unwrap();
    assert_eq!(told.faults, Vec::new());
    assert!(told.facts.contains(&("cluster", "3 masters".to_owned())), "{told:?}");
}

#[tokio::test]
async fn claims_go_on_while_a_slot_moves_and_no_key_looks_new() {
    let cluster = RedisCluster::start();
    let store = connected(&cluster.url(), &Options::of(NAMESPACE)).await;
    let (standing, fresh) = same_slot();
    let slot = cluster.slot_of(&format!("{NAMESPACE}:r:{{{standing}}}"));
    let (from, claim) = (cluster.master_of(slot).unwrap(), a_claim());
    let to = (from + 1) % 3;
    store.insert(&standing, &claim, LONG).await.unwrap();
    cluster.begin_move(slot, from, to);
    assert_eq!(store.insert(&standing, &a_claim(), LONG).await.unwrap(), seen(&claim));
    let sent_on = a_claim();
    assert_eq!(store.insert(&fresh, &sent_on, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.insert(&fresh, &a_claim(), LONG).await.unwrap(), seen(&sent_on));
    assert!(store.page(None, 10).await.is_err(), "a walk would miss what is on its way");
    let done = after(&claim, done_with("paid"));
    let settling = store.swap(&standing, claim.version, &done, LONG).await;
    assert!(matches!(settling, Err(StoreError::Unreachable(_))), "{settling:?}");
    cluster.move_keys(slot, from, to);
    assert_eq!(store.insert(&standing, &a_claim(), LONG).await.unwrap(), seen(&claim));
    cluster.end_move(slot, from, to);
    assert_eq!(store.insert(&standing, &a_claim(), LONG).await.unwrap(), seen(&claim));
    assert_eq!(store.fetch(&fresh).await.unwrap(), seen(&sent_on));
    assert_eq!(store.swap(&standing, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(walk(&store, 10).await.len(), 2);
}

/// Two keys that are in one slot, found by trying.
fn same_slot() -> (StorageKey, StorageKey) {
    let slot =
        |key: &StorageKey| crc16::State::<crc16::XMODEM>::calculate(key.to_string().as_bytes()) % 16_384;
    let first = some_key();
    let second = std::iter::repeat_with(some_key).find(|key| slot(key) == slot(&first)).unwrap();
    (first, second)
}

#[tokio::test]
async fn a_cluster_takes_claims_again_after_a_failover_and_has_lost_none_that_a_replica_acknowledged() {
    let mut cluster = RedisCluster::start();
    let store = connected(&cluster.url(), &waiting_for(1)).await;
    let mut claims = HashMap::new();
    for _ in 0..60 {
        let (key, claim) = claimed(&store).await;
        claims.insert(key, claim);
    }
    let slot = cluster.slot_of(&format!("{NAMESPACE}:gate"));
    let old = cluster.master_of(slot).unwrap();
    cluster.nodes[old].kill();
    cluster.master_after(old, slot).await;
    let healed = Options { min_replicas: 0, ..Options::of(NAMESPACE) };
    let another = connected(&cluster.url(), &healed).await;
    for (key, claim) in claims {
        assert_eq!(eventually_told(&another, &key).await, seen(&claim));
        let standing = eventually_told(&store, &key).await;
        assert_eq!(standing, seen(&claim), "to the store that was there before");
    }
}

async fn eventually_told(store: &RedisStore, key: &StorageKey) -> Seen {
    let telling = async {
        loop {
            if let Ok(seen) = store.fetch(key).await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), telling).await.expect("no answer within a minute")
}

#[tokio::test]
async fn a_single_server_that_is_called_a_cluster_is_told_apart() {
    let single = RedisServer::start();
    let url = single.url().replace("redis://", "redis-cluster://");
    let told = RedisStore::connect(&url, &Options::of(NAMESPACE)).unwrap().inspect().await.unwrap();
    assert!(told.refusal(true).is_some_and(|fault| fault.text.contains("not part of a cluster")), "{told:?}");
}
