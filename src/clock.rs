//! The one clock. Everything else gets moments as values, or waits through tokio's timers.
//!
//! Must not know why anybody asks.

use std::time::{Instant, SystemTime};

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
