//! TLS to PostgreSQL: who is believed, and who is not.

use std::process::Command;

use onceway::protocol::record::Seen;
use onceway::store::postgres::PostgresStore;
use onceway::store::{Store, StoreError};

use crate::records::{LONG, a_claim, eventually, some_key};
use crate::servers::postgres::{Database, PostgresServer, patient};

const CHILD_URL: &str = "ONCEWAY_TEST_POSTGRES_URL";

/// An address that speaks TLS as `mode` says, to the host that the server's certificate names.
fn secured(url: &str, mode: &str) -> String {
    url.replace("127.0.0.1", "localhost").replace("sslmode=disable", &format!("sslmode={mode}"))
}

#[tokio::test]
async fn a_server_whose_certificate_is_trusted_is_spoken_to_however_tls_is_demanded() {
    let server = PostgresServer::shared();
    for mode in ["require", "verify-ca", "verify-full"] {
        // Which certificates are trusted is told by the environment, hence a process of its own.
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "postgres_tls::a_child_claims_a_key_over_tls"]);
        child.env(CHILD_URL, secured(&server.url(), mode)).env("SSL_CERT_FILE", server.certificate());
        let output = child.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{mode}: {told}");
    }
}

/// Not a claim by itself: the child of the test above, which does nothing when nobody is its parent.
#[tokio::test]
async fn a_child_claims_a_key_over_tls() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let store = PostgresStore::connect(&url, &patient("onceway")).unwrap();
    let (key, claim) = (some_key(), a_claim());
    assert_eq!(store.insert(&key, &claim, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(claim)));
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_is_not_spoken_to_where_proof_is_demanded() {
    let url = secured(&PostgresServer::shared().url(), "verify-full");
    // A machine that trusts nobody at all says so at once.
    let Ok(store) = PostgresStore::connect(&url, &patient("onceway")) else { return };
    let refused = store.insert(&some_key(), &a_claim(), LONG).await;
    assert!(matches!(refused, Err(StoreError::Unreachable(_))), "{refused:?}");
}

#[tokio::test]
async fn tls_is_taken_where_it_is_offered() {
    let database = Database::create().await;
    let store = PostgresStore::connect(&secured(&database.url(), "prefer"), &patient("onceway")).unwrap();
    eventually("the store connects", || async { store.ping().await.is_ok() }).await;
    let secured = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE datname = current_database() AND application_name = 'onceway'";
    assert_eq!(database.run(secured).await.as_deref(), Some("t"));
}
