//! Whether the store may be trusted with claims: asked at the start, and again for as long as the gateway runs.
//!
//! Until the store has told how it keeps what it acknowledges, and while it tells of something that breaks the
//! guarantee, the ledger is held: guarded requests are refused. Must not know any store.

use std::future::Future;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::store::StoreError;
use crate::store::durability::{Durability, Fault};

/// How often a store that is trusted is asked again: its settings can be changed, and a failover may have led to
/// another server.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// How often one that is not trusted, or has not answered yet, is asked again.
const ASK_SOON: Duration = Duration::from_secs(1);

/// How long an inspection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The guarantee does not hold on this store, or it cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trust the store: {0}")]
pub struct Refused(String);

/// What is known of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// It has not answered yet.
    Nothing,
    /// It may be used, and this can be lost; or it would not tell.
    Trusted(Option<Risks>),
    /// It may not.
    Refused(String),
}

/// What an operator should know of a store that is used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Risks {
    losses: Vec<String>,
    faults: Vec<Fault>,
}

pub(super) struct Vetting<Ask> {
    ask: Ask,
    accept_eviction: bool,
    ledger: Ledger,
    known: Known,
}

impl<Ask, Asking> Vetting<Ask>
where
    Ask: Fn() -> Asking,
    Asking: Future<Output = Result<Durability, StoreError>>,
{
    /// Holds the ledger until `ask` has told enough.
    pub(super) fn new(ask: Ask, accept_eviction: bool, ledger: Ledger) -> Self {
        ledger.hold();
        Self { ask, accept_eviction, ledger, known: Known::Nothing }
    }

    /// Looks once; for a gateway that had better not start.
    pub(super) async fn first(&mut self) -> Result<(), Refused> {
        self.look().await;
        match &self.known {
            Known::Refused(text) => Err(Refused(text.clone())),
            Known::Nothing | Known::Trusted(_) => Ok(()),
        }
    }

    /// Looks again and again. To be run as a task.
    pub(super) async fn keep(mut self) {
        loop {
            let pause = match self.known {
                Known::Trusted(_) => ASK_AGAIN,
                Known::Nothing | Known::Refused(_) => ASK_SOON,
            };
            tokio::time::sleep(pause).await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let found = match tokio::time::timeout(PATIENCE, (self.ask)()).await {
            Ok(Ok(found)) => match found.refusal(self.accept_eviction) {
                Some(fault) => Known::Refused(fault.text.clone()),
                None => Known::Trusted(Some(Risks { losses: found.losses, faults: found.faults })),
            },
            // It answers, and may not be asked: managed servers forbid it. That is no reason to refuse service, and
            // none to trust a store that has told worse.
            Ok(Err(StoreError::Refused(_))) => match self.known {
                Known::Nothing | Known::Trusted(_) => Known::Trusted(None),
                Known::Refused(_) => return,
            },
            // Out of reach it takes no claims either, so what was known of it stands.
            Ok(Err(
                StoreError::Unreachable(_)
                | StoreError::TimedOut(_)
                | StoreError::Standing(_)
                | StoreError::StrangeCursor
                | StoreError::Crowded(_)
                | StoreError::Engine(_),
            ))
            | Err(_) => return,
        };
        if found != self.known {
            tell(&found);
            self.known = found;
        }
        match self.known {
            Known::Trusted(_) => self.ledger.admit(),
            Known::Nothing | Known::Refused(_) => self.ledger.hold(),
        }
    }
}

fn tell(found: &Known) {
    match found {
        Known::Nothing => {}
        Known::Trusted(None) => tracing::warn!("the store does not tell how it keeps what it acknowledges"),
        Known::Trusted(Some(Risks { losses, faults })) => {
            for loss in losses {
                tracing::info!("durability: {loss}");
            }
            for fault in faults {
                tracing::warn!("{}", fault.text);
            }
        }
        Known::Refused(text) => {
            tracing::error!(reason = %text, "the store breaks the guarantee: guarded requests are refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};

    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::ledger::{Settings, fresh_session};
    use crate::store::durability::Severity;
    use crate::store::memory::MemoryStore;

    /// What the store answers from now on.
    #[derive(Clone)]
    struct Answer(Arc<Mutex<Result<Option<Severity>, No>>>);

    /// Why it tells nothing.
    #[derive(Clone, Copy)]
    enum No {
        OutOfReach,
        MayNotBeAsked,
    }

    impl Answer {
        fn set(&self, answer: Result<Option<Severity>, No>) {
            *self.0.lock().unwrap() = answer;
        }

        fn ask(&self) -> Result<Durability, StoreError> {
            let answer = *self.0.lock().unwrap();
            let faults = |severity: Option<Severity>| {
                severity
                    .map(|severity| Fault { severity, text: format!("{severity:?}") })
                    .into_iter()
                    .collect()
            };
            answer.map(|severity| Durability { faults: faults(severity), ..Durability::default() }).map_err(
                |no| match no {
                    No::OutOfReach => StoreError::TimedOut(PATIENCE),
                    No::MayNotBeAsked => StoreError::Refused("BUSY".into()),
                },
            )
        }
    }

    /// A ledger whose session was just renewed, and a store that answers so.
    async fn ledger_and(answer: Result<Option<Severity>, No>) -> (Ledger, Answer) {
        let settings = Settings {
            store_timeout: Duration::from_secs(1),
            session_ttl: Duration::from_hours(1),
            local_cache_bytes: 0,
        };
        let ledger = Ledger::new(Arc::new(MemoryStore::new()), fresh_session(), settings);
        let beating = ledger.clone();
        TaskTracker::new().spawn(async move { beating.heartbeat().await });
        assert!(ledger.connected(Duration::from_mins(1)).await);
        (ledger, Answer(Arc::new(Mutex::new(answer))))
    }

    type Asking = Pin<Box<dyn Future<Output = Result<Durability, StoreError>> + Send>>;

    fn vetting(ledger: &Ledger, answer: &Answer) -> Vetting<Box<dyn Fn() -> Asking + Send + Sync>> {
        let answer = answer.clone();
        Vetting::new(Box::new(move || Box::pin(ready(answer.ask()))), false, ledger.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_sound_store_is_admitted_and_one_that_evicts_refused() {
        let (ledger, answer) = ledger_and(Ok(None)).await;
        let mut first = vetting(&ledger, &answer);
        assert!(!ledger.is_connected(), "before the store has told");
        assert_eq!(first.first().await, Ok(()));
        assert!(ledger.is_connected());
        answer.set(Ok(Some(Severity::Evicts)));
        assert_eq!(vetting(&ledger, &answer).first().await, Err(Refused("Evicts".to_owned())));
        assert!(!ledger.is_connected());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_out_of_reach_at_the_start_is_held_until_it_has_told() {
        let (ledger, answer) = ledger_and(Err(No::OutOfReach)).await;
        let mut first = vetting(&ledger, &answer);
        assert_eq!(first.first().await, Ok(()));
        assert!(!ledger.is_connected());
        let kept = TaskTracker::new().spawn(first.keep());
        tokio::time::sleep(10 * ASK_SOON).await;
        assert!(!ledger.is_connected());
        answer.set(Ok(Some(Severity::Weak)));
        tokio::time::sleep(2 * ASK_SOON).await;
        assert!(ledger.is_connected());
        kept.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_whose_settings_are_changed_is_held_and_admitted_again() {
        let (ledger, answer) = ledger_and(Ok(None)).await;
        let mut first = vetting(&ledger, &answer);
        first.first().await.unwrap();
        let kept = TaskTracker::new().spawn(first.keep());
        answer.set(Ok(Some(Severity::Evicts)));
        tokio::time::sleep(ASK_AGAIN + ASK_SOON).await;
        assert!(!ledger.is_connected());
        answer.set(Err(No::OutOfReach));
        tokio::time::sleep(ASK_AGAIN).await;
        assert!(!ledger.is_connected(), "what was known stands while it is out of reach");
        answer.set(Ok(None));
        tokio::time::sleep(2 * ASK_SOON).await;
        assert!(ledger.is_connected());
        kept.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_may_not_be_asked_is_admitted_unless_it_has_told_that_it_evicts() {
        let (ledger, answer) = ledger_and(Err(No::MayNotBeAsked)).await;
        let mut vetting = vetting(&ledger, &answer);
        assert_eq!(vetting.first().await, Ok(()));
        assert!(ledger.is_connected());
        answer.set(Ok(Some(Severity::Evicts)));
        vetting.look().await;
        assert!(!ledger.is_connected());
        answer.set(Err(No::MayNotBeAsked));
        vetting.look().await;
        assert!(!ledger.is_connected(), "busy for a moment, and it evicts as before");
    }
}
