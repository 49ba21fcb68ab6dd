//! The contract on Redis of several servers: a cluster, and a set under Sentinels whose replicas all acknowledge.
//!
//! Such a deployment takes seconds to start, so one holds all claims, each in a namespace of its own.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use onceway::store::codec::Codec;
use onceway::store::redis::RedisStore;
use onceway::store::transfer::Transfer;
use onceway::store::{Options, SessionLife, Store};
use uuid::Uuid;

use super::{Bench, Shared};
use crate::records::eventually;
use crate::servers::redis_cluster::RedisCluster;
use crate::servers::redis_sentinels::RedisSentinels;

/// More than a loaded machine takes for any call.
const PATIENCE: Duration = Duration::from_secs(20);

/// Servers that stand for one store.
pub(crate) trait Deployment: Send + Sync + Sized + 'static {
    /// How many replicas acknowledge each write.
    const MIN_REPLICAS: u32;

    fn start() -> Self;

    fn url(&self) -> String;

    /// The one that runs, for as long as somebody holds it.
    fn running() -> &'static Mutex<Weak<Self>>;
}

impl Deployment for RedisCluster {
    const MIN_REPLICAS: u32 = 0;

    fn start() -> Self {
        Self::start()
    }

    fn url(&self) -> String {
        self.url()
    }

    fn running() -> &'static Mutex<Weak<Self>> {
        static RUNNING: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
        &RUNNING
    }
}

impl Deployment for RedisSentinels {
    const MIN_REPLICAS: u32 = 2;

    fn start() -> Self {
        Self::start()
    }

    fn url(&self) -> String {
        self.url()
    }

    fn running() -> &'static Mutex<Weak<Self>> {
        static RUNNING: Mutex<Weak<RedisSentinels>> = Mutex::new(Weak::new());
        &RUNNING
    }
}

/// Starts the deployment; it ends when the answer is dropped.
pub(crate) fn started<D: Deployment>(_: PhantomData<On<D>>) -> Arc<D> {
    let deployment = Arc::new(D::start());
    *D::running().lock().unwrap() = Arc::downgrade(&deployment);
    deployment
}

/// A namespace of its own on the deployment that runs.
pub(crate) struct On<D> {
    deployment: Arc<D>,
    store: Arc<RedisStore>,
    codec: Codec,
    namespace: String,
}

impl<D: Deployment> On<D> {
    fn handle(&self, namespace: &str) -> Arc<RedisStore> {
        handle(&*self.deployment, namespace, &self.codec)
    }
}

fn handle<D: Deployment>(deployment: &D, namespace: &str, codec: &Codec) -> Arc<RedisStore> {
    let options = Options {
        codec: codec.clone(),
        min_replicas: D::MIN_REPLICAS,
        timeout: PATIENCE,
        ..Options::of(namespace)
    };
    Arc::new(RedisStore::connect(&deployment.url(), &options).unwrap())
}

impl<D: Deployment> Bench for On<D> {
    const NOT_THERE: SessionLife = SessionLife::Absent;

    async fn set_up_with(codec: Codec) -> Self {
        let deployment = D::running().lock().unwrap().upgrade().expect("somebody has started it");
        let namespace = Uuid::new_v4().simple().to_string();
        let store = handle(&*deployment, &namespace, &codec);
        eventually("the store connects", || async { store.ping().await.is_ok() }).await;
        Self { deployment, store, codec, namespace }
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        self.store.clone()
    }

    fn another(&self) -> Arc<dyn Store> {
        self.handle(&self.namespace)
    }
}

impl<D: Deployment> Shared for On<D> {
    fn elsewhere(&self) -> Arc<dyn Transfer> {
        self.handle(&format!("{}-elsewhere", self.namespace))
    }
}
