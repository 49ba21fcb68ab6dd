//! How many connections there may be: all together, from one peer, and as the system lets the process have.
//!
//! Must not know what is spoken on them. Read `mod.rs` before.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use crate::net::Listener;

/// Descriptors beside those of callers' connections: stores, upstreams, files.
const DESCRIPTORS_BESIDE: u64 = 256;

/// How often an event of one kind is logged at most.
const ALARM_EVERY: Duration = Duration::from_secs(1);

/// Who is here.
#[derive(Debug, Default)]
pub struct Limits {
    open: AtomicUsize,
    of_peers: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place among all, given back when dropped.
#[derive(Debug)]
pub struct Place {
    limits: Arc<Limits>,
    peer: Option<IpAddr>,
}

impl Limits {
    /// A place, unless there are `max` connections already.
    pub fn enter(self: &Arc<Self>, max: usize) -> Option<Place> {
        let place = Place { limits: Arc::clone(self), peer: None };
        (self.open.fetch_add(1, Ordering::AcqRel) < max).then_some(place)
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

impl Place {
    /// Counts the connection as this peer's; whether it may stay. `max` of 0 is no limit.
    pub fn belongs_to(&mut self, peer: IpAddr, max: usize) -> bool {
        if max == 0 || self.peer.is_some() {
            return true;
        }
        let peer = counted_as(peer);
        let mut peers = self.limits.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= max {
            return false;
        }
        *count += 1;
        self.peer = Some(peer);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::AcqRel);
        let Some(peer) = self.peer else { return };
        let mut peers = self.limits.of_peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&peer);
            }
        }
    }
}

/// Who somebody is for the count: whoever has one IPv6 address has the 2^64 of its network (RFC 4291 §2.5.4).
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Lets something be logged once a second, and counts what was not.
#[derive(Debug, Default)]
pub struct Alarm(Mutex<(Option<Instant>, u64)>);

impl Alarm {
    /// Whether it may be logged now; then how many times it was not since the last time.
    pub fn rings(&self) -> Option<u64> {
        let (last, missed) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < ALARM_EVERY) {
            *missed += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(missed))
    }
}

/// Lets the process have as many descriptors as the system allows, and warns if `connections` do not fit.
pub fn raise_descriptors(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, "the limit of open files was not raised");
    }
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(DESCRIPTORS_BESIDE);
    if let Some(current) = getrlimit(Resource::Nofile).current.filter(|current| *current < wanted) {
        tracing::warn!(
            open_files_max = current,
            wanted,
            "the system allows fewer open files than server.connections_max needs"
        );
    }
}

/// A descriptor held back for the moment in which there is no other, so that a connection that cannot be served is
/// closed instead of waiting unseen.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Turns away one connection that waits, if `error` says that no descriptor is left; whether it does.
    pub(super) async fn turn_away(&mut self, error: &io::Error, listener: &Listener) -> bool {
        const NONE_LEFT: [Option<i32>; 2] =
            [Some(rustix::io::Errno::MFILE.raw_os_error()), Some(rustix::io::Errno::NFILE.raw_os_error())];
        if !NONE_LEFT.contains(&error.raw_os_error()) {
            return false;
        }
        self.0 = None;
        // The one for whom there was no descriptor is still the first in the queue: this does not wait.
        if let Ok(Ok(accepted)) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await {
            drop(accepted);
        }
        *self = Self::new();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_more_than_the_limit_have_a_place_and_a_place_that_is_left_is_free() {
        let limits = Arc::<Limits>::default();
        let (first, second) = (limits.enter(2), limits.enter(2));
        assert!(first.is_some() && second.is_some() && limits.enter(2).is_none());
        drop(first);
        assert!(limits.enter(2).is_some());
        drop(second);
        assert_eq!(limits.open(), 0);
    }

    #[test]
    fn a_peer_is_counted_by_itself_and_an_ipv6_peer_with_its_network() {
        let limits = Arc::<Limits>::default();
        let mut places: Vec<_> = (0..5).map(|_| limits.enter(9).unwrap()).collect();
        assert!(places[0].belongs_to(address("192.0.2.1"), 1));
        assert!(!places[1].belongs_to(address("::ffff:192.0.2.1"), 1));
        assert!(places[2].belongs_to(address("192.0.2.2"), 1));
        assert!(places[3].belongs_to(address("2001:db8::1"), 1));
        assert!(!places[4].belongs_to(address("2001:db8::2"), 1));
        places.remove(0);
        assert!(places[0].belongs_to(address("192.0.2.1"), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_once_a_second_and_tells_what_it_kept_back() {
        let alarm = Alarm::default();
        assert_eq!((alarm.rings(), alarm.rings(), alarm.rings()), (Some(0), None, None));
        tokio::time::advance(ALARM_EVERY).await;
        assert_eq!(alarm.rings(), Some(2));
    }
}
