//! Who watches which key, over one connection for all of them.
//!
//! A watcher subscribes by itself and is confirmed before it is told so. A task unsubscribes what nobody
//! watches any more, and after a lost connection subscribes again and tells everybody, since they may have
//! missed something. Must not know records.
//!
//! In a cluster these are plain channels and not sharded ones: whoever subscribes at any server hears of all keys
//! on one connection, whatever moves or fails over. The price is that the servers tell each other of every
//! settlement. Read `link.rs` before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, watch};

use super::super::{StoreError, Watch};
use super::link::{Link, OnPush, State};

/// Channels named in one command.
const CHANNELS_PER_COMMAND: usize = 256;

/// The watched channels. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Watchers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    topics: Mutex<HashMap<String, Topic>>,
    somebody_left: Notify,
}

/// One channel.
struct Topic {
    changes: watch::Sender<u64>,
    /// 0: nobody is left, and the task is about to unsubscribe.
    watchers: usize,
}

/// One watcher's place. Dropping it leaves the topic.
struct Place {
    watchers: Watchers,
    channel: String,
}

impl Watchers {
    /// For the connection that they share.
    pub(super) fn on_push(&self) -> OnPush {
        let watchers = self.clone();
        Arc::new(move |push| watchers.hear(push))
    }

    /// Watches `channel`, and answers when the server has confirmed it.
    ///
    /// Cancel safety: dropping the future leaves the topic again.
    pub(super) async fn watch(&self, link: &Link, channel: String) -> Result<Watch, StoreError> {
        let (place, changes) = self.enter(channel);
        // Also where others watch already: their subscription may not be confirmed yet.
        link.subscribe(std::slice::from_ref(&place.channel)).await?;
        Ok(Watch::new(changes, Box::new(place)))
    }

    /// Keeps what is subscribed equal to what is watched. To be run as a task; stops when dropped.
    pub(super) async fn keep(self, link: Link) {
        let mut states = link.states();
        let mut generation = 0;
        loop {
            tokio::select! {
                changed = states.changed() => if changed.is_err() { return },
                () = self.0.somebody_left.notified() => self.tidy(&link).await,
            }
            let newest = match &*states.borrow_and_update() {
                State::Up(at) => at.generation,
                State::Idle | State::Connecting | State::Down(_) => continue,
            };
            if newest != generation {
                generation = newest;
                let channels = self.topics().keys().cloned().collect();
                self.subscribe_again(&link, channels).await;
            }
        }
    }

    fn enter(&self, channel: String) -> (Place, watch::Receiver<u64>) {
        let mut topics = self.topics();
        let topic = topics
            .entry(channel.clone())
            .or_insert_with(|| Topic { changes: watch::Sender::new(0), watchers: 0 });
        topic.watchers += 1;
        let changes = topic.changes.subscribe();
        drop(topics);
        (Place { watchers: self.clone(), channel }, changes)
    }

    fn leave(&self, channel: &str) {
        if let Some(topic) = self.topics().get_mut(channel) {
            topic.watchers = topic.watchers.saturating_sub(1);
            if topic.watchers == 0 {
                self.0.somebody_left.notify_one();
            }
        }
    }

    fn hear(&self, push: &PushInfo) {
        if push.kind == PushKind::Message
            && let Some(Value::BulkString(channel)) = push.data.first()
            && let Ok(channel) = std::str::from_utf8(channel)
        {
            self.tell(channel);
        }
    }

    fn tell(&self, channel: &str) {
        if let Some(topic) = self.topics().get(channel) {
            topic.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }

    /// Unsubscribes the topics that nobody watches.
    async fn tidy(&self, link: &Link) {
        let abandoned: Vec<String> = {
            let mut topics = self.topics();
            topics.extract_if(|_, topic| topic.watchers == 0).map(|(channel, _)| channel).collect()
        };
        for channels in abandoned.chunks(CHANNELS_PER_COMMAND) {
            if !matches!(&*link.states().borrow(), State::Up(_)) {
                // A connection that is lost has no subscriptions.
                return;
            }
            if let Err(error) = link.unsubscribe(channels).await {
                tracing::debug!(%error, "could not unsubscribe");
            }
            // Whoever came while that was on its way has lost the subscription again.
            let wanted = |channel: &&String| self.topics().contains_key(*channel);
            let returned: Vec<String> = channels.iter().filter(wanted).cloned().collect();
            if !returned.is_empty() {
                self.subscribe_again(link, returned).await;
            }
        }
    }

    async fn subscribe_again(&self, link: &Link, channels: Vec<String>) {
        for some in channels.chunks(CHANNELS_PER_COMMAND) {
            if let Err(error) = link.subscribe(some).await {
                // If that broke the connection, the next one brings us here again.
                tracing::warn!(%error, "could not subscribe again");
            }
        }
        for channel in &channels {
            self.tell(channel);
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, Topic>> {
        // A count and a map entry; nothing panics in between.
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watchers.leave(&self.channel);
    }
}
