//! How much of all processors is in use, by whomever, as Linux counts it.

use std::fs;
use std::io;

/// What all processors of the machine have done since it began, in clock ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    idle: u64,
    all: u64,
}

impl Machine {
    pub(super) fn now() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        // After the word: user, nice, system, idle, waiting for a disk, interrupts, soft ones, stolen. Guests are in user.
        let ticks = stat.split_ascii_whitespace().skip(1).take(8).map(str::parse::<u64>);
        let ticks = ticks.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let idle = ticks.iter().skip(3).take(2).sum();
        Ok(Self { idle, all: ticks.iter().sum() })
    }

    /// How much of the time since then something ran, in percent.
    pub(super) fn busy_since(self, before: Self) -> f64 {
        let ticks = |now: u64, before: u64| f64::from(u32::try_from(now - before).unwrap_or(u32::MAX));
        100.0 * (1.0 - ticks(self.idle, before.idle) / ticks(self.all, before.all).max(1.0))
    }
}
