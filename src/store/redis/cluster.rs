//! A cluster: which of its servers holds a key, learnt from the servers themselves.
//!
//! The client library has a cluster client. It is not used: a `WAIT` has to share the connection of its
//! write, a lost connection has to fail at once and not be tried again unseen, and small commands must not
//! queue behind large bodies. So each server of the cluster is a [`Node`] like any single server, and this
//! file only chooses among them. `MOVED` and `ASK` prove that a command was not done; it is sent on to where
//! they point, a bounded number of times. Nothing else is sent twice.
//!
//! While a slot is on its way from one server to another, a command with two keys of which one is missing gets
//! `TRYAGAIN` from both. So claims go on and settlements may have to wait: the ledger tries them again.
//!
//! Must not know records. Read `cluster/map.rs` for what the servers tell, `node.rs` before.

mod map;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Client, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::map::{View, slot_of};
use super::address::{How, Peer};
use super::dial::Dial;
use super::failed::Failed;
use super::link::Outage;
use super::node::{Lane, Node, Request, Terms};

/// How often one command may be sent on. Two are seen in practice: a slot that moved, and then another on its way.
const REDIRECTIONS_MAX: usize = 4;

/// How many servers are asked for their view at a time: one that was cut off does not know of a failover.
const VIEWS: usize = 3;

/// Servers asked at most when none of those answers.
const PEERS_ASKED_MAX: usize = 24;

/// How long a server may take to tell its view.
const PATIENCE: Duration = Duration::from_millis(800);

/// How long the others may take once one has answered.
const GRACE: Duration = Duration::from_millis(150);

/// How often the view is asked for while nothing happens. Until then a master that was cut off and replaced
/// may be written to, as long as it goes on taking writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks, however many commands failed.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A cluster. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Shared>);

struct Shared {
    how: How,
    seeds: Vec<Peer>,
    terms: Terms,
    state: Mutex<State>,
    /// Somebody met a sign of change.
    doubted: Notify,
    known: watch::Sender<Known>,
}

/// Whether anything is known of the cluster.
#[derive(Clone)]
enum Known {
    NotYet,
    Nothing(Outage),
    Something,
}

/// The newest view, and the servers in use.
#[derive(Default)]
struct State {
    view: Option<Arc<View>>,
    /// Which of `view.shards` holds a slot, or where `MOVED` has pointed since.
    owners: HashMap<u16, Peer>,
    nodes: HashMap<Peer, Arc<Node>>,
    looks: usize,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Peer>, how: How, terms: Terms) -> Self {
        Self(Arc::new(Shared {
            how,
            seeds,
            terms,
            state: Mutex::default(),
            doubted: Notify::new(),
            known: watch::Sender::new(Known::NotYet),
        }))
    }

    /// Keeps the view fresh. To be run as a task; stops when dropped.
    pub(super) async fn keep(self) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK_PAUSE).await;
            tokio::select! {
                () = self.0.doubted.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Does what is asked on the server that holds `key`.
    pub(super) async fn perform(&self, key: &str, lane: Lane, request: Request<'_>) -> Result<Value, Failed> {
        self.known().await?;
        let (mut peer, mut is_asking) = (self.owner(slot_of(key)).ok_or_else(|| self.doubt())?, false);
        for _ in 0..=REDIRECTIONS_MAX {
            let answer = self.node(&peer)?.perform(lane, request, is_asking).await;
            let Err(failed) = answer else { return answer };
            let Some(redirected) = failed.redirected() else {
                if failed.is_sign_of_change() {
                    self.0.doubted.notify_one();
                }
                return Err(failed);
            };
            let Some(to) = Peer::read(redirected.to, &peer.host) else { return Err(self.doubt()) };
            is_asking = redirected.is_ask;
            if !is_asking {
                self.state().owners.insert(redirected.slot, to.clone());
                self.0.doubted.notify_one();
            }
            peer = to;
        }
        Err(self.doubt())
    }

    /// The view of now, for those who go through all servers.
    pub(super) async fn view(&self) -> Result<Arc<View>, Failed> {
        match self.ask_around().await {
            Ok(view) => Ok(self.take(view)),
            Err(outage) => Err(Failed::Outage(outage)),
        }
    }

    /// A server by its name.
    pub(super) fn node(&self, peer: &Peer) -> Result<Arc<Node>, Failed> {
        if let Some(node) = self.state().nodes.get(peer) {
            return Ok(Arc::clone(node));
        }
        let client = self.0.how.client(peer).map_err(Failed::Answer)?;
        let node = Arc::new(Node::new(&Dial::Server(Box::new(client)), self.0.terms));
        Ok(Arc::clone(self.state().nodes.entry(peer.clone()).or_insert(node)))
    }

    /// One server after another, for what any of them can do.
    pub(super) fn anyone(&self, turn: u64) -> Result<(Client, Peer), RedisError> {
        let peers = self.peers();
        let turn = usize::try_from(turn).unwrap_or(0) % peers.len().max(1);
        let peer = peers.get(turn).or(self.0.seeds.first());
        let Some(peer) = peer else {
            return Err((redis::ErrorKind::InvalidClientConfig, "no server is known").into());
        };
        Ok((self.0.how.client(peer)?, peer.clone()))
    }

    /// Returns when `peer` is no longer part of the cluster, as far as anybody tells.
    pub(super) async fn let_go(&self, peer: &Peer) {
        while self.peers().contains(peer) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whom the configuration names.
    pub(super) fn seeds(&self) -> impl Iterator<Item = &Peer> {
        self.0.seeds.iter()
    }

    /// Waits for the first look, and for no other.
    async fn known(&self) -> Result<(), Failed> {
        if matches!(&*self.0.known.borrow(), Known::Something) {
            return Ok(());
        }
        let mut known = self.0.known.subscribe();
        match known.wait_for(|known| !matches!(known, Known::NotYet)).await.as_deref() {
            Ok(Known::Something) => Ok(()),
            Ok(Known::Nothing(outage)) => {
                self.0.doubted.notify_one();
                Err(Failed::Outage(outage.clone()))
            }
            Ok(Known::NotYet) | Err(_) => Err(Failed::Outage(Outage::Closed)),
        }
    }

    fn owner(&self, slot: u16) -> Option<Peer> {
        let state = self.state();
        state.owners.get(&slot).or_else(|| state.view.as_ref()?.owner(slot)).cloned()
    }

    fn doubt(&self) -> Failed {
        self.0.doubted.notify_one();
        Failed::NoOwner
    }

    async fn look(&self) {
        let looked = self.ask_around().await;
        match looked {
            Ok(view) => {
                self.take(view);
                self.0.known.send_replace(Known::Something);
            }
            Err(outage) => {
                self.0.known.send_if_modified(|known| match known {
                    // What was known is better than nothing: the servers themselves say where it is wrong.
                    Known::Something => false,
                    Known::NotYet | Known::Nothing(_) => {
                        *known = Known::Nothing(outage);
                        true
                    }
                });
            }
        }
    }

    /// Puts a view in the place of the last one, and lets go of servers that are not in it.
    fn take(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        let mut state = self.state();
        state.owners.clear();
        state.nodes.retain(|peer, _| view.peers().any(|known| known == peer));
        state.view = Some(Arc::clone(&view));
        view
    }

    /// Asks some masters, and if none answers everybody who was ever named. The view of the highest epoch
    /// counts, before it one of a server that finds the cluster in order.
    async fn ask_around(&self) -> Result<View, Outage> {
        let masters: Vec<Peer> = {
            let mut state = self.state();
            state.looks = state.looks.wrapping_add(VIEWS);
            let turn = state.looks;
            let masters: Vec<Peer> = state.view.iter().flat_map(|view| view.masters()).cloned().collect();
            let first = turn % masters.len().max(1);
            masters.iter().cycle().skip(first).take(VIEWS.min(masters.len())).cloned().collect()
        };
        let all = |failed| Outage::NoView(Box::new(failed));
        match self.best_view(masters).await {
            Ok(view) => Ok(view),
            Err(_) => self.best_view(self.peers()).await.map_err(all),
        }
    }

    async fn best_view(&self, peers: Vec<Peer>) -> Result<View, Failed> {
        let mut questions = JoinSet::new();
        for peer in peers.into_iter().take(PEERS_ASKED_MAX) {
            let Ok(node) = self.node(&peer) else { continue };
            questions.spawn(async move {
                let asking = View::ask(node.link(Lane::Small), &peer);
                tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Err(Failed::Late))
            });
        }
        let (mut best, mut failed): (Option<View>, _) = (None, Failed::Late);
        loop {
            let patience = if best.is_some() { GRACE } else { PATIENCE };
            let Ok(Some(view)) = tokio::time::timeout(patience, questions.join_next()).await else { break };
            match view {
                Ok(Ok(view)) if best.as_ref().is_none_or(|best| best.rank() < view.rank()) => {
                    best = Some(view);
                }
                Ok(Err(why)) => failed = why,
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        best.ok_or(failed)
    }

    /// Everybody who was named by the last view or by the configuration.
    fn peers(&self) -> Vec<Peer> {
        let view = self.state().view.clone();
        let mut peers: Vec<Peer> = view.iter().flat_map(|view| view.peers()).cloned().collect();
        peers.extend(self.0.seeds.iter().filter(|seed| !peers.contains(seed)).cloned().collect::<Vec<_>>());
        peers
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Maps and a pointer; nothing panics in between.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
