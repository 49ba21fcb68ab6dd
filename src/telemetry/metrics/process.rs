//! What the system tells of this process, under the names that every process exports. Where there is no `/proc` the
//! page does without.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, getrlimit};

use super::families::{PROCESS_CPU, PROCESS_FDS, PROCESS_FDS_MAX, PROCESS_MEMORY, PROCESS_START};
use super::observed::Page;
use crate::protocol::record::UnixMillis;

/// Where, counted from the end of the command's name in `/proc/self/stat`, the ticks in user mode and in the kernel
/// stand (proc(5)).
const USER_TICKS_AT: usize = 11;
const KERNEL_TICKS_AT: usize = 12;

/// Tells what the system knows of this process.
#[derive(Debug)]
pub(super) struct Process {
    /// When the metrics were made, which is when the process began but for a moment.
    pub(super) began: UnixMillis,
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        page.one(&PROCESS_START, &ConstGauge::new(Duration::from_millis(self.began.0).as_secs_f64()))?;
        if let Some(time) = read("stat").as_deref().and_then(processor_time) {
            page.one(&PROCESS_CPU, &ConstCounter::new(time.as_secs_f64()))?;
        }
        if let Some(bytes) = read("status").as_deref().and_then(resident_bytes) {
            page.one(&PROCESS_MEMORY, &ConstGauge::new(bytes))?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            page.one(&PROCESS_FDS, &ConstGauge::new(open.count().saturating_sub(1)))?;
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            page.one(&PROCESS_FDS_MAX, &ConstGauge::new(max))?;
        }
        Ok(())
    }
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/{name}")).ok()
}

fn processor_time(stat: &str) -> Option<Duration> {
    // The name stands in brackets, and may have blanks and brackets in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = |at| fields.split(' ').nth(at)?.parse::<u64>().ok();
    let ticks = ticks(USER_TICKS_AT)?.checked_add(ticks(KERNEL_TICKS_AT)?)?;
    Some(Duration::from_millis(ticks.checked_mul(1000)?.checked_div(clock_ticks_per_second())?))
}

fn resident_bytes(status: &str) -> Option<u64> {
    let told = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    told.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_past_a_name_of_any_kind() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0";
        let ticks = clock_ticks_per_second();
        assert_eq!(processor_time(stat), Some(Duration::from_millis(300_000 / ticks)));
        assert_eq!(processor_time("7 (a"), None);
    }

    #[test]
    fn memory_in_use_is_read_in_bytes() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2_097_152));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}
