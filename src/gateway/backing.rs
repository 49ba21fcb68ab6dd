//! From a store's address to handles on it.
//!
//! The embedded stores are opened once and shared by all workers; a Redis handle belongs to the runtime it
//! was made in, so each worker makes its own.

use std::sync::Arc;

use super::sealing;
use crate::config::{self, Secret, StoreUrl};
use crate::ledger::Settings;
use crate::store::codec::Codec;
use crate::store::embedded::{self, EmbeddedStore};
use crate::store::memory::MemoryStore;
use crate::store::postgres::{self, PostgresStore};
use crate::store::redis::{InvalidAddress, RedisStore};
use crate::store::transfer::Transfer;
use crate::store::{Options, Store};

/// A store, opened.
pub(super) enum Backing {
    Shared(Arc<dyn Store>),
    Redis { address: Secret, options: Options },
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded store's directory.
    #[error("use the embedded store")]
    Embedded(#[from] embedded::OpenError),
    /// Opening it ended in a panic.
    #[error("open the embedded store: the opening panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// The address of Redis.
    #[error("use Redis")]
    Address(#[from] InvalidAddress),
    /// It belongs to a process that is not this one.
    #[error("use memory: for a move: it lives and ends with its gateway")]
    Memory,
    /// The address of PostgreSQL.
    #[error("use PostgreSQL")]
    Postgres(#[from] postgres::InvalidAddress),
}

impl Backing {
    /// Opens the store. After a crash the embedded one may take its time, so it is opened on a thread of
    /// its own while the probes say that the gateway is starting.
    pub(super) async fn open(config: &config::Store) -> Result<Self, OpenError> {
        Ok(match &config.url {
            StoreUrl::Memory => {
                tracing::warn!("the memory store forgets everything when the process ends");
                Self::Shared(Arc::new(MemoryStore::new().with_codec(sealing::codec(config))))
            }
            StoreUrl::Embedded(dir) => {
                let dir = dir.clone();
                let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir));
                let store = opening.await.map_err(OpenError::Panicked)??;
                Self::Shared(Arc::new(store.with_codec(sealing::codec(config))))
            }
            StoreUrl::Redis(address) => Self::Redis { address: address.clone(), options: options(config) },
            StoreUrl::Postgres(address) => {
                Self::Shared(Arc::new(PostgresStore::connect(address.reveal(), &options(config))?))
            }
        })
    }

    /// A handle for the runtime this is called in.
    pub(super) fn handle(&self) -> Result<Arc<dyn Store>, OpenError> {
        Ok(match self {
            Self::Shared(store) => Arc::clone(store),
            Self::Redis { address, options } => Arc::new(RedisStore::connect(address.reveal(), options)?),
        })
    }
}

/// Opens a store to move records from it or to it.
///
/// Its codec has no keys: sealed records move as they are, and everything that a move writes for itself can be
/// read by the next run, whether or not that is given the keys.
pub async fn open_transfer(config: &config::Store) -> Result<Arc<dyn Transfer>, OpenError> {
    let options = Options { codec: Codec::default(), ..options(config) };
    Ok(match &config.url {
        StoreUrl::Memory => return Err(OpenError::Memory),
        StoreUrl::Embedded(dir) => {
            let dir = dir.clone();
            let opening = tokio::task::spawn_blocking(move || EmbeddedStore::open(&dir));
            Arc::new(opening.await.map_err(OpenError::Panicked)??)
        }
        StoreUrl::Redis(address) => Arc::new(RedisStore::connect(address.reveal(), &options)?),
        StoreUrl::Postgres(address) => Arc::new(PostgresStore::connect(address.reveal(), &options)?),
    })
}

fn options(config: &config::Store) -> Options {
    Options {
        codec: sealing::codec(config),
        min_replicas: config.min_replicas,
        timeout: config.timeout,
        ..Options::of(&config.namespace)
    }
}

/// What the ledger needs to know of the store's configuration.
pub(super) fn ledger_settings(config: &config::Store) -> Settings {
    Settings {
        store_timeout: config.timeout,
        session_ttl: config.session_ttl,
        local_cache_bytes: config.local_cache,
    }
}
