//! The one clock. Everything else gets moments as values, or waits through tokio's timers.
//!
//! Must not know why anybody asks.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::record::UnixMillis;

/// Wall time, for people and for `Date`.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> SystemTime {
    #[cfg(test)]
    if let Some(simulated) = simulated::WALL.get() {
        return simulated;
    }
    SystemTime::now()
}

/// Wall time. For `Age`, and for the embedded store's persisted expiry.
pub fn unix_millis() -> UnixMillis {
    let since_epoch = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Monotonic time. It goes on while the process is stopped, so a paused process sees that time passed.
///
/// It is the time of tokio's timers, which a test may hold still; outside of tests that is the system's.
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How long this thread has had a processor, in all.
pub fn processor_time() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

/// Wall time where it is simulated.
#[cfg(test)]
pub(crate) mod simulated {
    use std::cell::Cell;
    use std::time::SystemTime;

    thread_local! {
        /// What this thread takes for the wall time, if not the system's.
        pub(crate) static WALL: Cell<Option<SystemTime>> = const { Cell::new(None) };
    }
}
