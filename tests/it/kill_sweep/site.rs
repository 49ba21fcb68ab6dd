//! What the gateway stands between while it is killed: a store that stays, a service that counts, and, where the store
//! can be shared, a second gateway that lives on.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use crate::harness::{Ask, Gate, Gateway, GatewayPlan, Reply, Upstream, post};
use crate::servers::postgres::Database;
use crate::servers::redis::RedisServer;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Embedded,
    Redis,
    Postgres,
}

/// Which way a request takes through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Road {
    /// On connections that were used before.
    Warm,
    /// The first request of a process, which connects to the service.
    Cold,
    /// Keys are made in a new way, and the old one is `previous`: two records.
    TwoKeys,
    /// The answer is too large to be kept.
    Large,
    /// The process is told to end while the request is under way.
    Drain,
}

/// Everything that stays while gateways come and go.
pub(super) struct Site {
    pub(super) upstream: Upstream,
    pub(super) road: Road,
    /// A second gateway on the same store, never harmed.
    pub(super) witness: Option<Gateway>,
    plan: GatewayPlan,
    gate: Arc<Mutex<Gate>>,
    _store: Store,
}

enum Store {
    Directory(TempDir),
    Redis(RedisServer),
    Database(Database),
}

pub(super) const KINDS: [Kind; 3] = [Kind::Embedded, Kind::Redis, Kind::Postgres];
pub(super) const ROADS: [Road; 5] = [Road::Warm, Road::Cold, Road::TwoKeys, Road::Large, Road::Drain];

/// Names a request at which the service stops until the gate opens.
const HELD: &str = "X-Held";

/// What the gateway keeps of an answer on [`Road::Large`], and the size of one.
const KEPT_KIB: usize = 4;
const LARGE_BYTES: usize = 24 * 1024;

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
        }
    }

    fn store(self) -> Store {
        match self {
            Self::Embedded => Store::Directory(TempDir::new().unwrap()),
            Self::Redis => Store::Redis(RedisServer::start()),
            Self::Postgres => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                Store::Database(runtime.block_on(Database::create()))
            }
        }
    }
}

impl Store {
    fn url(&self) -> String {
        match self {
            Self::Directory(dir) => format!("file:{}", dir.path().display()),
            Self::Redis(server) => server.url(),
            Self::Database(database) => database.url(),
        }
    }
}

impl Site {
    pub(super) fn of(kind: Kind, road: Road) -> Self {
        let gate = Arc::new(Mutex::new(Gate::shut()));
        let (upstream, store) = (upstream(road, &gate), kind.store());
        // The service does not bear a connection that is idle for longer than a test's patience.
        let plan = GatewayPlan::before(&upstream)
            .server("threads = 1")
            .store(&store.url())
            .with_short_sessions()
            .upstream("idle_timeout = \"5s\"");
        let plan = match road {
            Road::Warm | Road::Cold | Road::Drain => plan,
            Road::TwoKeys => plan
                .policy("scope = [\"header:X-Account\"]")
                .policy("previous = { scope = [\"header:Authorization\"] }"),
            Road::Large => plan.policy(&format!("response_body_max = \"{KEPT_KIB}KiB\"")),
        };
        let witness = (kind != Kind::Embedded).then(|| plan.start());
        Self { upstream, road, witness, plan, gate, _store: store }
    }

    /// The gateway that is going to be harmed.
    pub(super) fn start(&self) -> Gateway {
        self.plan.start()
    }

    /// Shuts the gate behind whoever is held now.
    pub(super) fn shut_gate(&self) {
        *self.gate.lock().unwrap() = Gate::shut();
    }

    pub(super) fn open_gate(&self) {
        self.gate.lock().unwrap().open();
    }
}

pub(super) fn request(key: &str) -> Ask {
    post("/payments").caller("Bearer caller").header("X-Account", "account").key(key)
}

pub(super) fn held_request(key: &str) -> Ask {
    request(key).header(HELD, "yes")
}

/// Each execution has an answer of its own.
fn upstream(road: Road, gate: &Arc<Mutex<Gate>>) -> Upstream {
    let gate = Arc::clone(gate);
    Upstream::by(move |request| {
        let reply = match road {
            Road::Large => {
                let body = format!("payment {} {}", request.number, "x".repeat(LARGE_BYTES));
                Reply::answer(201).header("Location", &format!("/payments/{}", request.number)).body(body)
            }
            Road::Warm | Road::Cold | Road::TwoKeys | Road::Drain => Reply::payment(request.number),
        };
        match request.header(HELD) {
            Some(_) => reply.held_by(&gate.lock().unwrap()),
            None => reply,
        }
    })
}
