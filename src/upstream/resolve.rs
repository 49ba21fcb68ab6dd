//! The addresses of servers that are given by name, looked up anew every `resolve_every`.
//!
//! One for all workers of the process. A look-up that fails leaves the addresses as they are: they were right a
//! moment ago, and a name server that is out of reach must not take the service with it. Must not know connections;
//! whoever keeps some compares [`Names::generation`], which grows when a name has lost an address.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tokio::time::Instant;
use tower_service::Service;

use super::connect::ResolveFailed;

/// After a look-up that failed, the next is made no sooner.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is known of names.
#[derive(Clone, Debug)]
pub(super) struct Names(Arc<State>);

#[derive(Debug)]
struct State {
    every: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<String, Addresses>,
    generation: u64,
}

#[derive(Debug)]
struct Addresses {
    found: Vec<IpAddr>,
    /// When they are looked up again.
    due: Instant,
    /// Which comes first, so that each takes its turn.
    turn: usize,
}

impl Names {
    /// Nothing is known yet; what is, is used for so long.
    pub(super) fn known_for(every: Duration) -> Self {
        Self(Arc::new(State { every, known: Mutex::default() }))
    }

    /// Grows when a name has lost an address.
    pub(super) fn generation(&self) -> u64 {
        self.known().generation
    }

    /// The addresses of a name, each in its turn the first.
    async fn resolve(&self, name: String) -> Result<Vec<SocketAddr>, ResolveFailed> {
        if let Some(found) = self.fresh(&name) {
            return Ok(found);
        }
        let found = look_up(&name).await;
        self.learn(&name, found)
    }

    /// Looks a name up again if it is due, and was asked for at all.
    pub(super) async fn renew(&self, name: &str) {
        let is_due = self.known().names.get(name).is_some_and(|known| known.due <= Instant::now());
        if is_due {
            let found = look_up(name).await;
            // Nobody waits for these; that they were not found is told in the log.
            drop(self.learn(name, found));
        }
    }

    /// The addresses that need not be looked up now. Where that is due, only the first to ask does it.
    fn fresh(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let mut known = self.known();
        let addresses = known.names.get_mut(name)?;
        let now = Instant::now();
        if addresses.due <= now {
            addresses.due = now + AGAIN_AFTER;
            return None;
        }
        Some(addresses.in_turn())
    }

    fn learn(&self, name: &str, found: io::Result<Vec<IpAddr>>) -> Result<Vec<SocketAddr>, ResolveFailed> {
        let (now, mut known) = (Instant::now(), self.known());
        let known = &mut *known;
        match found {
            Ok(found) if !found.is_empty() => {
                let fresh = Addresses { found, due: now + self.0.every, turn: 0 };
                if let Some(old) = known.names.get(name)
                    && old.found.iter().any(|address| !fresh.found.contains(address))
                {
                    known.generation += 1;
                }
                Ok(known.names.entry(name.to_owned()).insert_entry(fresh).get_mut().in_turn())
            }
            Ok(_) | Err(_) if known.names.contains_key(name) => {
                tracing::warn!(name, "a name does not resolve: its last addresses are used");
                let again = now + AGAIN_AFTER;
                Ok(known.names.get_mut(name).map(|old| old.again_at(again)).unwrap_or_default())
            }
            Ok(_) => Err(ResolveFailed(io::Error::new(io::ErrorKind::NotFound, "it has no address"))),
            Err(error) => Err(ResolveFailed(error)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    fn in_turn(&mut self) -> Vec<SocketAddr> {
        self.turn = self.turn.wrapping_add(1);
        let (first, count) = (self.turn, self.found.len());
        let places = (0..count).filter_map(|step| self.found.get(first.wrapping_add(step) % count));
        places.map(|address| SocketAddr::new(*address, 0)).collect()
    }

    fn again_at(&mut self, due: Instant) -> Vec<SocketAddr> {
        self.due = due;
        self.in_turn()
    }
}

/// Asks the operating system.
async fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let name: Name = name.parse().map_err(io::Error::other)?;
    let found = GaiResolver::new().call(name).await?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveFailed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move { Ok(names.resolve(name.as_str().to_owned()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    fn firsts(found: &[SocketAddr]) -> Vec<String> {
        found.iter().map(|address| address.ip().to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_take_turns_until_they_are_due() {
        let names = Names::known_for(Duration::from_secs(30));
        names.learn("a.test", Ok(addresses(&[1, 2]))).unwrap();
        assert_eq!(firsts(&names.fresh("a.test").unwrap()), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(firsts(&names.fresh("a.test").unwrap()), ["10.0.0.2", "10.0.0.1"]);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(names.fresh("a.test").is_none());
        assert!(names.fresh("a.test").is_some(), "only the first to ask looks it up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_fails_leaves_the_last_addresses() {
        let names = Names::known_for(Duration::from_secs(30));
        let fail = || Err(io::Error::other("out of reach"));
        assert!(names.learn("a.test", fail()).is_err());
        names.learn("a.test", Ok(addresses(&[1]))).unwrap();
        assert_eq!(firsts(&names.learn("a.test", fail()).unwrap()), ["10.0.0.1"]);
        assert_eq!(names.generation(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_address_that_is_gone_makes_connections_old() {
        let names = Names::known_for(Duration::from_secs(30));
        names.learn("a.test", Ok(addresses(&[1]))).unwrap();
        names.learn("a.test", Ok(addresses(&[2, 1]))).unwrap();
        assert_eq!(names.generation(), 0);
        names.learn("a.test", Ok(addresses(&[2]))).unwrap();
        assert_eq!(names.generation(), 1);
    }
}
