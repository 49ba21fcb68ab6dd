//! What a caller is told whose key is somebody else's claim.
//!
//! Must not know how the ledger was asked (`guard.rs`). Read `kept.rs` for what is not believed, `respond.rs` after.

use std::time::Duration;

use super::Proxy;
use super::execute::Answer;
use super::guard::Asking;
use super::kept;
use super::respond::{self, Rejection};
use super::word::Word;
use crate::clock;
use crate::ledger::{Known, Opened, Unavailable, Waited};
use crate::protocol::policy::{Mode, Policy};
use crate::protocol::record::{Settled, UnknownReason};
use crate::protocol::saved::SavedResponse;
use crate::protocol::scope::StorageKey;
use crate::telemetry::metrics::RequestMetrics;

impl Proxy {
    /// What a caller is told whose key is somebody else's claim.
    pub(super) fn told(&self, known: Known, key: &StorageKey, policy: &Policy) -> Asking {
        let known = if kept::could_be(&known) {
            known
        } else {
            self.shared.strangers.tell(key);
            Known::Unknown(UnknownReason::Unreadable)
        };
        let counts = &self.settings.counts;
        let rejection = match known {
            Known::Replay(..) | Known::Unstored(..) if policy.mode == Mode::Observe => {
                return Asking::Observed(Word::Replayed.as_str());
            }
            Known::Replay(saved, settled) => return replay(saved, settled, policy, Word::Replayed, counts),
            Known::Unstored(saved, settled) => return replay(saved, settled, policy, Word::Unstored, counts),
            Known::InFlight if policy.mode == Mode::Enforce => return Asking::InFlight,
            Known::InFlight => Rejection::InFlight,
            Known::BodyNotKept(head) => Rejection::ResultUnavailable(head),
            Known::Mismatch => Rejection::KeyReused,
            Known::Unknown(reason) => Rejection::OutcomeUnknown(reason),
        };
        match policy.mode {
            Mode::Observe => Asking::Observed(rejection.word().as_str()),
            Mode::Enforce => Asking::Answered(Answer::rejected(rejection)),
        }
    }
}

fn replay(
    saved: SavedResponse,
    settled: Settled,
    policy: &Policy,
    word: Word,
    counts: &RequestMetrics,
) -> Asking {
    let now = clock::unix_millis();
    counts.replayed(Duration::from_millis(now.0.saturating_sub(settled.at.0)));
    let replay = respond::replayed(saved, settled, policy, now, word);
    Asking::Answered(Answer::replay(replay, word))
}

/// The word for it in traces.
pub(super) fn what_was_found(opened: &Result<Opened, Unavailable>) -> &'static str {
    match opened {
        Ok(Opened::Execute(_)) => "claimed",
        Ok(Opened::Known(known)) => match known {
            Known::Replay(..) => Word::Replayed.as_str(),
            Known::Unstored(..) => Word::Unstored.as_str(),
            Known::BodyNotKept(_) => Word::BodyNotKept.as_str(),
            Known::Mismatch => Word::Mismatch.as_str(),
            Known::InFlight => Word::InFlight.as_str(),
            Known::Unknown(_) => Word::Unknown.as_str(),
        },
        Err(_) => "unavailable",
    }
}

/// The word for it in traces.
pub(super) fn how_it_ended(waited: &Result<Waited, Unavailable>) -> &'static str {
    match waited {
        Ok(Waited::Settled) => "settled",
        Ok(Waited::TimedOut) => "timed-out",
        Err(_) => "unavailable",
    }
}
