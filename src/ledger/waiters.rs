//! Who in this process waits for which key.
//!
//! Must not know the store: waiters on another process are woken through `Store::watch`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::protocol::scope::StorageKey;

/// The waiters of this process.
#[derive(Clone, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<StorageKey, Room>>>);

struct Room {
    bell: Arc<Notify>,
    waiting: usize,
}

/// A place in the waiting room of one key, given back when dropped.
pub(super) struct Waiter {
    key: StorageKey,
    bell: Arc<Notify>,
    waiters: Waiters,
}

impl Waiters {
    pub(super) fn join(&self, key: StorageKey) -> Waiter {
        let mut rooms = self.rooms();
        let room = rooms.entry(key).or_insert_with(|| Room { bell: Arc::default(), waiting: 0 });
        room.waiting += 1;
        Waiter { key, bell: Arc::clone(&room.bell), waiters: self.clone() }
    }

    /// Wakes everybody who waits for `key`.
    pub(super) fn wake(&self, key: &StorageKey) {
        if let Some(room) = self.rooms().get(key) {
            room.bell.notify_waiters();
        }
    }

    /// How many wait, for whatever key.
    pub(super) fn count(&self) -> usize {
        self.rooms().values().map(|room| room.waiting).sum()
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<StorageKey, Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Completes at the next wake-up after it was enabled or first polled.
    pub(super) fn woken(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut rooms = self.waiters.rooms();
        if let Some(room) = rooms.get_mut(&self.key) {
            room.waiting -= 1;
            if room.waiting == 0 {
                rooms.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_for_a_key_is_woken_and_the_room_is_cleared() {
        let waiters = Waiters::default();
        let key = StorageKey::from_bytes([7; 32]);
        let (one, two) = (waiters.join(key), waiters.join(key));
        assert_eq!(waiters.count(), 2);
        {
            let (first, second) = (one.woken(), two.woken());
            tokio::pin!(first, second);
            first.as_mut().enable();
            second.as_mut().enable();
            waiters.wake(&key);
            first.await;
            second.await;
        }
        drop((one, two));
        assert!(waiters.rooms().is_empty());
    }

    #[test]
    fn a_room_is_kept_for_whoever_still_waits() {
        let waiters = Waiters::default();
        let key = StorageKey::from_bytes([7; 32]);
        let (one, two, other) =
            (waiters.join(key), waiters.join(key), waiters.join(StorageKey::from_bytes([8; 32])));
        drop(one);
        assert_eq!((waiters.count(), waiters.rooms()[&key].waiting), (2, 1));
        drop((two, other));
        assert_eq!(waiters.count(), 0);
    }
}
