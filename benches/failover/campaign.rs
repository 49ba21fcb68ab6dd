//! Callers, two gateways, a replicated Redis and its failovers, played until enough of them have happened.
//!
//! Every caller sends each key until the answer is final, and again two seconds later through the other gateway,
//! as if the first answer had been lost. The upstream counts how often it did what a key stands for. What
//! is started here are the integration tests' own parts; must not know who wants to know.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Answer, Client, Gateway, GatewayPlan, Reply, Upstream, now, post};
use crate::servers::awaited;
use crate::servers::redis::RedisServer;
use crate::servers::redis_sentinels::RedisSentinels;

/// Callers at a time.
const CALLERS: usize = 16;

/// Between two requests of a caller.
const PAUSE: Duration = Duration::from_millis(10);

/// After this a finished key is asked for again: most failovers are over by then.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How long the upstream works for each request.
const WORK: Duration = Duration::from_millis(3);

/// Before each failover, when everybody follows the master.
const QUIET: Duration = Duration::from_millis(700);

/// How long the master is without its replicas before it is killed, in turn: the Sentinels must not miss them.
const LAGS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(600)];

/// A caller gives up on a key after this, which fails the campaign.
const GIVE_UP_AFTER: Duration = Duration::from_mins(2);

/// What happens to the master.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Its process is killed.
    Killed,
    /// Its process is stopped, and goes on when another is master.
    Frozen,
    /// Its replicas lose their connections to it, and it goes on alone for a moment before it is killed.
    CutOffAndKilled,
}

/// What is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) min_replicas: u32,
    pub(crate) fault: Fault,
    pub(crate) until: Until,
}

/// When it is enough.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Lost(usize),
    Passed(Duration),
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Masters taken away.
    pub(crate) lost: usize,
    /// Masters made, as the Sentinels count them: more than were taken away where they lost patience.
    pub(crate) failovers: usize,
    pub(crate) requests: usize,
    pub(crate) keys: usize,
    /// Keys whose effect happened more than once.
    pub(crate) twice: usize,
    /// Answers that were not the first answer to their key.
    pub(crate) wrong: usize,
    /// Keys that ended with nobody knowing what came of them.
    pub(crate) unknown: usize,
    /// The longest time in which nobody had an answer.
    pub(crate) longest_silence: Duration,
}

/// What the callers and the upstream write down.
struct Notes {
    is_over: AtomicBool,
    requests: AtomicUsize,
    wrong: AtomicUsize,
    unknown: AtomicUsize,
    executions: Mutex<HashMap<String, usize>>,
    served: Mutex<Served>,
}

struct Served {
    last: Instant,
    longest_silence: Duration,
}

/// How a key stands with its caller.
enum Outcome {
    Answered(String),
    Unknown,
}

/// A key to be asked for again.
struct Due {
    at: Instant,
    key: String,
    first: Outcome,
}

/// Plays `plan` to its end, or until `is_stopped`.
pub(crate) fn run(plan: &Plan, is_stopped: &AtomicBool) -> Report {
    let mut redis = RedisSentinels::start();
    let notes = Arc::new(Notes::new());
    let upstream = upstream(&notes);
    let gateway = GatewayPlan::before(&upstream)
        .store(&redis.url())
        .store_line(&format!("min_replicas = {}", plan.min_replicas))
        // The upstream of the tests does not bear a connection that is idle for longer than its patience.
        .upstream("idle_timeout = \"5s\"");
    let gateways = Arc::new([gateway.start(), gateway.start()]);
    notes.served();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (notes, gateways) = (Arc::clone(&notes), Arc::clone(&gateways));
            thread::spawn(move || call(caller, &notes, &gateways))
        })
        .collect();
    let (began, mut lost) = (now(), 0);
    while !plan.until.is_enough(lost, began.elapsed()) && !is_stopped.load(Ordering::Acquire) {
        fail_over(&mut redis, plan.fault, LAGS[lost % LAGS.len()]);
        lost += 1;
    }
    notes.is_over.store(true, Ordering::Release);
    let answered = callers.into_iter().all(|caller| caller.join().is_ok());
    assert!(answered, "a caller failed");
    Report { lost, failovers: redis.failovers(), ..notes.report() }
}

/// Takes the master away once everybody follows it, and gives it back when another has taken its place.
fn fail_over(redis: &mut RedisSentinels, fault: Fault, lag: Duration) {
    let old = awaited("a master that everybody follows", || {
        redis.master().filter(|master| redis.followers(*master) == 2)
    });
    thread::sleep(QUIET);
    match fault {
        Fault::Killed => redis.nodes[old].kill(),
        Fault::Frozen => redis.nodes[old].freeze(),
        Fault::CutOffAndKilled => {
            // Frozen, or they would be back at once.
            redis.others(old).for_each(RedisServer::freeze);
            redis.nodes[old].ask::<i64>("CLIENT KILL TYPE replica").unwrap();
            thread::sleep(lag);
            redis.nodes[old].kill();
            redis.others(old).for_each(RedisServer::thaw);
        }
    }
    redis.await_master_after(old);
    match fault {
        Fault::Frozen => redis.nodes[old].thaw(),
        Fault::Killed | Fault::CutOffAndKilled => redis.nodes[old].restart(),
    }
}

/// Counts what is done for each key, and says so in the answer.
fn upstream(notes: &Arc<Notes>) -> Upstream {
    let notes = Arc::clone(notes);
    Upstream::by(move |request| {
        let key = request.header("idempotency-key").unwrap_or_default();
        let time = {
            let mut executions = notes.executions.lock().unwrap();
            let times = executions.entry(key.clone()).or_default();
            *times += 1;
            *times
        };
        thread::sleep(WORK);
        Reply::answer(201).body(format!("{key} for the {time}. time"))
    })
}

fn call(caller: usize, notes: &Notes, gateways: &[Gateway; 2]) {
    let mut clients = gateways.each_ref().map(Gateway::client);
    let mut again = VecDeque::new();
    for number in 0.. {
        while again.front().is_some_and(|due: &Due| due.at <= now()) {
            let due = again.pop_front().expect("it was looked at");
            ask_again(notes, &mut clients, gateways, caller + 1, &due);
        }
        if notes.is_over.load(Ordering::Acquire) {
            break;
        }
        let key = format!("caller-{caller}-{number}");
        let first = ask_until_final(notes, &mut clients, gateways, caller, &key);
        again.push_back(Due { at: now() + ASK_AGAIN_AFTER, key, first });
        thread::sleep(PAUSE);
    }
    for due in &again {
        ask_again(notes, &mut clients, gateways, caller + 1, due);
    }
}

fn ask_again(notes: &Notes, clients: &mut [Client; 2], gateways: &[Gateway; 2], through: usize, due: &Due) {
    let again = ask_until_final(notes, clients, gateways, through, &due.key);
    match (&due.first, &again) {
        (Outcome::Answered(first), Outcome::Answered(again)) if first != again => {
            notes.wrong.fetch_add(1, Ordering::AcqRel);
        }
        (_, Outcome::Unknown) => {
            notes.unknown.fetch_add(1, Ordering::AcqRel);
        }
        (_, Outcome::Answered(_)) => {}
    }
}

/// Sends `key`, through one gateway and the other in turn, until there is nothing to be gained by it.
fn ask_until_final(
    notes: &Notes,
    clients: &mut [Client; 2],
    gateways: &[Gateway; 2],
    first_through: usize,
    key: &str,
) -> Outcome {
    let (ask, began) = (post("/payments").key(key), now());
    for turn in first_through.. {
        let index = turn % 2;
        let client = &mut clients[index];
        notes.requests.fetch_add(1, Ordering::AcqRel);
        let answer = client.send(&ask).read();
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            *client = gateways[index].client();
        }
        if let Some(outcome) = notes.judge(&answer, key) {
            return outcome;
        }
        assert!(began.elapsed() < GIVE_UP_AFTER, "no end for {key}: {}", answer.shown());
        thread::sleep(PAUSE);
    }
    Outcome::Unknown
}

impl Until {
    fn is_enough(self, lost: usize, passed: Duration) -> bool {
        match self {
            Self::Lost(enough) => lost >= enough,
            Self::Passed(enough) => passed >= enough,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen, and back when another is master",
            Self::CutOffAndKilled => "cut off from its replicas, then killed",
        })
    }
}

impl Notes {
    fn new() -> Self {
        Self {
            is_over: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
            unknown: AtomicUsize::new(0),
            executions: Mutex::default(),
            served: Mutex::new(Served { last: now(), longest_silence: Duration::ZERO }),
        }
    }

    /// What an answer means to the caller of `key`; nothing if it is to ask again.
    fn judge(&self, answer: &Answer, key: &str) -> Option<Outcome> {
        if answer.status == 201 {
            self.served();
            let text = answer.text();
            if text.strip_prefix(key).is_none_or(|rest| !rest.starts_with(' ')) {
                self.wrong.fetch_add(1, Ordering::AcqRel);
            }
            return Some(Outcome::Answered(text));
        }
        match (answer.status, answer.problem().1.as_str()) {
            // A first caller is told that it may ask again, and then hears how it stands.
            (409, "outcome-unknown" | "result-unavailable") => Some(Outcome::Unknown),
            (409 | 502 | 503 | 504, _) => None,
            _ => panic!("no such answer was expected: {}", answer.shown()),
        }
    }

    fn served(&self) {
        let mut served = self.served.lock().unwrap();
        served.longest_silence = served.longest_silence.max(served.last.elapsed());
        served.last = now();
    }

    fn report(&self) -> Report {
        let executions = self.executions.lock().unwrap();
        Report {
            requests: self.requests.load(Ordering::Acquire),
            keys: executions.len(),
            twice: executions.values().filter(|times| **times > 1).count(),
            wrong: self.wrong.load(Ordering::Acquire),
            unknown: self.unknown.load(Ordering::Acquire),
            longest_silence: self.served.lock().unwrap().longest_silence,
            ..Report::default()
        }
    }
}
