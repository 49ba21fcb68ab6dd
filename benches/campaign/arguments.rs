//! What was asked for on the command line.

use std::time::Duration;

use super::play::{KINDS, Kind, Plan};

const USAGE: &str = "expected: [--store redis|sentinel|cluster|postgres|embedded|all] [--faults NUMBER] [--seed NUMBER] \
                     [--min-replicas NUMBER] [--callers NUMBER] [--networks] [--until-found]";

const SESSION_TTL: Duration = Duration::from_secs(2);

/// A session's life and two seconds. The session of a dead gateway lives for longer by as much as the clock of the store
/// is set back, which is a second.
const PATIENCE: Duration = Duration::from_secs(2 + 2 + 1);

/// What to play.
pub(crate) struct Wish {
    pub(crate) stores: Vec<Kind>,
    faults: usize,
    seed: u64,
    min_replicas: Option<u32>,
    callers: u64,
    has_networks: bool,
    ends_early: bool,
}

impl Wish {
    /// Errors: what would have been right.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wish = Self {
            stores: KINDS.into(),
            faults: 40,
            seed: fastrand::u64(0..1_000_000),
            min_replicas: None,
            callers: 48,
            has_networks: false,
            ends_early: false,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--networks" => wish.has_networks = true,
                "--until-found" => wish.ends_early = true,
                option => {
                    let value = arguments.next().ok_or(USAGE)?;
                    wish.take(option, &value).ok_or(USAGE)?;
                }
            }
        }
        Ok(wish)
    }

    fn take(&mut self, option: &str, value: &str) -> Option<()> {
        match option {
            "--store" if value == "all" => self.stores = KINDS.into(),
            "--store" => self.stores = vec![Kind::named(value)?],
            "--faults" => self.faults = value.parse().ok()?,
            "--seed" => self.seed = value.parse().ok()?,
            "--min-replicas" => self.min_replicas = Some(value.parse().ok()?),
            "--callers" => self.callers = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn plan(&self, store: Kind) -> Plan {
        Plan {
            store,
            seed: self.seed,
            faults: self.faults,
            faults_at_once: 20,
            quiet: Duration::from_secs(6),
            callers: self.callers,
            pause: Duration::ZERO,
            session_ttl: SESSION_TTL,
            // A planted mistake is to be found for what it does, not for a slow machine.
            patience: if self.ends_early { Duration::from_mins(1) } else { PATIENCE },
            min_replicas: self.min_replicas.unwrap_or_else(|| store.min_replicas()),
            has_networks: self.has_networks,
            ends_early: self.ends_early,
        }
    }
}
