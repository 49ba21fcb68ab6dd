//! Redis: one server; three and three Sentinels; a Cluster of six.

use std::net::SocketAddr;
use std::time::Duration;

use redis::{FromRedisValue, RedisResult, Value};
use uuid::Uuid;

use super::super::ground::{Ground, Place};
use super::super::machine::Machine;
use super::{Kind, Servers};

/// How long an operator waits for a server's word.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

const MASTER_NAME: &str = "payments";

const SHARDS: usize = 3;

const SLOTS: [&str; SHARDS] = ["0-5460", "5461-10922", "10923-16383"];

/// Whatever is written reaches the operating system before it is acknowledged, and with `always` the disk.
const KEPT: &str = "--protected-mode no --save  --appendonly yes";

/// What members of a set are told, so that they find each other in seconds.
const MEMBER: &str =
    "--appendfsync no --repl-diskless-sync-delay 0 --repl-ping-replica-period 1 --repl-timeout 6";

/// A server in its place.
struct Site {
    place: Place,
    at: SocketAddr,
}

pub(super) fn alone(ground: &mut Ground) -> Servers {
    let site = Site::new(ground, "redis");
    let url = format!("redis://{}/0", site.at);
    let nodes = vec![site.server("--appendfsync always")];
    Servers { kind: Kind::Redis, url, nodes, watchers: Vec::new() }
}

pub(super) fn with_sentinels(ground: &mut Ground) -> Servers {
    let nodes = [1, 2, 3].map(|number| Site::new(ground, &format!("redis{number}")));
    let watchers = [1, 2, 3].map(|number| Site::new(ground, &format!("sentinel{number}")));
    let first = nodes[0].at;
    let addresses: Vec<String> = watchers.iter().map(|site| site.at.to_string()).collect();
    let watchers = watchers.map(|site| site.sentinel(first)).into();
    let nodes = nodes.map(|site| {
        let follows = format!("{MEMBER} --replicaof {} {}", first.ip(), first.port());
        let own = if site.at == first { MEMBER.to_owned() } else { follows };
        site.server(&own)
    });
    let url = format!("redis-sentinel://{}/{MASTER_NAME}/0", addresses.join(","));
    Servers { kind: Kind::Sentinel, url, nodes: nodes.into(), watchers }
}

pub(super) fn cluster(ground: &mut Ground) -> Servers {
    let sites: Vec<(Site, u16, String)> = (1..=2 * SHARDS)
        .map(|number| {
            let site = Site::new(ground, &format!("node{number}"));
            let bus = site.place.address().port();
            (site, bus, forty_hex_digits())
        })
        .collect();
    for (own, (site, ..)) in sites.iter().enumerate() {
        // Everybody knows everybody from the beginning, so that none has to be introduced.
        std::fs::write(site.place.beside("nodes.conf"), map(own, &sites)).unwrap();
    }
    let addresses: Vec<String> = sites.iter().map(|(site, ..)| site.at.to_string()).collect();
    let nodes = sites.into_iter().map(|(site, bus, _)| {
        let file = site.place.beside("nodes.conf");
        site.server(&format!(
            "{MEMBER} --cluster-enabled yes --cluster-node-timeout 1500 --cluster-require-full-coverage no \
             --cluster-replica-validity-factor 0 --cluster-port {bus} --cluster-config-file {}",
            file.display()
        ))
    });
    let url = format!("redis-cluster://{}", addresses.join(","));
    Servers { kind: Kind::Cluster, url, nodes: nodes.collect(), watchers: Vec::new() }
}

/// The cluster as a node keeps it in its file.
fn map(own: usize, sites: &[(Site, u16, String)]) -> String {
    let lines: String = (0..2 * SHARDS)
        .map(|index| {
            let (site, bus, id) = &sites[index];
            let shard = index % SHARDS;
            let (at, epoch) = (site.at, shard + 1);
            let myself = if index == own { "myself," } else { "" };
            if index < SHARDS {
                let slots = SLOTS[shard];
                format!("{id} {at}@{bus} {myself}master - 0 0 {epoch} connected {slots}\n")
            } else {
                let master = &sites[shard].2;
                format!("{id} {at}@{bus} {myself}slave {master} 0 0 {epoch} connected\n")
            }
        })
        .collect();
    lines + &format!("vars currentEpoch {SHARDS} lastVoteEpoch 0\n")
}

impl Site {
    fn new(ground: &mut Ground, name: &str) -> Self {
        let place = ground.place(name);
        let at = place.address();
        // Where the campaign finds the address again.
        std::fs::write(place.dir.join("address"), at.to_string()).unwrap();
        Self { place, at }
    }

    /// Its file is where it stays whole when the disk is full: Redis 7.0 does not start again with half of one. Sentinels
    /// have a server write into it whom it follows, so that it still knows when it starts again.
    fn server(self, own: &str) -> Machine {
        let (ip, port, dir) = (self.at.ip(), self.at.port(), self.place.dir.display());
        let options = format!("--bind {ip} --port {port} --dir {dir} {KEPT} {own}");
        let lines = options.split("--").map(str::trim_end).filter(|line| !line.is_empty());
        let lines: Vec<String> =
            lines.map(|line| if line == "save" { "save \"\"" } else { line }.to_owned()).collect();
        std::fs::write(self.place.beside("redis.conf"), lines.join("\n") + "\n").unwrap();
        Machine::new(self.place, |place, _| {
            let mut command = place.command("redis-server", None);
            command.arg(place.beside("redis.conf"));
            command
        })
    }

    fn sentinel(self, master: SocketAddr) -> Machine {
        let at = self.at;
        let file = format!(
            "port {}\nbind {}\nprotected-mode no\nsentinel myid {}\nsentinel monitor {MASTER_NAME} {} {} 2\n\
             sentinel down-after-milliseconds {MASTER_NAME} 1500\nsentinel failover-timeout {MASTER_NAME} 3000\n\
             sentinel parallel-syncs {MASTER_NAME} 2\n",
            at.port(),
            at.ip(),
            forty_hex_digits(),
            master.ip(),
            master.port()
        );
        std::fs::write(self.place.dir.join("sentinel.conf"), file).unwrap();
        Machine::new(self.place, |place, _| {
            let mut command = place.command("redis-server", None);
            command.args(["sentinel.conf", "--sentinel"]);
            command
        })
    }
}

pub(super) fn is_up(nodes: &[Machine]) -> bool {
    nodes.iter().all(|node| ask::<String>(node, "PING").is_ok_and(|word| word == "PONG"))
}

/// Whether one leads, all others follow it, and the Sentinels agree and know everybody.
pub(super) fn follow(nodes: &[Machine], sentinels: &[Machine]) -> bool {
    let masters: Vec<&Machine> = nodes.iter().filter(|node| is_master(node)).collect();
    let [master] = masters[..] else { return false };
    let info: String = ask(master, "INFO replication").unwrap_or_default();
    let followers = info.lines().filter(|line| line.starts_with("slave") && line.contains("state=online"));
    if followers.count() + 1 != nodes.len() {
        return false;
    }
    let at = address(master);
    let agrees = |sentinel: &Machine| {
        let told: Vec<String> =
            ask(sentinel, &format!("SENTINEL GET-MASTER-ADDR-BY-NAME {MASTER_NAME}")).unwrap_or_default();
        let is_same = told == [at.ip().to_string(), at.port().to_string()];
        let of_quorum = ask::<Value>(sentinel, &format!("SENTINEL CKQUORUM {MASTER_NAME}")).is_ok();
        let replicas: Vec<Vec<String>> =
            ask(sentinel, &format!("SENTINEL REPLICAS {MASTER_NAME}")).unwrap_or_default();
        let is_well = |replica: &&Vec<String>| {
            replica.windows(2).any(|pair| pair == ["flags", "slave"])
                && replica.windows(2).any(|pair| pair == ["master-link-status", "ok"])
        };
        is_same && of_quorum && replicas.iter().filter(is_well).count() + 1 == nodes.len()
    };
    sentinels.iter().all(agrees)
}

pub(super) fn is_whole(nodes: &[Machine]) -> bool {
    nodes.iter().all(|node| {
        let info: String = ask(node, "CLUSTER INFO").unwrap_or_default();
        let map: String = ask(node, "CLUSTER NODES").unwrap_or_default();
        let replication: String = ask(node, "INFO replication").unwrap_or_default();
        let is_followed = replication.contains("role:master") && replication.contains("state=online");
        let follows = replication.contains("master_link_status:up");
        info.contains("cluster_state:ok")
            && info.contains("cluster_slots_ok:16384")
            && !map.contains("fail")
            && (is_followed || follows)
    })
}

/// A master that answers.
pub(super) fn leader(nodes: &[Machine]) -> Option<usize> {
    let masters: Vec<usize> = (0..nodes.len()).filter(|index| is_master(&nodes[*index])).collect();
    if masters.is_empty() { None } else { Some(masters[fastrand::usize(0..masters.len())]) }
}

/// Whether all that has to be led is led by others.
pub(super) fn lead_without(nodes: &[Machine], index: usize, kind: Kind) -> bool {
    let others = nodes.iter().enumerate().filter(|(other, _)| *other != index);
    let leaders = others.filter(|(_, node)| is_master(node)).count();
    leaders == if kind == Kind::Cluster { SHARDS } else { 1 }
}

/// Whether the server says that it cannot read its own log: Redis 7.0 leaves such a one when a disk was full.
pub(super) fn is_damaged(node: &Machine) -> bool {
    let log = std::fs::read_to_string(node.place.beside("log")).unwrap_or_default();
    log.lines().rev().take(5).any(|line| line.contains("Bad file format reading the append only file"))
}

pub(super) fn throw_away(node: &Machine) -> bool {
    std::fs::remove_dir_all(node.place.dir.join("appendonlydir")).is_ok()
}

pub(super) fn hand_over_by_sentinel(sentinels: &[Machine]) {
    for sentinel in sentinels {
        if ask::<Value>(sentinel, &format!("SENTINEL FAILOVER {MASTER_NAME}")).is_ok() {
            return;
        }
    }
}

pub(super) fn hand_over_in_cluster(nodes: &[Machine]) {
    if let Some(replica) = nodes.iter().find(|node| !is_master(node)) {
        ask::<Value>(replica, "CLUSTER FAILOVER").ok();
    }
}

fn is_master(node: &Machine) -> bool {
    let role: Vec<Value> = ask(node, "ROLE").unwrap_or_default();
    role.first() == Some(&Value::BulkString(b"master".to_vec()))
}

fn ask<T: FromRedisValue>(node: &Machine, words: &str) -> RedisResult<T> {
    let client = redis::Client::open(format!("redis://{}/0", address(node)))?;
    let mut connection = client.get_connection_with_timeout(ANSWER_WITHIN)?;
    connection.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut words = words.split(' ');
    redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query(&mut connection)
}

fn address(node: &Machine) -> SocketAddr {
    std::fs::read_to_string(node.place.dir.join("address")).unwrap().parse().unwrap()
}

fn forty_hex_digits() -> String {
    let mut digits = Uuid::new_v4().simple().to_string() + &Uuid::new_v4().simple().to_string();
    digits.truncate(40);
    digits
}
