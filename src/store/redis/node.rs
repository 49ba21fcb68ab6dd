//! One server and the connections to it: for small commands, for large bodies, and, where replicas are waited
//! for, two that may wait. Must not know which server this is, nor why. Read `link.rs` before.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::task::JoinSet;

use super::acknowledged::{Acknowledged, Replicas};
use super::dial::Dial;
use super::failed::Failed;
use super::link::{Link, Purpose};
use super::scripts::Script;

/// How long they wait at least, however short a store's own deadline: a late answer that is thrown away with its
/// connection would take those of all others along.
const SMALL: Purpose = Purpose { name: "commands", is_eager: true, patience: Duration::from_secs(1) };
const BULK: Purpose = Purpose { name: "bodies", is_eager: false, patience: Duration::from_secs(5) };

/// Writes that share a wait for replicas: a few megabytes at most, of small ones, and of large bodies.
const SMALL_BATCH: usize = 256;
const BULK_BATCH: usize = 16;

/// A server, and the tasks that keep its connections.
pub(super) struct Node {
    small: Link,
    bulk: Link,
    /// As the two above, for writes that wait for replicas.
    acknowledged: Option<(Acknowledged, Acknowledged)>,
    _tasks: JoinSet<()>,
}

/// What the calls of a store come with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// How long callers wait for one at most: no connection is given up before, for that it does not answer.
    pub(super) deadline: Duration,
    /// Those that writes are waited for with.
    pub(super) replicas: Option<Replicas>,
}

/// Which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// For what is small.
    Small,
    /// For what may be large, so that it holds up nothing small.
    Bulk,
}

/// What is asked of a server.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    /// A command that changes no record.
    Look(&'a Cmd),
    /// A command that may.
    Write(&'a Cmd),
    /// A script, which may.
    Script { script: &'a Script, keys: &'a [&'a str], arguments: &'a [&'a [u8]] },
}

impl Node {
    /// A server that begins to be connected to.
    pub(super) fn new(dial: &Dial, Terms { deadline, replicas }: Terms) -> Self {
        let mut tasks = JoinSet::new();
        let patient = |lane: Purpose| Purpose { patience: lane.patience.max(deadline), ..lane };
        let (commands, bodies) = (patient(SMALL), patient(BULK));
        let mut open = |purpose| {
            let link = Link::new(dial.clone(), purpose, None);
            tasks.spawn(link.clone().keep());
            link
        };
        let (small, bulk) = (open(commands), open(bodies));
        let acknowledged = replicas.map(|replicas| {
            // A heartbeat stands in line behind a `WAIT`.
            let behind =
                |name, lane: Purpose| Purpose { name, patience: lane.patience + replicas.wait, ..lane };
            let small = open(behind("acknowledged commands", commands));
            let bulk = open(behind("acknowledged bodies", bodies));
            (Acknowledged::new(small, replicas, SMALL_BATCH), Acknowledged::new(bulk, replicas, BULK_BATCH))
        });
        let acknowledged = acknowledged.map(|((small, keep_small), (bulk, keep_bulk))| {
            tasks.spawn(keep_small);
            tasks.spawn(keep_bulk);
            (small, bulk)
        });
        Self { small, bulk, acknowledged, _tasks: tasks }
    }

    /// Does what is asked, on a connection of that lane. `is_asking`: another server sent us here for this one
    /// time.
    pub(super) async fn perform(
        &self,
        lane: Lane,
        request: Request<'_>,
        is_asking: bool,
    ) -> Result<Value, Failed> {
        match request {
            Request::Look(command) => send(self.link(lane), command, is_asking).await,
            Request::Write(command) => self.write(lane, command, is_asking).await,
            Request::Script { script, keys, arguments } => {
                let by_hash = call("EVALSHA", &script.hash, keys, arguments);
                match self.write(lane, &by_hash, is_asking).await {
                    Err(failed) if failed.is_unknown_script() => {
                        self.write(lane, &call("EVAL", &script.text, keys, arguments), is_asking).await
                    }
                    answer => answer,
                }
            }
        }
    }

    /// The connection of a lane, for what changes no record.
    pub(super) fn link(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Small => &self.small,
            Lane::Bulk => &self.bulk,
        }
    }

    async fn write(&self, lane: Lane, command: &Cmd, is_asking: bool) -> Result<Value, Failed> {
        let Some((small, bulk)) = &self.acknowledged else {
            return send(self.link(lane), command, is_asking).await;
        };
        let acknowledged = match lane {
            Lane::Small => small,
            Lane::Bulk => bulk,
        };
        acknowledged.perform(command.clone(), is_asking).await
    }
}

async fn send(link: &Link, command: &Cmd, is_asking: bool) -> Result<Value, Failed> {
    if !is_asking {
        return link.ask(command).await;
    }
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("ASKING").add_command(command.clone());
    link.ask_all(&commands).await?.pop().unwrap_or(Err(Failed::NoOwner))
}

fn call(verb: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
    let lengths = keys.iter().map(|key| key.len()).chain(arguments.iter().map(|argument| argument.len()));
    let size = verb.len() + script.len() + size_of::<usize>() + lengths.sum::<usize>();
    let mut command = Cmd::with_capacity(3 + keys.len() + arguments.len(), size);
    command.arg(verb).arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}
