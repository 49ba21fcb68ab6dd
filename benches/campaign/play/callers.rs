//! Callers: each asks for one thing after another, and for each thing until it is told something final, through one gateway
//! after another. What they are told is the history.
//!
//! A few keys at a time are hot, so that several callers ask for them at once; old ones are asked for again, as if an
//! answer had been lost. Must not know what is done to the servers, nor what the answers should be.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::history::{Call, Moment, Name, Told};
use super::wire::Wire;
use super::{Clock, answers};

/// Keys that are hot at a time.
const HOT: u32 = 24;

/// After so many things asked for, one hot key gives its place to a new one.
const COOLS_AFTER: u64 = 10;

/// A gateway that does not answer within this is taken for gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// Between two tries at one thing.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(15);

/// A thing that came to no end within this is left for the final read.
const GIVE_UP_AFTER: Moment = 30_000_000;

/// In the final read, nobody is left without an answer for longer than this by a gateway that works.
const FINAL_WITHIN: Moment = 15_000_000;

/// What all callers share.
pub(crate) struct Callers {
    gateways: Vec<SocketAddr>,
    clock: Clock,
    /// Between two things that a caller asks for; nothing where speed is wanted.
    pause: Duration,
    is_over: AtomicBool,
    operations: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

/// One of them, with its connections.
struct Caller {
    shared: Arc<Callers>,
    wires: Vec<Option<Wire>>,
    rng: Rng,
}

impl Callers {
    pub(crate) fn new(gateways: Vec<SocketAddr>, clock: Clock, pause: Duration) -> Arc<Self> {
        Arc::new(Self {
            gateways,
            clock,
            pause,
            is_over: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            calls: Mutex::default(),
        })
    }

    /// Ends [`Callers::ask`] soon.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// A copy of what they were told so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// So many callers ask until they are stopped.
    pub(crate) async fn ask(self: Arc<Self>, callers: u64, seed: u64) {
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let caller = Caller::new(&self, seed.wrapping_add(number));
            tasks.spawn(caller.ask_on());
        }
        tasks.join_all().await;
    }

    /// Every name is asked for once more, through every gateway.
    pub(crate) async fn read_all(self: Arc<Self>, callers: u64, names: Vec<(Name, u8)>) {
        let names = Arc::new(Mutex::new(names));
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let (mut caller, names) = (Caller::new(&self, number), Arc::clone(&names));
            tasks.spawn(async move {
                loop {
                    let Some((name, variant)) = names.lock().unwrap().pop() else { return };
                    for gateway in 0..caller.wires.len() {
                        caller.read(name, variant, gateway).await;
                    }
                }
            });
        }
        tasks.join_all().await;
    }
}

impl Caller {
    fn new(shared: &Arc<Callers>, seed: u64) -> Self {
        let wires = shared.gateways.iter().map(|_| None).collect();
        Self { shared: Arc::clone(shared), wires, rng: Rng::with_seed(seed) }
    }

    async fn ask_on(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.is_over.load(Ordering::Acquire) {
            let operation = shared.operations.fetch_add(1, Ordering::AcqRel);
            let name = chosen(operation, &mut self.rng);
            let variant = u8::from(self.rng.u32(0..100) < 3);
            let (began, mut gateway) = (shared.clock.now(), self.rng.usize(0..self.wires.len()));
            loop {
                let call = self.call(operation, name, variant, gateway, false).await;
                let is_late = call.ended - began > GIVE_UP_AFTER;
                if call.told.is_final() || is_late || shared.is_over.load(Ordering::Acquire) {
                    break;
                }
                gateway = (gateway + 1) % self.wires.len();
                sleep(TRY_AGAIN_AFTER).await;
            }
            sleep(shared.pause).await;
        }
    }

    async fn read(&mut self, name: Name, variant: u8, gateway: usize) {
        let operation = self.shared.operations.fetch_add(1, Ordering::AcqRel);
        let began = self.shared.clock.now();
        loop {
            let call = self.call(operation, name, variant, gateway, true).await;
            if call.told.is_final() || call.ended - began > FINAL_WITHIN {
                return;
            }
            sleep(TRY_AGAIN_AFTER).await;
        }
    }

    /// Sends a request once, and writes down what came of it.
    async fn call(
        &mut self,
        operation: u64,
        name: Name,
        variant: u8,
        gateway: usize,
        is_final_read: bool,
    ) -> Call {
        let clock = self.shared.clock;
        let began = clock.now();
        let told = self.told(name, variant, gateway).await.unwrap_or(Told::Nothing);
        if told == Told::Nothing {
            self.wires[gateway] = None;
        }
        let ended = clock.now();
        let gateway = u8::try_from(gateway).unwrap();
        let call = Call { operation, name, variant, gateway, is_final_read, began, ended, told };
        self.shared.calls.lock().unwrap().push(call);
        call
    }

    /// What the gateway says; nothing if it did not say all of it.
    async fn told(&mut self, name: Name, variant: u8, gateway: usize) -> Option<Told> {
        if self.wires[gateway].is_none() {
            let connecting = TcpStream::connect(self.shared.gateways[gateway]);
            let stream = timeout(CONNECT_WITHIN, connecting).await.ok()?.ok()?;
            self.wires[gateway] = Some(Wire::new(stream).ok()?);
        }
        let wire = self.wires[gateway].as_mut()?;
        wire.send(&answers::request(name, variant)).await.ok()?;
        let message = timeout(ANSWER_WITHIN, wire.next()).await.ok()?.ok()??;
        let (told, is_last) = (answers::told(&message), message.field("connection") == Some("close"));
        if is_last {
            self.wires[gateway] = None;
        }
        Some(told)
    }
}

/// A key that is hot, was hot, or is nobody else's.
fn chosen(operation: u64, rng: &mut Rng) -> Name {
    let newest = u32::try_from(operation / COOLS_AFTER).unwrap() + HOT;
    let key = match rng.u32(0..100) {
        0..70 => newest - rng.u32(0..HOT),
        _ => rng.u32(0..=newest),
    };
    Name { scope: rng.u8(0..2), key }
}
