//! The contract of a store, one claim per test, instantiated for every store there is.
//!
//! To hold another store to it: implement [`Bench`] and add a line to the end of this file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use onceway::protocol::record::{Phase, Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::memory::MemoryStore;
use onceway::store::postgres::PostgresStore;
use onceway::store::redis::RedisStore;
use onceway::store::{Options, SessionLife, Store, Swapped};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::records::{
    EVERY_REASON, LONG, a_claim, after, bytes_of, done_with, done_without_body, eventually, some_key,
    some_session, unknown,
};
use crate::servers::postgres::{PostgresServer, connected, patient};
use crate::servers::redis::RedisServer;

const SHORT: Duration = Duration::from_millis(60);

/// Something to test: a store, and whatever it stands on.
trait Bench: Sized {
    async fn set_up() -> Self;

    fn store(&self) -> Arc<dyn Store>;

    /// Another handle to the same data, as another runtime or another process would hold.
    fn another(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// What the store says of a session that nobody registered.
    const NOT_THERE: SessionLife = SessionLife::Dead;
}

struct Memory(Arc<MemoryStore>);

impl Bench for Memory {
    async fn set_up() -> Self {
        Self(Arc::new(MemoryStore::new()))
    }

    fn store(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
}

struct Embedded {
    store: Arc<EmbeddedStore>,
    _dir: TempDir,
}

impl Bench for Embedded {
    async fn set_up() -> Self {
        let dir = TempDir::new().unwrap();
        Self { store: Arc::new(EmbeddedStore::open(dir.path()).unwrap()), _dir: dir }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
}

struct Redis {
    store: Arc<RedisStore>,
    server: RedisServer,
}

impl Bench for Redis {
    const NOT_THERE: SessionLife = SessionLife::Absent;

    async fn set_up() -> Self {
        let server = RedisServer::start();
        Self { store: Arc::new(server.store().await), server }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn another(&self) -> Arc<dyn Store> {
        Arc::new(RedisStore::connect(&self.server.url(), &Options::of("onceway")).unwrap())
    }
}

struct Postgres {
    store: Arc<PostgresStore>,
    namespace: String,
}

impl Bench for Postgres {
    const NOT_THERE: SessionLife = SessionLife::Absent;

    async fn set_up() -> Self {
        let (url, namespace) = (PostgresServer::shared().url(), uuid::Uuid::new_v4().to_string());
        Self { store: Arc::new(connected(&url, &namespace).await), namespace }
    }

    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn another(&self) -> Arc<dyn Store> {
        let url = PostgresServer::shared().url();
        Arc::new(PostgresStore::connect(&url, &patient(&self.namespace)).unwrap())
    }
}

async fn of_many_concurrent_inserts_exactly_one_finds_nothing(bench: &impl Bench) {
    const THREADS: usize = 8;
    const TASKS: usize = 8;
    let (key, gate) = (some_key(), Arc::new(Barrier::new(THREADS)));
    let mut threads = JoinSet::new();
    for _ in 0..THREADS {
        let (store, gate) = (bench.store(), gate.clone());
        // One current-thread runtime each, as the gateway has.
        threads.spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            gate.wait();
            runtime.block_on(insert_at_once(&store, key, TASKS))
        });
    }
    let answers: Vec<(Record, Seen)> = threads.join_all().await.into_iter().flatten().collect();
    let winners: Vec<_> = answers.iter().filter(|(_, seen)| *seen == Seen::Nothing).collect();
    assert_eq!((answers.len(), winners.len()), (THREADS * TASKS, 1));
    let winner = Seen::Record(Box::new(winners[0].0.clone()));
    let losers = answers.iter().filter(|(_, seen)| *seen != Seen::Nothing);
    assert!(losers.into_iter().all(|(_, seen)| *seen == winner), "a loser saw something else");
    assert_eq!(bench.store().fetch(&key).await.unwrap(), winner);
}

async fn insert_at_once(store: &Arc<dyn Store>, key: StorageKey, tasks: usize) -> Vec<(Record, Seen)> {
    let mut inserts = JoinSet::new();
    for _ in 0..tasks {
        let store = store.clone();
        inserts.spawn(async move {
            let fresh = a_claim();
            let seen = store.insert(&key, &fresh, LONG).await.unwrap();
            (fresh, seen)
        });
    }
    inserts.join_all().await
}

async fn an_insert_finds_what_stands_and_leaves_it(bench: &impl Bench) {
    let (store, key, first) = (bench.store(), some_key(), a_claim());
    assert_eq!(store.insert(&key, &first, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&first));
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&first));
}

async fn keys_do_not_touch_each_other(bench: &impl Bench) {
    let (store, here, there) = (bench.store(), some_key(), some_key());
    let (one, other) = (a_claim(), a_claim());
    insert(&store, &here, &one).await;
    insert(&store, &there, &other).await;
    assert_eq!(store.remove(&here, one.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&there).await.unwrap(), seen(&other));
}

async fn a_swap_replaces_the_version_it_saw(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    let next = after(&claim, done_with("paid"));
    insert(&store, &key, &claim).await;
    assert_eq!(store.swap(&key, claim.version, &next, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&next));
}

async fn a_swap_of_another_attempt_changes_nothing(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    let stranger = a_claim();
    let next = after(&stranger, done_with("stolen"));
    insert(&store, &key, &claim).await;
    assert_eq!(store.swap(&key, stranger.version, &next, LONG).await.unwrap(), Swapped::Changed);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
}

async fn a_late_write_of_an_older_revision_does_not_undo_a_newer_one(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    let done = after(&claim, done_with("paid"));
    let late = after(&claim, unknown(EVERY_REASON[0]));
    insert(&store, &key, &claim).await;
    store.swap(&key, claim.version, &done, LONG).await.unwrap();
    assert_eq!(store.swap(&key, claim.version, &late, LONG).await.unwrap(), Swapped::Changed);
    assert_eq!(store.remove(&key, claim.version).await.unwrap(), Swapped::Changed);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done));
}

async fn of_many_concurrent_swaps_exactly_one_is_done(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    insert(&store, &key, &claim).await;
    let mut swaps = JoinSet::new();
    for number in 0..32 {
        let (store, claim) = (store.clone(), claim.clone());
        swaps.spawn(async move {
            let next = after(&claim, done_with(format!("answer {number}")));
            (store.swap(&key, claim.version, &next, LONG).await.unwrap(), next)
        });
    }
    let swaps = swaps.join_all().await;
    let done: Vec<_> = swaps.iter().filter(|(swapped, _)| *swapped == Swapped::Done).collect();
    assert_eq!(done.len(), 1);
    assert!(swaps.iter().all(|(swapped, _)| *swapped != Swapped::Absent));
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&done[0].1));
}

async fn of_those_who_claim_and_release_in_turn_never_two_hold_the_key(bench: &impl Bench) {
    let (key, is_held) = (some_key(), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (store, is_held) = (bench.store(), is_held.clone());
        callers.spawn(async move {
            for _ in 0..40 {
                let claim = a_claim();
                if store.insert(&key, &claim, LONG).await.unwrap() != Seen::Nothing {
                    continue;
                }
                assert!(!is_held.swap(true, Ordering::SeqCst), "two hold one key");
                let large = after(&claim, done_with(bytes_of(40_000)));
                assert_eq!(store.swap(&key, claim.version, &large, LONG).await.unwrap(), Swapped::Done);
                is_held.store(false, Ordering::SeqCst);
                assert_eq!(store.remove(&key, large.version).await.unwrap(), Swapped::Done);
            }
        });
    }
    callers.join_all().await;
}

async fn a_record_is_removed_by_its_version_only(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    insert(&store, &key, &claim).await;
    assert_eq!(store.remove(&key, a_claim().version).await.unwrap(), Swapped::Changed);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
    assert_eq!(store.remove(&key, claim.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
}

async fn what_is_not_there_is_absent_and_not_changed(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
    assert_eq!(store.swap(&key, claim.version, &claim, LONG).await.unwrap(), Swapped::Absent);
    assert_eq!(store.remove(&key, claim.version).await.unwrap(), Swapped::Absent);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
}

async fn a_released_key_can_be_claimed_again(bench: &impl Bench) {
    let (store, key) = (bench.store(), some_key());
    let (first, second) = (a_claim(), a_claim());
    insert(&store, &key, &first).await;
    store.remove(&key, first.version).await.unwrap();
    insert(&store, &key, &second).await;
    assert_eq!(store.remove(&key, first.version).await.unwrap(), Swapped::Changed);
}

async fn what_has_expired_is_absent_and_can_be_claimed_again(bench: &impl Bench) {
    let (store, key, claim, fresh) = (bench.store(), some_key(), a_claim(), a_claim());
    assert_eq!(store.insert(&key, &claim, SHORT).await.unwrap(), Seen::Nothing);
    eventually("the record expires", || async { store.fetch(&key).await.unwrap() == Seen::Nothing }).await;
    assert_eq!(store.swap(&key, claim.version, &claim, LONG).await.unwrap(), Swapped::Absent);
    assert_eq!(store.remove(&key, claim.version).await.unwrap(), Swapped::Absent);
    assert_eq!(store.insert(&key, &fresh, LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&fresh));
}

async fn a_swap_starts_the_retention_anew(bench: &impl Bench) {
    let (store, key, witness) = (bench.store(), some_key(), some_key());
    let claim = a_claim();
    let next = after(&claim, done_with("paid"));
    let short = Duration::from_secs(1);
    store.insert(&key, &claim, short).await.unwrap();
    assert_eq!(store.swap(&key, claim.version, &next, LONG).await.unwrap(), Swapped::Done);
    // Written after the claim and kept as long, so when it is gone, the claim's time is over too.
    store.insert(&witness, &a_claim(), short).await.unwrap();
    eventually("the witness expires", || async { store.fetch(&witness).await.unwrap() == Seen::Nothing })
        .await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&next));
}

async fn a_swap_may_shorten_the_retention(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    let next = after(&claim, done_with(bytes_of(100_000)));
    insert(&store, &key, &claim).await;
    store.swap(&key, claim.version, &next, SHORT).await.unwrap();
    eventually("the record expires", || async { store.fetch(&key).await.unwrap() == Seen::Nothing }).await;
}

async fn answers_of_every_size_come_back_byte_for_byte(bench: &impl Bench) {
    let store = bench.store();
    for length in [0, 1, 16 * 1024, 16 * 1024 + 1, 1024 * 1024] {
        let (key, claim) = (some_key(), a_claim());
        let done = after(&claim, done_with(bytes_of(length)));
        insert(&store, &key, &claim).await;
        assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
        assert_eq!(store.fetch(&key).await.unwrap(), seen(&done), "fetched, {length} bytes");
        let replayed = store.insert(&key, &a_claim(), LONG).await.unwrap();
        assert_eq!(replayed, seen(&done), "met by an insert, {length} bytes");
    }
}

async fn a_large_answer_can_be_put_in_the_place_of_another_and_removed(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    let large = after(&claim, done_with(bytes_of(200_000)));
    let larger = after(&large, done_with(bytes_of(300_000)));
    let small = after(&larger, done_with("small"));
    insert(&store, &key, &claim).await;
    for (before, next) in [(&claim, &large), (&large, &larger), (&larger, &small)] {
        assert_eq!(store.swap(&key, before.version, next, LONG).await.unwrap(), Swapped::Done);
        assert_eq!(store.fetch(&key).await.unwrap(), seen(next));
    }
    assert_eq!(store.remove(&key, small.version).await.unwrap(), Swapped::Done);
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
}

async fn a_record_of_any_phase_can_be_inserted(bench: &impl Bench) {
    let store = bench.store();
    let mut phases: Vec<Phase> = EVERY_REASON.into_iter().map(unknown).collect();
    phases.extend([Phase::InFlight, done_with("paid"), done_with(bytes_of(50_000)), done_without_body()]);
    for phase in phases {
        let (key, record) = (some_key(), after(&a_claim(), phase));
        insert(&store, &key, &record).await;
        assert_eq!(store.fetch(&key).await.unwrap(), seen(&record));
    }
}

async fn a_session_lives_from_its_registration_to_its_end<B: Bench>(bench: &B) {
    let (store, session) = (bench.store(), some_session());
    assert_eq!(store.session_life(session).await.unwrap(), B::NOT_THERE);
    store.renew_session(session, LONG).await.unwrap();
    store.renew_session(session, LONG).await.unwrap();
    assert_eq!(store.session_life(session).await.unwrap(), SessionLife::Alive);
    assert_eq!(store.session_life(some_session()).await.unwrap(), B::NOT_THERE);
    store.end_session(session).await.unwrap();
    assert_eq!(store.session_life(session).await.unwrap(), B::NOT_THERE);
}

async fn another_handle_sees_the_same_records_and_sessions(bench: &impl Bench) {
    let (store, another) = (bench.store(), bench.another());
    let (key, claim, session) = (some_key(), a_claim(), some_session());
    insert(&store, &key, &claim).await;
    store.renew_session(session, LONG).await.unwrap();
    eventually("the other handle connects", || async { another.ping().await.is_ok() }).await;
    assert_eq!(another.insert(&key, &a_claim(), LONG).await.unwrap(), seen(&claim));
    assert_eq!(another.session_life(session).await.unwrap(), SessionLife::Alive);
}

async fn a_call_whose_future_is_dropped_harms_no_other(bench: &impl Bench) {
    let (store, key, claim) = (bench.store(), some_key(), a_claim());
    for _ in 0..20 {
        let (dropped_key, large) = (some_key(), after(&a_claim(), done_with(bytes_of(100_000))));
        let dropped = store.insert(&dropped_key, &large, LONG);
        // Done or not, according to the store; what counts is what comes after.
        drop(tokio::time::timeout(Duration::ZERO, dropped).await);
    }
    insert(&store, &key, &claim).await;
    assert_eq!(store.fetch(&key).await.unwrap(), seen(&claim));
}

async fn a_store_that_runs_answers_a_ping_and_says_what_it_is(bench: &impl Bench) {
    bench.store().ping().await.unwrap();
    assert!(!bench.store().describe().is_empty());
}

async fn insert(store: &Arc<dyn Store>, key: &StorageKey, record: &Record) {
    assert_eq!(store.insert(key, record, LONG).await.unwrap(), Seen::Nothing);
}

fn seen(record: &Record) -> Seen {
    Seen::Record(Box::new(record.clone()))
}

/// Makes a test of every claim, for one store.
macro_rules! hold_to_the_contract {
    ($module:ident, $bench:ty, [$($claim:ident),* $(,)?]) => {
        mod $module {
            use super::Bench as _;

            $(#[tokio::test]
            async fn $claim() {
                let bench = <$bench>::set_up().await;
                super::$claim(&bench).await;
            })*
        }
    };
}

macro_rules! for_every_store {
    ($claims:tt) => {
        hold_to_the_contract!(memory, super::Memory, $claims);
        hold_to_the_contract!(embedded, super::Embedded, $claims);
        hold_to_the_contract!(redis, super::Redis, $claims);
        hold_to_the_contract!(postgres, super::Postgres, $claims);
    };
}

for_every_store!([
    of_many_concurrent_inserts_exactly_one_finds_nothing,
    an_insert_finds_what_stands_and_leaves_it,
    keys_do_not_touch_each_other,
    a_swap_replaces_the_version_it_saw,
    a_swap_of_another_attempt_changes_nothing,
    a_late_write_of_an_older_revision_does_not_undo_a_newer_one,
    of_many_concurrent_swaps_exactly_one_is_done,
    of_those_who_claim_and_release_in_turn_never_two_hold_the_key,
    a_record_is_removed_by_its_version_only,
    what_is_not_there_is_absent_and_not_changed,
    a_released_key_can_be_claimed_again,
    what_has_expired_is_absent_and_can_be_claimed_again,
    a_swap_starts_the_retention_anew,
    a_swap_may_shorten_the_retention,
    answers_of_every_size_come_back_byte_for_byte,
    a_large_answer_can_be_put_in_the_place_of_another_and_removed,
    a_record_of_any_phase_can_be_inserted,
    a_session_lives_from_its_registration_to_its_end,
    another_handle_sees_the_same_records_and_sessions,
    a_call_whose_future_is_dropped_harms_no_other,
    a_store_that_runs_answers_a_ping_and_says_what_it_is,
]);
