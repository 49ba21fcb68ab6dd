//! The protocol over a store: what a request may do, claims, waiters, sessions.
//!
//! [`Ledger::open`] is the only way to a [`Claim`], and a claim is the only licence to forward. Must
//! not know HTTP. Read `../protocol/machine.rs` before; then `open.rs` (how a request gets its
//! verdict), `claim.rs` (how it is settled), `twofold.rs` (how a key that was made in another way before is found),
//! `heartbeat.rs` (how this process says that it lives), `sessions.rs` (who is alive), `sweep.rs` (what abandoned claims
//! leave), `waiters.rs` (who is woken), `answers.rs` (what is kept in memory), `operations.rs` (what operators see and
//! do), `numbers.rs` (what is counted).

mod answers;
mod attempts;
mod claim;
mod heartbeat;
mod numbers;
mod open;
pub mod operations;
mod sessions;
mod sweep;
mod twofold;
mod waiters;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::protocol::machine::{Asked, Verdict};
use crate::protocol::mistake::Mistake;
use crate::protocol::policy::Retention;
use crate::protocol::record::{Seen, Session, Settled, UnknownReason};
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::protocol::scope::StorageKey;
use crate::store::{Store, StoreError, Watch};
use crate::telemetry::metrics::{Call, CallOutcome, Metrics};

use answers::Answers;
use attempts::Attempts;
pub use claim::{Settlement, Unprocessed};
pub use numbers::Cached;
use sessions::Sessions;
use sweep::Traces;
pub use twofold::{Claim, LateClaim};
use waiters::Waiters;

/// How often a waiter looks by itself, in case a wake-up was lost.
const WAIT_POLL: Duration = Duration::from_secs(1);

/// The protocol over one handle to the store. Cheap to clone; one per worker, all sharing one memory of
/// attempts, waiters, sessions and answers.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
}

/// What the workers of one process share.
struct Shared {
    settings: Settings,
    attempts: Attempts,
    traces: Traces,
    waiters: Waiters,
    sessions: Sessions,
    answers: Answers,
    /// Settlements under way in the background; a drain waits for them.
    commits: TaskTracker,
    /// Looks at sessions that may be dead; nobody waits for these.
    chores: TaskTracker,
    stopping: CancellationToken,
    metrics: Arc<Metrics>,
}

/// What the ledger is told by the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Deadline of every store call.
    pub store_timeout: Duration,
    /// How long a session lives without renewal.
    pub session_ttl: Duration,
    /// Bytes of finished records kept in memory.
    pub local_cache_bytes: u64,
}

/// What a request asks of the ledger.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where its record stands.
    pub key: StorageKey,
    /// What it asks of the machine.
    pub asked: Asked,
    /// How long things are kept.
    pub terms: Terms,
    /// The same question as it was asked before keys were made as they are now, where that gives another key.
    pub earlier: Option<Box<Question>>,
}

/// How long things are kept and waited for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Retention of settled records.
    pub retention: Retention,
    /// Retention of the claim itself: longer than any forward can last.
    pub claim_keep_for: Duration,
    /// How long an answer waits for the store before it is delivered unstored.
    pub commit_timeout: Duration,
}

/// The answer to a question.
#[derive(Debug)]
pub enum Opened {
    /// Forward: the claim is yours.
    Execute(Box<Claim>),
    /// Do not: this is known of the key.
    Known(Known),
}

/// What is known of a key that somebody else has claimed.
#[derive(Debug)]
pub enum Known {
    /// Answer with the first answer.
    Replay(SavedResponse, Settled),
    /// Answer with the first answer, which this process knows and the store has not taken yet.
    Unstored(SavedResponse, Settled),
    /// The first answer is known, its body is not.
    BodyNotKept(SavedHead),
    /// The key belongs to another request.
    Mismatch,
    /// The first request is still at work.
    InFlight,
    /// Nobody knows what came of the first request.
    Unknown(UnknownReason),
}

/// When a claim was asked for: before its write was sent.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: Instant,
    /// The lapses of this process's session until then.
    lapses: u64,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The record is no longer in flight: ask again.
    Settled,
    /// It still is.
    TimedOut,
}

/// Nothing is known of the key: nothing may be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The store did not do what it was asked to.
    #[error("use the store")]
    Store(#[source] StoreError),
    /// A record stands under the key, and the store did not tell enough of it.
    #[error("read the record that stands under the key")]
    KeyStands(#[source] StoreError),
    /// The claim was made, and no longer stands.
    #[error("find the claim in its place")]
    ClaimGone,
    /// This process has not been able to say that it lives, so its claims could look orphaned.
    #[error("renew this gateway's session in the store")]
    SessionLapsed,
    /// The store is within reach and takes no claims, and holds no finished answer under the key: what it does not
    /// know, or knows to be unfinished, may be known elsewhere.
    #[error("claim the key: the store is closed for new claims")]
    Closed,
}

impl Unavailable {
    /// The same error after a record was seen under the key.
    fn of_standing_key(self) -> Self {
        match self {
            Self::Store(error) => Self::KeyStands(error),
            other @ (Self::KeyStands(_) | Self::ClaimGone | Self::SessionLapsed | Self::Closed) => other,
        }
    }
}

impl Ledger {
    /// Makes the ledger of a process over its first store handle; nobody reads what it counts.
    pub fn new(store: Arc<dyn Store>, session: Session, settings: Settings) -> Self {
        Self::counted_by(Arc::default(), store, session, settings)
    }

    /// Makes the ledger of a process over its first store handle.
    pub fn counted_by(
        metrics: Arc<Metrics>,
        store: Arc<dyn Store>,
        session: Session,
        settings: Settings,
    ) -> Self {
        let shared = Shared {
            settings,
            attempts: Attempts::default(),
            traces: Traces::default(),
            waiters: Waiters::default(),
            sessions: Sessions::new(session, settings.session_ttl),
            answers: Answers::new(settings.local_cache_bytes),
            commits: TaskTracker::new(),
            chores: TaskTracker::new(),
            stopping: CancellationToken::new(),
            metrics,
        };
        Self { store, shared: Arc::new(shared) }
    }

    /// The same ledger over another handle to the same store.
    #[must_use]
    pub fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { store, shared: Arc::clone(&self.shared) }
    }

    /// Waits until the record is no longer in flight, or until `deadline`.
    ///
    /// Errors: the store was out of reach when the deadline came.
    /// Cancel safety: nothing is lost; no store connection is held while waiting.
    pub async fn wait(&self, question: &Question, deadline: Instant) -> Result<Waited, Unavailable> {
        if let Some(earlier) = &question.earlier
            && self.wait_one(earlier, deadline).await? == Waited::TimedOut
        {
            return Ok(Waited::TimedOut);
        }
        self.wait_one(question, deadline).await
    }

    async fn wait_one(&self, question: &Question, deadline: Instant) -> Result<Waited, Unavailable> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let waiter = self.shared.waiters.join(question.key);
        let mut watch =
            self.timed(Call::Watch, self.store.watch(&question.key)).await.unwrap_or_else(|_| Watch::never());
        loop {
            let woken = waiter.woken();
            tokio::pin!(woken);
            // Enabled before the look, so that a settling in between is not missed.
            woken.as_mut().enable();
            let look = self.is_in_flight(question).await;
            if matches!(look, Ok(false)) {
                return Ok(Waited::Settled);
            }
            if Mistake::StaleWaiter.is_made() {
                tokio::time::sleep_until(deadline).await;
                return look.map(|_| Waited::TimedOut);
            }
            tokio::select! {
                biased; // In one order, so that a simulation plays the same twice.
                () = tokio::time::sleep_until(deadline) => return look.map(|_| Waited::TimedOut),
                () = woken => {}
                () = watch.changed() => {}
                () = tokio::time::sleep(WAIT_POLL) => {}
            }
        }
    }

    /// Waits until the store has taken a heartbeat, at most for `limit`. Answers whether it has.
    pub async fn connected(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.shared.sessions.connected()).await.is_ok()
    }

    /// Lets nothing be claimed until [`Ledger::admit`]. What is in flight is settled.
    pub fn hold(&self) {
        self.shared.sessions.set_held(true);
    }

    /// Lets claims be made.
    pub fn admit(&self) {
        self.shared.sessions.set_held(false);
    }

    /// Waits for the settlements that are tried in the background.
    pub async fn commits_done(&self) {
        self.shared.commits.close();
        self.shared.commits.wait().await;
    }

    /// What the store is and where; holds no credential.
    pub fn store_name(&self) -> String {
        self.store.describe()
    }

    /// Whether the store took this process's last heartbeat.
    pub fn is_connected(&self) -> bool {
        self.shared.sessions.is_fresh() && self.shared.sessions.is_connected()
    }

    /// Ends background work that may end: heartbeats and cleaning up. Settlements under way go on.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }

    /// Ends this process's session in order, so that others need not wait for it to lapse.
    pub async fn end_session(&self) -> Result<(), Unavailable> {
        self.shared.sessions.end();
        self.timed(Call::EndSession, self.store.end_session(self.shared.sessions.own()))
            .await
            .map_err(Unavailable::Store)
    }

    async fn is_in_flight(&self, question: &Question) -> Result<bool, Unavailable> {
        if self.recall_one(question).is_some() {
            return Ok(false);
        }
        let as_of = self.shared.answers.as_of();
        let seen = self.asked(Call::Fetch, self.store.fetch(&question.key)).await?;
        if let Seen::Record(record) = &seen {
            self.shared.answers.remember(question.key, record, as_of);
        }
        Ok(matches!(self.judge(seen, question).await?, open::Judged::As(Verdict::InFlight(_), _)))
    }

    async fn asked<T>(
        &self,
        call: Call,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Unavailable> {
        self.timed(call, asking).await.map_err(Unavailable::Store)
    }

    /// Asks the store, for so long and no longer, and counts how long it took.
    async fn timed<T>(
        &self,
        call: Call,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (limit, began) = (self.shared.settings.store_timeout, clock::monotonic());
        let asked = tokio::time::timeout(limit, asking).await.unwrap_or(Err(StoreError::TimedOut(limit)));
        let outcome = match &asked {
            // Whoever asked gave it a cursor that is none: nothing is wrong with the store.
            Ok(_) | Err(StoreError::StrangeCursor) => CallOutcome::Ok,
            Err(StoreError::TimedOut(_)) => CallOutcome::Timeout,
            Err(_) => CallOutcome::Error,
        };
        self.shared.metrics.claims.called(call, outcome, clock::monotonic().duration_since(began));
        asked
    }
}

/// A new session, for a process that starts.
pub fn fresh_session() -> Session {
    Session(uuid::Uuid::new_v4().into_bytes())
}
