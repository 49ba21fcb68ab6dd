//! Keys that were made in another way before: gateways that know the old way, both, or only the new one, played
//! against each other over one store in every order of their commands.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceway::ledger::{Known, Ledger, Opened, Question, Settings, Terms, Unprocessed, fresh_session};
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::machine::Asked;
use onceway::protocol::policy::{OnUnknown, Retention};
use onceway::protocol::record::{Record, Seen, Session, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::durability::Durability;
use onceway::store::memory::MemoryStore;
use onceway::store::{Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};

const OLD: u8 = 1;
const NEW: u8 = 2;
/// Decisions of a schedule; after them both go on in turn.
const STEPS: u32 = 8;

/// A store at which whoever writes or reads a record stops once, so that another may come between.
struct StepByStep(Arc<MemoryStore>);

#[async_trait]
impl Store for StepByStep {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        tokio::task::yield_now().await;
        self.0.insert(key, fresh, keep_for).await
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        tokio::task::yield_now().await;
        self.0.swap(key, seen, next, keep_for).await
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        tokio::task::yield_now().await;
        self.0.remove(key, seen).await
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        tokio::task::yield_now().await;
        self.0.fetch(key).await
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        self.0.renew_session(session, ttl).await
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.0.end_session(session).await
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        self.0.session_life(session).await
    }

    async fn watch(&self, _: &StorageKey) -> Result<Watch, StoreError> {
        Ok(Watch::never())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.0.list(after, most).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.0.outline(key).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.0.count_forgetting().await
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        self.0.forgettings().await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.0.inspect().await
    }

    fn describe(&self) -> String {
        "step by step:".into()
    }
}

/// Which ways a gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    Old,
    Both,
    New,
    /// As while a change is taken back: the new way is the earlier one.
    BothTurnedRound,
}

/// What becomes of a request that may be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    Unknown,
    Unprocessed,
    /// Its gateway dies with the claim in hand.
    Dies,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    Ran,
    /// It had the claim and was not processed.
    GivenBack,
    Replayed,
    TurnedAway,
}

fn question(way: u8) -> Question {
    const SECOND: Duration = Duration::from_secs(1);
    Question {
        key: StorageKey::from_bytes([way; 32]),
        asked: Asked {
            fingerprint: Fingerprint::from_bytes([way; 32]),
            earlier: None,
            on_unknown: OnUnknown::Reject,
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

fn asked_by(knows: Knows) -> Question {
    let twofold = |now, earlier| Question { earlier: Some(Box::new(question(earlier))), ..question(now) };
    match knows {
        Knows::Old => question(OLD),
        Knows::New => question(NEW),
        Knows::Both => twofold(NEW, OLD),
        Knows::BothTurnedRound => twofold(OLD, NEW),
    }
}

async fn gateway(store: &Arc<MemoryStore>) -> Ledger {
    let settings = Settings {
        store_timeout: Duration::from_mins(1),
        session_ttl: Duration::from_hours(1),
        local_cache_bytes: 0,
    };
    let ledger = Ledger::new(Arc::new(StepByStep(Arc::clone(store))), fresh_session(), settings);
    let beating = ledger.clone();
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move { beating.heartbeat().await });
    assert!(ledger.connected(Duration::from_mins(1)).await);
    ledger
}

async fn request(ledger: Ledger, knows: Knows, end: End) -> Became {
    let saved = SavedResponse {
        head: SavedHead { status: 201, headers: [].into() },
        body: Bytes::from_static(b"paid"),
        trailers: [].into(),
    };
    match ledger.open(&asked_by(knows)).await.unwrap() {
        Opened::Known(Known::Replay(..)) => Became::Replayed,
        Opened::Known(Known::Mismatch) => panic!("no request was another"),
        Opened::Known(_) => Became::TurnedAway,
        Opened::Execute(claim) => match end {
            End::Answered => {
                claim.complete(saved).await;
                Became::Ran
            }
            End::Unknown => {
                let (_, _) = claim.unknown(onceway::protocol::record::UnknownReason::ConnectionLost).await;
                Became::Ran
            }
            End::Unprocessed => {
                claim.release(Unprocessed::NeverSent).await;
                Became::GivenBack
            }
            End::Dies => {
                std::mem::forget(claim);
                Became::Ran
            }
        },
    }
}

/// Plays two requests by one schedule, each bit of which says who goes next.
async fn play(knows: [Knows; 2], ends: [End; 2], schedule: u32) -> [Became; 2] {
    let store = Arc::new(MemoryStore::new());
    let (one, other) = (gateway(&store).await, gateway(&store).await);
    let mut one = pin!(request(one, knows[0], ends[0]));
    let mut other = pin!(request(other, knows[1], ends[1]));
    let mut became = [None, None];
    for step in 0.. {
        let turn = if step < STEPS { schedule >> step & 1 } else { step & 1 };
        let (future, told): (Pin<&mut dyn Future<Output = Became>>, _) =
            if turn == 0 { (one.as_mut(), &mut became[0]) } else { (other.as_mut(), &mut became[1]) };
        if told.is_none()
            && let Poll::Ready(end) = future.poll(&mut Context::from_waker(Waker::noop()))
        {
            *told = Some(end);
        }
        if let [Some(one), Some(other)] = became {
            return [one, other];
        }
        assert!(step < 1000, "it goes on without end");
    }
    unreachable!()
}

async fn play_all(pairs: &[[Knows; 2]]) {
    for knows in pairs {
        for first in [End::Answered, End::Unknown, End::Unprocessed, End::Dies] {
            for second in [End::Answered, End::Unprocessed] {
                for schedule in 0..1 << STEPS {
                    let became = play(*knows, [first, second], schedule).await;
                    let ran = became.iter().filter(|end| **end == Became::Ran).count();
                    assert!(ran <= 1, "{knows:?} {first:?} {second:?} {schedule:#b}: {became:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn gateways_that_know_the_old_way_and_both_run_nothing_twice_in_any_order() {
    play_all(&[[Knows::Old, Knows::Both], [Knows::Both, Knows::Both], [Knows::Both, Knows::Old]]).await;
}

#[tokio::test]
async fn gateways_that_know_both_ways_and_the_new_one_run_nothing_twice_in_any_order() {
    play_all(&[[Knows::Both, Knows::New], [Knows::New, Knows::Both]]).await;
}

#[tokio::test]
async fn a_change_that_is_taken_back_runs_nothing_twice_in_any_order() {
    play_all(&[[Knows::Both, Knows::BothTurnedRound]]).await;
}

#[tokio::test]
async fn without_both_ways_between_them_two_gateways_would_run_it_twice() {
    let became = play([Knows::Old, Knows::New], [End::Answered; 2], 0).await;
    assert_eq!(became, [Became::Ran, Became::Ran], "the search would notice");
}

#[tokio::test]
async fn an_answer_is_replayed_whichever_way_its_key_was_made() {
    for (first, second) in [(Knows::Old, Knows::Both), (Knows::Both, Knows::Old), (Knows::Both, Knows::New)] {
        let store = Arc::new(MemoryStore::new());
        assert_eq!(request(gateway(&store).await, first, End::Answered).await, Became::Ran);
        assert_eq!(
            request(gateway(&store).await, second, End::Answered).await,
            Became::Replayed,
            "{first:?} {second:?}"
        );
    }
}

#[tokio::test]
async fn what_was_given_back_is_free_in_both_ways() {
    let store = Arc::new(MemoryStore::new());
    assert_eq!(request(gateway(&store).await, Knows::Both, End::Unprocessed).await, Became::GivenBack);
    for way in [OLD, NEW] {
        assert!(matches!(store.fetch(&StorageKey::from_bytes([way; 32])).await.unwrap(), Seen::Nothing));
    }
}

#[tokio::test]
async fn a_claim_that_finds_the_new_key_taken_gives_the_old_one_back() {
    let store = Arc::new(MemoryStore::new());
    request(gateway(&store).await, Knows::New, End::Dies).await;
    assert_eq!(request(gateway(&store).await, Knows::Both, End::Answered).await, Became::TurnedAway);
    assert!(matches!(store.fetch(&StorageKey::from_bytes([OLD; 32])).await.unwrap(), Seen::Nothing));
}
