//! What operators need of PostgreSQL beyond the contract of all stores: tables that come later, rows of others, and
//! that nobody waits for them.

use onceway::protocol::record::Seen;
use onceway::protocol::scope::StorageKey;
use onceway::store::postgres::PostgresStore;
use onceway::store::{Gate, Store, StoreError};

use crate::records::{LONG, a_claim, eventually, some_key, some_session};
use crate::servers::postgres::{Database, patient};

/// Takes the database back to the tables before the second step.
const BACK_TO_THE_FIRST_STEP: &str =
    "DROP TABLE onceway.forgetting; DELETE FROM onceway.migration WHERE version = 2";

async fn claim(store: &PostgresStore) -> StorageKey {
    let key = some_key();
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Nothing);
    key
}

#[tokio::test]
async fn tables_of_an_older_version_are_brought_up_to_date_with_their_records() {
    let database = Database::create().await;
    let key = claim(&database.store().await).await;
    database.run(BACK_TO_THE_FIRST_STEP).await;
    let store = database.store().await;
    store.count_forgetting().await.unwrap();
    assert_eq!(store.forgettings().await.unwrap(), 1);
    assert!(store.outline(&key).await.unwrap().unwrap().outline.is_some());
}

#[tokio::test]
async fn a_role_that_may_not_bring_tables_up_to_date_is_told_the_missing_step_alone() {
    let database = Database::create().await;
    let role = format!("narrow_{}", database.name());
    database.run(&format!("CREATE ROLE {role} LOGIN")).await;
    database.run(&PostgresStore::schema().replace("ROLE", &role)).await;
    database.run(BACK_TO_THE_FIRST_STEP).await;
    let store = PostgresStore::connect(&database.url_as(&role), &patient("onceway")).unwrap();
    let refused = store.ping().await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
    let told = format!("{refused:?}");
    assert!(
        told.contains("CREATE TABLE onceway.forgetting") && !told.contains("CREATE TABLE onceway.record")
    );
    let script = PostgresStore::schema();
    let second = script.split("VALUES (1);").nth(1).unwrap();
    database.run(&format!("BEGIN;{second}").replace("ROLE", &role)).await;
    let takes_claims = || async { store.insert(&some_key(), &a_claim(), LONG).await.is_ok() };
    eventually("the store claims", takes_claims).await;
    eventually("the store lists", || async { store.list(None, 10).await.is_ok() }).await;
    eventually("the store answers", || async { store.ping().await.is_ok() }).await;
    let key = claim(&store).await;
    store.count_forgetting().await.unwrap();
    assert!(store.outline(&key).await.unwrap().is_some());
    assert_eq!(store.forgettings().await.unwrap(), 1);
}

#[tokio::test]
async fn a_forgetting_that_waits_holds_up_no_claim_and_no_heartbeat() {
    let database = Database::create().await;
    let store = database.store().await;
    store.count_forgetting().await.unwrap();
    let holder = database.client().await;
    holder.batch_execute("BEGIN; SELECT FROM onceway.forgetting FOR UPDATE").await.unwrap();
    let others = async {
        claim(&store).await;
        let told = store.renew_session(some_session(), LONG).await.unwrap();
        assert_eq!((told, store.forgettings().await.unwrap()), (Gate::Open, 1));
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (counted, ()) = tokio::join!(store.count_forgetting(), others);
    counted.unwrap();
    assert_eq!(store.forgettings().await.unwrap(), 2);
}

#[tokio::test]
async fn rows_that_have_expired_or_are_no_records_end_no_listing_early() {
    let database = Database::create().await;
    let store = database.store().await;
    let rows = |key: &str, expires: &str, rows: u32| {
        format!(
            "INSERT INTO onceway.record (namespace, key, expires, head) \
             SELECT 'onceway', {key}, {expires}, 'x' FROM generate_series(1, {rows}) AS number"
        )
    };
    database.run(&rows("sha256(number::text::bytea)", "now() - interval '1 day'", 50)).await;
    database
        .run(&rows("substring(sha256(number::text::bytea) FOR 31)", "now() + interval '1 day'", 50))
        .await;
    let keys = [claim(&store).await, claim(&store).await];
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after, 7).await.unwrap();
        listed.extend(page.records.into_iter().map(|listed| listed.key));
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    listed.sort_unstable();
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    assert_eq!(listed, keys);
}
