//! What can be asked of what, what it is held against, and to which bar. Knows no process.

use super::bars::Bar;

/// Something that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A request that no route guards.
    Pass,
    First,
    /// First requests, and one in five a repeat.
    Mixed,
    /// Nothing is forwarded: a file is served.
    Static,
    /// Of one finished key by all callers.
    ReplayOfOne,
    /// Of many finished keys in turn.
    Replay,
    /// The same without records kept in memory.
    ReplayFromStore,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Nginx,
    Haproxy,
    /// Another gateway of this kind, with its records in Redis.
    Peer,
    /// A gateway as it is by default, with finished records kept in memory.
    Gateway,
    /// A gateway with `local_cache = "0"`.
    Uncached,
}

impl Work {
    /// In the order of the table. What nginx does of a block stands first in it.
    pub(super) const ALL: [Self; 7] = [
        Self::Pass,
        Self::First,
        Self::Mixed,
        Self::Static,
        Self::ReplayOfOne,
        Self::Replay,
        Self::ReplayFromStore,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Pass => "pass-through",
            Self::First => "first request",
            Self::Mixed => "one in five a replay",
            Self::Static => "static file",
            Self::ReplayOfOne => "replay, one key",
            Self::Replay => "replay, many keys",
            Self::ReplayFromStore => "replay, local_cache = \"0\"",
        }
    }

    /// What nginx does that this is held against.
    pub(super) fn reference(self) -> Self {
        match self {
            Self::Pass | Self::First | Self::Mixed => Self::Pass,
            Self::Static | Self::ReplayOfOne | Self::Replay | Self::ReplayFromStore => Self::Static,
        }
    }

    /// The bar for the processor time, as a multiple of the reference's, of a gateway on the store of this name.
    pub(super) fn bar(self, role: Role, store: &str) -> Option<Bar> {
        let is_ours = matches!(role, Role::Gateway | Role::Uncached);
        match self {
            Self::Pass if is_ours => Some(Bar::AtMost(1.10)),
            Self::First if is_ours && store == REDIS => Some(Bar::AtMost(1.45)),
            Self::ReplayOfOne | Self::Replay if is_ours => Some(Bar::AtMost(1.15)),
            Self::ReplayFromStore if is_ours && store == REDIS => Some(Bar::AtMost(1.5)),
            Self::Pass
            | Self::First
            | Self::Mixed
            | Self::Static
            | Self::ReplayOfOne
            | Self::Replay
            | Self::ReplayFromStore => None,
        }
    }
}

/// The name of the store that most bars are about.
pub(super) const REDIS: &str = "redis://";

impl Role {
    pub(super) fn does(self, work: Work) -> bool {
        match self {
            Self::Nginx => matches!(work, Work::Pass | Work::Static),
            Self::Haproxy => work == Work::Pass,
            Self::Peer => matches!(work, Work::First | Work::Mixed | Work::ReplayFromStore),
            Self::Gateway => !matches!(work, Work::Static | Work::ReplayFromStore),
            Self::Uncached => work == Work::ReplayFromStore,
        }
    }
}
