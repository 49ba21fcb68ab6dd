//! What the PostgreSQL store promises beyond the contract of all stores: outages, locks, tables, watchers.

use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::durability::Severity;
use onceway::store::postgres::PostgresStore;
use onceway::store::transfer::Transfer;
use onceway::store::{Closure, Gate, Options, SessionLife, Store, StoreError, Swapped, Watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::harness::now;
use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};
use crate::servers::postgres::{Database, PATIENCE, PostgresServer, client, connected, patient, run};

fn seen(record: &Record) -> Seen {
    Seen::Record(Box::new(record.clone()))
}

async fn claim(store: &PostgresStore) -> (StorageKey, Record) {
    let (key, claim) = (some_key(), a_claim());
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
    (key, claim)
}

async fn takes_claims(store: &PostgresStore) -> bool {
    store.insert(&some_key(), &a_claim(), LONG).await.is_ok()
}

/// Whether each of its connections is of use.
async fn works(store: &PostgresStore) -> bool {
    let (key, version) = (some_key(), a_claim().version);
    takes_claims(store).await
        && store.remove(&key, version).await.is_ok()
        && store.ping().await.is_ok()
        && store.page(None, 1).await.is_ok()
}

/// With the deadlines that a gateway has.
fn hurried(url: &str) -> PostgresStore {
    PostgresStore::connect(url, &Options::of("onceway")).unwrap()
}

/// How many claims and settlements the server has been given, by its log.
fn statements(database: &Database) -> usize {
    let log = PostgresServer::shared().log();
    let start = format!("{} onceway LOG:  execute ", database.name());
    let lines: Vec<&str> = log.lines().collect();
    lines.windows(2).filter(|two| two[0].starts_with(&start) && two[1].starts_with("\tWITH asked ")).count()
}

async fn logged() -> (Database, PostgresStore) {
    let database = Database::create().await;
    database.run(&format!("ALTER DATABASE {} SET log_statement = 'all'", database.name())).await;
    let store = database.store().await;
    (database, store)
}

#[tokio::test]
async fn a_claim_and_its_settlement_are_one_statement_each() {
    let (database, store) = logged().await;
    for number in 0..10 {
        let (key, claim) = claim(&store).await;
        let done = after(&claim, done_with(format!("answer {number}")));
        assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
        assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&done));
    }
    assert_eq!(statements(&database), 30);
}

#[tokio::test]
async fn claims_that_come_at_once_share_their_statements() {
    let (database, store) = logged().await;
    let store = Arc::new(store);
    let mut claims = JoinSet::new();
    for _ in 0..200 {
        let store = store.clone();
        claims.spawn(async move { claim(&store).await });
    }
    assert_eq!(claims.join_all().await.len(), 200);
    assert!((1..20).contains(&statements(&database)), "{} statements", statements(&database));
}

#[tokio::test]
async fn a_killed_server_fails_calls_at_once_and_after_its_return_nothing_is_lost() {
    let mut server = PostgresServer::start();
    let store = hurried(&server.url());
    eventually("the store connects", || async { works(&store).await }).await;
    let (key, claim) = claim(&store).await;
    server.kill();
    eventually("the loss is noticed", || async { store.ping().await.is_err() }).await;
    for _ in 0..20 {
        let call = timeout(PATIENCE, store.insert(&some_key(), &a_claim(), LONG)).await;
        assert!(matches!(call, Ok(Err(StoreError::Unreachable(_)))));
    }
    let late = hurried(&server.url());
    assert!(matches!(late.ping().await, Err(StoreError::Unreachable(_))));
    server.launch();
    for store in [&store, &late] {
        eventually("the store heals", || async { works(store).await }).await;
        assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    }
}

#[tokio::test]
async fn a_frozen_server_is_not_waited_for_again_and_again_and_nothing_is_lost() {
    let server = PostgresServer::start();
    let store = hurried(&server.url());
    eventually("the store connects", || async { works(&store).await }).await;
    let (key, claim) = claim(&store).await;
    server.freeze();
    eventually("calls fail without waiting", || async {
        let call = timeout(Duration::from_millis(1), store.insert(&key, &claim, LONG)).await;
        matches!(call, Ok(Err(StoreError::Unreachable(_))))
    })
    .await;
    server.thaw();
    eventually("the store heals", || async { works(&store).await }).await;
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claim));
}

#[tokio::test]
async fn terminated_backends_are_replaced() {
    let database = Database::create().await;
    let store = database.store().await;
    let (key, claim) = claim(&store).await;
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'onceway'";
    for _ in 0..3 {
        database.run(&format!("SELECT pg_terminate_backend(pid) {others}")).await;
        eventually("the store heals", || async { works(&store).await }).await;
        assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    }
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_out_of_reach_until_it_does() {
    let database = Database::create().await;
    drop(database.store().await);
    let role = format!("many_{}", database.name());
    database.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER CONNECTION LIMIT 0")).await;
    // A limit binds only those who are no superusers.
    database.run(&format!("ALTER ROLE {role} NOSUPERUSER")).await;
    grant(&database, &role).await;
    let store = PostgresStore::connect(&database.url_as(&role), &patient("onceway")).unwrap();
    let refused = store.insert(&some_key(), &a_claim(), LONG).await;
    assert!(matches!(refused, Err(StoreError::Unreachable(_))), "{refused:?}");
    database.run(&format!("ALTER ROLE {role} CONNECTION LIMIT 10")).await;
    eventually("there is room", || async { takes_claims(&store).await }).await;
}

async fn grant(database: &Database, role: &str) {
    database.run(&format!("GRANT USAGE ON SCHEMA onceway TO {role}")).await;
    let all = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA onceway TO {role}");
    database.run(&all).await;
}

#[tokio::test]
async fn a_database_that_is_read_only_refuses_claims_until_it_is_not() {
    let database = Database::create().await;
    let store = database.store().await;
    let read_only = async |value: &str| {
        let set = format!("ALTER DATABASE {} SET default_transaction_read_only = {value}", database.name());
        client(&PostgresServer::shared().url()).await.batch_execute(&set).await.unwrap();
    };
    read_only("on").await;
    let others = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'onceway'";
    database.run(&format!("SELECT pg_terminate_backend(pid) {others}")).await;
    eventually("a claim is refused", || async {
        matches!(store.insert(&some_key(), &a_claim(), LONG).await, Err(StoreError::Refused(_)))
    })
    .await;
    eventually("a ping says so", || async { matches!(store.ping().await, Err(StoreError::Refused(_))) })
        .await;
    read_only("off").await;
    eventually("claims are taken again", || async { takes_claims(&store).await }).await;
}

#[tokio::test]
async fn a_server_in_recovery_is_of_no_use_until_it_is_promoted() {
    let mut server = PostgresServer::start();
    let store = connected(&server.url(), "onceway").await;
    let (key, claim) = claim(&store).await;
    server.stop();
    server.write("standby.signal", "");
    server.launch();
    eventually("the store connects", || async { store.inspect().await.is_ok() }).await;
    let found = store.inspect().await.unwrap();
    assert_eq!(found.refusal(true).map(|fault| fault.severity), Some(Severity::Unusable));
    assert!(!takes_claims(&store).await);
    assert_eq!(run(&server.client().await, "SELECT pg_promote()").await.as_deref(), Some("t"));
    eventually("the store works", || async { works(&store).await }).await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
}

/// Holds the row of `key` in a transaction of its own, until the client is dropped.
async fn hold(database: &Database, key: &StorageKey) -> Client {
    let stranger = database.client().await;
    let lock = format!("BEGIN; SELECT FROM onceway.record WHERE key = '\\x{key}' FOR UPDATE");
    stranger.batch_execute(&lock).await.unwrap();
    stranger
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_waited_for_and_holds_up_no_other() {
    let database = Database::create().await;
    let store = Arc::new(database.store().await);
    let (key, claimed) = claim(&store).await;
    let done = after(&claimed, done_with("paid"));
    let stranger = hold(&database, &key).await;
    let mut settling = JoinSet::new();
    settling.spawn({
        let (store, done) = (store.clone(), done.clone());
        async move { store.swap(&key, claimed.version, &done, LONG).await.unwrap() }
    });
    for _ in 0..10 {
        let (other, claim) = claim(&store).await;
        let done = after(&claim, done_with("paid too"));
        assert_eq!(store.swap(&other, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    }
    assert!(settling.try_join_next().is_none(), "settled under somebody's lock");
    stranger.batch_execute("COMMIT").await.unwrap();
    assert_eq!(settling.join_all().await, [Swapped::Done]);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done));
}

#[tokio::test]
async fn a_row_that_is_held_for_too_long_refuses_its_settlement_and_is_read_all_the_same() {
    let database = Database::create().await;
    let store = hurried(&database.url());
    eventually("the store connects", || async { works(&store).await }).await;
    let (key, claimed) = claim(&store).await;
    let _stranger = hold(&database, &key).await;
    let settled = store.swap(&key, claimed.version, &after(&claimed, done_with("paid")), LONG).await;
    assert!(matches!(settled, Err(StoreError::Refused(_))), "{settled:?}");
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claimed));
}

#[tokio::test]
async fn an_expired_row_that_somebody_holds_refuses_its_claim_and_no_other() {
    let database = Database::create().await;
    let store = Arc::new(hurried(&database.url()));
    eventually("the store connects", || async { works(&store).await }).await;
    let (key, _) = claim(&store).await;
    let stranger = hold(&database, &key).await;
    let age =
        format!("UPDATE onceway.record SET expires = now() - interval '1 minute' WHERE key = '\\x{key}'");
    stranger.batch_execute(&format!("{age}; COMMIT; BEGIN; {age}")).await.unwrap();
    let mut claims = JoinSet::new();
    for other in [key, some_key(), some_key(), some_key()] {
        let store = store.clone();
        claims.spawn(async move { store.insert(&other, &a_claim(), LONG).await.is_ok() });
    }
    let taken = claims.join_all().await;
    assert_eq!(taken.iter().filter(|is_taken| **is_taken).count(), 3);
    stranger.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Nothing);
}

#[tokio::test]
async fn an_inspection_tells_what_may_lose_claims() {
    let store = PostgresServer::shared().store().await;
    let found = store.inspect().await.unwrap();
    assert_eq!(found.refusal(false), None);
    let faults: Vec<_> = found.faults.iter().map(|fault| (fault.severity, &*fault.text)).collect();
    assert!(matches!(faults[..], [(Severity::Weak, text)] if text.starts_with("fsync is off")), "{faults:?}");
    assert_eq!(found.losses.len(), 2);
}

#[tokio::test]
async fn gateways_that_start_at_once_on_an_empty_database_all_find_the_tables() {
    let database = Database::create().await;
    let stores: Vec<_> =
        (0..6).map(|_| PostgresStore::connect(&database.url(), &patient("onceway")).unwrap()).collect();
    for store in &stores {
        eventually("the store connects", || async { takes_claims(store).await }).await;
    }
    let steps = database.run("SELECT string_agg(version::text, ' ') FROM onceway.migration").await;
    assert_eq!(steps.as_deref(), Some("1 2"));
}

#[tokio::test]
async fn tables_of_a_newer_version_are_left_alone() {
    let database = Database::create().await;
    drop(database.store().await);
    database.run("INSERT INTO onceway.migration (version) VALUES (99)").await;
    let store = PostgresStore::connect(&database.url(), &patient("onceway")).unwrap();
    let refused = store.insert(&some_key(), &a_claim(), LONG).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)));
    assert!(format!("{refused:?}").contains("Newer { found: 99, known: 2 }"), "{refused:?}");
}

#[tokio::test]
async fn a_role_that_may_not_make_tables_is_told_what_to_have_run_and_needs_no_more() {
    let database = Database::create().await;
    let role = format!("narrow_{}", database.name());
    database.run(&format!("CREATE ROLE {role} LOGIN")).await;
    let store = PostgresStore::connect(&database.url_as(&role), &patient("onceway")).unwrap();
    let refused = store.ping().await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    assert!(format!("{refused:?}").contains("GRANT USAGE ON SCHEMA onceway"));
    database.run(&PostgresStore::schema().replace("ROLE", &role)).await;
    eventually("the store works", || async { works(&store).await }).await;
    let (key, claim) = claim(&store).await;
    drop(store.watch(&key).await.unwrap());
    assert_eq!(store.remove(&key, claim.version).await.unwrap(), Swapped::Done);
    store.inspect().await.unwrap();
}

#[tokio::test]
async fn what_has_expired_is_removed_and_its_space_used_again() {
    let database = Database::create().await;
    let store = Arc::new(database.store().await);
    let size = "SELECT pg_total_relation_size('onceway.record')";
    let mut sizes = Vec::new();
    for _ in 0..4 {
        let mut claims = JoinSet::new();
        for number in 0..300 {
            let store = store.clone();
            claims.spawn(async move {
                let (key, claim) = claim(&store).await;
                let body = bytes_of(if number % 30 == 0 { 40_000 } else { 300 });
                let done = after(&claim, done_with(body));
                store.swap(&key, claim.version, &done, Duration::from_millis(1)).await.unwrap();
            });
        }
        claims.join_all().await;
        eventually("all of them are swept", || async {
            database.run("SELECT count(*) FROM onceway.record").await.as_deref() == Some("0")
        })
        .await;
        // As the server does by itself, when it gets to it.
        database.run("VACUUM onceway.record").await;
        sizes.push(database.run(size).await.unwrap().parse::<u64>().unwrap());
    }
    // The first rounds make room for all that are there at once.
    assert!(sizes[3] <= sizes[1] * 3 / 2, "{sizes:?}");
}

#[tokio::test]
async fn a_settlement_finds_room_in_the_page_of_its_claim_and_changes_no_index() {
    let database = Database::create().await;
    let store = database.store().await;
    for _ in 0..50 {
        let (key, claim) = claim(&store).await;
        let done = after(&claim, done_with("paid"));
        store.swap(&key, claim.version, &done, LONG).await.unwrap();
    }
    // A backend that ends tells what it has counted.
    drop(store);
    let hot = "SELECT pg_stat_get_tuples_hot_updated('onceway.record'::regclass)";
    eventually("the server counts them", || async {
        let hot: i64 = database.run(hot).await.unwrap().parse().unwrap();
        hot >= 45
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_unreadable_and_never_absent() {
    let database = Database::create().await;
    let store = database.store().await;
    for damage in ["head = '\\x'", "head = '\\x4f57'", "body = NULL", "body = '\\x00' || substr(body, 2)"] {
        let (key, record) = (some_key(), after(&a_claim(), done_with(bytes_of(20_001).slice(1..))));
        store.insert(&key, &record, LONG).await.unwrap();
        database.run(&format!("UPDATE onceway.record SET {damage} WHERE key = '\\x{key}'")).await;
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable, "{damage}");
        assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Unreadable, "{damage}");
        assert_eq!(store.remove(&key, a_claim().version).await.unwrap(), Swapped::Changed);
    }
}

#[tokio::test]
async fn a_session_that_is_not_renewed_is_absent_after_its_time() {
    let store = PostgresServer::shared().store().await;
    let session = some_session();
    store.renew_session(session, Duration::from_millis(50)).await.unwrap();
    eventually("the session ends", || async {
        store.session_life(session).await.unwrap() == SessionLife::Absent
    })
    .await;
}

#[tokio::test]
async fn a_closed_gate_is_told_with_every_heartbeat_until_it_opens() {
    let store = PostgresServer::shared().store().await;
    let session = some_session();
    for gate in [Gate::Open, Gate::Closed(Closure::Leaving), Gate::Closed(Closure::Backup), Gate::Open] {
        store.set_gate(gate).await.unwrap();
        assert_eq!(store.renew_session(session, LONG).await.unwrap(), gate);
    }
    let sessions = store.sessions().await.unwrap();
    assert!(matches!(sessions[..], [(found, left)] if found == session && left <= LONG));
}

#[tokio::test]
async fn records_leave_page_by_page_and_arrive_as_they_were() {
    let (from, to) = (PostgresServer::shared().store().await, PostgresServer::shared().store().await);
    let mut records = Vec::new();
    for number in 0..7 {
        let (key, record) = (some_key(), after(&a_claim(), done_with(bytes_of(number * 9_000))));
        from.insert(&key, &record, LONG).await.unwrap();
        records.push((key, record));
    }
    let (mut after, mut pages) = (None, 0);
    loop {
        let page = from.page(after, 3).await.unwrap();
        pages += 1;
        assert!(page.records.iter().all(|moved| moved.keep_for <= LONG));
        to.put(page.records).await.unwrap();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    for (key, record) in &records {
        assert_eq!(to.fetch(key).await.unwrap(), seen(record));
    }
}

async fn is_told(watch: &mut Watch) -> bool {
    timeout(PATIENCE, watch.changed()).await.is_ok()
}

#[tokio::test]
async fn a_watcher_is_told_of_swaps_and_removals_by_another_handle() {
    let database = Database::create().await;
    let (watching, writing) = (database.store().await, database.store().await);
    let (key, claim) = claim(&writing).await;
    let done = after(&claim, done_with(bytes_of(100_000)));
    let mut watch = watching.watch(&key).await.unwrap();
    writing.swap(&key, claim.version, &done, LONG).await.unwrap();
    assert!(is_told(&mut watch).await, "of the swap");
    writing.remove(&key, done.version).await.unwrap();
    assert!(is_told(&mut watch).await, "of the removal");
}

#[tokio::test]
async fn a_watcher_is_not_told_of_other_keys_and_of_writes_that_changed_nothing() {
    let store = PostgresServer::shared().store().await;
    let ((key, _), (other, claim)) = (claim(&store).await, claim(&store).await);
    let (mut watch, mut witness) = (store.watch(&key).await.unwrap(), store.watch(&other).await.unwrap());
    assert_eq!(store.remove(&key, a_claim().version).await.unwrap(), Swapped::Changed);
    store.remove(&other, claim.version).await.unwrap();
    assert!(is_told(&mut witness).await);
    // Told in the order of the writes, so the witness has seen that there was nothing before it.
    assert!(timeout(Duration::ZERO, watch.changed()).await.is_err());
}

#[tokio::test]
async fn a_settlement_that_nobody_watches_tells_nobody() {
    let database = Database::create().await;
    let (store, listener) = (database.store().await, database.store().await);
    let ((quiet, first), (watched, second)) = (claim(&store).await, claim(&store).await);
    let mut watch = listener.watch(&watched).await.unwrap();
    database.run("CREATE TABLE public.told AS SELECT key FROM onceway.watch").await;
    store.remove(&quiet, first.version).await.unwrap();
    store.remove(&watched, second.version).await.unwrap();
    assert!(is_told(&mut watch).await);
    let told = database.run("SELECT string_agg(encode(key, 'hex'), ' ') FROM public.told").await;
    assert_eq!(told, Some(watched.to_string()));
}

#[tokio::test]
async fn watchers_outlive_a_lost_connection_and_are_told_that_they_may_have_missed_something() {
    let database = Database::create().await;
    let store = database.store().await;
    let (key, claim) = claim(&store).await;
    let mut watch = store.watch(&key).await.unwrap();
    let listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%INTO onceway.watch%' \
                     AND pid <> pg_backend_pid()";
    database.run("TRUNCATE onceway.watch").await;
    database.run(&format!("SELECT pg_terminate_backend(pid) {listening}")).await;
    assert!(is_told(&mut watch).await, "of the loss");
    store.remove(&key, claim.version).await.unwrap();
    assert!(is_told(&mut watch).await, "of the removal");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_naming_it() {
    let database = Database::create().await;
    let create = "DO $$ BEGIN CREATE ROLE guarded LOGIN PASSWORD 'right'; EXCEPTION WHEN duplicate_object \
                  THEN NULL; END $$";
    database.run(create).await;
    let store = PostgresStore::connect(&database.url_as("guarded:hunter2"), &patient("onceway")).unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(!format!("{error:?} {error} {store:?} {}", store.describe()).contains("hunter2"));
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_an_error_that_does_not_name_it() {
    for url in ["postgres://me:hunter2@h:x/db", "http://:hunter2@h/db", "postgres:///hunter2", "hunter2", ""]
    {
        let error = PostgresStore::connect(url, &patient("onceway")).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

/// How long claims and settlements take, one after another.
async fn time_of(claims: u32, store: &PostgresStore) -> Duration {
    let began = now();
    for _ in 0..claims {
        let (key, claim) = claim(store).await;
        let done = after(&claim, done_with("paid"));
        assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    }
    began.elapsed()
}

#[tokio::test]
async fn a_key_is_looked_for_by_the_index_though_the_statements_were_planned_when_the_table_was_empty() {
    const CLAIMS: u32 = 20;
    let database = Database::create().await;
    let store = database.store().await;
    let on_an_empty_table = time_of(CLAIMS, &store).await;
    database
        .run(
            "INSERT INTO onceway.record (namespace, key, expires, head) \
             SELECT 'onceway', sha256(number::text::bytea), now() + interval '1 day', repeat('x', 120)::bytea \
             FROM generate_series(1, 100000) AS number",
        )
        .await;
    let on_a_full_one = time_of(CLAIMS, &store).await;
    // A walk through the namespace takes eight hundred times as long.
    assert!(on_a_full_one < 100 * on_an_empty_table, "{on_an_empty_table:?}, then {on_a_full_one:?}");
}
