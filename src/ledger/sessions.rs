//! Who is alive: this process's own session, and what is known of the others'.
//!
//! A session is dead only after it has been absent for a full heartbeat interval: a store that failed
//! over may have lost it, and its owner, alive, is about to renew it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Ledger;
use crate::clock;
use crate::protocol::machine::Owner;
use crate::protocol::record::Session;
use crate::store::{Closure, SessionLife, StoreError};
use crate::telemetry::metrics::Call;

/// Absent sessions remembered at most; beyond it the memory starts anew, and the dead are found again.
const ABSENT_MAX: usize = 4096;

/// How often a session is renewed.
pub(super) fn heartbeat_interval(session_ttl: Duration) -> Duration {
    session_ttl / 5
}

pub(super) struct Sessions {
    own: Session,
    ttl: Duration,
    renewed_at: Mutex<Option<Instant>>,
    /// Counts the times that this process's session may have lapsed: what was claimed before may be another's.
    lapses: AtomicU64,
    is_held: AtomicBool,
    connected: watch::Sender<bool>,
    /// Whether the last heartbeat got an answer, whatever it was.
    is_reached: AtomicBool,
    /// Whether the last answer was that the store takes no claims.
    is_turned_away: AtomicBool,
    absent: Mutex<HashMap<Session, Absence>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    /// Seen absent once; looked at again after a heartbeat.
    Noticed,
    /// Absent for a full heartbeat.
    Confirmed,
}

impl Sessions {
    pub(super) fn new(own: Session, ttl: Duration) -> Self {
        Self {
            own,
            ttl,
            renewed_at: Mutex::default(),
            lapses: AtomicU64::new(0),
            is_held: AtomicBool::new(false),
            connected: watch::Sender::new(false),
            is_reached: AtomicBool::new(false),
            is_turned_away: AtomicBool::new(false),
            absent: Mutex::default(),
        }
    }

    pub(super) fn own(&self) -> Session {
        self.own
    }

    /// Whether claims may be made: nobody holds them back, and the store still knows this process to be alive, by this process's own clock, counted from
    /// the moment the last renewal was sent.
    pub(super) fn is_fresh(&self) -> bool {
        !self.is_held.load(Ordering::Acquire) && self.is_renewed()
    }

    fn is_renewed(&self) -> bool {
        self.age().is_some_and(|age| age < self.ttl)
    }

    /// How long ago the last renewal was sent that let this process claim.
    pub(super) fn age(&self) -> Option<Duration> {
        let renewed_at = *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner);
        renewed_at.map(|at| clock::monotonic().duration_since(at))
    }

    /// How often the session may have lapsed so far.
    pub(super) fn lapses(&self) -> u64 {
        self.lapses.load(Ordering::Acquire)
    }

    /// Whether nothing may be claimed though the store is within reach.
    pub(super) fn set_held(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Release);
    }

    /// Ends the freshness: nothing is claimed any more.
    pub(super) fn end(&self) {
        *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the store knows this process to be alive and lets it claim nothing.
    pub(super) fn is_turned_away(&self) -> bool {
        self.is_turned_away.load(Ordering::Acquire)
    }

    /// Whether the store answered the last heartbeat, whatever it said.
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::Acquire)
    }

    /// Whether the last renewal succeeded.
    pub(super) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    /// Waits for a renewal that succeeds.
    pub(super) async fn connected(&self) {
        let mut connected = self.connected.subscribe();
        // The sender lives as long as `self`, so the wait ends only with the value.
        let _value = connected.wait_for(|connected| *connected).await;
    }

    pub(super) fn renewed(&self, sent_at: Instant) {
        if !self.is_renewed() {
            self.lapses.fetch_add(1, Ordering::AcqRel);
        }
        *self.renewed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent_at);
        self.is_turned_away.store(false, Ordering::Release);
        self.is_reached.store(true, Ordering::Release);
        if !self.connected.send_replace(true) {
            tracing::info!("the store is within reach");
        }
    }

    /// The store knows this process to be alive and lets it claim nothing. What is in flight is settled.
    pub(super) fn turned_away(&self, closure: Closure) {
        // Before the freshness ends, so that nobody takes this for a store that is out of reach.
        let was_turned_away = self.is_turned_away.swap(true, Ordering::AcqRel);
        self.end();
        self.is_reached.store(true, Ordering::Release);
        if self.connected.send_replace(false) || !was_turned_away {
            let reason = closure.word();
            tracing::warn!(reason, "the store is closed for new claims: guarded requests are refused");
        }
    }

    pub(super) fn renewal_failed(&self, error: &StoreError) {
        self.is_reached.store(false, Ordering::Release);
        if self.connected.send_replace(false) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "the store is out of reach: guarded requests are refused");
        }
    }

    fn absent(&self) -> MutexGuard<'_, HashMap<Session, Absence>> {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an absence. Answers whether it is confirmed, and whether it is new.
    fn note_absence(&self, session: Session) -> (Owner, bool) {
        let mut absent = self.absent();
        match absent.get(&session) {
            Some(Absence::Confirmed) => (Owner::Gone, false),
            Some(Absence::Noticed) => (Owner::Working, false),
            None => {
                if absent.len() >= ABSENT_MAX {
                    absent.clear();
                }
                absent.insert(session, Absence::Noticed);
                (Owner::Working, true)
            }
        }
    }
}

/// What the store's word on a session means for the owner of a claim made in it.
pub(super) fn owner_by(ledger: &Ledger, session: Session, life: SessionLife) -> Owner {
    let sessions = &ledger.shared.sessions;
    match life {
        SessionLife::Dead => Owner::Gone,
        SessionLife::Alive => {
            sessions.absent().remove(&session);
            Owner::Working
        }
        SessionLife::Absent => {
            let (owner, is_new) = sessions.note_absence(session);
            if is_new {
                confirm_later(ledger.clone(), session);
            }
            owner
        }
    }
}

/// Looks again after a heartbeat, so that the next request need not come at the right moment.
fn confirm_later(ledger: Ledger, session: Session) {
    let chores = ledger.shared.chores.clone();
    chores.spawn(async move {
        loop {
            tokio::select! {
                biased; // In one order, so that a simulation plays the same twice.
                () = ledger.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(heartbeat_interval(ledger.shared.settings.session_ttl)) => {}
            }
            match ledger.timed(Call::Session, ledger.store.session_life(session)).await {
                Ok(SessionLife::Absent | SessionLife::Dead) => {
                    ledger.shared.sessions.absent().insert(session, Absence::Confirmed);
                    return;
                }
                Ok(SessionLife::Alive) => {
                    ledger.shared.sessions.absent().remove(&session);
                    return;
                }
                Err(_) => {}
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(5);

    fn sessions() -> Sessions {
        Sessions::new(Session([1; 16]), TTL)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_fresh_from_its_renewal_for_as_long_as_it_lives() {
        let sessions = sessions();
        assert!(!sessions.is_fresh() && sessions.age().is_none());
        sessions.renewed(clock::monotonic());
        tokio::time::advance(Duration::from_millis(4999)).await;
        assert!(sessions.is_fresh());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!sessions.is_fresh(), "the store may have let it lapse");
        assert_eq!(sessions.age(), Some(TTL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lapse_is_counted_when_the_renewal_came_too_late() {
        let sessions = sessions();
        for (after, lapses) in [(Duration::ZERO, 1), (TTL / 5, 1), (TTL, 2), (TTL / 5, 2)] {
            tokio::time::advance(after).await;
            sessions.renewed(clock::monotonic());
            assert_eq!(sessions.lapses(), lapses);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_said_last_is_known() {
        let sessions = sessions();
        let is = || {
            (sessions.is_connected(), sessions.is_reached(), sessions.is_turned_away(), sessions.is_fresh())
        };
        assert_eq!(is(), (false, false, false, false));
        sessions.renewed(clock::monotonic());
        assert_eq!(is(), (true, true, false, true));
        sessions.renewal_failed(&StoreError::Unreachable("gone".into()));
        assert_eq!(is(), (false, false, false, true));
        sessions.turned_away(Closure::Leaving);
        assert_eq!(is(), (false, true, true, false));
        sessions.renewed(clock::monotonic());
        assert_eq!(is(), (true, true, false, true));
        sessions.set_held(true);
        assert_eq!(is(), (true, true, false, false));
        sessions.set_held(false);
        sessions.end();
        assert_eq!(is(), (true, true, false, false));
        assert_eq!(sessions.own(), Session([1; 16]));
    }

    #[test]
    fn an_absence_is_noticed_once_and_the_memory_of_them_is_bounded() {
        let sessions = sessions();
        let of = |number: u128| Session(number.to_be_bytes());
        assert!(matches!(sessions.note_absence(of(0)), (Owner::Working, true)));
        assert!(matches!(sessions.note_absence(of(0)), (Owner::Working, false)));
        sessions.absent().insert(of(0), Absence::Confirmed);
        assert!(matches!(sessions.note_absence(of(0)), (Owner::Gone, false)));
        for number in 1..u128::try_from(ABSENT_MAX).unwrap() {
            sessions.note_absence(of(number));
        }
        assert_eq!(sessions.absent().len(), ABSENT_MAX);
        assert!(matches!(sessions.note_absence(of(u128::MAX)), (Owner::Working, true)));
        assert_eq!(sessions.absent().len(), 1, "it starts anew, and the dead are found again");
    }

    #[test]
    fn a_session_is_renewed_five_times_while_it_lives() {
        assert_eq!(heartbeat_interval(TTL), Duration::from_secs(1));
    }
}
