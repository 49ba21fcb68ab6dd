//! Records in Redis 7.0 or later, or Valkey: for production, shared by any number of gateways.
//!
//! One server, a set with sentinels, or a cluster: which of these it is, and which server a key belongs to, is
//! settled below this file (`redis/servers.rs`). A claim is one plain command and a settlement one script,
//! each one round trip. Small commands, large bodies and subscriptions each have a connection of their own
//! (`redis/link.rs`), so that none holds up another; the last two are opened when first needed. Where replicas
//! are waited for, writes have others (`redis/acknowledged.rs`), and answers are read with care (`redis/kept.rs`). Must not know what a record means.
//!
//! Read `redis/names.rs` for where things stand.

mod acknowledged;
mod address;
mod cluster;
mod deployment;
mod dial;
mod failed;
mod kept;
mod link;
mod listing;
mod names;
mod node;
mod scripts;
mod sentinel;
mod servers;
mod transfer;
mod walk;
mod watchers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use tokio::task::JoinSet;

use self::acknowledged::Replicas;
use self::address::Address;
pub use self::address::InvalidAddress;
use self::link::Link;
use self::node::{Lane, Request, Terms};
use self::scripts::{ABSENT, CHANGED, DONE, Script, Scripts};
use self::servers::Servers;
use self::watchers::Watchers;
use super::codec::{self, Cause, Codec, Encoded, Stored};
use super::durability::Durability;
use super::transfer::Transfer;
use super::{Cursor, Gate, Listed, Listing, Options, SessionLife, Store, StoreError, Swapped, Watch};
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

/// A larger body is kept apart, so that the answer to a claim stays small.
const BODY_INLINE_MAX: usize = 16 * 1024;

/// How much longer a body is kept than its record, so that no record outlives its body.
const BODY_KEPT_LONGER: Duration = Duration::from_mins(1);

/// How often an insert asks again when what stood there went away while its body was read.
const INSERT_TRIES: usize = 16;

/// How often a record that changes while its body is read is read again.
const READ_TRIES: usize = 16;

/// The server computes the moment of expiry in 64 bits; nothing is kept for longer than this.
const KEEP_FOR_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// Room for the short words of a command.
const ARGUMENTS_LEN: usize = 32;

/// A store in Redis. Its tasks live on the runtime it was made in and end when it is dropped.
pub struct RedisStore {
    codec: Codec,
    namespace: String,
    address: String,
    scripts: Arc<Scripts>,
    servers: Servers,
    min_replicas: u32,
    /// How long the body of a record that stands in the way of a claim is waited for.
    read_patience: Duration,
    watch_link: Link,
    watchers: Watchers,
    /// Keep the connections; stopped when the set is dropped.
    _tasks: JoinSet<()>,
}

/// A record stands there, and which one is not known.
#[derive(Debug, thiserror::Error)]
#[error("read a record in one piece: it changed each time")]
struct Restless;

/// The server answered what it should never answer to such a command.
#[derive(Debug, thiserror::Error)]
#[error("make sense of Redis' answer to {command}")]
struct UnexpectedAnswer {
    command: &'static str,
}

impl RedisStore {
    /// A store that begins to connect; whether it can is told by its calls.
    ///
    /// Errors: the address cannot be read. It may hold a password, so the error does not name it.
    ///
    /// Panics: outside a tokio runtime.
    pub fn connect(url: &str, options: &Options) -> Result<Self, InvalidAddress> {
        let Address { place, shown } = Address::read(url)?;
        let (watchers, mut tasks) = (Watchers::default(), JoinSet::new());
        let replicas = Replicas::of(options.min_replicas, options.timeout);
        let terms = Terms { deadline: options.timeout, replicas };
        let (servers, watch_link) = Servers::new(place, terms, watchers.on_push(), &mut tasks);
        tasks.spawn(watchers.clone().keep(watch_link.clone()));
        Ok(Self {
            codec: options.codec.clone(),
            namespace: options.namespace.clone(),
            address: shown,
            scripts: Arc::new(Scripts::new()),
            servers,
            min_replicas: options.min_replicas,
            // Less than a claim as a whole.
            read_patience: options.timeout / 2,
            watch_link,
            watchers,
            _tasks: tasks,
        })
    }

    /// Answers the value that stands under `key`, or none if `encoded` does now.
    async fn insert_once(
        &self,
        key: &StorageKey,
        encoded: &Encoded,
        keep_for: Duration,
    ) -> Result<Option<Bytes>, StoreError> {
        if encoded.body.len() > BODY_INLINE_MAX {
            let (keep, keep_body) = (millis(keep_for), body_millis(keep_for));
            let arguments = [&*encoded.head, keep.as_bytes(), &*encoded.body, keep_body.as_bytes()];
            let answer = self.run(Lane::Bulk, &self.scripts.insert_apart, key, &arguments).await?;
            return optional_bytes("EVALSHA", answer);
        }
        let (name, value) = (self.record_key(key), joined(encoded));
        let mut command = Cmd::with_capacity(7, name.len() + value.len() + ARGUMENTS_LEN);
        command.arg("SET").arg(&name).arg(&*value).arg("NX").arg("GET").arg("PX").arg(millis(keep_for));
        optional_bytes("SET", self.servers.perform(&name, Lane::Small, Request::Write(&command)).await?)
    }

    /// Runs a script on a record and its body.
    async fn run(
        &self,
        lane: Lane,
        script: &Script,
        key: &StorageKey,
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let (record, body) = (self.record_key(key), self.body_key(key));
        let keys = [&*record, &*body];
        Ok(self.servers.perform(&record, lane, Request::Script { script, keys: &keys, arguments }).await?)
    }

    /// Asks for one thing of one key that changes no record.
    async fn look(&self, lane: Lane, verb: &'static str, name: &str) -> Result<Value, StoreError> {
        Ok(self.servers.look(name, lane, Cmd::new().arg(verb).arg(name)).await?)
    }

    async fn fetch_record(&self, key: &StorageKey) -> Result<Option<Bytes>, StoreError> {
        optional_bytes("GET", self.look(Lane::Small, "GET", &self.record_key(key)).await?)
    }

    async fn fetch_body(&self, key: &StorageKey) -> Result<Option<Bytes>, StoreError> {
        optional_bytes("GET", self.look(Lane::Bulk, "GET", &self.body_key(key)).await?)
    }

    /// Reads a stored value, and its body where that is kept apart.
    ///
    /// The two are read one after the other, so the record may have been replaced in between, and what was
    /// read does not fit together. It is damaged only if the same record still stands after its body was read.
    async fn read(&self, key: &StorageKey, mut stands: Bytes) -> Result<Seen, StoreError> {
        for _ in 0..READ_TRIES {
            let cause = match self.assemble(key, stands.clone()).await? {
                Ok(record) => return Ok(Seen::Record(Box::new(record))),
                Err(cause) => cause,
            };
            match self.fetch_record(key).await? {
                None => return Ok(Seen::Nothing),
                Some(again) if again == stands => return Ok(self.codec.unreadable(key, cause)),
                Some(again) => stands = again,
            }
        }
        Err(StoreError::Refused(Box::new(Restless)))
    }

    async fn assemble(&self, key: &StorageKey, stands: Bytes) -> Result<Result<Record, Cause>, StoreError> {
        let head = match codec::split(stands.clone()) {
            Stored::Whole(encoded) => return Ok(self.codec.read(key, encoded)),
            // The format is told where it stands, of whatever follows.
            Stored::Unreadable => {
                return Ok(self.codec.read(key, Encoded { head: stands, body: Bytes::new() }));
            }
            Stored::BodyApart { head, .. } => head,
        };
        let body = self.fetch_body(key).await?;
        Ok(body.ok_or(Cause::Damaged).and_then(|body| self.codec.read(key, Encoded { head, body })))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        let encoded = self.codec.encode(key, fresh);
        for _ in 0..INSERT_TRIES {
            let Some(stands) = self.insert_once(key, &encoded, keep_for).await? else {
                return Ok(Seen::Nothing);
            };
            let reading = tokio::time::timeout(self.read_patience, self.read_kept(key, stands)).await;
            let reading = reading.unwrap_or(Err(StoreError::TimedOut(self.read_patience)));
            // Something stands there, whatever becomes of the reading: that must not get lost.
            match reading.map_err(|error| StoreError::Standing(Box::new(error)))? {
                // What stood there went before its body was read. `fresh` is not written, and only
                // whoever has written may hear "nothing".
                Seen::Nothing => {}
                seen @ (Seen::Record(_) | Seen::Unreadable) => return Ok(seen),
            }
        }
        Err(StoreError::Standing(Box::new(StoreError::Refused(Box::new(Restless)))))
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        let encoded = self.codec.encode(key, next);
        let (version, channel) = (codec::version_bytes(seen), self.channel(key));
        let (keep, keep_body) = (millis(keep_for), body_millis(keep_for));
        let answer = if encoded.body.len() > BODY_INLINE_MAX {
            let Encoded { head, body } = encoded;
            let apart: [&[u8]; 6] =
                [&version, channel.as_bytes(), &head, keep.as_bytes(), &body, keep_body.as_bytes()];
            self.run(Lane::Bulk, &self.scripts.swap, key, &apart).await?
        } else {
            let whole = joined(&encoded);
            let together: [&[u8]; 4] = [&version, channel.as_bytes(), &whole, keep.as_bytes()];
            self.run(Lane::Small, &self.scripts.swap, key, &together).await?
        };
        swapped(&answer)
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        let (version, channel) = (codec::version_bytes(seen), self.channel(key));
        let arguments: [&[u8]; 2] = [&version, channel.as_bytes()];
        swapped(&self.run(Lane::Small, &self.scripts.remove, key, &arguments).await?)
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        match self.fetch_record(key).await? {
            None => Ok(Seen::Nothing),
            Some(stands) => self.read_kept(key, stands).await,
        }
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        let (name, mut command) = (self.session_key(session), redis::cmd("SET"));
        command.arg(&name).arg("").arg("PX").arg(millis(ttl));
        let Servers::One { node, .. } = &self.servers else {
            // Two servers, perhaps: the second is asked when the first has answered.
            self.servers.look(&name, Lane::Small, &command).await?;
            return Transfer::gate(self).await;
        };
        // One process serves a connection's commands in their order, so the gate is read after the session
        // is written.
        let mut commands = Pipeline::with_capacity(2);
        commands.add_command(command).cmd("GET").arg(self.gate_key());
        let mut answers = node.link(Lane::Small).ask_all(&commands).await?.into_iter();
        let (Some(written), Some(word)) = (answers.next(), answers.next()) else {
            return Err(unexpected("SET"));
        };
        written?;
        Ok(Gate::of_word(optional_bytes("GET", word?)?.as_deref()))
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.look(Lane::Small, "DEL", &self.session_key(session)).await.map(drop)
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        let answer = self.look(Lane::Small, "EXISTS", &self.session_key(session)).await?;
        let Value::Int(found) = answer else { return Err(unexpected("EXISTS")) };
        Ok(if found == 0 { SessionLife::Absent } else { SessionLife::Alive })
    }

    async fn watch(&self, key: &StorageKey) -> Result<Watch, StoreError> {
        self.watchers.watch(&self.watch_link, self.channel(key)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // In a cluster: to the server that holds the gate. Whether others are there, their keys will tell.
        Ok(self.servers.look(&self.gate_key(), Lane::Small, Cmd::new().arg("PING")).await.map(drop)?)
    }

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.listing(after, most).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.listed(*key).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        self.one_more_forgetting().await
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        self.counted_forgettings().await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        deployment::inspect(&self.servers, self.min_replicas).await
    }

    fn describe(&self) -> String {
        self.address.clone()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The record in one piece; without a copy where there is no body.
fn joined(Encoded { head, body }: &Encoded) -> Bytes {
    if body.is_empty() { head.clone() } else { [&**head, body].concat().into() }
}

fn millis(keep_for: Duration) -> String {
    // The server refuses a time to live of 0.
    keep_for.min(KEEP_FOR_MAX).as_millis().max(1).to_string()
}

fn body_millis(keep_for: Duration) -> String {
    millis(keep_for.min(KEEP_FOR_MAX) + BODY_KEPT_LONGER)
}

fn optional_bytes(command: &'static str, answer: Value) -> Result<Option<Bytes>, StoreError> {
    if let Value::BulkString(bytes) = answer {
        return Ok(Some(bytes.into()));
    }
    if answer == Value::Nil { Ok(None) } else { Err(unexpected(command)) }
}

fn swapped(answer: &Value) -> Result<Swapped, StoreError> {
    if let Value::Int(code) = *answer {
        match code {
            DONE => return Ok(Swapped::Done),
            CHANGED => return Ok(Swapped::Changed),
            ABSENT => return Ok(Swapped::Absent),
            _ => {}
        }
    }
    Err(unexpected("EVALSHA"))
}

/// The answer may hold a record, so it is not shown.
fn unexpected(command: &'static str) -> StoreError {
    StoreError::Refused(Box::new(UnexpectedAnswer { command }))
}
