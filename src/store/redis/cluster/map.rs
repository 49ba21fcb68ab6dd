//! What a server of a cluster tells of it: who holds which slots, and how new that is.

use redis::{Pipeline, Value};

use super::super::address::Peer;
use super::super::failed::Failed;
use super::super::link::Link;

/// The slots of every cluster.
const SLOTS: u16 = 16384;

/// What one server sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct View {
    /// Grows with every failover.
    epoch: u64,
    /// Whether the server finds the cluster in order.
    is_sound: bool,
    /// In the order of their first slots.
    shards: Vec<Shard>,
}

/// Some slots and the servers that hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shard {
    /// First and last slot of each range, in order.
    ranges: Vec<(u16, u16)>,
    master: Peer,
    replicas: Vec<Peer>,
}

impl View {
    /// Has a server tell what it sees.
    pub(super) async fn ask(link: &Link, peer: &Peer) -> Result<Self, Failed> {
        let mut questions = Pipeline::with_capacity(2);
        questions.cmd("CLUSTER").arg("INFO");
        questions.cmd("CLUSTER").arg("SLOTS");
        let mut answers = link.ask_all(&questions).await?.into_iter();
        let (Some(info), Some(slots)) = (answers.next(), answers.next()) else {
            return Err(Failed::Senseless);
        };
        let info: String = redis::from_redis_value(info?).map_err(|_error| Failed::Senseless)?;
        Self::read(&info, &slots?, &peer.host).ok_or(Failed::Senseless)
    }

    fn read(info: &str, slots: &Value, told_by: &str) -> Option<Self> {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let Value::Array(ranges) = slots else { return None };
        let mut shards: Vec<Shard> = Vec::new();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [Value::Int(first), Value::Int(last), servers @ ..] = parts.as_slice() else { return None };
            let range = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            let mut servers = servers.iter().filter_map(|server| server_of(server, told_by));
            // Without a name that can be used; another server may know it.
            let Some(master) = servers.next() else { continue };
            match shards.iter_mut().find(|shard| shard.master == master) {
                Some(shard) => shard.ranges.push(range),
                None => shards.push(Shard { ranges: vec![range], master, replicas: servers.collect() }),
            }
        }
        for shard in &mut shards {
            shard.ranges.sort_unstable();
        }
        shards.sort_unstable_by(|one, other| one.ranges.cmp(&other.ranges));
        let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0);
        let is_sound = field("cluster_state").is_some_and(|state| state.trim() == "ok");
        (!shards.is_empty()).then_some(Self { epoch, is_sound, shards })
    }

    /// The higher, the rather to be believed.
    pub(super) fn rank(&self) -> (u64, bool) {
        (self.epoch, self.is_sound)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Peer> {
        let holds =
            |shard: &&Shard| shard.ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        self.shards.iter().find(holds).map(|shard| &shard.master)
    }

    pub(in super::super) fn masters(&self) -> impl Iterator<Item = &Peer> {
        self.shards.iter().map(|shard| &shard.master)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.shards.iter().flat_map(|shard| std::iter::once(&shard.master).chain(&shard.replicas))
    }

    /// Whether every slot has a server.
    pub(in super::super) fn is_complete(&self) -> bool {
        let ranges = self.shards.iter().flat_map(|shard| &shard.ranges);
        ranges.map(|(first, last)| u32::from(last.saturating_sub(*first)) + 1).sum::<u32>()
            == u32::from(SLOTS)
    }

    /// A number that changes when slots move between shards, and does not when a shard gets another master.
    pub(in super::super) fn layout(&self) -> u16 {
        let ranges =
            self.shards.iter().flat_map(|shard| shard.ranges.iter().map(|range| Some(*range)).chain([None]));
        let bytes: Vec<u8> = ranges
            .flat_map(|range| {
                let (first, last) = range.unwrap_or((u16::MAX, u16::MAX));
                [first.to_be_bytes(), last.to_be_bytes()].concat()
            })
            .collect();
        crc16::State::<crc16::XMODEM>::calculate(&bytes)
    }
}

/// A server in the answer to `CLUSTER SLOTS`: name, port, and more that is not needed.
fn server_of(server: &Value, told_by: &str) -> Option<Peer> {
    let Value::Array(parts) = server else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = if *host == Value::Nil {
        ""
    } else {
        let Value::BulkString(host) = host else { return None };
        std::str::from_utf8(host).ok()?
    };
    Peer::of(host, u16::try_from(*port).ok()?, told_by)
}

/// The slot of a key: what stands between its first braces decides, or all of it.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: i64) -> Value {
        Value::Array(vec![
            Value::BulkString(host.as_bytes().to_vec()),
            Value::Int(port),
            Value::BulkString(b"an id".to_vec()),
        ])
    }

    fn range(first: i64, last: i64, servers: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], servers].concat())
    }

    fn view(slots: Vec<Value>) -> View {
        let info = "cluster_state:ok\r\ncluster_current_epoch:7\r\n";
        View::read(info, &Value::Array(slots), "self").unwrap()
    }

    #[test]
    fn a_keys_slot_is_that_of_its_tag() {
        // From the specification of the cluster, and from a server's CLUSTER KEYSLOT.
        assert_eq!(slot_of("123456789"), 12739);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("{user1000}.following"), slot_of("user1000"));
        assert_eq!(slot_of("foo{}{bar}"), 8363);
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    }

    #[test]
    fn the_slots_of_a_shard_may_lie_apart_and_its_servers_are_told_from_the_first_on() {
        let view = view(vec![
            range(100, 16383, vec![server("b", 2)]),
            range(0, 9, vec![server("a", 1), server("", 3)]),
            range(10, 99, vec![server("b", 2)]),
        ]);
        assert_eq!(view.owner(5).unwrap().to_string(), "a:1");
        assert_eq!(view.owner(50).unwrap().to_string(), "b:2");
        assert_eq!(view.owner(16383).unwrap().to_string(), "b:2");
        let peers: Vec<String> = view.peers().map(ToString::to_string).collect();
        assert_eq!(peers, ["a:1", "self:3", "b:2"]);
        assert!(view.is_complete() && view.rank() == (7, true));
    }

    #[test]
    fn a_server_without_a_name_holds_nothing_that_could_be_asked_for() {
        let view = view(vec![range(0, 9, vec![server("?", 1)]), range(10, 20, vec![server("b", 2)])]);
        assert_eq!(view.owner(5), None);
        assert!(!view.is_complete());
    }

    #[test]
    fn the_layout_changes_with_the_slots_and_not_with_the_masters() {
        let before = view(vec![range(0, 9, vec![server("a", 1)]), range(10, 16383, vec![server("b", 2)])]);
        let failed_over =
            view(vec![range(0, 9, vec![server("c", 3)]), range(10, 16383, vec![server("b", 2)])]);
        let moved = view(vec![range(0, 8, vec![server("a", 1)]), range(9, 16383, vec![server("b", 2)])]);
        assert_eq!(before.layout(), failed_over.layout());
        assert_ne!(before.layout(), moved.layout());
    }
}
