//! The contract of a store, one claim per test, instantiated for every store there is.
//!
//! To hold another store to it: implement [`Bench`], [`Shared`] if gateways share it and [`Durable`] if it
//! outlives its process, and add a line to each of the macros at the end of this file. The claims stand in
//! `conformance/` by what they are about, and in `linearizability.rs`.

mod deployments;
mod listing;
mod moving;
mod outliving;
mod records;
mod sessions;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use onceway::store::codec::Codec;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::memory::MemoryStore;
use onceway::store::postgres::PostgresStore;
use onceway::store::redis::RedisStore;
use onceway::store::transfer::Transfer;
use onceway::store::{Options, SessionLife, Store};
use tempfile::TempDir;

use crate::linearizability;
use crate::records::eventually;
use crate::servers::postgres::{PostgresServer, patient};
use crate::servers::redis::{NAMESPACE, RedisServer};

const SHORT: Duration = Duration::from_millis(60);

/// Something to test: a store, and whatever it stands on.
pub(crate) trait Bench: Sized + Sync {
    /// A store that is connected and empty.
    async fn set_up() -> Self {
        Self::set_up_with(Codec::default()).await
    }

    async fn set_up_with(codec: Codec) -> Self;

    fn transfer(&self) -> Arc<dyn Transfer>;

    fn store(&self) -> Arc<dyn Store> {
        self.transfer()
    }

    /// Another handle to the same data, as another runtime or another process would hold.
    fn another(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// What the store says of a session that nobody registered.
    const NOT_THERE: SessionLife = SessionLife::Dead;
}

/// A store that several gateways share.
pub(crate) trait Shared: Bench {
    /// A handle on the same server for another installation.
    fn elsewhere(&self) -> Arc<dyn Transfer>;
}

/// A store that outlives its process.
pub(crate) trait Durable: Bench {
    /// A store on a server of its own.
    async fn set_up_to_be_restarted() -> Self {
        Self::set_up().await
    }

    /// The same after its process was ended, at once where it is a server, and started again.
    async fn restarted(self) -> Self;
}

struct Memory(Arc<MemoryStore>);

impl Bench for Memory {
    async fn set_up_with(codec: Codec) -> Self {
        Self(Arc::new(MemoryStore::new().with_codec(codec)))
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        self.0.clone()
    }
}

struct Embedded {
    store: Arc<EmbeddedStore>,
    codec: Codec,
    dir: TempDir,
}

impl Embedded {
    fn open(dir: TempDir, codec: Codec) -> Self {
        let store = EmbeddedStore::open(dir.path()).unwrap().with_codec(codec.clone());
        Self { store: Arc::new(store), codec, dir }
    }
}

impl Bench for Embedded {
    async fn set_up_with(codec: Codec) -> Self {
        Self::open(TempDir::new().unwrap(), codec)
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        self.store.clone()
    }
}

impl Durable for Embedded {
    async fn restarted(self) -> Self {
        let Self { store, codec, dir } = self;
        drop(store);
        Self::open(dir, codec)
    }
}

struct Redis {
    store: Arc<RedisStore>,
    codec: Codec,
    server: RedisServer,
}

impl Redis {
    async fn connect(server: RedisServer, codec: Codec) -> Self {
        let store = Arc::new(handle(&server, NAMESPACE, &codec));
        eventually("the store connects", || async { store.ping().await.is_ok() }).await;
        Self { store, codec, server }
    }
}

fn handle(server: &RedisServer, namespace: &str, codec: &Codec) -> RedisStore {
    let options = Options { codec: codec.clone(), ..Options::of(namespace) };
    RedisStore::connect(&server.url(), &options).unwrap()
}

impl Bench for Redis {
    const NOT_THERE: SessionLife = SessionLife::Absent;

    async fn set_up_with(codec: Codec) -> Self {
        Self::connect(RedisServer::start(), codec).await
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        self.store.clone()
    }

    fn another(&self) -> Arc<dyn Store> {
        Arc::new(handle(&self.server, NAMESPACE, &self.codec))
    }
}

impl Shared for Redis {
    fn elsewhere(&self) -> Arc<dyn Transfer> {
        Arc::new(handle(&self.server, "elsewhere", &self.codec))
    }
}

impl Durable for Redis {
    async fn restarted(self) -> Self {
        let Self { store, codec, mut server } = self;
        drop(store);
        server.restart();
        Self::connect(server, codec).await
    }
}

/// On a server that all of them share, in a namespace of its own, unless it is to be ended.
struct Postgres {
    store: Arc<PostgresStore>,
    codec: Codec,
    namespace: String,
    own: Option<PostgresServer>,
}

impl Postgres {
    async fn connect(own: Option<PostgresServer>, namespace: String, codec: Codec) -> Self {
        let server = own.as_ref().unwrap_or_else(|| PostgresServer::shared());
        let store = Arc::new(postgres_handle(server, &namespace, &codec));
        eventually("the store connects", || async { store.ping().await.is_ok() }).await;
        Self { store, codec, namespace, own }
    }

    fn server(&self) -> &PostgresServer {
        self.own.as_ref().unwrap_or_else(|| PostgresServer::shared())
    }
}

fn postgres_handle(server: &PostgresServer, namespace: &str, codec: &Codec) -> PostgresStore {
    let options = Options { codec: codec.clone(), ..patient(namespace) };
    PostgresStore::connect(&server.url(), &options).unwrap()
}

impl Bench for Postgres {
    const NOT_THERE: SessionLife = SessionLife::Absent;

    async fn set_up_with(codec: Codec) -> Self {
        Self::connect(None, uuid::Uuid::new_v4().to_string(), codec).await
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        self.store.clone()
    }

    fn another(&self) -> Arc<dyn Store> {
        Arc::new(postgres_handle(self.server(), &self.namespace, &self.codec))
    }
}

impl Shared for Postgres {
    fn elsewhere(&self) -> Arc<dyn Transfer> {
        let namespace = uuid::Uuid::new_v4().to_string();
        Arc::new(postgres_handle(self.server(), &namespace, &self.codec))
    }
}

impl Durable for Postgres {
    async fn set_up_to_be_restarted() -> Self {
        Self::connect(Some(PostgresServer::start()), NAMESPACE.to_owned(), Codec::default()).await
    }

    async fn restarted(self) -> Self {
        let Self { store, codec, namespace, own } = self;
        drop(store);
        let mut server = own.unwrap();
        server.kill();
        server.launch();
        Self::connect(Some(server), namespace, codec).await
    }
}

/// Makes a test of every claim, for one store. A claim takes the bench, as it is or by reference.
macro_rules! hold_to_the_contract {
    ($module:ident, $bench:ty, restarted, [$($room:ident: [$($claim:ident),* $(,)?]),* $(,)?]) => {
        mod $module {
            use crate::conformance::Durable as _;

            $($(#[tokio::test]
            async fn $claim() {
                crate::conformance::$room::$claim(<$bench>::set_up_to_be_restarted().await).await;
            })*)*
        }
    };
    ($module:ident, $bench:ty, [$($room:ident: [$($claim:ident),* $(,)?]),* $(,)?]) => {
        mod $module {
            use crate::conformance::Bench as _;

            $($(#[tokio::test]
            async fn $claim() {
                crate::conformance::$room::$claim(&<$bench>::set_up().await).await;
            })*)*
        }
    };
}

/// All claims in one test, on one deployment: where starting one for each would take too long.
macro_rules! hold_to_the_whole_contract {
    ($module:ident, $deployment:ty, [$($room:ident: [$($claim:ident),* $(,)?]),* $(,)?]) => {
        mod $module {
            use crate::conformance::Bench as _;
            use crate::conformance::deployments::{On, started};

            #[tokio::test]
            async fn it_keeps_the_whole_contract() {
                let _running = started(std::marker::PhantomData::<On<$deployment>>);
                $($(
                    println!("{}", stringify!($claim));
                    crate::conformance::$room::$claim(&<On<$deployment>>::set_up().await).await;
                )*)*
            }
        }
    };
}

macro_rules! for_every_store {
    ($claims:tt) => {
        hold_to_the_contract!(memory, crate::conformance::Memory, $claims);
        hold_to_the_contract!(embedded, crate::conformance::Embedded, $claims);
        hold_to_the_contract!(redis, crate::conformance::Redis, $claims);
        hold_to_the_contract!(postgres, crate::conformance::Postgres, $claims);
        hold_to_the_whole_contract!(redis_cluster, crate::servers::redis_cluster::RedisCluster, $claims);
        hold_to_the_whole_contract!(
            redis_sentinels,
            crate::servers::redis_sentinels::RedisSentinels,
            $claims
        );
    };
}

macro_rules! for_every_shared_store {
    ($claims:tt) => {
        hold_to_the_contract!(shared_redis, crate::conformance::Redis, $claims);
        hold_to_the_contract!(shared_postgres, crate::conformance::Postgres, $claims);
    };
}

macro_rules! for_every_durable_store {
    ($claims:tt) => {
        hold_to_the_contract!(durable_embedded, crate::conformance::Embedded, restarted, $claims);
        hold_to_the_contract!(durable_redis, crate::conformance::Redis, restarted, $claims);
        hold_to_the_contract!(durable_postgres, crate::conformance::Postgres, restarted, $claims);
    };
}

for_every_store!([
    records: [
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
        a_retention_without_an_end_is_kept,
        answers_of_every_size_come_back_byte_for_byte,
        a_large_answer_can_be_put_in_the_place_of_another_and_removed,
        a_record_of_any_phase_can_be_inserted,
        a_call_whose_future_is_dropped_harms_no_other,
        bytes_are_those_of_the_codec_that_the_store_was_given,
    ],
    sessions: [
        a_session_lives_from_its_registration_to_its_end,
        another_handle_sees_the_same_records_and_sessions,
        a_store_that_runs_answers_a_ping_and_says_what_it_is,
        an_inspection_answers_and_refuses_nothing_that_is_sound,
        a_closed_gate_is_told_at_every_renewal_until_it_is_opened,
        a_closed_store_still_keeps_and_settles,
        whoever_was_told_open_is_found_by_whoever_closes_the_gate,
        the_sessions_that_live_are_told_with_what_is_left_of_their_time,
    ],
    moving: [
        every_record_is_in_the_pages_byte_for_byte_whatever_their_size,
        records_put_into_a_store_are_what_they_were,
        what_cannot_be_read_moves_as_it_stands,
        a_record_that_is_put_replaces_whatever_stands,
        a_record_that_is_put_is_settled_as_any_other,
        the_time_that_is_left_moves_along,
        what_has_expired_or_was_removed_is_in_no_page,
        a_record_that_stands_throughout_is_in_a_page_whatever_comes_and_goes,
        a_walk_through_an_empty_store_ends,
        sealed_records_move_without_their_secret,
    ],
    listing: [
        what_is_listed_is_what_stands_in_pages_of_any_size,
        a_record_alone_is_outlined_as_it_is_fetched,
        what_has_expired_or_was_removed_is_not_listed,
        the_time_that_is_left_is_that_of_the_last_write,
        what_cannot_be_read_is_listed_without_an_outline,
        what_another_secret_sealed_is_listed_without_an_outline,
        what_is_no_record_is_not_listed,
        a_cursor_that_the_store_did_not_give_is_refused,
        a_record_that_stands_throughout_is_listed_whatever_comes_and_goes,
        counting_a_forgetting_is_answered,
        claims_go_on_while_somebody_lists,
    ],
    linearizability: [
        calls_on_one_key_take_effect_one_at_a_time,
        calls_on_a_few_keys_take_effect_one_at_a_time,
    ],
]);

for_every_shared_store!([
    sharing: [
        a_session_that_is_not_renewed_is_absent_after_its_time,
        a_renewal_starts_the_time_anew,
        another_handle_is_told_of_swaps_and_removals,
        a_closed_gate_is_told_to_every_handle,
        installations_that_share_a_server_do_not_see_each_other,
    ],
    listing: [
        each_forgetting_is_seen_through_another_handle,
        of_forgettings_that_come_at_once_none_is_lost,
        installations_that_share_a_server_list_and_forget_apart,
    ],
]);

for_every_durable_store!([
    outliving: [
        records_of_every_size_outlive_a_restart,
        what_was_removed_stays_away_after_a_restart,
        records_that_were_put_and_a_closed_gate_outlive_a_restart,
        what_is_listed_and_how_often_was_forgotten_outlive_a_restart,
    ],
]);
