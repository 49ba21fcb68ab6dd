//! The ledger over a store that misbehaves as stores do: answers are lost, writes land late, records and
//! sessions are forgotten. Time is tokio's, paused, so nothing here waits for a clock. `operations.rs` has operators
//! step in, over the same store.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceway::ledger::{
    Claim, Known, Ledger, Opened, Question, Settings, Settlement, Terms, Unprocessed, Waited,
};
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::machine::Asked;
use onceway::protocol::policy::{OnUnknown, Retention};
use onceway::protocol::record::{Record, Seen, Session, UnknownReason, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::durability::Durability;
use onceway::store::memory::MemoryStore;
use onceway::store::{Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};
use tokio::sync::Notify;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What goes wrong with the next call of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done, and its answer is lost.
    AnswerLost,
    /// It is not done now, but when [`Unreliable::land`] is called.
    LandsLate,
    /// It is not done.
    Refused,
    /// It is done, and its answer is held up until [`Unreliable::answer`] is called.
    AnswerHeld,
}

/// A store with faults to order.
pub(crate) struct Unreliable {
    pub(crate) inner: MemoryStore,
    insert: Mutex<Vec<Fault>>,
    swap: Mutex<Vec<Fault>>,
    remove: Mutex<Vec<Fault>>,
    count: Mutex<Vec<Fault>>,
    /// Pages still to come that hold none of this installation's records.
    empty_pages: AtomicU64,
    forgettings: AtomicU64,
    /// Told when an answer is held up.
    holds: Notify,
    answers: Notify,
    late: Mutex<Vec<(StorageKey, Record, Duration)>>,
    is_down: Mutex<bool>,
}

impl Unreliable {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(),
            insert: Mutex::default(),
            swap: Mutex::default(),
            remove: Mutex::default(),
            count: Mutex::default(),
            empty_pages: AtomicU64::new(0),
            forgettings: AtomicU64::new(0),
            holds: Notify::new(),
            answers: Notify::new(),
            late: Mutex::default(),
            is_down: Mutex::default(),
        })
    }

    pub(crate) fn next_insert(&self, fault: Fault) {
        self.insert.lock().unwrap().push(fault);
    }

    /// As where a server's names are nearly all somebody else's.
    pub(crate) fn begin_with_empty_pages(&self, pages: u64) {
        self.empty_pages.store(pages, Ordering::Relaxed);
    }

    /// How many of them nobody has asked for.
    pub(crate) fn empty_pages_left(&self) -> u64 {
        self.empty_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn next_swap(&self, fault: Fault) {
        self.swap.lock().unwrap().push(fault);
    }

    pub(crate) fn next_remove(&self, fault: Fault) {
        self.remove.lock().unwrap().push(fault);
    }

    pub(crate) fn next_count(&self, fault: Fault) {
        self.count.lock().unwrap().push(fault);
    }

    /// Waits until an answer is held up.
    pub(crate) async fn holds(&self) {
        self.holds.notified().await;
    }

    /// Lets the answer go that is held up.
    pub(crate) fn answer(&self) {
        self.answers.notify_one();
    }

    async fn hold(&self) {
        self.holds.notify_one();
        self.answers.notified().await;
    }

    pub(crate) fn go(&self, is_down: bool) {
        *self.is_down.lock().unwrap() = is_down;
    }

    /// Lets the late inserts arrive.
    async fn land(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (key, record, keep_for) in late {
            self.inner.insert(&key, &record, keep_for).await.unwrap();
        }
    }

    fn up(&self) -> Result<(), StoreError> {
        if *self.is_down.lock().unwrap() { Err(StoreError::Unreachable("down".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for Unreliable {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        self.up()?;
        let fault = self.insert.lock().unwrap().pop();
        match fault {
            None => self.inner.insert(key, fresh, keep_for).await,
            Some(Fault::AnswerLost) => {
                self.inner.insert(key, fresh, keep_for).await?;
                std::future::pending().await
            }
            Some(Fault::LandsLate) => {
                self.late.lock().unwrap().push((*key, fresh.clone(), keep_for));
                std::future::pending().await
            }
            Some(Fault::Refused) => Err(StoreError::Refused("out of memory".into())),
            Some(Fault::AnswerHeld) => {
                let seen = self.inner.insert(key, fresh, keep_for).await;
                self.hold().await;
                seen
            }
        }
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        self.up()?;
        let fault = self.swap.lock().unwrap().pop();
        match fault {
            None => self.inner.swap(key, seen, next, keep_for).await,
            Some(Fault::AnswerLost) => {
                self.inner.swap(key, seen, next, keep_for).await?;
                std::future::pending().await
            }
            Some(Fault::AnswerHeld) => {
                let swapped = self.inner.swap(key, seen, next, keep_for).await;
                self.hold().await;
                swapped
            }
            Some(Fault::LandsLate | Fault::Refused) => Err(StoreError::Refused("out of memory".into())),
        }
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        self.up()?;
        let fault = self.remove.lock().unwrap().pop();
        match fault {
            None => self.inner.remove(key, seen).await,
            Some(Fault::AnswerLost | Fault::AnswerHeld) => {
                self.inner.remove(key, seen).await?;
                std::future::pending().await
            }
            Some(Fault::LandsLate | Fault::Refused) => Err(StoreError::Refused("out of memory".into())),
        }
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        self.up()?;
        self.inner.fetch(key).await
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        self.up()?;
        self.inner.renew_session(session, ttl).await
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.up()?;
        self.inner.end_session(session).await
    }

    /// As a shared store tells it: absent is not dead.
    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        self.up()?;
        Ok(match self.inner.session_life(session).await? {
            SessionLife::Alive => SessionLife::Alive,
            SessionLife::Absent | SessionLife::Dead => SessionLife::Absent,
        })
    }

    async fn watch(&self, _: &StorageKey) -> Result<Watch, StoreError> {
        Ok(Watch::never())
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.up()?;
        let left = self.empty_pages_left();
        if left > 0 {
            self.begin_with_empty_pages(left - 1);
            return Ok(Listing { records: Vec::new(), next: Some(Cursor(vec![0; 32])) });
        }
        self.inner.list(after, most).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.up()?;
        self.inner.outline(key).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.up()?;
        if self.count.lock().unwrap().pop().is_some() {
            return Err(StoreError::Refused("out of memory".into()));
        }
        self.forgettings.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        self.up()?;
        Ok(self.forgettings.load(Ordering::Relaxed))
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.inner.inspect().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.up()
    }

    fn describe(&self) -> String {
        "unreliable:".into()
    }
}

/// A process: a ledger with a session of its own, kept alive in the background.
pub(crate) async fn process(store: &Arc<Unreliable>) -> Ledger {
    patient_process(store, SECOND).await
}

/// One that waits for the store for so long.
pub(crate) async fn patient_process(store: &Arc<Unreliable>, store_timeout: Duration) -> Ledger {
    let settings = Settings { store_timeout, session_ttl: 5 * SECOND, local_cache_bytes: 1 << 20 };
    let ledger = Ledger::new(store.clone(), onceway::ledger::fresh_session(), settings);
    let beating = ledger.clone();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { beating.heartbeat().await });
    assert!(ledger.connected(SECOND).await);
    ledger
}

pub(crate) fn question(fingerprint: u8, on_unknown: OnUnknown) -> Question {
    Question {
        key: StorageKey::from_bytes([9; 32]),
        asked: Asked {
            fingerprint: Fingerprint::from_bytes([fingerprint; 32]),
            earlier: None,
            on_unknown,
            route: "/payments".into(),
        },
        terms: Terms {
            retention: Retention { answer: 3600 * SECOND, unknown: 7200 * SECOND },
            claim_keep_for: 10_000 * SECOND,
            commit_timeout: 5 * SECOND,
        },
        earlier: None,
    }
}

pub(crate) fn pay() -> Question {
    question(1, OnUnknown::Reject)
}

pub(crate) fn answer(body: &'static str) -> SavedResponse {
    SavedResponse {
        head: SavedHead { status: 201, headers: [].into() },
        body: Bytes::from_static(body.as_bytes()),
        trailers: [].into(),
    }
}

pub(crate) async fn claim(ledger: &Ledger, question: &Question) -> Claim {
    let opened = ledger.open(question).await.unwrap();
    let Opened::Execute(claim) = opened else { panic!("wanted a claim, got {opened:?}") };
    *claim
}

pub(crate) async fn replayed(ledger: &Ledger, question: &Question) -> Bytes {
    let opened = ledger.open(question).await.unwrap();
    let Opened::Known(Known::Replay(saved, _)) = opened else { panic!("wanted a replay, got {opened:?}") };
    saved.body
}

#[tokio::test(start_paused = true)]
async fn one_of_many_gets_the_claim_and_the_others_its_answer() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let first = claim(&one, &pay()).await;
    assert!(matches!(one.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)));
    assert!(matches!(other.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)));
    assert_eq!(first.complete(answer("paid")).await, Settlement::Stored);
    assert_eq!(replayed(&one, &pay()).await, "paid");
    assert_eq!(replayed(&other, &pay()).await, "paid");
    let altered = question(2, OnUnknown::Reject);
    assert!(matches!(other.open(&altered).await.unwrap(), Opened::Known(Known::Mismatch)));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_does_not_block_its_key() {
    for fault in [Fault::AnswerLost, Fault::LandsLate] {
        let store = Unreliable::new();
        let ledger = process(&store).await;
        store.next_insert(fault);
        assert!(ledger.open(&pay()).await.is_err(), "nothing is known, so nothing may run");
        store.land().await;
        claim(&ledger, &pay()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_lands_long_after_it_was_given_up_is_swept_for_others_too() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    store.next_insert(Fault::LandsLate);
    assert!(one.open(&pay()).await.is_err());
    store.land().await;
    assert!(
        matches!(other.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)),
        "the other cannot know"
    );
    tokio::time::sleep(10 * SECOND).await;
    claim(&other, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_claim_is_an_unknown_outcome_at_once() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    drop(claim(&ledger, &pay()).await);
    let opened = ledger.open(&pay()).await.unwrap();
    assert!(matches!(opened, Opened::Known(Known::Unknown(UnknownReason::SessionDied))), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_dead_only_after_it_was_absent_for_a_heartbeat() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let _claim = claim(&one, &pay()).await;
    one.stop();
    one.end_session().await.unwrap();
    assert!(
        matches!(other.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)),
        "absent is not dead yet"
    );
    tokio::time::sleep(2 * SECOND).await;
    assert!(matches!(
        other.open(&pay()).await.unwrap(),
        Opened::Known(Known::Unknown(UnknownReason::SessionDied))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_a_failover_lost_and_its_owner_renewed_is_alive() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    one.end_session().await.unwrap();
    assert!(matches!(other.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)));
    tokio::time::sleep(3 * SECOND).await;
    assert!(
        matches!(other.open(&pay()).await.unwrap(), Opened::Known(Known::InFlight)),
        "its owner has renewed it"
    );
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_whose_acknowledgement_was_lost_is_recognised() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    store.next_swap(Fault::AnswerLost);
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "paid");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_store_will_not_take_is_delivered_unstored_and_stored_later() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    store.go(true);
    assert_eq!(held.complete(answer("paid")).await, Settlement::Unstored);
    let told = one.open(&pay()).await.unwrap();
    let Opened::Known(Known::Unstored(saved, _)) = told else {
        panic!("this process lost the answer: {told:?}")
    };
    assert_eq!(saved.body, "paid");
    assert_eq!(one.claims_in_flight(), 1, "it is still to be settled");
    store.go(false);
    one.commits_done().await;
    assert_eq!(replayed(&one, &pay()).await, "paid", "the store has it now");
    assert_eq!(one.claims_in_flight(), 0);
    assert_eq!(replayed(&other, &pay()).await, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_store_forgot_is_settled_all_the_same() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    let Seen::Record(record) = store.fetch(&pay().key).await.unwrap() else { panic!("no claim stands") };
    store.inner.remove(&pay().key, record.version).await.unwrap();
    assert_eq!(held.complete(answer("paid")).await, Settlement::Stored);
    assert_eq!(replayed(&other, &pay()).await, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_released_key_is_free_and_a_late_answer_completes_an_unknown_one() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    assert_eq!(claim(&ledger, &pay()).await.release(Unprocessed::NeverSent).await, Settlement::Stored);
    let (settlement, late) = claim(&ledger, &pay()).await.unknown(UnknownReason::ResponseTimeout).await;
    assert_eq!(settlement, Settlement::Stored);
    assert!(matches!(
        ledger.open(&pay()).await.unwrap(),
        Opened::Known(Known::Unknown(UnknownReason::ResponseTimeout))
    ));
    assert_eq!(late.complete(answer("late")).await, Settlement::Stored);
    assert_eq!(replayed(&ledger, &pay()).await, "late");
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_take_the_place_of_a_retry_that_was_allowed() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    let retrying = question(1, OnUnknown::Retry);
    let (_, late) = claim(&ledger, &retrying).await.unknown(UnknownReason::ResponseTimeout).await;
    let second = claim(&ledger, &retrying).await;
    assert!(
        matches!(ledger.open(&retrying).await.unwrap(), Opened::Known(Known::InFlight)),
        "one retry at a time"
    );
    assert_eq!(late.complete(answer("first")).await, Settlement::Superseded);
    assert_eq!(second.complete(answer("second")).await, Settlement::Stored);
    assert_eq!(replayed(&ledger, &retrying).await, "second");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_while_this_process_cannot_say_that_it_lives() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    ledger.stop();
    // The session is judged by the monotonic clock, which does not pause.
    let short = Settings { store_timeout: SECOND, session_ttl: Duration::ZERO, local_cache_bytes: 0 };
    let lapsed = Ledger::new(store.clone(), onceway::ledger::fresh_session(), short);
    assert!(lapsed.open(&pay()).await.is_err());
    assert_eq!(store.fetch(&pay().key).await.unwrap(), Seen::Nothing);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_the_store_refuses_is_no_claim() {
    let store = Unreliable::new();
    let ledger = process(&store).await;
    store.next_insert(Fault::Refused);
    assert!(ledger.open(&pay()).await.is_err());
    claim(&ledger, &pay()).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiter_is_woken_when_the_claim_is_settled_and_not_before() {
    let store = Unreliable::new();
    let (one, other) = (process(&store).await, process(&store).await);
    let held = claim(&one, &pay()).await;
    let soon = onceway::clock::monotonic() + 3 * SECOND;
    assert_eq!(one.wait(&pay(), soon).await.unwrap(), Waited::TimedOut);
    let later = onceway::clock::monotonic() + 60 * SECOND;
    let question = pay();
    let (here, there, _) = tokio::join!(one.wait(&question, later), other.wait(&question, later), async {
        tokio::task::yield_now().await;
        held.complete(answer("paid")).await
    });
    assert_eq!((here.unwrap(), there.unwrap()), (Waited::Settled, Waited::Settled));
}
