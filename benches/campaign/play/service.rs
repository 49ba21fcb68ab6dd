//! The service behind the gateways: writes every request that reaches it into its own ledger, and misbehaves as its seed
//! says, each request of a key in its own way.
//!
//! Some requests it answers late or very late, some it cuts off before or after it has done what they ask, some it
//! refuses without doing anything, some it answers with an error or with more bytes than anybody keeps. Must not
//! know what is between it and the callers.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::history::{Arrival, Deed, Name, Path};
use super::wire::{Message, Wire};
use super::{Clock, answers};

/// The ledger, which nobody but the service writes.
pub(crate) struct Service {
    seed: u64,
    clock: Clock,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    arrivals: Vec<Arrival>,
    /// How often each key has come.
    times: HashMap<Name, u64>,
}

/// What is to happen to one request.
#[derive(Clone, Copy, Debug)]
struct Fate {
    delay: Duration,
    deed: Deed,
    status: u16,
}

impl Service {
    pub(crate) fn new(seed: u64, clock: Clock) -> Arc<Self> {
        Arc::new(Self { seed, clock, ledger: Mutex::default() })
    }

    /// A copy of the ledger.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.ledger.lock().unwrap().arrivals.clone()
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let mut counted = 0_u64;
        loop {
            let (stream, peer) = listener.accept().await?;
            counted += 1;
            // Every other connection ends with a reset, and the rest in order.
            if counted.is_multiple_of(2) {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            }
            let Ok(wire) = Wire::new(stream) else { continue };
            connections.spawn(Arc::clone(&self).converse(wire, peer));
            while connections.try_join_next().is_some() {}
        }
    }

    async fn converse(self: Arc<Self>, mut wire: Wire, _peer: SocketAddr) {
        loop {
            let Ok(Some(request)) = wire.next().await else { return };
            let Some((name, variant)) = asked(&request) else { return };
            let (number, fate) = self.note(name, variant);
            sleep(fate.delay).await;
            let answer = answers::answer(number, name, variant, fate.deed, fate.status);
            let is_kept = match fate.deed {
                Deed::Answered | Deed::AnsweredLarge | Deed::Refused => wire.send(&answer).await.is_ok(),
                Deed::Cut => false,
                Deed::DoneAndCut => {
                    let some = if number.is_multiple_of(3) { answer.len() / 2 } else { 0 };
                    drop(wire.send(&answer[..some]).await);
                    false
                }
            };
            if !is_kept {
                return;
            }
        }
    }

    /// Writes a request down before anything else happens to it.
    fn note(&self, name: Name, variant: u8) -> (u64, Fate) {
        let mut ledger = self.ledger.lock().unwrap();
        let times = ledger.times.entry(name).or_default();
        *times += 1;
        let fate = Fate::of(self.seed, name, *times);
        let number = u64::try_from(ledger.arrivals.len()).unwrap();
        ledger.arrivals.push(Arrival { number, name, variant, at: self.clock.now(), deed: fate.deed });
        (number, fate)
    }
}

impl Fate {
    /// The same for the same seed, key and time, in whatever order requests come.
    fn of(seed: u64, name: Name, time: u64) -> Self {
        let of_name = u64::from(name.key) << 8 | u64::from(name.scope);
        let mut rng = Rng::with_seed(seed ^ of_name.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ time << 56);
        let millis = |rng: &mut Rng, range| Duration::from_millis(rng.u64(range));
        let soon = Duration::ZERO;
        // Where an unknown outcome is run again, the late answer of the first run meets that of the second.
        let is_often_late = Path::of(name.key) == Path::Retried && time == 1;
        let (delay, deed, status) = match rng.u32(0..100) {
            _ if is_often_late && rng.u32(0..4) == 0 => (millis(&mut rng, 1_100..2_000), Deed::Answered, 201),
            // Longer than the gateways wait for an answer, and within the time in which they listen for a late one.
            0..=1 => (millis(&mut rng, 1_100..2_000), Deed::Answered, 201),
            2..=7 => (millis(&mut rng, 50..700), Deed::Answered, 201),
            8..=9 => (millis(&mut rng, 0..50), Deed::Cut, 0),
            10..=12 => (millis(&mut rng, 0..50), Deed::DoneAndCut, 201),
            13..=15 => (soon, Deed::Refused, 429),
            16..=17 => (soon, Deed::Refused, 503),
            18..=19 => (soon, Deed::Answered, 500),
            20..=22 => (millis(&mut rng, 0..20), Deed::AnsweredLarge, 201),
            _ => (millis(&mut rng, 0..8), Deed::Answered, 201),
        };
        Self { delay, deed, status }
    }
}

fn asked(request: &Message<'_>) -> Option<(Name, u8)> {
    let scope = request.field("authorization")?.strip_prefix("caller-")?.parse().ok()?;
    let key = request.field("idempotency-key")?.strip_prefix("key-")?.parse().ok()?;
    let variant = answers::variant_of(request.body)?;
    Some((Name { scope, key }, variant))
}
