//! Records in Redis 7.0 or later, or Valkey: for production, shared by any number of gateways.
//!
//! A claim is one plain command and a settlement one script, each one round trip. Small commands, large
//! bodies and subscriptions each have a connection of their own (`redis/link.rs`), so that none holds up
//! another; the last two are opened when first needed. Must not know what a record means.
//!
//! ```text
//! {namespace}:r:{key}   a record as in codec.rs; its body too if that is small
//! {namespace}:b:{key}   the body, if it is larger; written and removed with its record
//! {namespace}:s:session a session that lives
//! {namespace}:gate      why no new claims are taken, or nothing
//! {namespace}:w:{key}   the channel on which changes of a record are told
//! ```
//!
//! The braces around the key (not those around `namespace`) are really there: they make the names of one
//! record fall into one slot of a cluster. Names are frozen as stored bytes are.

mod deployment;
mod link;
mod scripts;
mod transfer;
mod watchers;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, Value,
};
use tokio::task::JoinSet;

use self::link::{Link, Purpose};
use self::scripts::{ABSENT, CHANGED, DONE, Scripts};
use self::watchers::Watchers;
use super::codec::{self, Codec, Encoded, Stored};
use super::durability::Durability;
use super::{Gate, Options, SessionLife, Store, StoreError, Swapped, Watch};
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

/// A larger body is kept apart, so that the answer to a claim stays small.
const BODY_INLINE_MAX: usize = 16 * 1024;

/// How much longer a body is kept than its record, so that no record outlives its body.
const BODY_KEPT_LONGER: Duration = Duration::from_mins(1);

/// How often an insert asks again when what stood there went away while its body was read.
const INSERT_TRIES: usize = 3;

/// The server computes the moment of expiry in 64 bits; nothing is kept for longer than this.
const KEEP_FOR_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// How long the body of a record that stands in the way of a claim is waited for: less than a claim as a whole.
const READ_PATIENCE: Duration = Duration::from_millis(500);

/// Until the system asks a silent peer whether it is there. The heartbeat finds out earlier.
const KEEPALIVE: Duration = Duration::from_secs(15);

const SMALL: Purpose = Purpose { name: "commands", is_eager: true, patience: Duration::from_secs(1) };
const BULK: Purpose = Purpose { name: "bodies", is_eager: false, patience: Duration::from_secs(5) };
const WATCH: Purpose = Purpose { name: "watches", is_eager: false, patience: Duration::from_secs(1) };

/// A store in Redis. Its tasks live on the runtime it was made in and end when it is dropped.
pub struct RedisStore {
    codec: Codec,
    namespace: String,
    address: String,
    scripts: Arc<Scripts>,
    small: Link,
    bulk: Link,
    watch_link: Link,
    watchers: Watchers,
    /// Keep the connections; stopped when the set is dropped.
    _tasks: JoinSet<()>,
}

/// Why a store's address is of no use.
#[derive(Debug, thiserror::Error)]
#[error("read the address of Redis: it must look like redis://host:6379/0")]
pub struct InvalidAddress;

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
        let info = connection_info(url).ok_or(InvalidAddress)?;
        let address = shown(&info);
        // The library's own error may quote what it could not use.
        let Ok(client) = Client::open(info) else { return Err(InvalidAddress) };
        let watchers = Watchers::default();
        let small = Link::new(client.clone(), SMALL, None);
        let bulk = Link::new(client.clone(), BULK, None);
        let watch_link = Link::new(client, WATCH, Some(watchers.on_push()));
        let mut tasks = JoinSet::new();
        for link in [&small, &bulk, &watch_link] {
            tasks.spawn(link.clone().keep());
        }
        tasks.spawn(watchers.clone().keep(watch_link.clone()));
        Ok(Self {
            codec: options.codec.clone(),
            namespace: options.namespace.clone(),
            address,
            scripts: Arc::new(Scripts::new()),
            small,
            bulk,
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
            let keys = [&*self.record_key(key), &*self.body_key(key)];
            let (keep, keep_body) = (millis(keep_for), body_millis(keep_for));
            let arguments = [&*encoded.head, keep.as_bytes(), &*encoded.body, keep_body.as_bytes()];
            return optional_bytes(
                "EVALSHA",
                self.bulk.run(&self.scripts.insert_apart, &keys, &arguments).await?,
            );
        }
        let mut command = Cmd::new();
        command.arg("SET").arg(self.record_key(key)).arg(&*joined(encoded));
        command.arg("NX").arg("GET").arg("PX").arg(millis(keep_for));
        optional_bytes("SET", self.small.ask(&command).await?)
    }

    async fn fetch_record(&self, key: &StorageKey) -> Result<Option<Bytes>, StoreError> {
        let answer = self.small.ask(Cmd::new().arg("GET").arg(self.record_key(key))).await?;
        optional_bytes("GET", answer)
    }

    async fn fetch_body(&self, key: &StorageKey) -> Result<Option<Bytes>, StoreError> {
        let answer = self.bulk.ask(Cmd::new().arg("GET").arg(self.body_key(key))).await?;
        optional_bytes("GET", answer)
    }

    /// Reads a stored value, and its body where that is kept apart.
    ///
    /// The two are read one after the other, so the record may have been replaced in between: then what
    /// was read does not fit together, and both are read once more. What does not fit then is damaged.
    async fn read(&self, key: &StorageKey, stands: Bytes) -> Result<Seen, StoreError> {
        match self.assemble(key, stands).await? {
            Seen::Unreadable => {}
            seen @ (Seen::Nothing | Seen::Record(_)) => return Ok(seen),
        }
        match self.fetch_record(key).await? {
            Some(stands) => self.assemble(key, stands).await,
            None => Ok(Seen::Nothing),
        }
    }

    async fn assemble(&self, key: &StorageKey, stands: Bytes) -> Result<Seen, StoreError> {
        let head = match codec::split(stands) {
            Stored::Whole(encoded) => return Ok(self.codec.decode(key, encoded)),
            Stored::Unreadable => return Ok(Seen::Unreadable),
            Stored::BodyApart { head, .. } => head,
        };
        let body = self.fetch_body(key).await?;
        Ok(body.map_or(Seen::Unreadable, |body| self.codec.decode(key, Encoded { head, body })))
    }

    fn record_key(&self, key: &StorageKey) -> String {
        format!("{}:r:{{{key}}}", self.namespace)
    }

    fn body_key(&self, key: &StorageKey) -> String {
        format!("{}:b:{{{key}}}", self.namespace)
    }

    fn channel(&self, key: &StorageKey) -> String {
        format!("{}:w:{{{key}}}", self.namespace)
    }

    fn gate_key(&self) -> String {
        format!("{}:gate", self.namespace)
    }

    fn session_key(&self, session: Session) -> String {
        format!("{}:s:{:032x}", self.namespace, u128::from_be_bytes(session.0))
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
            let reading = tokio::time::timeout(READ_PATIENCE, self.read(key, stands)).await;
            let reading = reading.unwrap_or(Err(StoreError::TimedOut(READ_PATIENCE)));
            // Something stands there, whatever becomes of the reading: that must not get lost.
            match reading.map_err(|error| StoreError::Standing(Box::new(error)))? {
                // What stood there went before its body was read. `fresh` is not written, and only
                // whoever has written may hear "nothing".
                Seen::Nothing => {}
                seen @ (Seen::Record(_) | Seen::Unreadable) => return Ok(seen),
            }
        }
        Ok(Seen::Unreadable)
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        let encoded = self.codec.encode(key, next);
        let keys = [&*self.record_key(key), &*self.body_key(key)];
        let (version, channel) = (codec::version_bytes(seen), self.channel(key));
        let (keep, keep_body) = (millis(keep_for), body_millis(keep_for));
        let answer = if encoded.body.len() > BODY_INLINE_MAX {
            let Encoded { head, body } = encoded;
            let apart: [&[u8]; 6] =
                [&version, channel.as_bytes(), &head, keep.as_bytes(), &body, keep_body.as_bytes()];
            self.bulk.run(&self.scripts.swap, &keys, &apart).await?
        } else {
            let whole = joined(&encoded);
            let together: [&[u8]; 4] = [&version, channel.as_bytes(), &whole, keep.as_bytes()];
            self.small.run(&self.scripts.swap, &keys, &together).await?
        };
        swapped(&answer)
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        let keys = [&*self.record_key(key), &*self.body_key(key)];
        let (version, channel) = (codec::version_bytes(seen), self.channel(key));
        let arguments: [&[u8]; 2] = [&version, channel.as_bytes()];
        swapped(&self.small.run(&self.scripts.remove, &keys, &arguments).await?)
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        match self.fetch_record(key).await? {
            None => Ok(Seen::Nothing),
            Some(stands) => self.read(key, stands).await,
        }
    }

    async fn renew_session(&self, session: Session, ttl: Duration) -> Result<Gate, StoreError> {
        // One process serves a connection's commands in their order, so the gate is read after the session
        // is written.
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("SET").arg(self.session_key(session)).arg("").arg("PX").arg(millis(ttl));
        commands.cmd("GET").arg(self.gate_key());
        let mut answers = self.small.ask_all(&commands).await?.into_iter();
        let (Some(written), Some(word)) = (answers.next(), answers.next()) else {
            return Err(unexpected("SET"));
        };
        written?;
        Ok(Gate::of_word(optional_bytes("GET", word?)?.as_deref()))
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.small.ask(Cmd::new().arg("DEL").arg(self.session_key(session))).await.map(drop)
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        let answer = self.small.ask(Cmd::new().arg("EXISTS").arg(self.session_key(session))).await?;
        let Value::Int(found) = answer else { return Err(unexpected("EXISTS")) };
        Ok(if found == 0 { SessionLife::Absent } else { SessionLife::Alive })
    }

    async fn watch(&self, key: &StorageKey) -> Result<Watch, StoreError> {
        self.watchers.watch(&self.watch_link, self.channel(key)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.small.ask(Cmd::new().arg("PING")).await.map(drop)
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        Ok(deployment::inspect(&self.small).await?.durability())
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

fn connection_info(url: &str) -> Option<ConnectionInfo> {
    let info = url.into_connection_info().ok()?;
    let tcp = TcpSettings::default()
        // A claim is one small packet, and its caller waits for it.
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
    // The third protocol tells at once that a connection is lost, and carries subscriptions.
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let redis = redis.set_lib_name("onceway", env!("CARGO_PKG_VERSION"));
    Some(info.set_tcp_settings(tcp).set_redis_settings(redis))
}

/// The address without the credentials.
fn shown(info: &ConnectionInfo) -> String {
    let scheme = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        "rediss"
    } else if matches!(info.addr(), ConnectionAddr::Unix(_)) {
        "redis+unix"
    } else {
        "redis"
    };
    format!("{scheme}://{}/{}", info.addr(), info.redis_settings().db())
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
