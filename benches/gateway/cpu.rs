//! How much of the processors a process has used, as Linux counts it.

use std::fs;
use std::io;
use std::time::Duration;

/// What a process has used since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    /// User and system time of all its threads, in nanoseconds' resolution.
    pub(super) total: Duration,
    /// The same in clock ticks, too coarse for one measurement but told apart.
    pub(super) user_ticks: u64,
    pub(super) system_ticks: u64,
}

impl Used {
    /// Reads it for a process that keeps its threads; the time of a thread that ended is not in `total`.
    pub(super) fn by(pid: u32) -> io::Result<Self> {
        let mut total = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // Its first number is the time on a processor, in nanoseconds.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let nanos = text.split(' ').next().and_then(|number| number.parse().ok());
            total += Duration::from_nanos(nanos.ok_or_else(|| io::Error::other("read schedstat"))?);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold spaces; after it, user and system time are the 12th and 13th.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
        let mut ticks = fields.split(' ').skip(11).map_while(|field| field.parse().ok());
        match (ticks.next(), ticks.next()) {
            (Some(user_ticks), Some(system_ticks)) => Ok(Self { total, user_ticks, system_ticks }),
            _ => Err(io::Error::other("read the process's stat")),
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
        }
    }
}
