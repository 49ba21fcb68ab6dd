//! What the Redis store promises beyond the contract of all stores: outages, large answers, watchers.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::Seen;
use onceway::protocol::scope::StorageKey;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, SessionLife, Store, StoreError, Swapped, Watch};
use redis::Value;
use tokio::time::timeout;

use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};
use crate::servers::redis::{NAMESPACE, RedisServer};

/// The ledger's own deadline on every call.
const DEADLINE: Duration = Duration::from_secs(1);

fn record_key(key: &StorageKey) -> String {
    format!("{NAMESPACE}:r:{{{key}}}")
}

fn body_key(key: &StorageKey) -> String {
    format!("{NAMESPACE}:b:{{{key}}}")
}

#[tokio::test]
async fn a_claim_and_its_settlement_are_one_command_each() {
    let server = RedisServer::start();
    let store = server.store().await;
    for number in 0..10 {
        let (key, claim) = (some_key(), a_claim());
        store.insert(&key, &claim, LONG).await.unwrap();
        let done = after(&claim, done_with(format!("answer {number}")));
        store.swap(&key, claim.version, &done, LONG).await.unwrap();
        store.insert(&key, &a_claim(), LONG).await.unwrap();
    }
    // The scripts' own commands are counted too: one SET in each settlement.
    assert_eq!(server.calls("set").await, 30);
    assert_eq!((server.calls("evalsha").await, server.calls("eval").await), (10, 1));
    assert_eq!((server.calls("get").await, server.calls("exists").await), (0, 0));
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_given_them_again() {
    let server = RedisServer::start();
    let store = server.store().await;
    for _ in 0..3 {
        let (key, claim) = (some_key(), a_claim());
        store.insert(&key, &claim, LONG).await.unwrap();
        server.raw(&[b"SCRIPT", b"FLUSH"]).await;
        let done = after(&claim, done_with("paid"));
        assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
        server.raw(&[b"SCRIPT", b"FLUSH"]).await;
        assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
    }
}

#[tokio::test]
async fn a_killed_server_fails_calls_at_once_and_after_its_return_nothing_is_lost() {
    let mut server = RedisServer::start();
    let store = server.store().await;
    for _ in 0..3 {
        let (key, claim) = (some_key(), a_claim());
        assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
        server.kill();
        for _ in 0..20 {
            let call = timeout(DEADLINE, store.insert(&some_key(), &a_claim(), LONG)).await;
            assert!(matches!(call, Ok(Err(StoreError::Unreachable(_)))));
        }
        server.restart();
        eventually("the store heals", || async { store.ping().await.is_ok() }).await;
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(claim)));
    }
}

#[tokio::test]
async fn a_store_made_while_the_server_is_down_connects_when_it_comes_up() {
    let mut server = RedisServer::start();
    server.kill();
    let store = RedisStore::connect(&server.url(), &Options::of(NAMESPACE)).unwrap();
    let call = timeout(DEADLINE, store.ping()).await;
    assert!(matches!(call, Ok(Err(StoreError::Unreachable(_)))));
    server.restart();
    eventually("the store connects", || async { store.ping().await.is_ok() }).await;
}

#[tokio::test]
async fn a_frozen_server_times_calls_out_and_later_ones_work() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = (some_key(), a_claim());
    store.insert(&key, &claim, LONG).await.unwrap();
    server.freeze();
    eventually("calls fail without waiting for the deadline", || {
        let call = timeout(DEADLINE, store.insert(&key, &claim, LONG));
        async { matches!(call.await, Ok(Err(StoreError::Unreachable(_)))) }
    })
    .await;
    server.thaw();
    eventually("the store heals", || async { store.ping().await.is_ok() }).await;
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Record(Box::new(claim)));
}

#[tokio::test]
async fn calls_dropped_at_their_deadline_do_not_spoil_the_connection() {
    let server = RedisServer::start();
    let store = Arc::new(server.store().await);
    server.freeze();
    for _ in 0..200 {
        let dropped = timeout(Duration::from_millis(1), store.fetch(&some_key())).await;
        assert!(dropped.is_err() || matches!(dropped, Ok(Err(StoreError::Unreachable(_)))));
    }
    server.thaw();
    let (key, claim) = (some_key(), a_claim());
    eventually("a claim is answered with itself", || async {
        store.insert(&key, &claim, LONG).await.is_ok() && store.fetch(&key).await.is_ok()
    })
    .await;
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(claim)));
}

#[tokio::test]
async fn a_server_out_of_memory_refuses_claims_and_large_bodies_and_takes_small_settlements() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (here, there, claim) = (some_key(), some_key(), a_claim());
    let large = after(&claim, done_with(bytes_of(100_000)));
    let small = after(&claim, done_with("paid"));
    store.insert(&here, &claim, LONG).await.unwrap();
    store.insert(&there, &claim, LONG).await.unwrap();
    server.raw(&[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    assert!(matches!(store.insert(&some_key(), &a_claim(), LONG).await, Err(StoreError::Refused(_))));
    assert!(matches!(store.swap(&here, claim.version, &large, LONG).await, Err(StoreError::Refused(_))));
    assert_eq!(store.swap(&there, claim.version, &small, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&here).await.unwrap(), Seen::Record(Box::new(claim.clone())));
    server.raw(&[b"CONFIG", b"SET", b"maxmemory", b"0"]).await;
    assert_eq!(store.swap(&here, claim.version, &large, LONG).await.unwrap(), Swapped::Done);
}

#[tokio::test]
async fn a_replica_refuses_claims_and_is_connected_to_anew_in_case_the_name_has_moved() {
    let (server, master) = (RedisServer::start(), RedisServer::start());
    let store = server.store().await;
    let connection = async || {
        let clients = server.text("CLIENT LIST").await;
        clients
            .lines()
            .find(|line| line.contains(" resp=3"))
            .map(|line| line.split(' ').next().unwrap().to_owned())
    };
    let before = connection().await;
    server.raw(&[b"REPLICAOF", b"127.0.0.1", master.port().as_bytes()]).await;
    assert!(matches!(store.insert(&some_key(), &a_claim(), LONG).await, Err(StoreError::Refused(_))));
    eventually("there is another connection", || async {
        let now = connection().await;
        now.is_some() && now != before
    })
    .await;
    server.raw(&[b"REPLICAOF", b"NO", b"ONE"]).await;
    eventually("claims are taken again", || async {
        store.insert(&some_key(), &a_claim(), LONG).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_without_permission_refuses() {
    let server = RedisServer::start();
    server.raw(&words("ACL SETUSER narrow on >secret ~* &* +@all -set")).await;
    let url = server.url().replace("redis://", "redis://narrow:secret@");
    let store = RedisStore::connect(&url, &Options::of(NAMESPACE)).unwrap();
    let refused = store.insert(&some_key(), &a_claim(), LONG).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)));
    assert!(!format!("{refused:?} {} {store:?}", store.describe()).contains("secret"));
}

#[tokio::test]
async fn a_wrong_password_is_told_without_naming_it() {
    let server = RedisServer::start();
    server.raw(&words("CONFIG SET requirepass right")).await;
    let url = server.url().replace("redis://", "redis://:hunter2@");
    let store = RedisStore::connect(&url, &Options::of(NAMESPACE)).unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(!format!("{error:?} {error} {store:?}").contains("hunter2"));
    assert_eq!(store.describe(), server.url());
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_an_error_that_does_not_name_it() {
    for url in ["redis://:hunter2@[broken", "http://:hunter2@127.0.0.1", "hunter2", ""] {
        let error = RedisStore::connect(url, &Options::of(NAMESPACE)).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

fn words(command: &str) -> Vec<&[u8]> {
    command.split(' ').map(str::as_bytes).collect()
}

#[tokio::test]
async fn large_bodies_travel_on_a_connection_of_their_own() {
    let server = RedisServer::start();
    let store = server.store().await;
    let connections = async || server.text("CLIENT LIST").await.matches(" resp=3").count();
    assert_eq!(connections().await, 1);
    let (key, claim) = (some_key(), a_claim());
    let done = after(&claim, done_with(bytes_of(1024 * 1024)));
    store.insert(&key, &claim, LONG).await.unwrap();
    store.swap(&key, claim.version, &done, LONG).await.unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(done)));
    assert_eq!(connections().await, 2);
    let record = server.raw(&[b"STRLEN", record_key(&key).as_bytes()]).await;
    let record: i64 = redis::from_redis_value(record).unwrap();
    assert!(record < 4096, "the claim's answer holds the body: {record} bytes");
}

#[tokio::test]
async fn bodies_leave_with_their_records() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = (some_key(), a_claim());
    let large = after(&claim, done_with(bytes_of(100_000)));
    store.insert(&key, &claim, LONG).await.unwrap();
    store.swap(&key, claim.version, &large, LONG).await.unwrap();
    let ttl = async |name: String| -> i64 {
        redis::from_redis_value(server.raw(&[b"PTTL", name.as_bytes()]).await).unwrap()
    };
    let (record, body) = (ttl(record_key(&key)).await, ttl(body_key(&key)).await);
    assert!(0 < record && record < body, "the record outlives its body: {record} {body}");
    store.remove(&key, large.version).await.unwrap();
    assert_eq!(server.raw(&[b"DBSIZE"]).await, Value::Int(0));
}

#[tokio::test]
async fn a_record_without_its_body_is_unreadable_and_never_absent() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, record) = (some_key(), after(&a_claim(), done_with(bytes_of(100_000))));
    store.insert(&key, &record, LONG).await.unwrap();
    let body = body_key(&key);
    for damage in [vec![b"SETRANGE".as_slice(), body.as_bytes(), b"77", b"x"], vec![b"DEL", body.as_bytes()]]
    {
        server.raw(&damage).await;
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable);
        assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Unreadable);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_unreadable_and_never_absent() {
    let server = RedisServer::start();
    let store = server.store().await;
    let claim = a_claim();
    for garbage in [b"".as_slice(), b"OW", b"some other program wrote this", &[0; 500]] {
        let key = some_key();
        server.raw(&[b"SET", record_key(&key).as_bytes(), garbage]).await;
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable);
        assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Unreadable);
        assert_eq!(store.swap(&key, claim.version, &claim, LONG).await.unwrap(), Swapped::Changed);
        assert_eq!(store.remove(&key, claim.version).await.unwrap(), Swapped::Changed);
    }
}

#[tokio::test]
async fn a_value_of_another_type_is_refused_and_never_absent() {
    let server = RedisServer::start();
    let store = server.store().await;
    let key = some_key();
    server.raw(&[b"LPUSH", record_key(&key).as_bytes(), b"x"]).await;
    assert!(matches!(store.fetch(&key).await, Err(StoreError::Refused(_))));
    assert!(matches!(store.insert(&key, &a_claim(), LONG).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn a_session_that_is_not_renewed_is_absent_after_its_time() {
    let server = RedisServer::start();
    let store = server.store().await;
    let session = some_session();
    store.renew_session(session, Duration::from_millis(50)).await.unwrap();
    eventually("the session ends", || async {
        store.session_life(session).await.unwrap() == SessionLife::Absent
    })
    .await;
}

async fn is_told(watch: &mut Watch) -> bool {
    timeout(Duration::from_secs(10), watch.changed()).await.is_ok()
}

#[tokio::test]
async fn a_watcher_is_told_of_swaps_and_removals_by_another_handle() {
    let server = RedisServer::start();
    let (watching, writing) = (server.store().await, server.store().await);
    let (key, claim) = (some_key(), a_claim());
    let done = after(&claim, done_with(bytes_of(100_000)));
    writing.insert(&key, &claim, LONG).await.unwrap();
    let mut watch = watching.watch(&key).await.unwrap();
    writing.swap(&key, claim.version, &done, LONG).await.unwrap();
    assert!(is_told(&mut watch).await, "of the swap");
    writing.remove(&key, done.version).await.unwrap();
    assert!(is_told(&mut watch).await, "of the removal");
}

#[tokio::test]
async fn a_watcher_is_not_told_of_other_keys_and_of_writes_that_changed_nothing() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, other, claim) = (some_key(), some_key(), a_claim());
    store.insert(&key, &claim, LONG).await.unwrap();
    store.insert(&other, &claim, LONG).await.unwrap();
    let (mut watch, mut witness) = (store.watch(&key).await.unwrap(), store.watch(&other).await.unwrap());
    assert_eq!(store.remove(&key, a_claim().version).await.unwrap(), Swapped::Changed);
    store.remove(&other, claim.version).await.unwrap();
    assert!(is_told(&mut witness).await);
    // Told in the order of the writes, so the witness has seen that there was nothing before it.
    assert!(timeout(Duration::ZERO, watch.changed()).await.is_err());
}

#[tokio::test]
async fn every_watcher_of_a_key_is_told_and_the_last_to_leave_unsubscribes() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = (some_key(), a_claim());
    store.insert(&key, &claim, LONG).await.unwrap();
    let (mut first, mut second) = (store.watch(&key).await.unwrap(), store.watch(&key).await.unwrap());
    let done = after(&claim, done_with("paid"));
    store.swap(&key, claim.version, &done, LONG).await.unwrap();
    assert!(is_told(&mut first).await && is_told(&mut second).await);
    drop(first);
    store.remove(&key, done.version).await.unwrap();
    assert!(is_told(&mut second).await, "the other left, not this one");
    drop(second);
    eventually("nobody is subscribed", || async { channels(&server).await == 0 }).await;
}

#[tokio::test]
async fn many_watchers_that_come_and_go_are_all_told_and_leave_nothing() {
    let server = RedisServer::start();
    let store = Arc::new(server.store().await);
    let mut waiters = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let store = store.clone();
        waiters.spawn(async move {
            // Few keys, so that one leaves while another comes.
            let key = StorageKey::from_bytes([u8::try_from(number % 3).unwrap(); 32]);
            for _ in 0..5 {
                let mut watch = store.watch(&key).await.unwrap();
                let claim = a_claim();
                // Whoever finds a record removes it, so that everybody is told again and again.
                match store.insert(&key, &claim, LONG).await.unwrap() {
                    Seen::Record(stands) => store.remove(&key, stands.version).await.unwrap(),
                    Seen::Nothing => store.remove(&key, claim.version).await.unwrap(),
                    Seen::Unreadable => panic!("unreadable"),
                };
                assert!(is_told(&mut watch).await, "waiter {number}");
            }
        });
    }
    waiters.join_all().await;
    eventually("nobody is subscribed", || async { channels(&server).await == 0 }).await;
}

#[tokio::test]
async fn watchers_outlive_a_lost_connection_and_are_told_that_they_may_have_missed_something() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = (some_key(), a_claim());
    store.insert(&key, &claim, LONG).await.unwrap();
    let mut watch = store.watch(&key).await.unwrap();
    server.raw(&words("CLIENT KILL TYPE pubsub")).await;
    assert!(is_told(&mut watch).await, "of the loss");
    assert_eq!(channels(&server).await, 1);
    store.remove(&key, claim.version).await.unwrap();
    assert!(is_told(&mut watch).await, "of the removal");
}

async fn channels(server: &RedisServer) -> usize {
    let channels: Vec<String> = redis::from_redis_value(server.raw(&words("PUBSUB CHANNELS")).await).unwrap();
    channels.len()
}

#[tokio::test]
async fn an_inspection_tells_what_may_lose_claims() {
    let server = RedisServer::start();
    let store = server.store().await;
    let sound = store.inspect().await.unwrap();
    assert_eq!(sound.faults, Vec::new());
    for command in ["CONFIG SET maxmemory-policy volatile-lru", "CONFIG SET appendonly no"] {
        server.raw(&words(command)).await;
    }
    let found = store.inspect().await.unwrap().faults;
    let warnings: Vec<String> = found.into_iter().map(|fault| fault.text).collect();
    assert!(warnings[0].contains("volatile-lru") && warnings[1].contains("a restart loses every claim"));
}

const CHILD_URL: &str = "ONCEWAY_TEST_CHILD_URL";

#[tokio::test]
async fn a_server_with_tls_is_spoken_to_if_its_certificate_is_trusted() {
    let server = RedisServer::start_with_tls();
    // Which certificates are trusted is told by the environment, hence a process of its own.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "redis_store::a_child_claims_a_key_over_tls"]).env(CHILD_URL, server.url());
    child.env("SSL_CERT_FILE", server.certificate());
    let output = child.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Not a claim by itself: the child of the test above, which does nothing when nobody is its parent.
#[tokio::test]
async fn a_child_claims_a_key_over_tls() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let store = RedisStore::connect(&url, &Options::of(NAMESPACE)).unwrap();
    let (key, claim) = (some_key(), a_claim());
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(claim)));
    assert_eq!(store.describe(), url);
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_is_not_spoken_to() {
    let server = RedisServer::start_with_tls();
    let store = RedisStore::connect(&server.url(), &Options::of(NAMESPACE)).unwrap();
    let call = timeout(2 * DEADLINE, store.ping()).await;
    assert!(matches!(call, Ok(Err(StoreError::Unreachable(_)))));
}

#[tokio::test]
async fn a_large_answer_that_changes_under_its_reader_is_never_taken_for_damaged() {
    let server = RedisServer::start();
    let (store, key, claim) = (Arc::new(server.store().await), some_key(), a_claim());
    store.insert(&key, &claim, LONG).await.unwrap();
    let writer = async {
        let mut stands = claim;
        for number in 0..200 {
            let next = after(&stands, done_with(bytes_of(20_000 + number)));
            assert_eq!(store.swap(&key, stands.version, &next, LONG).await.unwrap(), Swapped::Done);
            stands = next;
        }
    };
    let reader = async {
        loop {
            assert_ne!(store.fetch(&key).await.ok(), Some(Seen::Unreadable));
        }
    };
    tokio::select! {
        () = writer => {}
        () = reader => {}
    }
}
