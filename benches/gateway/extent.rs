//! How much is measured, as the command line says.

use std::time::Duration;

use super::Failure;

/// How much of everything.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    pub(super) rounds: usize,
    /// Of one row in one round.
    pub(super) requests: usize,
    /// Limit of one measurement.
    pub(super) each: Duration,
    /// How long an open loop runs, or callers that are counted by the second.
    pub(super) loops: Duration,
    /// No round begins after this.
    pub(super) total: Duration,
    /// In the store that a gateway starts on.
    pub(super) records: u32,
    /// How often it is started.
    pub(super) starts: usize,
    /// How often a crowd of idle callers is held.
    pub(super) crowds: usize,
    /// Only what this occurs in, and what that is held against.
    only: String,
}

impl Extent {
    pub(super) fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut extent = Self {
            rounds: 6,
            requests: 1200,
            each: Duration::from_secs(3),
            loops: Duration::from_millis(800),
            total: Duration::from_secs(95),
            records: 100_000,
            starts: 5,
            crowds: 1,
            only: String::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--bench" => {}
                "--long" => {
                    extent.rounds = 20;
                    extent.requests = 4000;
                    extent.each = Duration::from_secs(20);
                    extent.loops = Duration::from_secs(2);
                    extent.total = Duration::from_mins(10);
                    extent.records = 1_000_000;
                    extent.starts = 15;
                    extent.crowds = 3;
                }
                "--rounds" => extent.rounds = value()?.parse()?,
                "--requests" => extent.requests = value()?.parse()?,
                "--records" => extent.records = value()?.parse()?,
                "--only" => extent.only = value()?,
                _ => {
                    return Err(format!(
                        "expected --long, --rounds N, --requests N, --records N or --only WORD, not {argument}"
                    )
                    .into());
                }
            }
        }
        Ok(extent)
    }

    /// Whether something of this name is measured.
    pub(super) fn chooses(&self, name: &str) -> bool {
        name.contains(&self.only)
    }
}
