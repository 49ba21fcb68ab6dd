//! What Linux tells of a process beside its processor time, and of the machine.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::cpu::Used;

/// A clock tick of `/proc`, on every Linux that runs this.
const TICK_MS: u64 = 10;

/// What ticks may say too much.
const TICKS_TOLERANCE: Duration = Duration::from_millis(40);

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) rss_bytes: u64,
    /// The most since [`reset_peak`].
    pub(super) peak_bytes: u64,
    pub(super) threads: u64,
    pub(super) files: u64,
}

impl Held {
    pub(super) fn by(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            number.ok_or_else(|| io::Error::other("read the process's status"))
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self {
            rss_bytes: number("VmRSS:")? * 1024,
            peak_bytes: number("VmHWM:")? * 1024,
            threads: number("Threads:")?,
            files: u64::try_from(files).unwrap_or(u64::MAX),
        })
    }
}

/// From here on a new peak of memory is measured.
pub(super) fn reset_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Processor time between two looks. A thread that has ended took its nanoseconds along; its ticks are still there.
pub(super) fn used_between(before: Used, after: Used) -> Duration {
    let used = after.since(before);
    let ticks = Duration::from_millis((used.user_ticks + used.system_ticks) * TICK_MS);
    if ticks > used.total + TICKS_TOLERANCE { ticks } else { used.total }
}

/// Memory that could be had without taking any from others.
pub(super) fn available_bytes() -> io::Result<u64> {
    let memory = fs::read_to_string("/proc/meminfo")?;
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    number.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("read the machine's memory"))
}

/// What the files in a directory take, without what stands deeper.
pub(super) fn bytes_in(dir: &Path) -> io::Result<u64> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

pub(super) fn mib(bytes: u64) -> f64 {
    kib(bytes) / 1024.0
}

pub(super) fn kib(bytes: u64) -> f64 {
    number(bytes) / 1024.0
}

/// Exact as far as numbers here go.
pub(super) fn number(count: u64) -> f64 {
    let (high, low) = (count >> 32, count & u64::from(u32::MAX));
    let part = |half: u64| f64::from(u32::try_from(half).unwrap_or(u32::MAX));
    part(high) * 4_294_967_296.0 + part(low)
}
