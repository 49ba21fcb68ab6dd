//! Callers that claim, settle, remove and fetch without regard for each other, and the record of it.
//!
//! What they do follows from a seed; how it interleaves does not. Read `calls.rs` before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use onceway::protocol::record::{Phase, Record, Seen, UnixMillis, UnknownReason, Version};
use onceway::protocol::scope::StorageKey;
use onceway::store::{Store, StoreError, Swapped};
use tokio::task::JoinSet;

use super::calls::{Answer, Asked, Call, Found, Written};
use super::search::explain;
use crate::records::{LONG, a_claim, after, done_with, done_without_body, eventually, some_key, unknown};

/// A call that takes longer is given up. Only a hang should.
const DEADLINE: Duration = Duration::from_secs(30);

/// More than any store keeps beside the record.
const LARGE: usize = 20_000;

/// Who calls what, how often.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) keys: usize,
    /// Each with a runtime and a handle of its own.
    pub(super) threads: usize,
    pub(super) callers_per_thread: usize,
    pub(super) calls_per_caller: usize,
    /// Of a hundred calls, how many are dropped before they have an answer, if they take any time at all.
    pub(super) dropped_percent: u8,
}

impl Plan {
    pub(super) fn calls(&self) -> usize {
        self.threads * self.callers_per_thread * self.calls_per_caller
    }
}

/// Everything that was asked and answered.
pub(super) struct History {
    seed: u64,
    keys: Vec<StorageKey>,
    moment: AtomicU64,
    log: Mutex<Log>,
    ended: Condvar,
}

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    versions: HashMap<Version, usize>,
    calls: Vec<(usize, Call)>,
}

/// A call to be made.
enum Request {
    Insert(Record),
    Swap(Version, Record),
    Remove(Version),
    Fetch,
}

/// What a store answered.
enum Answered {
    Seen(Seen),
    Swapped(Swapped),
}

impl History {
    pub(super) fn new(plan: &Plan) -> Arc<Self> {
        Arc::new(Self {
            seed: plan.seed,
            keys: (0..plan.keys).map(|_| some_key()).collect(),
            moment: AtomicU64::new(0),
            log: Mutex::default(),
            ended: Condvar::new(),
        })
    }

    /// Plays the plan, each thread with a handle that `handle` makes on its runtime, and does `meanwhile`.
    pub(super) fn play(
        self: &Arc<Self>,
        plan: &Plan,
        handle: &(dyn Fn() -> Arc<dyn Store> + Sync),
        meanwhile: impl FnOnce(),
    ) {
        std::thread::scope(|scope| {
            for thread in 0..plan.threads {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async { self.call_from_one_thread(plan, thread, &handle()).await });
                });
            }
            meanwhile();
        });
    }

    /// Plays what one thread of the plan plays.
    pub(super) async fn call_from_one_thread(
        self: &Arc<Self>,
        plan: &Plan,
        thread: usize,
        store: &Arc<dyn Store>,
    ) {
        let mut callers = JoinSet::new();
        for caller in 0..plan.callers_per_thread {
            let number = thread * plan.callers_per_thread + caller;
            let rng = Rng::with_seed(plan.seed.wrapping_add(u64::try_from(number).unwrap() << 32));
            let caller = Caller { history: self.clone(), number, rng, known: vec![None; plan.keys] };
            callers.spawn(caller.call(*plan, store.clone()));
        }
        callers.join_all().await;
    }

    /// Waits until so many calls have ended.
    pub(super) fn wait_for(&self, calls: usize) {
        let log = self.log();
        let waited = self.ended.wait_timeout_while(log, DEADLINE, |log| log.calls.len() < calls).unwrap();
        assert!(!waited.1.timed_out(), "{calls} calls have not ended within {DEADLINE:?}");
    }

    /// Asks once more what stands under each key, and holds that an order explains all answers.
    pub(super) async fn close(&self, store: &Arc<dyn Store>) {
        for key in 0..self.keys.len() {
            let last = self.ask(usize::MAX, key, Request::Fetch, store, DEADLINE).await;
            assert!(last.is_ok(), "the last fetch failed");
        }
        if let Err(why) = self.explained() {
            panic!("{why}");
        }
    }

    /// Says why the answers cannot be explained, if they cannot.
    pub(super) fn explained(&self) -> Result<(), String> {
        let log = self.log();
        let answered = log.calls.iter().filter(|(_, call)| call.ended.is_some()).count();
        assert!(answered * 2 > log.calls.len(), "too little was answered to tell anything");
        for number in 0..self.keys.len() {
            let of_the_key = log.calls.iter().filter(|(key, _)| *key == number).map(|(_, call)| *call);
            let calls: Vec<Call> = of_the_key.collect();
            explain(&calls).map_err(|why| format!("seed {}, key {number}: {why}", self.seed))?;
        }
        Ok(())
    }

    /// Makes a call and records it. Answers what came back.
    async fn ask(
        &self,
        caller: usize,
        key: usize,
        request: Request,
        store: &Arc<dyn Store>,
        patience: Duration,
    ) -> Result<Answered, Option<StoreError>> {
        let asked = self.log().asked(&request);
        let began = self.now();
        let answer = tokio::time::timeout(patience, request.send(&self.keys[key], store)).await;
        let ended = self.now();
        let answer = answer.map_or(Err(None), |answer| answer.map_err(Some));
        let mut log = self.log();
        let ended = answer.as_ref().ok().map(|answer| (ended, log.answer(answer)));
        log.calls.push((key, Call { caller, asked, began, ended }));
        self.ended.notify_all();
        answer
    }

    /// A record like `of`, told from all others by a number within it.
    fn numbered(&self, of: Record) -> Record {
        let mut log = self.log();
        let number = log.records.len();
        let opened_at = UnixMillis(u64::try_from(number).unwrap());
        let record = Record { opened_at, ..of };
        log.records.push(record.clone());
        record
    }

    fn now(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }
}

impl Log {
    fn asked(&mut self, request: &Request) -> Asked {
        match request {
            Request::Insert(fresh) => Asked::Insert(self.written(fresh)),
            Request::Swap(seen, next) => Asked::Swap { seen: self.version(*seen), next: self.written(next) },
            Request::Remove(seen) => Asked::Remove { seen: self.version(*seen) },
            Request::Fetch => Asked::Fetch,
        }
    }

    fn answer(&mut self, answered: &Answered) -> Answer {
        match answered {
            Answered::Swapped(swapped) => Answer::Swapped(*swapped),
            Answered::Seen(Seen::Nothing) => Answer::Found(Found::Nothing),
            Answered::Seen(Seen::Unreadable) => Answer::Found(Found::Unreadable),
            Answered::Seen(Seen::Record(record)) if self.is_known(record) => {
                Answer::Found(Found::Record(self.written(record)))
            }
            Answered::Seen(Seen::Record(_)) => Answer::Found(Found::Foreign),
        }
    }

    fn is_known(&self, record: &Record) -> bool {
        self.records.get(number_of(record)) == Some(record)
    }

    fn written(&mut self, record: &Record) -> Written {
        Written { number: number_of(record), version: self.version(record.version) }
    }

    fn version(&mut self, version: Version) -> usize {
        let next = self.versions.len();
        *self.versions.entry(version).or_insert(next)
    }
}

fn number_of(record: &Record) -> usize {
    usize::try_from(record.opened_at.0).unwrap_or(usize::MAX)
}

impl Request {
    async fn send(self, key: &StorageKey, store: &Arc<dyn Store>) -> Result<Answered, StoreError> {
        match self {
            Self::Insert(fresh) => store.insert(key, &fresh, LONG).await.map(Answered::Seen),
            Self::Swap(seen, next) => store.swap(key, seen, &next, LONG).await.map(Answered::Swapped),
            Self::Remove(seen) => store.remove(key, seen).await.map(Answered::Swapped),
            Self::Fetch => store.fetch(key).await.map(Answered::Seen),
        }
    }
}

/// One who calls, and what it last saw under each key.
struct Caller {
    history: Arc<History>,
    number: usize,
    rng: Rng,
    known: Vec<Option<Record>>,
}

impl Caller {
    async fn call(mut self, plan: Plan, store: Arc<dyn Store>) {
        for _ in 0..plan.calls_per_caller {
            let key = self.rng.usize(..plan.keys);
            let request = self.request(key);
            let wrote = match &request {
                Request::Insert(next) | Request::Swap(_, next) => Some(next.clone()),
                Request::Remove(_) | Request::Fetch => None,
            };
            let is_dropped = self.rng.u8(..100) < plan.dropped_percent;
            let patience = if is_dropped { Duration::from_millis(self.rng.u64(..2)) } else { DEADLINE };
            match self.history.ask(self.number, key, request, &store, patience).await {
                Ok(answered) => self.learn(key, answered, wrote),
                Err(Some(_)) => eventually("the store heals", async || store.ping().await.is_ok()).await,
                Err(None) => {}
            }
            if self.rng.bool() {
                tokio::task::yield_now().await;
            }
        }
    }

    fn request(&mut self, key: usize) -> Request {
        let fresh = self.rng.u8(..10) < 3;
        match self.known[key].clone() {
            None if self.rng.u8(..10) < 2 => Request::Fetch,
            Some(known) if !fresh => match self.rng.u8(..10) {
                0..2 => Request::Fetch,
                2..5 => Request::Remove(known.version),
                _ => Request::Swap(known.version, self.next(&known)),
            },
            None | Some(_) => Request::Insert(self.claim()),
        }
    }

    fn claim(&mut self) -> Record {
        let claim = a_claim();
        // A store that forgot a claim is given its outcome in its place.
        let phase = if self.rng.u8(..10) < 2 { self.phase() } else { Phase::InFlight };
        self.history.numbered(Record { phase, ..claim })
    }

    /// The next write of the same attempt, which another caller may have written otherwise.
    fn next(&mut self, known: &Record) -> Record {
        let phase = self.phase();
        self.history.numbered(after(known, phase))
    }

    fn phase(&mut self) -> Phase {
        match self.rng.u8(..5) {
            0 => Phase::InFlight,
            1 => unknown(UnknownReason::ConnectionLost),
            2 => done_without_body(),
            3 => done_with(self.rng.u64(..).to_string()),
            _ => done_with(self.rng.u64(..).to_be_bytes().repeat(LARGE / 8)),
        }
    }

    fn learn(&mut self, key: usize, answered: Answered, wrote: Option<Record>) {
        self.known[key] = match answered {
            Answered::Seen(Seen::Record(stands)) => Some(*stands),
            Answered::Seen(Seen::Nothing) | Answered::Swapped(Swapped::Done) => wrote,
            Answered::Seen(Seen::Unreadable) | Answered::Swapped(Swapped::Absent | Swapped::Changed) => None,
        };
    }
}
