//! One worker: a thread, its runtime, and everything in it that is not shared.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::backing::Backing;
use super::systemd::Turns;
use super::{GatewayError, Running, Upstreams};
use crate::config::Config;
use crate::net::Listener;
use crate::proxy::{Entrance, Proxy, Settings};
use crate::server;
use crate::upstream::{BadAddress, Upstream};

/// One turn of so many is for a task that another thread has woken: the embedded store's writer wakes each request twice.
/// By tokio's default of 31 they wait for seconds while the worker is busy.
const FOR_OTHERS_EVERY: u32 = 2;

/// A worker at work.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) thread: JoinHandle<()>,
    pub(super) turns: Turns,
    changes: mpsc::UnboundedSender<Change>,
}

/// Another configuration, for one worker to go on with.
#[derive(Debug)]
struct Change {
    config: Arc<Config>,
    settings: Arc<Settings>,
    upstreams: Upstreams,
    done: oneshot::Sender<()>,
}

impl Worker {
    /// Has the worker lead its next requests by another configuration; resolves when it does. One that has ended does
    /// nothing more.
    pub(super) fn change(
        &self,
        config: &Arc<Config>,
        settings: &Arc<Settings>,
        upstreams: &Upstreams,
    ) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        let (config, settings) = (Arc::clone(config), Arc::clone(settings));
        // A worker that has ended drops the change, and with it the sender.
        drop(self.changes.send(Change { config, settings, upstreams: upstreams.clone(), done }));
        is_done
    }
}

/// Starts a worker on its share of the listener.
pub(super) fn spawn(
    number: usize,
    running: &Running,
    listener: &TcpListener,
    backing: &Arc<Backing>,
    upstreams: &Upstreams,
) -> Result<Worker, GatewayError> {
    let listener = listener.try_clone().map_err(GatewayError::Worker)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .global_queue_interval(FOR_OTHERS_EVERY)
        .build()
        .map_err(GatewayError::Worker)?;
    let (config, shared) = (Arc::clone(&running.config), Arc::clone(&running.shared));
    let settings = Arc::clone(&running.settings);
    let (ledger, stop) = (running.ledger.clone(), running.stop.clone());
    let reception = Arc::clone(&running.reception);
    let (backing, upstreams) = (Arc::clone(backing), upstreams.clone());
    let turns = Turns::default();
    let (changes, arriving) = mpsc::unbounded_channel();
    let counted = turns.clone();
    let work = async move {
        let listener = Listener::from_std(listener)?;
        let store = backing.handle().map_err(io::Error::other)?;
        let clients = upstreams.connect().map_err(io::Error::other)?;
        let proxy = Proxy::new(shared, settings, ledger.over(store), clients);
        let entrance = Entrance::to(proxy);
        let mut serving = JoinSet::new();
        // A task among the others, so that its turn comes after theirs.
        serving.spawn(server::serve(listener, entrance.clone(), reception, stop));
        tokio::select! {
            Some(served) = serving.join_next() => served.map_err(io::Error::other)?,
            () = follow(arriving, &entrance, config) => Ok(()),
            () = counted.count() => Ok(()),
        }
    };
    let thread = Builder::new().name(format!("onceway-{number}"));
    let run = move || {
        if let Err(error) = runtime.block_on(work) {
            tracing::error!(%error, "a worker failed");
        }
    };
    let thread = thread.spawn(run).map_err(GatewayError::Worker)?;
    Ok(Worker { thread, turns, changes })
}

/// Leads the entrance to each configuration that comes; never returns.
async fn follow(mut arriving: mpsc::UnboundedReceiver<Change>, entrance: &Entrance, mut held: Arc<Config>) {
    while let Some(Change { config, settings, upstreams, done }) = arriving.recv().await {
        let now = entrance.now();
        match kept_or_made(&held, &config, now.upstreams(), &upstreams) {
            Ok(upstreams) => entrance.lead_to(now.by(settings, upstreams)),
            // It was tried before any worker was told.
            Err(error) => {
                tracing::error!(%error, "a worker goes on with the old configuration");
                continue;
            }
        }
        held = config;
        // Who asked may have gone on.
        done.send(()).ok();
    }
    std::future::pending::<()>().await;
}

/// The upstreams of a new configuration: those that are as they were, with their connections; the others made anew.
/// An old one ends with its last request.
fn kept_or_made(
    old: &Config,
    new: &Config,
    held: &[Upstream],
    upstreams: &Upstreams,
) -> Result<Vec<Upstream>, BadAddress> {
    let kept = |config| old.upstreams.iter().zip(held).find(|(known, _)| *known == config);
    let kept_or_made = |(config, fleet)| match kept(config) {
        Some((_, upstream)) => Ok(upstream.clone()),
        None => Upstream::new(fleet),
    };
    new.upstreams.iter().zip(&*upstreams.fleets).map(kept_or_made).collect()
}
