//! What a configuration's store and upstreams answer, for `check --online`. Takes no request, writes no record.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::open_transfer;
use crate::config::{Config, StoreUrl};
use crate::store::durability::Durability;
use crate::store::memory::MemoryStore;
use crate::store::transfer::Transfer;
use crate::store::{Gate, Store};
use crate::upstream::Trust;

/// How long a store may take to connect and to tell of itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a store that still connects is asked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// What the store tells of itself.
    pub store: Result<StoreFound, Failure>,
    /// Each upstream by its index in the configuration: whether a connection could be made, TLS included.
    pub upstreams: Vec<Result<(), Failure>>,
}

/// What is known of the store.
#[derive(Debug)]
pub enum StoreFound {
    /// It answers.
    Told(Durability, Gate),
    /// The embedded store's directory is not there; a gateway makes it.
    NotYetMade,
}

/// Connects to everything that a gateway with this configuration would connect to.
pub async fn look(config: &Config) -> Found {
    let (store, upstreams) = tokio::join!(look_at_store(config), look_at_upstreams(config));
    Found { store, upstreams }
}

async fn look_at_store(config: &Config) -> Result<StoreFound, Failure> {
    if let StoreUrl::Embedded(dir) = &config.store.url
        && !Path::new(dir).exists()
    {
        return Ok(StoreFound::NotYetMade);
    }
    if let StoreUrl::Memory = &config.store.url {
        return Ok(StoreFound::Told(MemoryStore::new().inspect().await?, Gate::Open));
    }
    let store = open_transfer(&config.store).await?;
    let asking = async {
        let durability = inspect_once_connected(&store).await?;
        Ok(StoreFound::Told(durability, store.gate().await?))
    };
    let asking = tokio::time::timeout(PATIENCE, asking);
    asking.await.unwrap_or_else(|_| Err("get the store's answer in time".into()))
}

/// A store begins to connect when it is made, and fails fast until then.
async fn inspect_once_connected(store: &Arc<dyn Transfer>) -> Result<Durability, Failure> {
    let mut tries_left = PATIENCE.as_millis() / 2 / ASK_AGAIN.as_millis();
    loop {
        match store.inspect().await {
            Ok(found) => return Ok(found),
            Err(error) if tries_left == 0 => return Err(error.into()),
            Err(_) => {
                tries_left -= 1;
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }
}

async fn look_at_upstreams(config: &Config) -> Vec<Result<(), Failure>> {
    let mut found = Vec::with_capacity(config.upstreams.len());
    for upstream in &config.upstreams {
        found.push(match Trust::of(upstream) {
            Ok(trust) => crate::upstream::connect_once(upstream, &trust).await,
            Err(error) => Err(error.into()),
        });
    }
    found
}
