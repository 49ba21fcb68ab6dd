//! Real servers, started by a test on a free port and gone when it ends.
//!
//! `redis.rs` is one server; `redis_sentinels.rs` and `redis_cluster.rs` are made of several.
//! `redis_tunnel.rs` is the network before one.

pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod redis_sentinels;
pub(crate) mod redis_tunnel;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// After this, what servers were to settle among themselves does not come any more.
pub(crate) const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// How often servers are asked whether they have settled something.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until there is something, and fails after a minute.
pub(crate) fn awaited<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + SETTLED_WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "not within a minute: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// As [`awaited`], and lets the other tasks of the runtime go on between the looks.
pub(crate) async fn awaited_async<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + SETTLED_WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
fn now() -> Instant {
    Instant::now()
}

/// A port that nobody listens on, and that is given to nobody else among these tests: a server may be down for a while and
/// come back to it. It lies below those that the system gives to whoever connects: one of them may be given to a client of
/// a server that is down, even to one that calls it.
fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let random = u16::try_from(Uuid::new_v4().as_u128() % u128::from(PORTS.end - PORTS.start)).unwrap();
        let port = PORTS.start + random;
        let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if is_free && GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}
