//! A campaign: gateways before a store and a service, callers that retry, a nemesis, and a checker.
//!
//! The road: `ground.rs` and `machine.rs` (where processes run), `stores/`, `gateways.rs`, `service.rs` (who is there),
//! `callers.rs` (who asks), `faults.rs`, `nemesis.rs` (what goes wrong), `history.rs` (what was seen), `check.rs` (whether it was right).
//! Must not know who wants to know: `../main.rs` plays long campaigns, the integration tests short ones.

mod answers;
mod callers;
pub(crate) mod check;
mod faults;
mod gateways;
mod ground;
pub(crate) mod history;
mod machine;
mod nemesis;
mod service;
mod stores;
#[path = "../../gateway/wire.rs"]
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use onceway::clock::monotonic;

use callers::Callers;
use check::{Finding, Verdict};
use gateways::Setting;
use ground::Ground;
pub(crate) use history::History;
use history::{Moment, Name};
use nemesis::Nemesis;
use service::Service;
use stores::Servers;
pub(crate) use stores::{KINDS, Kind};

/// How often something is looked at that takes its time.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is played.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) store: Kind,
    pub(crate) seed: u64,
    pub(crate) faults: usize,
    /// Faults between two times of quiet.
    pub(crate) faults_at_once: usize,
    pub(crate) quiet: Duration,
    pub(crate) callers: u64,
    /// Between two things that a caller asks for.
    pub(crate) pause: Duration,
    pub(crate) session_ttl: Duration,
    pub(crate) min_replicas: u32,
    /// What a caller may wait for something final while nothing is done to the servers.
    pub(crate) patience: Duration,
    /// Whether each server has a network and a disk of its own.
    pub(crate) has_networks: bool,
    /// Whether the first finding ends it.
    pub(crate) ends_early: bool,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) faults: usize,
    pub(crate) counts: BTreeMap<&'static str, usize>,
    pub(crate) deaths: BTreeMap<String, usize>,
    pub(crate) verdict: Verdict,
    pub(crate) history: History,
    /// Whether it came to the end of its plan.
    pub(crate) is_whole: bool,
    /// The longest time from the end of all faults until the store itself was whole.
    pub(crate) store_whole_after: Moment,
    pub(crate) took: Duration,
}

/// Tells the time since the beginning.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Plan {
    fn patience(&self) -> Moment {
        u64::try_from(self.patience.as_micros()).unwrap()
    }
}

impl Clock {
    fn start() -> Self {
        Self { origin: monotonic() }
    }

    fn now(self) -> Moment {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap()
    }
}

/// Plays `plan` to its end, or until `is_stopped`. `tell` hears how it goes.
pub(crate) fn run(plan: &Plan, is_stopped: &AtomicBool, tell: &mut dyn FnMut(&str)) -> Outcome {
    let clock = Clock::start();
    let mut ground = Ground::new(plan.has_networks);
    let servers = Servers::start(plan.store, &mut ground);
    let service = Service::new(plan.seed, clock);
    let service_at = serve(&service, &ground);
    let session_ttl = format!("{}ms", plan.session_ttl.as_millis());
    let setting = Setting::of(&servers, plan.min_replicas, service_at, &session_ttl);
    // The embedded store belongs to one process.
    let count = if plan.store == Kind::Embedded { 1 } else { 3 };
    let gateways = gateways::start(&setting, count, &mut ground);
    let callers = Callers::new(gateways.iter().map(|gateway| gateway.at).collect(), clock, plan.pause);
    let mut nemesis = Nemesis::new(servers, gateways, &ground, plan.session_ttl, clock, plan.seed);
    let asking = in_background(Arc::clone(&callers).ask(plan.callers, plan.seed));
    let mut history = History::default();
    let (mut faults, mut store_whole_after, mut is_whole) = (0, 0, true);
    while faults < plan.faults && !is_stopped.load(Ordering::Acquire) {
        faults += nemesis.rage(plan.faults_at_once.min(plan.faults - faults));
        let Some((healed, whole)) = nemesis.heal() else {
            let logs = format!("target/campaign/{}-{}.logs", plan.store.name(), plan.seed);
            ground.keep_logs(Path::new(&logs));
            tell(&format!("{}: the store did not become whole; see {logs}", plan.store));
            is_whole = false;
            break;
        };
        store_whole_after = store_whole_after.max(whole - healed);
        thread::sleep(plan.quiet);
        history.quiet.push((whole, clock.now()));
        tell(&format!("{}: {faults} faults, {} requests", plan.store, callers.count()));
        if plan.ends_early && is_broken(&mut history, &service, &callers, plan) {
            break;
        }
    }
    callers.stop();
    asking.join().unwrap();
    read_all(&mut nemesis, &service, &callers, plan);
    (history.arrivals, history.calls) = (service.arrivals(), callers.calls());
    let verdict = check::check(&history, plan.patience());
    let Nemesis { counts, deaths, done, .. } = nemesis;
    history.faults = done;
    let took = clock.origin.elapsed();
    Outcome { faults, counts, deaths, verdict, history, is_whole, store_whole_after, took }
}

/// Whether something is wrong already.
fn is_broken(history: &mut History, service: &Service, callers: &Callers, plan: &Plan) -> bool {
    // In this order: what a caller was told must stand in the ledger.
    history.calls = callers.calls();
    history.arrivals = service.arrivals();
    let findings = check::check(history, plan.patience()).findings;
    // Who sent the other body may still be waiting for its answer, and so not stand in the history.
    !findings.iter().all(|finding| matches!(finding, Finding::NoMismatch { .. }))
}

/// Every key is read through every gateway, none of which remembers anything.
fn read_all(nemesis: &mut Nemesis, service: &Service, callers: &Arc<Callers>, plan: &Plan) {
    nemesis.restart_gateways();
    // Sessions of those before end, and with them all doubt about what is in flight.
    thread::sleep(plan.session_ttl + Duration::from_secs(1));
    nemesis.start_all();
    // As the key was executed if it was, else as nearly everybody asked for it.
    let mut names: BTreeMap<Name, u8> = callers.calls().iter().map(|call| (call.name, 0)).collect();
    for arrival in service.arrivals() {
        names.insert(arrival.name, arrival.variant);
    }
    let reading = Arc::clone(callers).read_all(plan.callers, names.into_iter().collect());
    in_background(reading).join().unwrap();
}

fn serve(service: &Arc<Service>, ground: &Ground) -> SocketAddr {
    let listener = std::net::TcpListener::bind((ground.service(), 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let service = Arc::clone(service);
    in_background(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        service.serve(listener).await
    });
    at
}

/// On a thread with a runtime of its own.
fn in_background<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    })
}
