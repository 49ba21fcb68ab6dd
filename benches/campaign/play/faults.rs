//! What can go wrong with a server, by name. `nemesis.rs` does it.

/// Whom it befalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Gateway(usize),
    Node(usize),
    Watcher(usize),
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Killed,
    Ended,
    Frozen,
    Slowed,
    WithoutKey,
    CutOff,
    /// It hears nothing of the store and is heard by it.
    Deaf,
    CutOffFromService,
    Torn,
    Clock,
    Full,
    LeaderKilled,
    LeaderFrozen,
    LeaderCutOff,
    HandOver,
}

/// Those that come more often stand here more often.
pub(crate) const FAULTS: [Fault; 17] = [
    Fault::Killed,
    Fault::Killed,
    Fault::Ended,
    Fault::Frozen,
    Fault::Frozen,
    Fault::Slowed,
    Fault::WithoutKey,
    Fault::CutOff,
    Fault::Deaf,
    Fault::CutOffFromService,
    Fault::Torn,
    Fault::Clock,
    Fault::Full,
    Fault::LeaderKilled,
    Fault::LeaderFrozen,
    Fault::LeaderCutOff,
    Fault::HandOver,
];

impl Fault {
    /// Whether it starts, stops or ends the process, so that no other such fault may befall it meanwhile.
    pub(crate) fn is_of_process(self) -> bool {
        match self {
            Self::Killed
            | Self::Ended
            | Self::Frozen
            | Self::Slowed
            | Self::WithoutKey
            | Self::LeaderKilled
            | Self::LeaderFrozen => true,
            Self::CutOff
            | Self::Deaf
            | Self::CutOffFromService
            | Self::Torn
            | Self::Clock
            | Self::Full
            | Self::LeaderCutOff
            | Self::HandOver => false,
        }
    }

    pub(crate) fn name(self, at: Target) -> &'static str {
        let is_gateway = matches!(at, Target::Gateway(_));
        match self {
            Self::Killed if is_gateway => "gateway: kill -9",
            Self::Killed => "store: kill -9",
            Self::Ended if is_gateway => "gateway: kill -15",
            Self::Ended => "store: kill -15",
            Self::Frozen if is_gateway => "gateway: stopped for longer than its session",
            Self::Frozen => "store: stopped",
            Self::Slowed if is_gateway => "gateway: slow",
            Self::Slowed => "store: slow",
            Self::WithoutKey => "gateway: cannot open the others' records",
            Self::CutOff if is_gateway => "gateway: cut off from the store",
            Self::CutOff => "store: cut off",
            Self::Deaf => "gateway: does not hear the store",
            Self::CutOffFromService => "gateway: cut off from the service",
            Self::Torn if is_gateway => "gateway: connections reset",
            Self::Torn => "store: connections reset",
            Self::Clock if is_gateway => "gateway: clock jumps",
            Self::Clock => "store: clock jumps",
            Self::Full => "store: disk full",
            Self::LeaderKilled => "failover: master killed",
            Self::LeaderFrozen => "failover: master stopped",
            Self::LeaderCutOff => "failover: master cut off from its replicas",
            Self::HandOver => "failover: asked for",
        }
    }
}
