//! What is asked of a server before a connection to it is used: its settings, the replicas it waits for, and that it
//! is the server to which the store's other connections lead.
//!
//! Must not know keys or records. Read `link.rs` before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Client;

use super::deployment;
use super::trouble::Outage;

/// For whom the server lets commits wait.
pub(super) const STANDBYS: &str = "SELECT current_setting('synchronous_standby_names')";

/// A server process, from its start to its end.
const SERVER: &str = "
SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), extract(epoch FROM pg_postmaster_start_time()))";

/// What every connection needs, whatever the server, the database or the role are set to.
pub(super) fn settings(patience: Duration) -> String {
    let patience = patience.as_millis().max(1);
    format!(
        // Weaker than `on` loses claims that were acknowledged; what is stronger stays. It is set in any case,
        // since what is not set here follows the server's file, also on connections that are open.
        "SELECT set_config('synchronous_commit', \
             CASE WHEN now.setting IN ('off', 'local') THEN 'on' ELSE now.setting END, false) \
         FROM current_setting('synchronous_commit') AS now (setting); \
         SET client_min_messages = warning; \
         SET default_transaction_isolation = 'read committed'; \
         SET search_path = pg_catalog; \
         SET statement_timeout = {}; \
         SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = '10s'; \
         SET jit = off",
        // The server says no before it is taken to be silent.
        (patience * 3 / 4).max(1),
        (patience / 4).max(1)
    )
}

/// Whether the server waits for as many replicas as are demanded, by its own settings.
pub(super) async fn has_replicas(client: &Client, wanted: u32) -> Result<bool, Outage> {
    if wanted == 0 {
        return Ok(true);
    }
    let setting = client.query_one(STANDBYS, &[]).await;
    let setting: String = setting.and_then(|row| row.try_get(0)).map_err(Outage::of)?;
    Ok(deployment::replicas_waited_for(&setting) >= wanted)
}

/// The one server to which all connections of a store lead: the one that the newest of them found.
///
/// Where an address leads to several, a connection that is made anew may reach another than those that are open. A
/// heartbeat on the one would then say nothing of the claims on the other.
#[derive(Clone, Default)]
pub(super) struct OneServer(Arc<watch::Sender<String>>);

impl OneServer {
    /// Notes the server that a new connection has found, and answers its name.
    pub(super) async fn found(&self, client: &Client) -> Result<String, Outage> {
        let name = client.query_one(SERVER, &[]).await;
        let name: String = name.and_then(|row| row.try_get(0)).map_err(Outage::of)?;
        self.0.send_if_modified(|newest| {
            let is_news = *newest != name;
            newest.clone_from(&name);
            is_news
        });
        Ok(name)
    }

    /// Waits until another connection has found another server than `name`.
    pub(super) async fn left(&self, name: &str) {
        let mut found = self.0.subscribe();
        // The sender lives as long as whoever asks, so the wait ends only with the value.
        drop(found.wait_for(|newest| newest != name).await);
    }
}
