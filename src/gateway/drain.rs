//! The orderly end: accept no more, finish and record what is in flight, mark the rest unknown, go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Running;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::proxy::Shared;
use crate::server::Stop;

/// How long callers that were let in have to ask. They were told nothing, so what they send is served.
const NEWCOMERS_MAX: Duration = Duration::from_secs(2);

/// How long the connections have to flush their last answers.
pub(super) const FLUSH_MAX: Duration = Duration::from_secs(1);

impl Running {
    /// Ends the gateway in order, within `drain_timeout` and a little more for what has to be recorded.
    ///
    /// For `stop_delay` all goes on, while `/readyz` says no and every answer tells its connection to close. Then no
    /// connection is accepted. Whoever was let in before and has asked nothing yet is served once; another request on
    /// an open connection is told that the gateway is stopping. What is in flight is finished; when the time is up,
    /// the rest is recorded as unknown.
    pub async fn drain(self) {
        finish(&self.config, &self.shared, &self.stop, &self.ledger).await;
        // After the session's end: a collector that is away must not let others take this gateway for one at work.
        if let Some(collector) = self.collector {
            collector.finish().await;
        }
        self.stop.connections.cancel();
        self.admin.stop.cancel();
        self.admin.tasks.close();
        let workers = self.workers;
        let ended = tokio::task::spawn_blocking(move || {
            workers.into_iter().all(|worker| worker.thread.join().is_ok())
        });
        match timeout(FLUSH_MAX, ended).await {
            Ok(Ok(true)) => {}
            Ok(_) => tracing::error!("a worker panicked"),
            // Idle callers that do not close their side end with the process.
            Err(_) => tracing::debug!("some connections were cut"),
        }
        if timeout(FLUSH_MAX, self.admin.tasks.wait()).await.is_err() {
            tracing::debug!("some operators' connections were cut");
        }
        self.metrics.observe_no_more();
        tracing::info!("stopped");
    }
}

/// Everything up to where nothing is owed to anybody any more: no more is taken in, what is in flight is finished and
/// recorded, and the session is ended.
pub(super) async fn finish(config: &Config, shared: &Shared, stop: &Stop, ledger: &Ledger) {
    let stop_delay = config.server.stop_delay;
    if !stop_delay.is_zero() {
        shared.leaving.store(true, Ordering::Release);
        tokio::time::sleep(stop_delay).await;
    }
    let deadline = Instant::now() + config.server.drain_timeout;
    // Before anybody can hear that the gateway is leaving: whoever asks after that is told so too.
    shared.draining.store(true, Ordering::Release);
    shared.leaving.store(true, Ordering::Release);
    stop.accepting.cancel();
    shared.newcomers.close();
    if timeout_at(deadline.min(Instant::now() + NEWCOMERS_MAX), shared.newcomers.wait()).await.is_err() {
        tracing::debug!(left = shared.newcomers.len(), "some callers connected and asked for nothing");
    }
    shared.exchanges.close();
    if timeout_at(deadline, shared.exchanges.wait()).await.is_err() {
        let left = shared.exchanges.len();
        tracing::warn!(left, "the drain's time is up: what is still in flight becomes unknown");
        shared.out_of_time.cancel();
        let recording = config.store.timeout * 2 + FLUSH_MAX;
        if timeout(recording, shared.exchanges.wait()).await.is_err() {
            tracing::warn!(left = shared.exchanges.len(), "not all could be recorded; they read as unknown");
        }
    }
    if timeout_at(deadline.max(Instant::now() + FLUSH_MAX), ledger.commits_done()).await.is_err() {
        tracing::warn!("some outcomes could not be stored; they read as unknown");
    }
    ledger.stop();
    if let Err(error) = ledger.end_session().await {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(error, "the session was not ended; it lapses by itself");
    }
}
