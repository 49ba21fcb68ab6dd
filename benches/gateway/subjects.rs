//! What the rows of processor time are measured on: nginx and the others first, then each store with its cache of
//! finished records and without.

use std::sync::Arc;
use std::time::Duration;

use super::Failure;
use super::load::{Callers, Finished, Keys, Plan};
use super::measure::{CONNECTIONS, counted, let_it_pass};
use super::references::{self, PEERS_PATH, SMALL_FILE};
use super::servers::Server;
use super::site::Site;
use super::upstream::{ANSWER_BYTES, GUARDED_PATH};
use super::work::{REDIS, Role, Work};

/// Keys finished beforehand wherever there are records, to be repeated.
const FINISHED: usize = 1000;

/// A path that no route guards.
const FREE_PATH: &str = "/reports";

/// A process under measurement.
pub(super) struct Subject {
    pub(super) server: Arc<Server>,
    pub(super) role: Role,
    /// Who it is, or the gateway's store.
    pub(super) name: &'static str,
    finished: Arc<Vec<Finished>>,
}

/// Starts all of them. Answers a word, too, on what cannot be had.
pub(super) async fn start(site: &Site) -> Result<(Vec<Subject>, Vec<String>), Failure> {
    let mut left_out = Vec::new();
    let mut subjects = vec![
        Subject::new(&site.nginx, Role::Nginx, "nginx"),
        Subject::new(&site.haproxy, Role::Haproxy, "haproxy"),
    ];
    for (role, cache) in [(Role::Gateway, None), (Role::Uncached, Some("0"))] {
        for (name, url) in [
            ("memory:", "memory:".to_owned()),
            ("file:", "file:./records".to_owned()),
            (REDIS, site.redis_url()),
        ] {
            let label = format!("{}-{}", name.trim_end_matches([':', '/']), subjects.len());
            let server = Server::gateway(site.dir(), &label, &url, cache, site.upstream.address)?;
            let mut subject = Subject::new(&Arc::new(server), role, name);
            subject.finish_some(site).await?;
            subjects.push(subject);
        }
    }
    // Whatever ails the other gateway, the benchmark goes on without it.
    match start_peer(site).await {
        Ok(peer) => subjects.push(peer),
        Err(error) => {
            left_out.push(format!("idempotent-proxy-server is left out: {error}"));
            let_it_pass().await;
        }
    }
    Ok((subjects, left_out))
}

async fn start_peer(site: &Site) -> Result<Subject, Failure> {
    let server = references::peer(site.dir(), site.redis.address, site.upstream.address)?;
    let mut peer = Subject::new(&Arc::new(server), Role::Peer, "idempotent-proxy");
    peer.finish_some(site).await?;
    Ok(peer)
}

impl Subject {
    /// With no key finished yet.
    pub(super) fn new(server: &Arc<Server>, role: Role, name: &'static str) -> Self {
        Self { server: Arc::clone(server), role, name, finished: Arc::default() }
    }

    /// Finishes the keys that are repeated later.
    pub(super) async fn finish_some(&mut self, site: &Site) -> Result<(), Failure> {
        let mut callers = Callers::connect(self.server.address, CONNECTIONS).await?;
        let prefix = format!("finished-{}", self.server.pid());
        let plan = self.plan(Work::First, &prefix, FINISHED, Duration::from_secs(30));
        self.finished = Arc::new(counted(&mut callers, &plan, &site.upstream).await?.finished);
        Ok(())
    }

    /// How `work` is asked of it: so many requests, or as many as there is time for.
    pub(super) fn plan(&self, work: Work, prefix: &str, requests: usize, time: Duration) -> Plan {
        let fresh = || Keys::Fresh(prefix.to_owned());
        let one = || Keys::Known(Arc::new(self.finished.iter().take(1).cloned().collect()));
        let all = || Keys::Known(Arc::clone(&self.finished));
        let (path, keys, status) = match work {
            Work::Pass => (FREE_PATH, fresh(), None),
            Work::First => (GUARDED_PATH, fresh(), Some("executed")),
            Work::Mixed => {
                let keys = Keys::Mixed(prefix.to_owned(), Arc::clone(&self.finished));
                (GUARDED_PATH, keys, Some("executed"))
            }
            Work::Static => (SMALL_FILE, Keys::File(Arc::new(references::file(ANSWER_BYTES))), None),
            Work::ReplayOfOne => (GUARDED_PATH, one(), Some("replayed")),
            Work::Replay | Work::ReplayFromStore => (GUARDED_PATH, all(), Some("replayed")),
        };
        let plan = Plan { path, keys, status, requests, time };
        if self.role == Role::Peer { Plan { path: PEERS_PATH, status: None, ..plan } } else { plan }
    }
}
