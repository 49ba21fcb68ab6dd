//! The protocol over a store: what a request may do, claims, waiters, sessions.
//!
//! [`Ledger::open`] is the only way to a [`Claim`], and a claim is the only licence to forward. Must
//! not know HTTP. Read `../protocol/machine.rs` before; then `claim.rs` (how a claim is settled),
//! `sessions.rs` (who is alive), `sweep.rs` (what abandoned claims leave),
//! `waiters.rs` (who is woken), `answers.rs` (what is kept in memory).

mod answers;
mod attempts;
mod claim;
mod sessions;
mod sweep;
mod waiters;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::protocol::machine::{self, Asked, Owner, Token, Verdict};
use crate::protocol::policy::Retention;
use crate::protocol::record::{Attempt, Record, Seen, Session, Settled, UnknownReason};
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::protocol::scope::StorageKey;
use crate::store::{Store, StoreError, Swapped, Watch};

use answers::Answers;
use attempts::{Attempts, Live};
pub use claim::{Claim, LateClaim, Settlement, Unprocessed};
use sessions::Sessions;
use sweep::Traces;
use waiters::Waiters;

/// How often a waiter looks by itself, in case a wake-up was lost.
const WAIT_POLL: Duration = Duration::from_secs(1);

/// How soon a failed heartbeat is tried again at the latest.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// How often the claim is tried again when the record changes between look and write. Each round means
/// that another request made progress on the same key.
const OPEN_ROUNDS_MAX: usize = 16;

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
    /// The first answer is known, its body is not.
    BodyNotKept(SavedHead),
    /// The key belongs to another request.
    Mismatch,
    /// The first request is still at work.
    InFlight,
    /// Nobody knows what came of the first request.
    Unknown(UnknownReason),
}

/// A verdict, and what was known of the record's owner when it was given.
#[expect(clippy::large_enum_variant, reason = "lives for one step, on the stack")]
enum Judged {
    As(Verdict, Owner),
    /// The record went away while its owner was looked for: claim again.
    GoneMeanwhile,
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
    Store(#[from] StoreError),
    /// This process has not been able to say that it lives, so its claims could look orphaned.
    #[error("renew this gateway's session in the store")]
    SessionLapsed,
}

impl Ledger {
    /// Makes the ledger of a process over its first store handle.
    pub fn new(store: Arc<dyn Store>, session: Session, settings: Settings) -> Self {
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
        };
        Self { store, shared: Arc::new(shared) }
    }

    /// The same ledger over another handle to the same store.
    #[must_use]
    pub fn over(&self, store: Arc<dyn Store>) -> Self {
        Self { store, shared: Arc::clone(&self.shared) }
    }

    /// Asks what a request may do; claims the key if nobody has.
    ///
    /// Errors: nothing may be forwarded; whatever the store may still do with the claim is cleaned up.
    /// Cancel safety: none. Dropping the future may leave a claim that nobody works on, which reads as
    /// unknown. Run it in a tracked task.
    pub async fn open(&self, question: &Question) -> Result<Opened, Unavailable> {
        if let Some(known) = self.recall(question) {
            return Ok(Opened::Known(known));
        }
        if !self.shared.sessions.is_fresh() {
            return Err(Unavailable::SessionLapsed);
        }
        let asked_at = clock::monotonic();
        let token = Token { attempt: fresh_attempt(), session: self.shared.sessions.own() };
        // Entered before the write is sent, so that nobody who reads the claim takes it for an orphan.
        let live = self.shared.attempts.enter(token.attempt);
        let claim = machine::claim(token, &question.asked, clock::unix_millis());
        let mut seen = self.insert(question, &claim, &live).await?;
        for _ in 0..OPEN_ROUNDS_MAX {
            match self.judge(seen, question).await? {
                Judged::As(Verdict::Execute, _) => return Ok(self.claimed(question, claim, live, asked_at)),
                Judged::As(Verdict::Reclaim(over), owner) => {
                    let next = machine::reclaim(&over, token, &question.asked, owner);
                    // An error here leaves an attempt that nobody answers for: unknown, as it was before.
                    let keep_for = question.terms.claim_keep_for;
                    match self.timed(self.store.swap(&question.key, over.version, &next, keep_for)).await? {
                        Swapped::Done => return Ok(self.claimed(question, next, live, asked_at)),
                        Swapped::Changed | Swapped::Absent => {}
                    }
                }
                Judged::As(Verdict::Replay(saved, settled), _) => {
                    return Ok(Opened::Known(Known::Replay(saved, settled)));
                }
                Judged::As(Verdict::BodyNotKept(head), _) => {
                    return Ok(Opened::Known(Known::BodyNotKept(head)));
                }
                Judged::As(Verdict::Mismatch, _) => return Ok(Opened::Known(Known::Mismatch)),
                Judged::As(Verdict::InFlight(_), _) => return Ok(Opened::Known(Known::InFlight)),
                Judged::As(Verdict::Unknown(reason), _) => return Ok(Opened::Known(Known::Unknown(reason))),
                Judged::GoneMeanwhile => {}
            }
            seen = self.insert(question, &claim, &live).await?;
        }
        // Sixteen others came first in a row; the caller may ask again.
        Ok(Opened::Known(Known::InFlight))
    }

    /// Waits until the record is no longer in flight, or until `deadline`.
    ///
    /// Errors: the store was out of reach when the deadline came.
    /// Cancel safety: nothing is lost; no store connection is held while waiting.
    pub async fn wait(&self, question: &Question, deadline: Instant) -> Result<Waited, Unavailable> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let waiter = self.shared.waiters.join(question.key);
        let mut watch = self.timed(self.store.watch(&question.key)).await.unwrap_or_else(|_| Watch::never());
        loop {
            let woken = waiter.woken();
            tokio::pin!(woken);
            // Enabled before the look, so that a settling in between is not missed.
            woken.as_mut().enable();
            let look = self.is_in_flight(question).await;
            if matches!(look, Ok(false)) {
                return Ok(Waited::Settled);
            }
            tokio::select! {
                () = woken => {}
                () = watch.changed() => {}
                () = tokio::time::sleep(WAIT_POLL) => {}
                () = tokio::time::sleep_until(deadline) => return look.map(|_| Waited::TimedOut),
            }
        }
    }

    /// Keeps this process's session alive, and the store clean of its abandoned claims, until
    /// [`Ledger::stop`]. Run it once per process.
    pub async fn heartbeat(&self) {
        tokio::join!(self.beat(), sweep::sweep(self));
    }

    async fn beat(&self) {
        let session_ttl = self.shared.settings.session_ttl;
        let sessions = &self.shared.sessions;
        loop {
            let sent_at = clock::monotonic();
            match self.timed(self.store.renew_session(sessions.own(), session_ttl)).await {
                Ok(()) => sessions.renewed(sent_at),
                Err(error) => sessions.renewal_failed(&error),
            }
            let interval = sessions::heartbeat_interval(session_ttl);
            let pause = if sessions.is_connected() { interval } else { interval.min(RECONNECT_PAUSE) };
            tokio::select! {
                () = self.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Waits until the store has taken a heartbeat, at most for `limit`. Answers whether it has.
    pub async fn connected(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.shared.sessions.connected()).await.is_ok()
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
        Ok(self.timed(self.store.end_session(self.shared.sessions.own())).await?)
    }

    fn claimed(&self, question: &Question, record: Record, live: Live, asked_at: Instant) -> Opened {
        Opened::Execute(Box::new(Claim::new(self.clone(), question, record, live, asked_at)))
    }

    /// What this process remembers of the key, without asking the store. An answer never changes, so it
    /// holds until its retention ends.
    pub fn recall(&self, question: &Question) -> Option<Known> {
        let record = self.shared.answers.find(&question.key)?;
        match machine::judge(Seen::Record(Box::new(record)), &question.asked, Owner::Working) {
            Verdict::Replay(saved, settled) => Some(Known::Replay(saved, settled)),
            Verdict::BodyNotKept(head) => Some(Known::BodyNotKept(head)),
            Verdict::Mismatch => Some(Known::Mismatch),
            Verdict::Execute | Verdict::Reclaim(_) | Verdict::InFlight(_) | Verdict::Unknown(_) => None,
        }
    }

    /// Writes the claim, or answers what stands in its place. A claim whose write got no answer is
    /// abandoned: it was never sent and never will be.
    async fn insert(&self, question: &Question, claim: &Record, live: &Live) -> Result<Seen, Unavailable> {
        let keep_for = question.terms.claim_keep_for;
        match self.timed(self.store.insert(&question.key, claim, keep_for)).await {
            // A client library that sends a command again finds its own first write.
            Ok(Seen::Record(found)) if *found == *claim => Ok(Seen::Nothing),
            Ok(seen) => {
                if let Seen::Record(record) = &seen {
                    self.shared.answers.remember(question.key, record);
                }
                Ok(seen)
            }
            Err(error) => {
                live.abandon();
                self.shared.traces.add(question.key, claim.version);
                Err(error.into())
            }
        }
    }

    async fn judge(&self, seen: Seen, question: &Question) -> Result<Judged, Unavailable> {
        let judged = |seen, owner| Judged::As(machine::judge(seen, &question.asked, owner), owner);
        let verdict = machine::judge(seen, &question.asked, Owner::Working);
        let Verdict::InFlight(record) = verdict else { return Ok(Judged::As(verdict, Owner::Working)) };
        match self.owner_of(&record).await? {
            Owner::Working => Ok(Judged::As(Verdict::InFlight(record), Owner::Working)),
            Owner::NeverSent => Ok(judged(Seen::Record(Box::new(record)), Owner::NeverSent)),
            // The owner may have settled just before it went: only a record that still stands after its
            // owner is known to be gone is an orphan.
            Owner::Gone => match self.timed(self.store.fetch(&question.key)).await? {
                Seen::Record(again) if again.version == record.version => {
                    Ok(judged(Seen::Record(again), Owner::Gone))
                }
                Seen::Nothing => Ok(Judged::GoneMeanwhile),
                again @ (Seen::Record(_) | Seen::Unreadable) => Ok(judged(again, Owner::Working)),
            },
        }
    }

    async fn owner_of(&self, record: &Record) -> Result<Owner, Unavailable> {
        let attempt = record.version.attempt;
        if record.session == self.shared.sessions.own() {
            return Ok(self.shared.attempts.owner_of(attempt));
        }
        let life = self.timed(self.store.session_life(record.session)).await?;
        Ok(sessions::owner_by(self, record.session, life))
    }

    async fn is_in_flight(&self, question: &Question) -> Result<bool, Unavailable> {
        if self.recall(question).is_some() {
            return Ok(false);
        }
        let seen = self.timed(self.store.fetch(&question.key)).await?;
        if let Seen::Record(record) = &seen {
            self.shared.answers.remember(question.key, record);
        }
        Ok(matches!(self.judge(seen, question).await?, Judged::As(Verdict::InFlight(_), _)))
    }

    async fn timed<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let limit = self.shared.settings.store_timeout;
        tokio::time::timeout(limit, call).await.unwrap_or(Err(StoreError::TimedOut(limit)))
    }
}

fn fresh_attempt() -> Attempt {
    Attempt(uuid::Uuid::new_v4().into_bytes())
}

/// A new session, for a process that starts.
pub fn fresh_session() -> Session {
    Session(uuid::Uuid::new_v4().into_bytes())
}
