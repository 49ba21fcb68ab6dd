//! When nobody can believe any more what a store has just ceased to say.
//!
//! A session is written before the store is asked what holds (the gate; the name in the note). So whoever may still
//! hold the old answer stands on the list of sessions that is read after the new one was written. The argument
//! stands in `mod.rs`. Must not know what has changed.

use std::time::Duration;

use tokio::time::Instant;

use super::patience::Side;
use super::{MoveError, fresh_session};
use crate::protocol::record::Session;
use crate::store::SessionLife;

/// How often it is looked whether something is over.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Clocks run at about the same speed, to a twentieth and this.
const CLOCKS_DIFFER_BY: Duration = Duration::from_millis(250);

/// No session lives longer than this without being renewed.
const SESSION_MAX: Duration = Duration::from_hours(24);

/// The processes that may not have heard of a change.
pub(super) struct Quiet {
    unaware: usize,
    until: Instant,
}

impl Quiet {
    /// Those of `concerned` that live now. To be called when the change was acknowledged.
    ///
    /// `at_least` is waited for even where nobody seems to live: a store that crashed or failed over may have lost
    /// sessions that live. Only where the store belongs to this process alone, nobody else can.
    pub(super) async fn after_change(
        side: &Side,
        concerned: impl Fn(Session) -> bool,
        at_least: Duration,
    ) -> Result<Self, MoveError> {
        let nobodys = fresh_session();
        let life = side.call(|store| store.session_life(nobodys)).await?;
        let mut sessions = side.sessions().await?;
        sessions.retain(|(session, _)| concerned(*session));
        // Read after the answer has come: the remaining times were longer when they were told.
        let now = Instant::now();
        let longest = sessions.iter().map(|(_, left)| *left).max();
        let wait = match (life, longest) {
            (SessionLife::Dead, None) => Duration::ZERO,
            (SessionLife::Dead | SessionLife::Alive | SessionLife::Absent, longest) => {
                longest.unwrap_or_default().max(at_least).min(SESSION_MAX)
            }
        };
        let margin = if wait.is_zero() { wait } else { wait / 20 + CLOCKS_DIFFER_BY };
        Ok(Self { unaware: sessions.len(), until: now + wait + margin })
    }

    /// How many there are, as far as the store knows.
    pub(super) fn unaware(&self) -> usize {
        self.unaware
    }

    /// Whether the time of all is over.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}
