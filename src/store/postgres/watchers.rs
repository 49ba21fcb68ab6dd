//! Who watches which key, over one connection for all of them.
//!
//! A watch is a row with a short life in `onceway.watch`, which settlements look at before they tell. A
//! watcher writes it by itself, and a task renews the rows of those who still watch. After a lost connection
//! it writes them again and tells everybody, since they may have missed something. Rows of those who left
//! lapse. Must not know records. Read `link.rs` before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::claims::key_of;
use super::link::{Link, OnNotice, State};
use super::trouble::Failure;
use crate::clock;
use crate::protocol::scope::StorageKey;
use crate::store::Watch;

/// Hears of every settlement that somebody watches, in whatever namespace.
pub(super) const LISTEN: &str = "LISTEN onceway";

/// Parameters: namespace, keys. A row lives for a minute; one that is young is left alone.
pub(super) const REGISTER: &str = "
INSERT INTO onceway.watch AS w (namespace, key, expires)
SELECT $1, key, now() + interval '60 seconds' FROM unnest($2::bytea[]) AS asked (key) ORDER BY key
ON CONFLICT (namespace, key) DO UPDATE SET expires = excluded.expires
WHERE w.expires < excluded.expires - interval '10 seconds'";

/// How often the rows of those who still watch are renewed: well within the life of a row.
const RENEW_EVERY: Duration = Duration::from_secs(20);

/// The watched keys. Cheap to clone.
#[derive(Clone)]
pub(super) struct Watchers(Arc<Shared>);

struct Shared {
    namespace: String,
    topics: Mutex<HashMap<StorageKey, Topic>>,
}

/// One key.
struct Topic {
    changes: watch::Sender<u64>,
    watchers: usize,
    /// On which connection its row was last written, and when.
    registered: Option<(u64, Instant)>,
}

/// One watcher's place. Dropping it leaves the topic.
struct Place {
    watchers: Watchers,
    key: StorageKey,
}

impl Watchers {
    pub(super) fn new(namespace: &str) -> Self {
        Self(Arc::new(Shared { namespace: namespace.to_owned(), topics: Mutex::default() }))
    }

    /// For the connection that they share.
    pub(super) fn on_notice(&self) -> OnNotice {
        let watchers = self.clone();
        Arc::new(move |payload| watchers.hear(payload))
    }

    /// Watches `key`, and answers when settlements that begin from now on will tell.
    ///
    /// Cancel safety: dropping the future leaves the topic again.
    pub(super) async fn watch(&self, link: &Link, key: StorageKey) -> Result<Watch, Failure> {
        let (place, changes) = self.enter(key);
        let at = link.connected().await?;
        if !self.is_registered(&key, at.generation) {
            let keys = [key.as_bytes().as_slice()];
            link.ask_on(&at, REGISTER, &[&self.0.namespace, &keys.as_slice()]).await?;
            self.note_registered(&[key], at.generation);
        }
        Ok(Watch::new(changes, Box::new(place)))
    }

    /// Keeps the rows of those who watch alive. To be run as a task; stops when dropped.
    pub(super) async fn keep(self, link: Link) {
        let mut states = link.states();
        let mut newest = 0;
        loop {
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RENEW_EVERY) => self.renew(&link).await,
            }
            let generation = match &*states.borrow_and_update() {
                State::Up(at) => at.generation,
                State::Idle | State::Connecting | State::Down(_) => continue,
            };
            if generation != newest {
                newest = generation;
                self.renew(&link).await;
                self.tell_all();
            }
        }
    }

    async fn renew(&self, link: &Link) {
        let keys: Vec<StorageKey> = self.topics().keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes().as_slice()).collect();
        let renewing = async {
            let at = link.connected().await?;
            link.ask_on(&at, REGISTER, &[&self.0.namespace, &bytes]).await?;
            Ok::<u64, Failure>(at.generation)
        };
        match renewing.await {
            Ok(generation) => self.note_registered(&keys, generation),
            // If that broke the connection, the next one brings us here again.
            Err(failure) => tracing::debug!(?failure, "could not renew the watches"),
        }
    }

    fn enter(&self, key: StorageKey) -> (Place, watch::Receiver<u64>) {
        let mut topics = self.topics();
        let topic = topics.entry(key).or_insert_with(|| Topic {
            changes: watch::Sender::new(0),
            watchers: 0,
            registered: None,
        });
        topic.watchers += 1;
        let changes = topic.changes.subscribe();
        drop(topics);
        (Place { watchers: self.clone(), key }, changes)
    }

    fn leave(&self, key: &StorageKey) {
        let mut topics = self.topics();
        if let Some(topic) = topics.get_mut(key) {
            topic.watchers = topic.watchers.saturating_sub(1);
            if topic.watchers == 0 {
                topics.remove(key);
            }
        }
    }

    fn is_registered(&self, key: &StorageKey, generation: u64) -> bool {
        let registered = self.topics().get(key).and_then(|topic| topic.registered);
        registered.is_some_and(|(on, at)| {
            on == generation && clock::monotonic().saturating_duration_since(at) < 2 * RENEW_EVERY
        })
    }

    fn note_registered(&self, keys: &[StorageKey], generation: u64) {
        let now = clock::monotonic();
        let mut topics = self.topics();
        for key in keys {
            if let Some(topic) = topics.get_mut(key) {
                topic.registered = Some((generation, now));
            }
        }
    }

    fn hear(&self, payload: &str) {
        let Some((namespace, key)) = payload.rsplit_once(':') else { return };
        if namespace == self.0.namespace
            && let Some(key) = key_of_hex(key)
            && let Some(topic) = self.topics().get(&key)
        {
            topic.tell();
        }
    }

    fn tell_all(&self) {
        for topic in self.topics().values() {
            topic.tell();
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<StorageKey, Topic>> {
        // A count and a map entry; nothing panics in between.
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topic {
    fn tell(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watchers.leave(&self.key);
    }
}

fn key_of_hex(text: &str) -> Option<StorageKey> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    key_of(&bytes?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_hexadecimal_form() {
        let key = StorageKey::from_bytes(std::array::from_fn(|at| u8::try_from(at * 8).unwrap()));
        let hex = key.to_string();
        assert_eq!(key_of_hex(&hex), Some(key));
        for text in ["", "0", "zz", &hex[1..], &hex[2..]] {
            assert_eq!(key_of_hex(text), None, "{text}");
        }
    }
}
