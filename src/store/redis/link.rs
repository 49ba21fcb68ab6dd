//! One connection to Redis that heals by itself, and what its errors mean to a caller.
//!
//! A task keeps the connection: it connects, listens to its heart, and starts over when it is lost. A
//! caller never connects and never waits for more than the first attempt. Must not know keys or records.
//!
//! The client library reconnects neither after a timeout nor after `READONLY`, so both are reported here.
//! A command that failed may still be applied later; nothing is ever sent twice by itself.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, ServerErrorKind, Value,
};
use tokio::sync::{Notify, watch};

use super::dial::{Dial, Led};
use super::failed::Failed;
use crate::clock;

/// For the TCP and TLS handshakes and the greeting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often an open connection is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Between attempts to connect, from the first to the last of a row.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection that lived as long as this is replaced at once; others only after a pause.
const STEADY_AFTER: Duration = Duration::from_secs(1);

/// Commands that wait to be written, before whoever comes waits for a place. They are written when the connection has its
/// turn, all at once: with the library's 50 a busy worker would do no more than 50 in each of its rounds.
const PIPELINED_MAX: usize = 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// For the log.
    pub(super) name: &'static str,
    /// Connects before it is asked to.
    pub(super) is_eager: bool,
    /// How long a command, or a heartbeat that queues behind large answers, may take.
    pub(super) patience: Duration,
}

/// Is told what the server sends without being asked.
pub(super) type OnPush = Arc<dyn Fn(&PushInfo) + Send + Sync>;

/// A handle to the connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    dial: Dial,
    purpose: Purpose,
    on_push: Option<OnPush>,
    state: watch::Sender<State>,
    /// The newest generation known to be of no use any more. Held by the connection's own driver too, so
    /// it must not lead back to the connection.
    broken: Arc<watch::Sender<u64>>,
    wanted: Notify,
}

/// How the connection stands.
#[derive(Clone)]
pub(super) enum State {
    /// Nobody has asked for it yet.
    Idle,
    /// The first attempt after it was asked for, or after it was lost, is under way.
    Connecting,
    /// Open.
    Up(Connected),
    /// The last attempt failed, or a young connection broke; another attempt will follow.
    Down(Outage),
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Connected {
    connection: MultiplexedConnection,
    /// Counts the connections, from 1.
    pub(super) generation: u64,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Outage {
    #[error("connect to Redis")]
    Connect(#[source] RedisError),
    #[error("have Redis answer a ping")]
    Heartbeat(#[source] RedisError),
    #[error("have Redis answer a ping in time")]
    NoHeartbeat,
    #[error("keep the connection to Redis")]
    Lost,
    #[error("reach Redis: the connection is closed")]
    Closed,
    #[error("have a sentinel name the master")]
    NoMaster(#[source] Box<Failed>),
    #[error("have a server of the cluster tell who holds which slots")]
    NoView(#[source] Box<Failed>),
    #[error("stay with a server that is no longer the master")]
    NotTheMaster,
}

impl Link {
    pub(super) fn new(dial: Dial, purpose: Purpose, on_push: Option<OnPush>) -> Self {
        Self(Arc::new(Shared {
            dial,
            purpose,
            on_push,
            state: watch::Sender::new(State::Idle),
            broken: Arc::new(watch::Sender::new(0)),
            wanted: Notify::new(),
        }))
    }

    /// Sends one command.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, Failed> {
        let mut at = self.connected().await?;
        let answer = command.query_async(&mut at.connection).await;
        answer.map_err(|error| self.judge(error, at.generation))
    }

    /// Sends commands in one piece: they reach the server in their order, and nothing comes between them on
    /// this connection. Each has an answer of its own.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Result<Value, Failed>>, Failed> {
        let mut at = self.connected().await?;
        let answers = at.connection.send_packed_commands(commands, 0, commands.len()).await;
        let answers = answers.map_err(|error| self.judge(error, at.generation))?;
        let judged = |answer: Value| answer.extract_error().map_err(|error| self.judge(error, at.generation));
        Ok(answers.into_iter().map(judged).collect())
    }

    /// Subscribes, and answers when the server has confirmed it.
    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<(), Failed> {
        let mut at = self.connected().await?;
        at.connection.subscribe(channels).await.map_err(|error| self.judge(error, at.generation))
    }

    /// Unsubscribes, and answers when the server has confirmed it.
    pub(super) async fn unsubscribe(&self, channels: &[String]) -> Result<(), Failed> {
        let mut at = self.connected().await?;
        at.connection.unsubscribe(channels).await.map_err(|error| self.judge(error, at.generation))
    }

    /// How the connection stands, and how it goes on.
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.0.state.subscribe()
    }

    /// Keeps the connection for ever. To be run as a task; stops when dropped.
    pub(super) async fn keep(self) {
        let shared = &*self.0;
        let _closing = ClosedOnDrop(shared);
        if !shared.purpose.is_eager {
            shared.wanted.notified().await;
        }
        let mut pause = Duration::ZERO;
        shared.state.send_replace(State::Connecting);
        for generation in 1.. {
            let began = clock::monotonic();
            let outage = match shared.connect(generation).await {
                Ok((connection, led)) => {
                    let at = Connected { connection: connection.clone(), generation };
                    shared.state.send_replace(State::Up(at));
                    shared.until_broken(connection, generation, &led).await
                }
                Err(outage) => outage,
            };
            let lived = clock::monotonic().saturating_duration_since(began);
            let was_up = matches!(&*shared.state.borrow(), State::Up(_));
            let was_steady = was_up && lived >= STEADY_AFTER;
            shared.log(&outage);
            if was_steady {
                shared.state.send_replace(State::Connecting);
                pause = Duration::ZERO;
            } else {
                shared.state.send_replace(State::Down(outage));
                pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The open connection. Waits for a first attempt that is under way, and for nothing else.
    async fn connected(&self) -> Result<Connected, Failed> {
        if let State::Up(at) = &*self.0.state.borrow() {
            return Ok(at.clone());
        }
        self.0.wanted.notify_one();
        let mut states = self.states();
        let settled = states.wait_for(|state| matches!(state, State::Up(_) | State::Down(_))).await;
        match settled.as_deref() {
            Ok(State::Up(at)) => Ok(at.clone()),
            Ok(State::Down(outage)) => Err(Failed::Outage(outage.clone())),
            Ok(State::Idle | State::Connecting) | Err(_) => Err(Failed::Outage(Outage::Closed)),
        }
    }

    fn judge(&self, error: RedisError, generation: u64) -> Failed {
        let is_demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
        if is_demoted || error.is_io_error() || error.is_unrecoverable_error() {
            report_broken(&self.0.broken, generation);
        }
        Failed::Answer(error)
    }
}

impl Shared {
    async fn connect(&self, generation: u64) -> Result<(MultiplexedConnection, Led), Outage> {
        let led = self.dial.lead(generation).await?;
        let (broken, on_push) = (self.broken.clone(), self.on_push.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.purpose.patience))
            .set_pipeline_buffer_size(PIPELINED_MAX)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    report_broken(&broken, generation);
                } else if let Some(on_push) = &on_push {
                    on_push(&push);
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let connecting = led.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connecting.await.map_err(Outage::Connect)?;
        self.dial.verify(&mut connection).await?;
        Ok((connection, led))
    }

    /// Once for each outage, however many attempts it takes.
    fn log(&self, outage: &Outage) {
        let (connection, error) = (self.purpose.name, Chain(outage));
        if matches!(&*self.state.borrow(), State::Down(_)) {
            tracing::debug!(connection, %error, "still not connected to redis");
        } else {
            tracing::warn!(connection, %error, "not connected to redis");
        }
    }

    async fn until_broken(&self, connection: MultiplexedConnection, generation: u64, led: &Led) -> Outage {
        let mut broken = self.broken.subscribe();
        tokio::select! {
            () = self.dial.misled(led) => Outage::NotTheMaster,
            outage = self.until_the_heart_stops(connection) => outage,
            _ = broken.wait_for(|newest| *newest >= generation) => Outage::Lost,
        }
    }

    async fn until_the_heart_stops(&self, mut connection: MultiplexedConnection) -> Outage {
        let ping = redis::cmd("PING");
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let beat = ping.query_async::<Value>(&mut connection);
            match tokio::time::timeout(self.purpose.patience, beat).await {
                Err(_elapsed) => return Outage::NoHeartbeat,
                Ok(Err(error)) if error.is_io_error() || error.is_unrecoverable_error() => {
                    return Outage::Heartbeat(error);
                }
                // An answer is an answer, also one that the server is still loading.
                Ok(Ok(_) | Err(_)) => {}
            }
        }
    }
}

/// Without its task a connection would be neither open nor given up, and its callers would wait.
struct ClosedOnDrop<'a>(&'a Shared);

impl Drop for ClosedOnDrop<'_> {
    fn drop(&mut self) {
        self.0.state.send_replace(State::Down(Outage::Closed));
    }
}

fn report_broken(broken: &watch::Sender<u64>, generation: u64) {
    broken.send_if_modified(|newest| {
        let is_news = *newest < generation;
        *newest = generation.max(*newest);
        is_news
    });
}

/// An error with its sources, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
