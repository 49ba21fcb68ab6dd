//! A replicated Redis: one master, two replicas, and three Sentinels that agree within two seconds that
//! a master is down, and promote a replica.
//!
//! A master that comes back believes to be master still, as in real life: the Sentinels let that go on for
//! some eight seconds before they make it a replica.

use redis::Value;
use uuid::Uuid;

use super::redis::RedisServer;
use super::{awaited, awaited_async, free_port};

/// The name by which the Sentinels know the set.
pub(crate) const MASTER_NAME: &str = "payments";

/// Until a Sentinel holds a silent server to be down. It asks once a second, or in less than that if this is less:
/// then a new master whose first answer is a little late is replaced at once, and the next one too.
const DOWN_AFTER_MILLIS: u32 = 1500;

/// Without these a replica waits for five seconds for others before it is given the data.
const MEMBER_OPTIONS: [&str; 2] = ["--repl-diskless-sync-delay 0", "--repl-ping-replica-period 1"];

pub(crate) struct RedisSentinels {
    /// The first is the master to begin with.
    pub(crate) nodes: [RedisServer; 3],
    sentinels: [RedisServer; 3],
}

impl RedisSentinels {
    /// Starts the set, and waits until its replicas follow and its Sentinels know everybody.
    pub(crate) fn start() -> Self {
        for _ in 0..5 {
            let mut set = Self::prepared();
            if set.has_settled() {
                return set;
            }
        }
        panic!("no free ports for a set of Redis servers");
    }

    /// Answers whether all of them came up.
    fn has_settled(&mut self) -> bool {
        self.nodes.iter_mut().for_each(RedisServer::launch);
        if !self.nodes.iter_mut().all(RedisServer::is_up) {
            return false;
        }
        awaited("the replicas follow", || (self.followers(0) == 2).then_some(()));
        // Only now: a Sentinel that finds a replica still on its way asks it again after a second.
        self.sentinels.iter_mut().for_each(RedisServer::launch);
        if !self.sentinels.iter_mut().all(RedisServer::is_up) {
            return false;
        }
        awaited("the Sentinels know everybody", || self.sentinels.iter().all(knows_everybody).then_some(()));
        true
    }

    pub(crate) fn url(&self) -> String {
        let sentinels: Vec<String> = self.sentinels.iter().map(RedisServer::address).collect();
        format!("redis-sentinel://{}/{MASTER_NAME}/0", sentinels.join(","))
    }

    /// The master, as at least two Sentinels say and it says itself, if they are of one mind.
    pub(crate) fn master(&self) -> Option<usize> {
        let told: Vec<usize> = self.sentinels.iter().filter_map(|sentinel| self.told_by(sentinel)).collect();
        let is_agreed = |index: &usize| told.iter().filter(|told| *told == index).count() >= 2;
        let index = (0..self.nodes.len()).find(is_agreed)?;
        is_master(&self.nodes[index]).then_some(index)
    }

    /// How many failovers the Sentinels have made.
    pub(crate) fn failovers(&self) -> usize {
        let epoch = |sentinel: &RedisServer| -> Option<usize> {
            let about: Vec<String> = sentinel.ask(&format!("SENTINEL MASTER {MASTER_NAME}")).ok()?;
            about.windows(2).find(|pair| pair[0] == "config-epoch")?[1].parse().ok()
        };
        self.sentinels.iter().filter_map(epoch).max().unwrap_or_default()
    }

    /// Those that are not `master`.
    pub(crate) fn others(&self, master: usize) -> impl Iterator<Item = &RedisServer> {
        self.nodes.iter().enumerate().filter(move |(index, _)| *index != master).map(|(_, node)| node)
    }

    /// Waits for another master than `old`, and answers which it is.
    pub(crate) fn await_master_after(&self, old: usize) -> usize {
        awaited("another master", || self.master().filter(|index| *index != old))
    }

    /// As [`Self::await_master_after`], within a runtime.
    pub(crate) async fn master_after(&self, old: usize) -> usize {
        awaited_async("another master", || self.master().filter(|index| *index != old)).await
    }

    /// How many of the others follow `master` and are not still being given its data.
    pub(crate) fn followers(&self, master: usize) -> usize {
        let info: String = self.nodes[master].ask("INFO replication").unwrap_or_default();
        info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count()
    }

    /// The Sentinels, in the order of their addresses in [`Self::url`].
    pub(crate) fn sentinels(&self) -> &[RedisServer; 3] {
        &self.sentinels
    }

    pub(crate) fn kill_sentinel(&mut self, index: usize) {
        self.sentinels[index].kill();
    }

    /// Starts one that was killed, with what it knew then.
    pub(crate) fn restart_sentinel(&mut self, index: usize) {
        self.sentinels[index].restart();
    }

    fn prepared() -> Self {
        let ports = [(); 3].map(|()| free_port());
        let nodes = ports.map(|port| {
            let follows = format!("--replicaof 127.0.0.1 {}", ports[0]);
            let own = (port != ports[0]).then_some(follows);
            let options: Vec<&str> = MEMBER_OPTIONS.into_iter().chain(own.as_deref()).collect();
            RedisServer::member(port, &options)
        });
        let known = [(); 3].map(|()| (free_port(), forty_hex_digits()));
        let sentinels = [0, 1, 2].map(|own| RedisServer::sentinel(known[own].0, &file(own, ports, &known)));
        Self { nodes, sentinels }
    }

    fn told_by(&self, sentinel: &RedisServer) -> Option<usize> {
        let told: Vec<String> =
            sentinel.ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER_NAME}")).ok()?;
        self.nodes.iter().position(|node| Some(&node.port()) == told.get(1))
    }
}

fn knows_everybody(sentinel: &RedisServer) -> bool {
    let is_of_quorum = sentinel.ask::<Value>(&format!("SENTINEL CKQUORUM {MASTER_NAME}")).is_ok();
    let replicas: Vec<Vec<String>> =
        sentinel.ask(&format!("SENTINEL REPLICAS {MASTER_NAME}")).unwrap_or_default();
    let follows = |replica: &&Vec<String>| {
        replica.windows(2).any(|pair| pair == ["master-link-status", "ok"])
            && replica.windows(2).any(|pair| pair == ["flags", "slave"])
    };
    is_of_quorum && replicas.iter().filter(follows).count() == 2
}

fn is_master(node: &RedisServer) -> bool {
    let role: Vec<Value> = node.ask("ROLE").unwrap_or_default();
    role.first() == Some(&Value::BulkString(b"master".to_vec()))
}

/// Everybody is named in it, so that no Sentinel needs seconds to find the others.
fn file(own: usize, nodes: [u16; 3], sentinels: &[(u16, String); 3]) -> String {
    let (port, id) = &sentinels[own];
    let mut lines = vec![
        format!("port {port}"),
        "bind 127.0.0.1".to_owned(),
        format!("sentinel myid {id}"),
        format!("sentinel monitor {MASTER_NAME} 127.0.0.1 {} 2", nodes[0]),
        format!("sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MILLIS}"),
        format!("sentinel failover-timeout {MASTER_NAME} 3000"),
        format!("sentinel parallel-syncs {MASTER_NAME} 2"),
    ];
    lines.extend(
        nodes[1..].iter().map(|node| format!("sentinel known-replica {MASTER_NAME} 127.0.0.1 {node}")),
    );
    let others = sentinels.iter().filter(|(other, _)| other != port);
    lines.extend(
        others.map(|(port, id)| format!("sentinel known-sentinel {MASTER_NAME} 127.0.0.1 {port} {id}")),
    );
    lines.join("\n") + "\n"
}

pub(super) fn forty_hex_digits() -> String {
    let mut digits = Uuid::new_v4().simple().to_string() + &Uuid::new_v4().simple().to_string();
    digits.truncate(40);
    digits
}
