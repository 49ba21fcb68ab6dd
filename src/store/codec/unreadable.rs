//! Why a record cannot be read, and telling it in the log without flooding that.
//!
//! Must not hold anything of a record but what stands in its head. Read `../codec.rs` before.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::seal::KeyId;
use crate::clock;
use crate::protocol::scope::StorageKey;

/// How often one cause is told at the most: a store full of unreadable records must not fill the log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is no record, was cut short or changed, or its body is missing.
    Damaged,
    /// A newer Onceway wrote it, in this format.
    NewerFormat(u8),
    /// It was sealed by a key that is not listed.
    UnknownKey(KeyId),
    /// The key is listed, and what stands there was not sealed for this place, or was changed since.
    Forged(KeyId),
    /// It is not sealed, and only sealed records are read.
    Unsealed,
}

impl Cause {
    /// The word for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::NewerFormat(_) => "newer-format",
            Self::UnknownKey(_) => "unknown-key",
            Self::Forged(_) => "forged",
            Self::Unsealed => "unsealed",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("it is damaged"),
            Self::NewerFormat(format) => {
                write!(f, "its format is {format}, and this version reads up to {}", super::FORMAT_MAX)
            }
            Self::UnknownKey(id) => {
                write!(f, "it was sealed by the key {id}, which store.encryption_key_file does not hold")
            }
            Self::Forged(id) => {
                write!(f, "it was not sealed for its place by the key {id}, or was changed since")
            }
            Self::Unsealed => f.write_str("it is not sealed, and store.accept_unsealed is off"),
        }
    }
}

/// What was told of each cause, and when.
#[derive(Debug, Default)]
pub(super) struct Telling(Mutex<Vec<Told>>);

#[derive(Debug)]
struct Told {
    cause: &'static str,
    at: Instant,
    untold: u64,
}

impl Telling {
    /// Tells that the record under `key` cannot be read, unless the same cause was told a moment ago.
    pub(super) fn tell(&self, key: &StorageKey, cause: Cause) {
        if let Some(untold) = self.is_due(cause.as_str(), clock::monotonic()) {
            tracing::warn!(
                operation_ref = %key,
                cause = cause.as_str(),
                untold,
                "a record cannot be read, so its outcome counts as unknown: {cause}"
            );
        }
    }

    /// How many of this cause were not told since the last one, if one is due.
    fn is_due(&self, cause: &'static str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = all.iter_mut().find(|told| told.cause == cause) else {
            all.push(Told { cause, at: now, untold: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(told.at) < TOLD_EVERY {
            told.untold += 1;
            return None;
        }
        told.at = now;
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_at_once_then_rarely_and_what_was_left_out_is_counted() {
        let (telling, start) = (Telling::default(), clock::monotonic());
        let at = |cause, after| telling.is_due(cause, start + after);
        assert_eq!(at("damaged", Duration::ZERO), Some(0));
        assert_eq!(at("unsealed", Duration::ZERO), Some(0));
        for millis in 1..=3 {
            assert_eq!(at("damaged", Duration::from_millis(millis)), None);
        }
        assert_eq!(at("damaged", TOLD_EVERY), Some(3));
        assert_eq!(at("damaged", TOLD_EVERY * 2), Some(0));
        assert_eq!(at("unsealed", TOLD_EVERY * 2), Some(0));
    }
}
