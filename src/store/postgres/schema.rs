//! The tables, and how they come to be: numbered steps, each run once, whoever comes first.
//!
//! Every connection looks after them before it is used. Several gateways may start at once: the steps run
//! under a lock, in one transaction each, so that they are done or not. A database that is ahead of this
//! program is refused. Must not know records. `001_tables.sql` says what each table is for.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::trouble::{Outage, Said};

/// The steps, in order. A step that was released never changes.
const STEPS: [&str; 2] = [include_str!("001_tables.sql"), include_str!("002_forgettings.sql")];

/// Taken by whoever changes the tables. Any number, as long as it stays.
const LOCK: i64 = 0x6f6e_6365_7761_7901;

/// Why the tables cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaError {
    #[error(
        "work with tables of version {found}: this program knows up to {known}; \
         a newer Onceway has been here"
    )]
    Newer { found: i32, known: i32 },
    #[error(
        "make the tables: the role may not. Let somebody who may run this in the database, with ROLE in the \
         place of the role's name, and grant nothing more:\n{sql}"
    )]
    Forbidden {
        #[source]
        said: Said,
        sql: String,
    },
    #[error(
        "have claims on {wanted} replicas, as store.min_replicas demands: set synchronous_standby_names of the \
         server to 'ANY {wanted} (…)' or more"
    )]
    TooFewReplicas { wanted: u32 },
}

/// What a role needs that does not own the tables.
const GRANTS: &str = "GRANT USAGE ON SCHEMA onceway TO ROLE;\n\
                      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA onceway TO ROLE;\n";

/// The statements that make the tables from version `from` on, for somebody who may.
pub(super) fn script(from: usize) -> String {
    let steps: Vec<String> = (from + 1..)
        .zip(STEPS.iter().skip(from))
        .map(|(version, step)| format!("{step}INSERT INTO onceway.migration (version) VALUES ({version});\n"))
        .collect();
    let schema = if from == 0 { "CREATE SCHEMA IF NOT EXISTS onceway;\n" } else { "" };
    format!("BEGIN;\n{schema}{}{GRANTS}COMMIT;\n", steps.concat())
}

/// Makes the tables if they are not there, and brings them up to date if they are old.
pub(super) async fn look_after(client: &Client) -> Result<(), Outage> {
    if is_current(version(client).await?)? {
        return Ok(());
    }
    client
        .batch_execute("BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '10s'")
        .await
        .map_err(Outage::of)?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(Outage::of)?;
    // Somebody else may have done it while we waited.
    let from = version(client).await?;
    if !is_current(from)? {
        let from = usize::try_from(from).unwrap_or(0);
        step_up(client, from).await.map_err(|error| forbidden_or(error, from))?;
    }
    client.batch_execute("COMMIT").await.map_err(Outage::of)
}

async fn step_up(client: &Client, from: usize) -> Result<(), tokio_postgres::Error> {
    let schemas = client.query("SELECT FROM pg_namespace WHERE nspname = 'onceway'", &[]).await?;
    if schemas.is_empty() {
        client.batch_execute("CREATE SCHEMA onceway").await?;
    }
    for (version, step) in (1_i32..).zip(STEPS).skip(from) {
        client.batch_execute(step).await?;
        client.execute("INSERT INTO onceway.migration (version) VALUES ($1)", &[&version]).await?;
    }
    Ok(())
}

/// The newest step that was run; 0: none.
async fn version(client: &Client) -> Result<i32, Outage> {
    let there = client.query(
        "SELECT FROM pg_class WHERE relname = 'migration' \
         AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'onceway')",
        &[],
    );
    if there.await.map_err(Outage::of)?.is_empty() {
        return Ok(0);
    }
    let newest = client.query_one("SELECT coalesce(max(version), 0) FROM onceway.migration", &[]);
    newest.await.and_then(|row| row.try_get(0)).map_err(Outage::of)
}

fn is_current(found: i32) -> Result<bool, Outage> {
    let known = i32::try_from(STEPS.len()).unwrap_or(i32::MAX);
    if found > known {
        return Err(Outage::Schema(SchemaError::Newer { found, known }));
    }
    Ok(found == known)
}

fn forbidden_or(error: tokio_postgres::Error, from: usize) -> Outage {
    match error.as_db_error() {
        Some(said) if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            Outage::Schema(SchemaError::Forbidden { said: said.into(), sql: script(from) })
        }
        Some(_) | None => Outage::of(error),
    }
}
