//! When nobody can believe any more what a store has just ceased to say.
//!
//! A session is written before the store is asked what holds (the gate; the name in the note). So whoever may still
//! hold the old answer stands on the list of sessions that is read after the new one was written. The argument
//! stands in `mod.rs`. Must not know what has changed.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::MoveError;
use super::patience::Side;
use crate::protocol::record::Session;

/// How often it is looked whether all of them have ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Clocks run at about the same speed, to a twentieth and this.
const CLOCKS_DIFFER_BY: Duration = Duration::from_millis(250);

/// No session lives longer than this without being renewed.
const SESSION_MAX: Duration = Duration::from_hours(24);

/// The processes that may not have heard of a change.
pub(super) struct Quiet {
    unaware: HashSet<Session>,
    until: Instant,
}

impl Quiet {
    /// Those of `concerned` that live now. To be called when the change was acknowledged.
    pub(super) async fn after_change(
        side: &Side,
        concerned: impl Fn(Session) -> bool,
    ) -> Result<Self, MoveError> {
        let mut sessions = side.sessions().await?;
        sessions.retain(|(session, _)| concerned(*session));
        // Read after the answer has come: the remaining times were longer when they were told.
        let now = Instant::now();
        let longest = sessions.iter().map(|(_, left)| *left).max().unwrap_or_default().min(SESSION_MAX);
        let margin = if sessions.is_empty() { Duration::ZERO } else { longest / 20 + CLOCKS_DIFFER_BY };
        let unaware = sessions.into_iter().map(|(session, _)| session).collect();
        Ok(Self { unaware, until: now + longest + margin })
    }

    /// How many there are.
    pub(super) fn unaware(&self) -> usize {
        self.unaware.len()
    }

    /// Whether all of them have ended in order, or the time of all is over.
    pub(super) async fn is_over(&self, side: &Side) -> Result<bool, MoveError> {
        if self.unaware.is_empty() || Instant::now() >= self.until {
            return Ok(true);
        }
        let sessions = side.sessions().await?;
        Ok(sessions.iter().all(|(session, _)| !self.unaware.contains(session)))
    }
}
