//! Says that this process lives, again and again, and hears whether the store does, and what was forgotten.
//!
//! What follows from it is in `sessions.rs`. Must not know what is claimed.

use std::time::Duration;

use super::{Ledger, sessions, sweep};
use crate::clock;
use crate::store::Gate;
use crate::telemetry::metrics::Call;

/// How soon a failed heartbeat is tried again at the latest.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

impl Ledger {
    /// Keeps this process's session alive, and the store clean of its abandoned claims, until
    /// [`Ledger::stop`]. Run it once per process.
    pub async fn heartbeat(&self) {
        tokio::join!(self.beat(), sweep::sweep(self));
    }

    async fn beat(&self) {
        let session_ttl = self.shared.settings.session_ttl;
        let sessions = &self.shared.sessions;
        // None at first: what was read before the first look may have been forgotten before it.
        let mut forgettings_seen = None;
        loop {
            let sent_at = clock::monotonic();
            let renewal = async {
                let gate = self.store.renew_session(sessions.own(), session_ttl).await?;
                // A store may know who lives and take no more writes. And whoever claims does not replay for longer
                // than a heartbeat what an operator forgot.
                let ((), forgettings) = tokio::try_join!(self.store.ping(), self.store.forgettings())?;
                Ok((gate, forgettings))
            };
            match self.timed(Call::Heartbeat, renewal).await {
                Ok((gate, forgettings)) => {
                    if forgettings_seen.replace(forgettings) != Some(forgettings) {
                        self.shared.answers.let_go();
                    }
                    match gate {
                        Gate::Open => sessions.renewed(sent_at),
                        Gate::Closed(closure) => sessions.turned_away(closure),
                    }
                }
                Err(error) => sessions.renewal_failed(&error),
            }
            let interval = sessions::heartbeat_interval(session_ttl);
            let pause = if sessions.is_connected() { interval } else { interval.min(RECONNECT_PAUSE) };
            tokio::select! {
                biased; // In one order, so that a simulation plays the same twice.
                () = self.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
