//! What the listener finds wrong with a request before anybody reads it.
//!
//! Must not know how it was found (`../server/framing.rs`), nor what is answered (`respond.rs`).

use std::time::Duration;

use super::respond::Rejection;
use crate::telemetry::metrics::Limit;

/// Why a request goes nowhere. Its connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It reads in more than one way, or in none.
    Malformed(&'static str),
    /// Its target is longer than is taken.
    TargetTooLong {
        /// Bytes accepted.
        max: usize,
    },
    /// Its head is larger than is taken.
    HeadTooLarge {
        /// Bytes accepted.
        max: usize,
    },
    /// It has more fields than are taken.
    TooManyFields {
        /// Fields accepted.
        max: usize,
    },
    /// It is in a version of HTTP that is not spoken here.
    VersionNotSupported,
    /// Its body is in a transfer coding that nobody undoes here.
    CodingNotKnown,
    /// CONNECT.
    Tunnel,
    /// Its head did not come in time.
    HeadTooSlow(Duration),
}

impl Doubt {
    /// The limit that the request went beyond, if that is what is wrong with it.
    pub(super) fn limit(self) -> Option<Limit> {
        match self {
            Self::TargetTooLong { .. } => Some(Limit::TargetBytes),
            Self::HeadTooLarge { .. } => Some(Limit::HeaderBytes),
            Self::TooManyFields { .. } => Some(Limit::HeaderCount),
            Self::HeadTooSlow(_) => Some(Limit::HeaderTimeout),
            Self::Malformed(_) | Self::VersionNotSupported | Self::CodingNotKnown | Self::Tunnel => None,
        }
    }
}

impl From<Doubt> for Rejection {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Malformed(reason) => Self::Malformed(reason),
            Doubt::TargetTooLong { max } => Self::TargetTooLong { max },
            Doubt::HeadTooLarge { max } => Self::HeadTooLarge { max },
            Doubt::TooManyFields { max } => Self::TooManyFields { max },
            Doubt::VersionNotSupported => Self::VersionNotSupported,
            Doubt::CodingNotKnown => Self::CodingNotKnown,
            Doubt::Tunnel => Self::MethodNotSupported,
            Doubt::HeadTooSlow(limit) => Self::HeadTooSlow(limit),
        }
    }
}
