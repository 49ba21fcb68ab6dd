//! What the simulated store keeps, and what it does when a message arrives. Its own clock measures the life of sessions
//! and records.
//!
//! It sees every record that any gateway writes, so what must never be done to one is looked for here: an answer that is
//! changed or taken away, a claim that is taken from another, a key claimed anew after it was sent. Must not know how
//! messages travel.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::desk::{Ask, Told, Written};
use super::process::Moment;
use crate::protocol::record::{Phase, Record, Session};
use crate::protocol::scope::StorageKey;
use crate::store::codec::{self, Encoded};
use crate::store::{SessionLife, Swapped};

/// The store.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    pub(super) records: BTreeMap<StorageKey, Kept>,
    sessions: BTreeMap<[u8; 16], Moment>,
    watchers: BTreeMap<StorageKey, Vec<(usize, watch::Sender<u64>)>>,
    forgettings: u64,
}

/// A record as it is kept.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) encoded: Encoded,
    pub(super) record: Arc<Record>,
    /// Nobody can read it any more.
    pub(super) is_damaged: bool,
    expires: Moment,
}

/// What a message has done to a record, for the checker.
#[derive(Debug)]
pub(super) enum Change {
    /// A first claim stands where nothing stood.
    Claimed,
    /// Another claim has taken the place of `over`.
    Reclaimed { session: Session, over: Arc<Record>, owner_lives: bool },
    /// The same attempt has written again.
    Settled { before: Arc<Record>, after: Arc<Record> },
    /// An outcome was put back where nothing stood.
    Restored { after: Arc<Record> },
    /// Another attempt than the one that stood has written something that is no claim.
    Overwritten { before: Arc<Record>, after: Arc<Record> },
    /// Taken away.
    Removed { before: Arc<Record> },
}

/// Everything that came of one message.
pub(super) struct Effect {
    pub(super) told: Told,
    pub(super) change: Option<(StorageKey, Change)>,
}

impl Shelf {
    /// Does what is asked.
    pub(super) fn act(&mut self, ask: &Ask, by: usize, now: Moment) -> Effect {
        let (told, change) = match ask {
            Ask::Insert { key, fresh, keep_for } => self.insert(*key, fresh, *keep_for, now),
            Ask::Swap { key, seen, next, keep_for } => {
                let swapped = self.compare(key, *seen, now);
                if swapped == Swapped::Done {
                    let change = self.swap(*key, next, *keep_for, now);
                    (Told::Swapped(swapped), Some((*key, change)))
                } else {
                    (Told::Swapped(swapped), None)
                }
            }
            Ask::Remove { key, seen } => {
                let swapped = self.compare(key, *seen, now);
                let taken = if swapped == Swapped::Done { self.records.remove(key) } else { None };
                let change = taken.map(|kept| (*key, Change::Removed { before: kept.record }));
                (Told::Swapped(swapped), change)
            }
            Ask::Fetch { key } => (Told::Stands(self.stands(key, now)), None),
            Ask::Renew { session, ttl } => {
                self.sessions.insert(session.0, now + millis(*ttl));
                (Told::Done, None)
            }
            Ask::EndSession { session } => {
                self.sessions.remove(&session.0);
                (Told::Done, None)
            }
            Ask::Life { session } => {
                let life = if self.lives(*session, now) { SessionLife::Alive } else { SessionLife::Absent };
                (Told::Life(life), None)
            }
            Ask::Watch { key, tell } => {
                self.watchers.entry(*key).or_default().push((by, tell.clone()));
                (Told::Done, None)
            }
            Ask::Ping => (Told::Done, None),
            Ask::Forget => {
                self.forgettings += 1;
                (Told::Done, None)
            }
            Ask::Forgettings => (Told::Count(self.forgettings), None),
        };
        Effect { told, change }
    }

    /// Who watches a key: the processes, and by what they are told.
    pub(super) fn watchers(&mut self, key: &StorageKey) -> Vec<(usize, watch::Sender<u64>)> {
        let Some(watchers) = self.watchers.get_mut(key) else { return Vec::new() };
        watchers.retain(|(_, tell)| !tell.is_closed());
        watchers.clone()
    }

    /// Whether a session lives.
    pub(super) fn lives(&self, session: Session, now: Moment) -> bool {
        self.sessions.get(&session.0).is_some_and(|until| now < *until)
    }

    /// Forgets everything that came after `earlier`, as a failover to a replica that lags does.
    pub(super) fn fall_back(&mut self, earlier: &Self) {
        self.records = earlier.records.clone();
        self.sessions = earlier.sessions.clone();
    }

    /// Flips a bit of what stands under a key; whether anything stands there.
    pub(super) fn damage(&mut self, key: &StorageKey) -> bool {
        let Some(kept) = self.records.get_mut(key) else { return false };
        let mut head = kept.encoded.head.to_vec();
        let last = head.len() - 1;
        head[last] ^= 4;
        kept.encoded.head = head.into();
        kept.is_damaged = true;
        true
    }

    fn insert(
        &mut self,
        key: StorageKey,
        fresh: &Written,
        keep_for: Duration,
        now: Moment,
    ) -> (Told, Option<(StorageKey, Change)>) {
        if let Some(stands) = self.stands(&key, now) {
            return (Told::Stands(Some(stands)), None);
        }
        self.put(key, fresh, keep_for, now);
        let record = &fresh.record;
        let change = if record.phase == Phase::InFlight {
            Change::Claimed
        } else {
            Change::Restored { after: Arc::clone(record) }
        };
        (Told::Stands(None), Some((key, change)))
    }

    fn swap(&mut self, key: StorageKey, next: &Written, keep_for: Duration, now: Moment) -> Change {
        let before = self.records.get(&key).map(|kept| Arc::clone(&kept.record)).unwrap();
        let owner_lives = self.lives(before.session, now);
        self.put(key, next, keep_for, now);
        let after = Arc::clone(&next.record);
        if before.version.attempt == after.version.attempt {
            Change::Settled { before, after }
        } else if after.phase == Phase::InFlight {
            Change::Reclaimed { session: after.session, over: before, owner_lives }
        } else {
            Change::Overwritten { before, after }
        }
    }

    fn put(&mut self, key: StorageKey, written: &Written, keep_for: Duration, now: Moment) {
        let kept = Kept {
            encoded: written.encoded.clone(),
            record: Arc::clone(&written.record),
            is_damaged: false,
            expires: now + millis(keep_for),
        };
        self.records.insert(key, kept);
    }

    fn stands(&self, key: &StorageKey, now: Moment) -> Option<(Encoded, Duration)> {
        let kept = self.records.get(key).filter(|kept| now < kept.expires)?;
        Some((kept.encoded.clone(), Duration::from_millis(kept.expires - now)))
    }

    fn compare(&self, key: &StorageKey, seen: crate::protocol::record::Version, now: Moment) -> Swapped {
        match self.stands(key, now) {
            None => Swapped::Absent,
            Some((encoded, _)) if codec::is_version(&encoded.head, seen) => Swapped::Done,
            Some(_) => Swapped::Changed,
        }
    }
}

fn millis(time: Duration) -> Moment {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}
