//! Records, moments and tokens as JSON, for programs and for people.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock;
use crate::ledger::operations::{Operation, State};
use crate::protocol::outline::Stage;
use crate::protocol::record::{Attempt, Settled, UnixMillis};

/// The last millisecond of the year 9999: later moments have no form in RFC 3339.
const LAST: u64 = 253_402_300_799_999;

/// A moment as RFC 3339 writes it, in UTC and with milliseconds.
pub(super) fn moment(at: UnixMillis) -> String {
    let since = Duration::from_millis(at.0.min(LAST));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}

/// What is known of a key.
pub(super) fn operation(operation: &Operation) -> Value {
    let reason = match operation.state {
        State::Unknown(reason) => Some(reason.as_str()),
        State::InFlight | State::Done | State::DoneWithoutBody => None,
    };
    let outline = operation.outline.as_ref();
    let (settled, status, body_bytes) = outline.map_or((None, None, None), |outline| answer(&outline.stage));
    json!({
        "ref": operation.key.to_string(),
        "state": operation.state.as_str(),
        "reason": reason,
        "route": outline.map(|outline| &outline.route),
        "attempt": outline.map(|outline| attempt(outline.attempt())),
        "attempts": outline.map(|outline| outline.attempts),
        "session": outline.map(|outline| token(outline.session.0)),
        "opened_at": outline.map(|outline| moment(outline.opened_at)),
        "settled_at": settled.map(|settled| moment(settled.at)),
        "expires_at": moment(end(operation, settled)),
        "status": status,
        "body_bytes": body_bytes,
    })
}

/// When a record ends. That of an answer is known. Of any other the store tells how long it has yet, from one moment to
/// the next not quite the same: to the second that means something.
fn end(operation: &Operation, settled: Option<Settled>) -> UnixMillis {
    let after = |at: u64, keep_for: Duration| {
        at.saturating_add(u64::try_from(keep_for.as_millis()).unwrap_or(u64::MAX))
    };
    UnixMillis(match settled {
        Some(settled) => after(settled.at.0, settled.keep_for),
        None => after(clock::unix_millis().0, operation.keep_for) / 1000 * 1000,
    })
}

/// The token of an attempt.
pub(super) fn attempt(attempt: Attempt) -> String {
    token(attempt.0)
}

/// The token of an attempt or a session.
fn token(bytes: [u8; 16]) -> String {
    Uuid::from_bytes(bytes).to_string()
}

fn answer(stage: &Stage) -> (Option<Settled>, Option<u16>, Option<u64>) {
    match stage {
        Stage::InFlight | Stage::Unknown { .. } => (None, None, None),
        Stage::Done { status, body_bytes, settled } => (Some(*settled), Some(*status), Some(*body_bytes)),
        Stage::DoneWithoutBody { status, settled } => (Some(*settled), Some(*status), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_milliseconds_and_no_moment_is_too_late_for_it() {
        assert_eq!(moment(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(UnixMillis(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
        assert_eq!(moment(UnixMillis(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }
}
