//! One connection to PostgreSQL that heals by itself, and what its errors mean to a caller.
//!
//! A task keeps the connection: it connects, prepares, drives the socket, listens to its heart, and starts
//! over when it is lost. A caller never connects and never waits for more than the first attempt. Statements
//! of many callers are pipelined. Must not know keys or records. Read `trouble.rs` beside it.
//!
//! A statement that got no answer in time is still the server's, and may hold locks there or wait for a
//! replica. So the connection is not thrown away at once: callers are refused while the task waits for the
//! server to speak again, and only then is the statement cancelled and the connection replaced.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket, Statement};

use super::address::Address;
use super::schema::{self, SchemaError};
use super::terms::{self, OneServer};
use super::tls::Tls;
use super::trouble::{Chain, Failure, Outage};
use crate::clock;

/// How often an open connection is asked whether it is still there.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// For looking after the schema and preparing statements, other gateways doing the same.
const SET_UP_LIMIT: Duration = Duration::from_secs(15);

/// How long a server that fell silent is waited for before its connection is replaced.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// For telling the server to drop what it is at.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// Between attempts to connect, from the first to the last of a row.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection that lived as long as this is replaced at once; others only after a pause.
const STEADY_AFTER: Duration = Duration::from_secs(1);

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// For the log.
    pub(super) name: &'static str,
    /// Connects before it is asked to.
    pub(super) is_eager: bool,
    /// How long a statement, or a heartbeat that queues behind others, may take.
    pub(super) patience: Duration,
    /// Runs once on each new connection.
    pub(super) greeting: &'static str,
    /// Prepared on each new connection; any other statement costs a round trip more.
    pub(super) statements: &'static [&'static str],
}

/// Is told the payload of each notification.
pub(super) type OnNotice = Arc<dyn Fn(&str) + Send + Sync>;

/// A handle to the connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    address: Arc<Address>,
    min_replicas: u32,
    /// Shared by all connections of a store.
    server: OneServer,
    purpose: Purpose,
    on_notice: Option<OnNotice>,
    state: watch::Sender<State>,
    /// The newest generation on which the server did not answer in time.
    silent: watch::Sender<u64>,
    /// The newest generation known to be of no use any more.
    broken: watch::Sender<u64>,
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
    /// The last attempt failed, or the server is silent; it is tried on.
    Down(Outage),
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Connected {
    client: Arc<Client>,
    statements: Arc<HashMap<&'static str, Statement>>,
    /// Counts the warnings that the server gave.
    warnings: Arc<AtomicU64>,
    /// Counts the connections, from 1.
    pub(super) generation: u64,
}

impl Link {
    pub(super) fn new(
        address: Arc<Address>,
        min_replicas: u32,
        server: OneServer,
        purpose: Purpose,
        on_notice: Option<OnNotice>,
    ) -> Self {
        Self(Arc::new(Shared {
            address,
            min_replicas,
            server,
            purpose,
            on_notice,
            state: watch::Sender::new(State::Idle),
            silent: watch::Sender::new(0),
            broken: watch::Sender::new(0),
            wanted: Notify::new(),
        }))
    }

    /// How long a statement may take.
    pub(super) fn patience(&self) -> Duration {
        self.0.purpose.patience
    }

    /// Runs one statement.
    pub(super) async fn ask(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let at = self.connected().await?;
        self.ask_on(&at, sql, parameters).await
    }

    /// Runs one statement on the connection that the caller looked at before.
    ///
    /// A warning means that the answer may not be as good as it says: a wait for replicas that was cancelled
    /// ends as a success with a warning.
    pub(super) async fn ask_on(
        &self,
        at: &Connected,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failure> {
        let warned = at.warnings.load(Ordering::Acquire);
        let asking = async {
            match at.statements.get(sql) {
                Some(statement) => at.client.query(statement, parameters).await,
                None => at.client.query(sql, parameters).await,
            }
        };
        match timeout(self.0.purpose.patience, asking).await {
            Err(_elapsed) => {
                report(&self.0.silent, at.generation);
                Err(Failure::Unreachable(Outage::Silent))
            }
            Ok(Err(error)) => {
                let failure = Failure::of(error);
                if failure.breaks_connection() {
                    report(&self.0.broken, at.generation);
                }
                Err(failure)
            }
            Ok(Ok(_)) if at.warnings.load(Ordering::Acquire) != warned => {
                Err(Failure::Unreachable(Outage::Warned))
            }
            Ok(Ok(rows)) => Ok(rows),
        }
    }

    /// Has the connection replaced: the server is not the one that is wanted.
    pub(super) fn replace(&self, at: &Connected) {
        report(&self.0.broken, at.generation);
    }

    /// The open connection. Waits for a first attempt that is under way, and for nothing else.
    pub(super) async fn connected(&self) -> Result<Connected, Failure> {
        if let State::Up(at) = &*self.0.state.borrow() {
            return Ok(at.clone());
        }
        self.0.wanted.notify_one();
        let mut states = self.states();
        let settled = states.wait_for(|state| matches!(state, State::Up(_) | State::Down(_))).await;
        match settled.as_deref() {
            Ok(State::Up(at)) => Ok(at.clone()),
            Ok(State::Down(outage)) => Err(outage.clone().into()),
            Ok(State::Idle | State::Connecting) | Err(_) => Err(Outage::Closed.into()),
        }
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
            let (outage, lived) = shared.live(generation).await;
            shared.log(&outage);
            if lived >= STEADY_AFTER && !matches!(outage, Outage::Silent) {
                shared.state.send_replace(State::Connecting);
                pause = Duration::ZERO;
            } else {
                shared.state.send_replace(State::Down(outage));
                pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

impl Shared {
    /// One connection from its first byte to its end. Answers why it ended and how long it was of use.
    async fn live(&self, generation: u64) -> (Outage, Duration) {
        let connecting = self.address.config.connect(self.address.tls.clone());
        let (client, connection) = match timeout(self.address.connect_limit(), connecting).await {
            Err(_elapsed) => return (Outage::NoConnection, Duration::ZERO),
            Ok(Err(error)) => return (Outage::of(error), Duration::ZERO),
            Ok(Ok(both)) => both,
        };
        let warnings = Arc::new(AtomicU64::new(0));
        let mut driver = pin!(self.drive(connection, &warnings));
        let set_up = timeout(SET_UP_LIMIT, self.set_up(&client));
        let (statements, server) = tokio::select! {
            outage = &mut driver => return (outage, Duration::ZERO),
            set_up = set_up => match set_up.unwrap_or(Err(Outage::NoConnection)) {
                Err(outage) => return (outage, Duration::ZERO),
                Ok((statements, server)) => (Arc::new(statements), server),
            },
        };
        let began = clock::monotonic();
        let at = Connected { client: Arc::new(client), statements, warnings: warnings.clone(), generation };
        self.state.send_replace(State::Up(at.clone()));
        let outage = tokio::select! {
            outage = &mut driver => outage,
            outage = self.watch_over(&at) => outage,
            () = self.server.left(&server) => Outage::Replaced,
        };
        (outage, clock::monotonic().saturating_duration_since(began))
    }

    /// Moves bytes until the connection ends, and hears what the server says without being asked.
    async fn drive(
        &self,
        mut connection: Connection<Socket, <Tls as MakeTlsConnect<Socket>>::Stream>,
        warnings: &AtomicU64,
    ) -> Outage {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                None => return Outage::Closed,
                Some(Err(error)) => return Outage::of(error),
                Some(Ok(AsyncMessage::Notification(notice))) => {
                    if let Some(on_notice) = &self.on_notice {
                        on_notice(notice.payload());
                    }
                }
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    if notice.parsed_severity() == Some(Severity::Warning) {
                        tracing::warn!(warning = notice.message(), "postgres gave a warning");
                        warnings.fetch_add(1, Ordering::AcqRel);
                    }
                }
                // The library may learn to tell more.
                Some(Ok(_)) => {}
            }
        }
    }

    /// Answers the prepared statements, and which server this is.
    async fn set_up(&self, client: &Client) -> Result<(HashMap<&'static str, Statement>, String), Outage> {
        client.batch_execute(&terms::settings(self.purpose.patience)).await.map_err(Outage::of)?;
        schema::look_after(client).await?;
        if !terms::has_replicas(client, self.min_replicas).await? {
            return Err(Outage::Schema(SchemaError::TooFewReplicas { wanted: self.min_replicas }));
        }
        client.batch_execute(self.purpose.greeting).await.map_err(Outage::of)?;
        let mut statements = HashMap::new();
        for sql in self.purpose.statements {
            statements.insert(*sql, client.prepare(sql).await.map_err(Outage::of)?);
        }
        Ok((statements, self.server.found(client).await?))
    }

    async fn watch_over(&self, at: &Connected) -> Outage {
        loop {
            tokio::select! {
                () = reported(&self.broken, at.generation) => return Outage::Replaced,
                () = reported(&self.silent, at.generation) => {}
                () = tokio::time::sleep(HEARTBEAT) => {
                    match timeout(self.purpose.patience, at.client.check_connection()).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => return Outage::of(error),
                        Err(_elapsed) => {}
                    }
                }
            }
            self.log(&Outage::Silent);
            self.state.send_replace(State::Down(Outage::Silent));
            // Answered in turn, hence only when the server is done with what it was at.
            match timeout(GIVE_UP_AFTER, at.client.check_connection()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Outage::of(error),
                Err(_elapsed) => {
                    let cancelling = at.client.cancel_token();
                    let cancelling = cancelling.cancel_query(self.address.tls.clone());
                    // Whether it was heard shows in nothing that is waited for here.
                    drop(timeout(CANCEL_LIMIT, cancelling).await);
                    return Outage::Silent;
                }
            }
            self.silent.send_replace(0);
            self.state.send_replace(State::Up(at.clone()));
        }
    }

    /// Once for each outage, however many attempts it takes.
    fn log(&self, outage: &Outage) {
        let (connection, error) = (self.purpose.name, Chain(outage));
        if matches!(&*self.state.borrow(), State::Down(_)) {
            tracing::debug!(connection, %error, "still not connected to postgres");
        } else {
            tracing::warn!(connection, %error, "not connected to postgres");
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

async fn reported(newest: &watch::Sender<u64>, generation: u64) {
    let mut reports = newest.subscribe();
    // The sender lives as long as whoever asks, so the wait ends only with the value.
    drop(reports.wait_for(|newest| *newest >= generation).await);
}

fn report(newest: &watch::Sender<u64>, generation: u64) {
    newest.send_if_modified(|newest| {
        let is_news = *newest < generation;
        *newest = generation.max(*newest);
        is_news
    });
}
