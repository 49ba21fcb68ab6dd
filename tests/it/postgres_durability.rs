//! When a write in PostgreSQL counts as done: what it waits for, whatever the server is set to.

use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::postgres::PostgresStore;
use onceway::store::{Options, Store, StoreError};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::records::{LONG, a_claim, after, done_with, eventually, some_key};
use crate::servers::postgres::{Database, PATIENCE, PostgresServer, connected, patient, run};

async fn claim(store: &PostgresStore) -> (StorageKey, Record) {
    let (key, claim) = (some_key(), a_claim());
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
    (key, claim)
}

#[tokio::test]
async fn a_wait_for_replicas_that_was_cancelled_is_no_success() {
    let server = PostgresServer::start();
    let admin = server.client().await;
    // By itself the server would keep the only sign of it to itself.
    run(&admin, "ALTER SYSTEM SET client_min_messages = 'error'").await;
    run(&admin, "SELECT pg_reload_conf()").await;
    let store = connected(&server.url(), "onceway").await;
    run(&admin, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    run(&admin, "SELECT pg_reload_conf()").await;
    let mut claiming = JoinSet::new();
    claiming.spawn(async move {
        loop {
            // Until the server has taken the setting, claims pass.
            let claim = timeout(PATIENCE, store.insert(&some_key(), &a_claim(), LONG)).await;
            if let Err(error) = claim.expect("a claim is answered") {
                return error;
            }
        }
    });
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("a claim waits", || async { run(&admin, cancel).await.is_some() }).await;
    // Had that been a success, another claim would wait now.
    let answer = timeout(PATIENCE, claiming.join_next()).await.expect("the claim is refused");
    let answer = answer.unwrap().unwrap();
    assert!(matches!(answer, StoreError::Unreachable(_)), "{answer:?}");
    assert!(format!("{answer:?}").contains("Warned"), "{answer:?}");
}

#[tokio::test]
async fn writes_wait_for_the_disk_whatever_the_database_is_set_to() {
    let database = Database::create().await;
    drop(database.store().await);
    database.run(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name())).await;
    database
        .run(
            "CREATE TABLE public.told (setting text); \
             CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 INSERT INTO public.told VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$; \
             CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON onceway.record \
                 FOR EACH ROW EXECUTE FUNCTION public.tell()",
        )
        .await;
    let store = database.store().await;
    let (key, claim) = claim(&store).await;
    store.swap(&key, claim.version, &after(&claim, done_with("paid")), LONG).await.unwrap();
    let told = database.run("SELECT string_agg(setting, ' ') FROM public.told").await;
    assert_eq!(told.as_deref(), Some("on on"));
    let faults = store.inspect().await.unwrap().faults;
    assert!(faults.iter().any(|fault| fault.text.contains("synchronous_commit is off or local")));
}

#[tokio::test]
async fn writes_wait_for_the_disk_whatever_the_server_is_set_to_meanwhile() {
    let server = PostgresServer::start();
    let store = connected(&server.url(), "onceway").await;
    let admin = server.client().await;
    run(&admin, "CREATE TABLE public.told (setting text)").await;
    run(
        &admin,
        "CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             INSERT INTO public.told VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$",
    )
    .await;
    run(
        &admin,
        "CREATE TRIGGER tell BEFORE INSERT ON onceway.record FOR EACH ROW EXECUTE FUNCTION public.tell()",
    )
    .await;
    run(&admin, "ALTER SYSTEM SET synchronous_commit = off").await;
    run(&admin, "SELECT pg_reload_conf()").await;
    let setting = "SELECT current_setting('synchronous_commit')";
    eventually("the setting is taken", || async { run(&admin, setting).await.as_deref() == Some("off") })
        .await;
    for _ in 0..50 {
        claim(&store).await;
    }
    let told = run(&admin, "SELECT string_agg(DISTINCT setting, ' ') FROM public.told").await;
    assert_eq!(told.as_deref(), Some("on"));
}

#[tokio::test]
async fn replicas_that_are_demanded_and_not_waited_for_are_missed() {
    let options = Options { min_replicas: 1, ..patient("onceway") };
    let store = PostgresStore::connect(&PostgresServer::shared().url(), &options).unwrap();
    let refused = store.insert(&some_key(), &a_claim(), LONG).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)));
    assert!(format!("{refused:?}").contains("TooFewReplicas"));
}

/// Has all commits wait for a replica that is not there.
async fn demand_a_replica(server: &PostgresServer, admin: &Client) {
    let probe = &server.client().await;
    run(admin, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    run(admin, "SELECT pg_reload_conf()").await;
    // Each process of the server hears of it in its own time, and another one decides who waits.
    let setting = "SELECT current_setting('synchronous_standby_names')";
    eventually("it is taken", || async {
        let is_cancelled = async {
            while run(admin, CANCEL).await.is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = is_cancelled => true,
            _ = run(probe, "SELECT pg_logical_emit_message(true, 'probe', '')") => false,
        }
    })
    .await;
    assert_eq!(run(admin, setting).await.as_deref(), Some("nobody"));
}

/// Ends a wait for replicas, and answers a row if there was one.
const CANCEL: &str = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

#[tokio::test]
async fn a_settlement_that_meets_its_own_earlier_write_waits_for_its_replicas_too() {
    let server = PostgresServer::start();
    let store = Arc::new(connected(&server.url(), "onceway").await);
    let (key, claimed) = claim(&store).await;
    let (other, removed) = claim(&store).await;
    let admin = server.client().await;
    demand_a_replica(&server, &admin).await;
    for is_removal in [false, false, true, true] {
        // The wait that was cancelled took its connection with it.
        eventually("the store is connected", || async { store.fetch(&key).await.is_ok() }).await;
        let mut settling = JoinSet::new();
        let (store, done) = (store.clone(), after(&claimed, done_with("paid")));
        settling.spawn(async move {
            if is_removal {
                store.remove(&other, removed.version).await
            } else {
                store.swap(&key, claimed.version, &done, LONG).await
            }
        });
        eventually("the settlement waits", || async { run(&admin, CANCEL).await.is_some() }).await;
        let answers = settling.join_all().await;
        assert!(matches!(answers[..], [Err(StoreError::Unreachable(_))]), "{answers:?}");
    }
}

#[tokio::test]
async fn replicas_that_are_waited_for_no_longer_are_missed_by_a_store_that_is_connected() {
    let server = PostgresServer::start();
    drop(connected(&server.url(), "onceway").await);
    let admin = server.client().await;
    demand_a_replica(&server, &admin).await;
    let options = Options { min_replicas: 1, ..patient("onceway") };
    let store = PostgresStore::connect(&server.url(), &options).unwrap();
    eventually("the store connects", || async { store.ping().await.is_ok() }).await;
    run(&admin, "ALTER SYSTEM SET synchronous_standby_names = ''").await;
    run(&admin, "SELECT pg_reload_conf()").await;
    eventually("the heartbeat fails", || async { matches!(store.ping().await, Err(StoreError::Refused(_))) })
        .await;
}

#[tokio::test]
async fn when_one_connection_is_led_to_another_server_all_follow() {
    let (first, second) = (PostgresServer::start(), Database::create().await);
    let name = second.name();
    run(&first.client().await, &format!("CREATE DATABASE {name}")).await;
    let (one, other) = (first.url_of(name), second.url());
    let other = other.split_once('@').unwrap().1;
    let (user, one) = one.split_once('@').unwrap();
    let one = one.split_once('/').unwrap().0;
    let store = connected(&format!("{user}@{one},{other}"), "onceway").await;
    let (key, _) = claim(&store).await;
    let admin = first.client().await;
    run(&admin, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    let connections = format!("FROM pg_stat_activity WHERE datname = '{name}'");
    run(&admin, &format!("SELECT pg_terminate_backend((SELECT pid {connections} LIMIT 1))")).await;
    eventually("nobody is left on the first", || async {
        run(&admin, &format!("SELECT count(*) {connections}")).await.as_deref() == Some("0")
    })
    .await;
    eventually("the other one is read", || async { matches!(store.fetch(&key).await, Ok(Seen::Nothing)) })
        .await;
}
