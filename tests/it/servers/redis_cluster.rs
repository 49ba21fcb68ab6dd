//! A Redis Cluster of six: three masters, each with a third of the slots and one replica.
//!
//! Shards that are down do not stop the others. A slot can be moved, and stopped half way.

use redis::Value;

use super::redis::RedisServer;
use super::redis_sentinels::forty_hex_digits;
use super::{awaited, awaited_async, free_port};

const SHARDS: usize = 3;

/// The slots of each shard to begin with.
const SLOTS: [(u16, u16); SHARDS] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

/// Until a silent node is held to be down, in milliseconds.
const NODE_TIMEOUT: &str = "--cluster-node-timeout 1000";

pub(crate) struct RedisCluster {
    /// The first three are masters to begin with, of the slots in [`SLOTS`]; each is followed by the one that stands three
    /// places further on.
    pub(crate) nodes: [RedisServer; 2 * SHARDS],
    ids: [String; 2 * SHARDS],
}

impl RedisCluster {
    /// Starts the cluster, and waits until every node holds it to be whole and every replica follows.
    pub(crate) fn start() -> Self {
        for _ in 0..5 {
            let mut cluster = Self::prepared();
            cluster.nodes.iter_mut().for_each(RedisServer::launch);
            if cluster.nodes.iter_mut().all(RedisServer::is_up) {
                awaited("the cluster is whole", || cluster.is_whole().then_some(()));
                return cluster;
            }
        }
        panic!("no free ports for a cluster");
    }

    pub(crate) fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(RedisServer::address).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// The slot of a key.
    pub(crate) fn slot_of(&self, key: &str) -> u16 {
        self.asked(&format!("CLUSTER KEYSLOT {key}")).unwrap()
    }

    /// The node that serves `slot`, as everybody that answers says.
    pub(crate) fn master_of(&self, slot: u16) -> Option<usize> {
        let mut told =
            self.nodes.iter().filter(|node| node.is_running()).map(|node| self.told_by(node, slot));
        let first = told.next()??;
        told.all(|other| other == Some(first)).then_some(first)
    }

    /// Waits until another node than `old` serves `slot`, and answers which.
    pub(crate) async fn master_after(&self, old: usize, slot: u16) -> usize {
        awaited_async("another master", || self.master_of(slot).filter(|index| *index != old)).await
    }

    /// Begins to move `slot`: its keys stay where they are, and what is new belongs to the other node.
    pub(crate) fn begin_move(&self, slot: u16, from: usize, to: usize) {
        self.tell(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.ids[from]));
        self.tell(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.ids[to]));
    }

    /// Moves the keys of a slot that is being moved.
    pub(crate) fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let keys: Vec<String> = self.nodes[from].ask(&format!("CLUSTER GETKEYSINSLOT {slot} 1000")).unwrap();
        for key in keys {
            self.tell(from, &format!("MIGRATE 127.0.0.1 {} {key} 0 5000", self.nodes[to].port()));
        }
    }

    /// Ends the move of a slot whose keys were moved: who asks the old node is told where they are now.
    pub(crate) fn end_move(&self, slot: u16, from: usize, to: usize) {
        self.tell(to, &format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[to]));
        self.tell(from, &format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[to]));
    }

    fn tell(&self, node: usize, words: &str) {
        self.nodes[node].ask::<Value>(words).unwrap();
    }

    /// What the first node says that answers.
    fn asked<T: redis::FromRedisValue>(&self, words: &str) -> Option<T> {
        self.nodes.iter().filter(|node| node.is_running()).find_map(|node| node.ask(words).ok())
    }

    fn told_by(&self, node: &RedisServer, slot: u16) -> Option<usize> {
        let told: String = node.ask("CLUSTER NODES").ok()?;
        let serves = |line: &&str| {
            line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            })
        };
        let line = told.lines().find(serves)?;
        self.ids.iter().position(|id| line.starts_with(id.as_str()))
    }

    fn is_whole(&self) -> bool {
        let is_ok = |node: &RedisServer| {
            let info: String = node.ask("CLUSTER INFO").unwrap_or_default();
            let replication: String = node.ask("INFO replication").unwrap_or_default();
            let is_followed = replication.contains("role:master") && replication.contains("state=online");
            info.contains("cluster_state:ok")
                && (is_followed || replication.contains("master_link_status:up"))
        };
        self.nodes.iter().all(is_ok)
    }

    fn prepared() -> Self {
        let ids = [(); 2 * SHARDS].map(|()| forty_hex_digits());
        let ports = [(); 2 * SHARDS].map(|()| (free_port(), free_port()));
        let nodes = ports.map(|(port, bus)| {
            let bus = format!("--cluster-port {bus}");
            let options = [
                "--cluster-enabled yes",
                "--cluster-config-file nodes.conf",
                NODE_TIMEOUT,
                "--cluster-require-full-coverage no",
                "--cluster-replica-validity-factor 0",
                "--repl-diskless-sync-delay 0",
                "--repl-ping-replica-period 1",
                &bus,
            ];
            RedisServer::member(port, &options)
        });
        for (own, node) in nodes.iter().enumerate() {
            // Everybody knows everybody from the beginning, so that none has to be introduced.
            std::fs::write(node.dir().join("nodes.conf"), file(own, &ids, &ports)).unwrap();
        }
        Self { nodes, ids }
    }
}

/// The cluster as a node keeps it in its file.
fn file(own: usize, ids: &[String; 2 * SHARDS], ports: &[(u16, u16); 2 * SHARDS]) -> String {
    let line = |index: usize| {
        let ((port, bus), shard) = (ports[index], index % SHARDS);
        let myself = if index == own { "myself," } else { "" };
        let (role, follows) = if index < SHARDS { ("master", "-") } else { ("slave", ids[shard].as_str()) };
        let (first, last) = SLOTS[shard];
        let slots = if index < SHARDS { format!(" {first}-{last}") } else { String::new() };
        let epoch = shard + 1;
        format!(
            "{} 127.0.0.1:{port}@{bus} {myself}{role} {follows} 0 0 {epoch} connected{slots}\n",
            ids[index]
        )
    };
    let lines: String = (0..2 * SHARDS).map(line).collect();
    lines + &format!("vars currentEpoch {SHARDS} lastVoteEpoch 0\n")
}
