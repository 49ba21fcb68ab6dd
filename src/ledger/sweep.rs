//! Removes what claims without an answer may have left in the store.
//!
//! A claim whose write got no answer is abandoned: nothing was sent for it, and its caller was told so. But
//! the write may have been done, or may be done later, and other gateways would take it for a request in
//! flight. So its trace is removed, several times over: the removal may overtake the write. While the store
//! does not answer, no try is used up. Must not know requests.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Ledger;
use crate::clock;
use crate::protocol::record::Version;
use crate::protocol::scope::StorageKey;
use crate::store::Swapped;
use crate::telemetry::metrics::Call;

/// Traces waiting to be removed at most. One that is forgotten blocks its key for other gateways until this
/// process ends or handles the key itself.
const TRACES_MAX: usize = 65_536;

/// The pauses before each removal, counted from the last one that the store answered.
const PAUSES: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
];

/// How often the traces are looked through while there are any.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The traces of abandoned claims.
#[derive(Clone, Default)]
pub(super) struct Traces(Arc<State>);

#[derive(Default)]
struct State {
    waiting: Mutex<VecDeque<Trace>>,
    arrived: Notify,
}

#[derive(Clone, Copy)]
struct Trace {
    key: StorageKey,
    version: Version,
    removals: usize,
    due: Instant,
}

impl Traces {
    pub(super) fn add(&self, key: StorageKey, version: Version) {
        let mut waiting = self.waiting();
        if waiting.len() >= TRACES_MAX {
            waiting.pop_front();
        }
        waiting.push_back(Trace { key, version, removals: 0, due: clock::monotonic() });
        self.0.arrived.notify_one();
    }

    fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// The traces that are due, taken out.
    fn take_due(&self) -> Vec<Trace> {
        let (mut waiting, now) = (self.waiting(), clock::monotonic());
        let (due, later) = waiting.drain(..).partition(|trace| trace.due <= now);
        *waiting = later;
        Vec::from(due)
    }

    fn put_back(&self, traces: impl IntoIterator<Item = Trace>) {
        self.waiting().extend(traces);
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Trace>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes traces until the ledger is stopped.
pub(super) async fn sweep(ledger: &Ledger) {
    let traces = &ledger.shared.traces;
    let sweeping = async {
        loop {
            if traces.is_empty() {
                traces.0.arrived.notified().await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            sweep_once(ledger, traces).await;
        }
    };
    ledger.shared.stopping.run_until_cancelled(sweeping).await;
}

async fn sweep_once(ledger: &Ledger, traces: &Traces) {
    let mut due = traces.take_due().into_iter();
    while let Some(trace) = due.next() {
        match ledger.timed(Call::Remove, ledger.store.remove(&trace.key, trace.version)).await {
            Ok(Swapped::Done) => {}
            // Another's record may go before the trace comes.
            Ok(Swapped::Absent | Swapped::Changed) => traces.put_back(next(trace)),
            Err(_) => {
                // The store does not answer: the others would only wait for their deadlines too.
                traces.put_back(std::iter::once(trace).chain(due));
                return;
            }
        }
    }
}

fn next(trace: Trace) -> Option<Trace> {
    let removals = trace.removals + 1;
    let pause = PAUSES.get(removals)?;
    Some(Trace { removals, due: clock::monotonic() + *pause, ..trace })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record::Attempt;

    const KEY: StorageKey = StorageKey::from_bytes([1; 32]);

    fn version(revision: u32) -> Version {
        Version { attempt: Attempt([1; 16]), revision }
    }

    #[test]
    fn traces_are_bounded_and_the_oldest_goes_first() {
        let traces = Traces::default();
        for revision in 0..=u32::try_from(TRACES_MAX).unwrap() {
            traces.add(KEY, version(revision));
        }
        assert_eq!(traces.waiting().len(), TRACES_MAX);
        assert_eq!(traces.waiting().front().map(|trace| trace.version), Some(version(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trace_is_due_at_once_and_then_after_each_pause_until_there_are_no_more() {
        let traces = Traces::default();
        traces.add(KEY, version(0));
        for pause in PAUSES {
            tokio::time::advance(pause.saturating_sub(Duration::from_millis(1))).await;
            assert!(pause.is_zero() || traces.take_due().is_empty(), "{pause:?}");
            tokio::time::advance(Duration::from_millis(1)).await;
            let due = traces.take_due();
            assert_eq!(due.iter().map(|trace| trace.version).collect::<Vec<_>>(), [version(0)], "{pause:?}");
            assert!(traces.is_empty());
            traces.put_back(next(due[0]));
        }
        assert!(traces.is_empty());
    }
}
