//! What a Redis server and the network before it do wrong, and what the store makes of it: nothing is known of
//! a write that got no answer, nothing that stands is taken for absent, and the store heals by itself.

use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, SessionLife, Store, StoreError, Swapped};
use redis::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};
use crate::servers::redis::{NAMESPACE, RedisServer, connected};
use crate::servers::redis_tunnel::{Tunnel, Way};

/// No call takes as long as this, whatever happens.
const PATIENCE: Duration = Duration::from_secs(30);

async fn through(tunnel: &Tunnel) -> Arc<RedisStore> {
    Arc::new(connected(&tunnel.url(), &Options::of(NAMESPACE)).await)
}

/// Tells the server something, in words without spaces.
async fn tell(server: &RedisServer, words: &str) -> Value {
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    server.raw(&words).await
}

fn is_unreachable<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unreachable(_)))
}

fn is_refused<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Refused(_)))
}

/// The first word of the server's answer, where that is an error.
fn code_of<T>(answer: &Result<T, StoreError>) -> Option<String> {
    let Err(StoreError::Unreachable(error) | StoreError::Refused(error)) = answer else { return None };
    error.downcast_ref::<redis::RedisError>()?.code().map(str::to_owned)
}

fn seen(record: &Record) -> Seen {
    Seen::Record(Box::new(record.clone()))
}

async fn claimed(store: &RedisStore) -> (StorageKey, Record) {
    let (key, claim) = (some_key(), a_claim());
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
    (key, claim)
}

/// Claims `key` in a task of its own.
fn claiming(
    store: &Arc<RedisStore>,
    key: StorageKey,
    claim: &Record,
) -> JoinHandle<Result<Seen, StoreError>> {
    let (store, claim) = (Arc::clone(store), claim.clone());
    #[expect(clippy::disallowed_methods, reason = "the test joins it")]
    tokio::spawn(async move { store.insert(&key, &claim, LONG).await })
}

/// Waits until the server holds back a command of a client.
async fn until_one_is_held_up(server: &RedisServer) {
    eventually("a command is held up", || async {
        server.text("INFO clients").await.contains("blocked_clients:1")
    })
    .await;
}

async fn takes_claims_again(store: &RedisStore) {
    eventually("claims are taken again", || async {
        store.insert(&some_key(), &a_claim(), LONG).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_loading_is_out_of_reach_and_what_it_loads_is_not_absent() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = claimed(&store).await;
    for option in ["key-load-delay 4000", "loading-process-events-interval-bytes 1024"] {
        tell(&server, &format!("CONFIG SET {option}")).await;
    }
    tell(&server, "DEBUG POPULATE 300 some 100").await;
    let reload = server.ask_in_background("DEBUG RELOAD");
    eventually("it says that it is loading", || async {
        let told = store.insert(&key, &a_claim(), LONG).await;
        is_unreachable(&told) && code_of(&told) == Some("LOADING".to_owned())
    })
    .await;
    eventually("it has loaded", || async { store.fetch(&key).await.is_ok() }).await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    reload.join().unwrap();
}

#[tokio::test]
async fn a_claim_that_was_given_up_may_land_late_and_is_told_by_its_attempt() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let (store, other) = (through(&tunnel).await, server.store().await);
    let (key, claim) = (some_key(), a_claim());
    tunnel.hold(Way::There, 0);
    assert!(is_unreachable(&timeout(PATIENCE, store.insert(&key, &claim, LONG)).await.unwrap()));
    assert_eq!(other.fetch(&key).await.unwrap(), Seen::Nothing);
    tunnel.release();
    eventually("it lands", || async { other.fetch(&key).await.unwrap() == seen(&claim) }).await;
}

#[tokio::test]
async fn while_writes_are_paused_claims_fail_in_time_and_what_stands_is_read() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = claimed(&store).await;
    tell(&server, "CLIENT PAUSE 60000 WRITE").await;
    let paused = timeout(PATIENCE, store.insert(&some_key(), &a_claim(), LONG)).await;
    assert!(is_unreachable(&paused.unwrap()));
    eventually("what stands is read", || async { store.fetch(&key).await.is_ok() }).await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    tell(&server, "CLIENT UNPAUSE").await;
    takes_claims_again(&store).await;
}

#[tokio::test]
async fn while_everything_is_paused_calls_fail_and_then_the_store_heals() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = claimed(&store).await;
    tell(&server, "CLIENT PAUSE 1500 ALL").await;
    assert!(is_unreachable(&timeout(PATIENCE, store.fetch(&key)).await.unwrap()));
    eventually("the store heals", || async { store.ping().await.is_ok() }).await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
}

#[tokio::test]
async fn a_store_with_a_long_deadline_waits_for_a_slow_server_that_long() {
    let server = RedisServer::start();
    let options = Options { timeout: PATIENCE, ..Options::of(NAMESPACE) };
    let store = connected(&server.url(), &options).await;
    let (key, claim) = (some_key(), a_claim());
    tell(&server, "CLIENT PAUSE 2500 ALL").await;
    assert_eq!(timeout(PATIENCE, store.insert(&key, &claim, LONG)).await.unwrap().unwrap(), Seen::Nothing);
    // It stands in the way of the next one, and is waited for as it is read.
    tell(&server, "CLIENT PAUSE 2500 ALL").await;
    let again = timeout(PATIENCE, store.insert(&key, &a_claim(), LONG)).await.unwrap();
    assert_eq!(again.unwrap(), seen(&claim));
}

#[tokio::test]
async fn a_claim_whose_connection_is_killed_under_it_is_unknown_and_the_next_one_is_taken() {
    let server = RedisServer::start();
    let store = Arc::new(server.store().await);
    tell(&server, "CLIENT PAUSE 60000 WRITE").await;
    let (key, claim) = (some_key(), a_claim());
    let claiming = claiming(&store, key, &claim);
    until_one_is_held_up(&server).await;
    tell(&server, "CLIENT KILL TYPE normal").await;
    assert!(is_unreachable(&timeout(PATIENCE, claiming).await.unwrap().unwrap()));
    tell(&server, "CLIENT UNPAUSE").await;
    takes_claims_again(&store).await;
    let stands = store.fetch(&key).await.unwrap();
    assert!(stands == Seen::Nothing || stands == seen(&claim));
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_stands_and_is_told_by_its_attempt() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let store = through(&tunnel).await;
    let (key, claim) = (some_key(), a_claim());
    tunnel.hold(Way::Back, 0);
    let claiming = claiming(&store, key, &claim);
    eventually("the claim is written", || async { tell(&server, "DBSIZE").await == Value::Int(1) }).await;
    tunnel.cut();
    assert!(is_unreachable(&timeout(PATIENCE, claiming).await.unwrap().unwrap()));
    eventually("the store heals", || async { store.ping().await.is_ok() }).await;
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), seen(&claim));
}

#[tokio::test]
async fn a_settlement_whose_answer_is_lost_stands_and_its_repetition_changes_nothing() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let store = through(&tunnel).await;
    let (key, claim) = claimed(&store).await;
    let done = after(&claim, done_with("paid"));
    // The server is to know the script, or the lost answer is that it does not.
    store.swap(&some_key(), claim.version, &done, LONG).await.unwrap();
    tunnel.hold(Way::Back, 0);
    let lost = timeout(PATIENCE, store.swap(&key, claim.version, &done, LONG)).await.unwrap();
    assert!(is_unreachable(&lost));
    tunnel.cut();
    eventually("the store heals", || async { store.ping().await.is_ok() }).await;
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Changed);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done));
}

#[tokio::test]
async fn a_connection_that_delivers_nothing_and_does_not_end_is_replaced() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let store = through(&tunnel).await;
    let (key, claim) = claimed(&store).await;
    tunnel.swallow();
    let silent = timeout(PATIENCE, store.insert(&some_key(), &a_claim(), LONG)).await;
    assert!(is_unreachable(&silent.unwrap()));
    eventually("the store heals", || async { store.ping().await.is_ok() }).await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
}

#[tokio::test]
async fn a_silent_connection_of_watchers_is_replaced_and_they_are_told_of_what_they_may_have_missed() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let store = through(&tunnel).await;
    let (key, claim) = claimed(&store).await;
    let mut watch = store.watch(&key).await.unwrap();
    tunnel.swallow();
    let settling = server.store().await;
    settling.remove(&key, claim.version).await.unwrap();
    timeout(PATIENCE, watch.changed()).await.unwrap();
    eventually("the removal is seen", || async { matches!(store.fetch(&key).await, Ok(Seen::Nothing)) })
        .await;
}

/// Makes claims while `held` is held back, and gives what it comes to once it is released.
async fn claiming_meanwhile<T>(store: &RedisStore, held: impl Future<Output = T>, release: impl Fn()) -> T {
    tokio::pin!(held);
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut held => panic!("it is held back"),
            _ = claimed(store) => {}
        }
    }
    release();
    timeout(PATIENCE, held).await.unwrap()
}

#[tokio::test]
async fn an_answer_that_comes_slowly_holds_up_no_claim() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let store = through(&tunnel).await;
    let (key, claim) = claimed(&store).await;
    let done = after(&claim, done_with(bytes_of(1024 * 1024)));
    store.swap(&key, claim.version, &done, LONG).await.unwrap();
    tunnel.hold(Way::Back, 100_000);
    let reading = claiming_meanwhile(&store, store.fetch(&key), || tunnel.release()).await;
    assert_eq!(reading.unwrap(), seen(&done));
}

#[tokio::test]
async fn an_answer_that_is_kept_slowly_holds_up_no_claim() {
    let server = RedisServer::start();
    let tunnel = Tunnel::to(&server);
    let store = through(&tunnel).await;
    let (key, claim) = claimed(&store).await;
    let done = after(&claim, done_with(bytes_of(1024 * 1024)));
    tunnel.hold(Way::There, 100_000);
    let keeping = store.swap(&key, claim.version, &done, LONG);
    let keeping = claiming_meanwhile(&store, keeping, || tunnel.release()).await;
    assert_eq!(keeping.unwrap(), Swapped::Done);
}

#[tokio::test]
async fn a_hundred_waiters_share_one_connection_and_hold_up_no_claim() {
    let server = RedisServer::start();
    let store = server.store().await;
    let mut waiters = Vec::new();
    for _ in 0..100 {
        let (key, _) = claimed(&store).await;
        waiters.push(store.watch(&key).await.unwrap());
    }
    assert_eq!(server.text("CLIENT LIST").await.matches(" resp=3").count(), 2);
    for _ in 0..100 {
        claimed(&store).await;
    }
    assert_eq!(server.text("CLIENT LIST").await.matches(" resp=3").count(), 2);
    drop(waiters);
}

#[tokio::test]
async fn a_server_that_could_not_save_refuses_everything_until_it_may_write_again() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = claimed(&store).await;
    // A snapshot cannot take the place of a folder.
    std::fs::create_dir(server.dir().join("dump.rdb")).unwrap();
    server.raw(&[b"CONFIG", b"SET", b"save", b"3600 1"]).await;
    tell(&server, "BGSAVE").await;
    eventually("the snapshot fails", || async {
        server.text("INFO persistence").await.contains("rdb_last_bgsave_status:err")
    })
    .await;
    assert!(is_refused(&store.insert(&some_key(), &a_claim(), LONG).await));
    assert!(is_refused(&store.swap(&key, claim.version, &after(&claim, done_with("paid")), LONG).await));
    assert!(is_refused(&store.ping().await));
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    tell(&server, "CONFIG SET stop-writes-on-bgsave-error no").await;
    takes_claims_again(&store).await;
}

#[tokio::test]
async fn a_server_that_misses_its_replicas_refuses_claims_and_settlements_and_answers_readers() {
    let server = RedisServer::start();
    let store = server.store().await;
    let (key, claim) = claimed(&store).await;
    tell(&server, "CONFIG SET min-replicas-to-write 1").await;
    assert!(is_refused(&store.insert(&some_key(), &a_claim(), LONG).await));
    assert!(is_refused(&store.remove(&key, claim.version).await));
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    tell(&server, "CONFIG SET min-replicas-to-write 0").await;
    takes_claims_again(&store).await;
}

#[tokio::test]
async fn a_server_busy_with_a_script_of_somebody_else_fails_calls_until_it_is_done() {
    let server = RedisServer::start();
    let store = server.store().await;
    tell(&server, "CONFIG SET busy-reply-threshold 50").await;
    let script = server.ask_in_background("EVAL while(true)do(function()end)()end 0");
    eventually("it says that it is busy", || async {
        let told = store.insert(&some_key(), &a_claim(), LONG).await;
        code_of(&told) == Some("BUSY".to_owned())
    })
    .await;
    tell(&server, "SCRIPT KILL").await;
    script.join().unwrap();
    takes_claims_again(&store).await;
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_out_of_reach_until_it_does() {
    let server = RedisServer::start();
    // The connection that says so is one, and stays open.
    let mut own = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).exec(&mut own).unwrap();
    let store = RedisStore::connect(&server.url(), &Options::of(NAMESPACE)).unwrap();
    assert!(is_unreachable(&timeout(PATIENCE, store.ping()).await.unwrap()));
    redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(100).exec(&mut own).unwrap();
    eventually("the store connects", || async { store.ping().await.is_ok() }).await;
}

#[tokio::test]
async fn a_user_who_is_taken_away_is_refused_and_served_again_when_it_is_back() {
    let server = RedisServer::start();
    let rules = "ACL SETUSER gateway on >secret ~* &* +@all";
    tell(&server, rules).await;
    let url = server.url().replace("redis://", "redis://gateway:secret@");
    let store = connected(&url, &Options::of(NAMESPACE)).await;
    tell(&server, "ACL DELUSER gateway").await;
    eventually("calls fail", || async { store.insert(&some_key(), &a_claim(), LONG).await.is_err() }).await;
    let told = store.insert(&some_key(), &a_claim(), LONG).await.unwrap_err();
    assert!(!format!("{told:?}").contains("secret"));
    tell(&server, rules).await;
    takes_claims_again(&store).await;
}

#[tokio::test]
async fn a_user_who_may_not_publish_or_subscribe_claims_and_settles_and_cannot_watch() {
    let server = RedisServer::start();
    tell(&server, "ACL SETUSER quiet on >secret ~* resetchannels +@all -publish").await;
    let url = server.url().replace("redis://", "redis://quiet:secret@");
    let store = connected(&url, &Options::of(NAMESPACE)).await;
    let (key, claim) = claimed(&store).await;
    assert!(is_refused(&store.watch(&key).await.map(drop)));
    let done = after(&claim, done_with("paid"));
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_is_given_them_again_for_large_bodies_too() {
    let server = RedisServer::start();
    let store = server.store().await;
    for _ in 0..2 {
        let (key, claim) = claimed(&store).await;
        let large = after(&claim, done_with(bytes_of(100_000)));
        tell(&server, "SCRIPT FLUSH").await;
        assert_eq!(store.swap(&key, claim.version, &large, LONG).await.unwrap(), Swapped::Done);
        tell(&server, "SCRIPT FLUSH").await;
        assert_eq!(store.insert(&some_key(), &large, LONG).await.unwrap(), Seen::Nothing);
    }
    store.renew_session(some_session(), LONG).await.unwrap();
}

/// What a user of Redis has to be permitted for a gateway, with the namespace that is there by default.
const PERMISSIONS: &str = "~onceway:* resetchannels &onceway:w:* +hello +ping +get +set +del +exists +getrange \
                           +eval +evalsha +publish +subscribe +unsubscribe +info +config|get +wait +role";

#[tokio::test]
async fn a_user_with_the_few_permissions_that_are_documented_can_do_all_that_a_gateway_does() {
    let (server, replica) = (RedisServer::start(), RedisServer::start());
    tell(&server, "CONFIG SET repl-diskless-sync-delay 0").await;
    tell(&replica, &format!("REPLICAOF 127.0.0.1 {}", server.port())).await;
    eventually("the replica follows", || async {
        server.text("INFO replication").await.contains("state=online")
    })
    .await;
    tell(&server, &format!("ACL SETUSER gateway on >secret {PERMISSIONS}")).await;
    let url = server.url().replace("redis://", "redis://gateway:secret@");
    for min_replicas in [0, 1] {
        let store =
            connected(&url, &Options { min_replicas, timeout: PATIENCE, ..Options::of(NAMESPACE) }).await;
        let (key, claim) = claimed(&store).await;
        let mut watch = store.watch(&key).await.unwrap();
        let done = after(&claim, done_with(bytes_of(100_000)));
        assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
        timeout(PATIENCE, watch.changed()).await.unwrap();
        assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&done));
        assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
        assert_eq!(store.insert(&key, &done, LONG).await.unwrap(), Seen::Nothing);
        let session = some_session();
        store.renew_session(session, LONG).await.unwrap();
        assert_eq!(store.session_life(session).await.unwrap(), SessionLife::Alive);
        store.end_session(session).await.unwrap();
        assert_eq!(store.inspect().await.unwrap().faults, Vec::new());
    }
}
