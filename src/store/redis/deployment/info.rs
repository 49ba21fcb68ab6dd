//! What one server tells of itself in `INFO` and a few settings, and what follows from it for a claim.
//!
//! Pure. Read `../deployment.rs` before.

use super::super::super::durability::{Fault, Severity};

/// The oldest server that can insert and answer in one command (`SET … NX GET`).
const VERSION_MIN: (u32, u32) = (7, 0);

/// What a server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Server {
    /// Where it is, if there are several.
    name: Option<String>,
    /// `redis_version`: for Valkey the Redis version it is compatible with.
    version: String,
    /// `valkey_version`.
    valkey: Option<String>,
    /// `role`: `master` or `slave`.
    role: String,
    /// `maxmemory` in bytes; 0: no bound.
    max_memory: u64,
    /// `maxmemory_policy`.
    max_memory_policy: String,
    /// Whether every write goes to a log on the disk.
    has_log: bool,
    /// `appendfsync`: when that log is on the disk; `None` if the server does not tell.
    log_sync: Option<String>,
    /// `save`: when snapshots are made; empty: never. `None` if the server does not tell.
    snapshots: Option<String>,
    /// Whether the last snapshot could not be written.
    is_snapshot_broken: bool,
    /// Replicas that are connected.
    replicas: u32,
    /// `min-replicas-to-write`.
    min_replicas_to_write: Option<String>,
    /// Whether it is made for a cluster.
    pub(super) is_clustered: bool,
    /// `cluster_state`.
    cluster_state: Option<String>,
}

impl Server {
    pub(super) fn of_info(name: Option<String>, text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(at, _)| *at == name).map_or("", |(_, value)| value.trim())
        };
        let some = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        Self {
            name,
            version: field("redis_version").to_owned(),
            valkey: some(field("valkey_version")),
            role: field("role").to_owned(),
            max_memory: field("maxmemory").parse().unwrap_or(0),
            max_memory_policy: field("maxmemory_policy").to_owned(),
            has_log: field("aof_enabled") == "1",
            is_snapshot_broken: field("rdb_last_bgsave_status") == "err",
            replicas: field("connected_slaves").parse().unwrap_or(0),
            is_clustered: field("cluster_enabled") == "1",
            ..Self::default()
        }
    }

    /// Takes what `CONFIG GET` told.
    pub(super) fn settings(&mut self, settings: &[(String, String)]) {
        let of = |name: &str| settings.iter().find(|(at, _)| at == name).map(|(_, value)| value.clone());
        self.log_sync = of("appendfsync");
        self.snapshots = of("save");
        self.min_replicas_to_write = of("min-replicas-to-write");
    }

    /// Takes what `CLUSTER INFO` told.
    pub(super) fn cluster_info(&mut self, text: &str) {
        let state = text.lines().find_map(|line| line.strip_prefix("cluster_state:"));
        self.cluster_state = state.map(|state| state.trim().to_owned());
    }

    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let product = match &self.valkey {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", self.version),
        };
        let log = match (self.has_log, &self.log_sync) {
            (true, Some(sync)) => format!("appendonly yes, appendfsync {sync}"),
            (true, None) => "appendonly yes".to_owned(),
            (false, _) => "appendonly no".to_owned(),
        };
        let snapshots = match self.snapshots.as_deref() {
            None => String::new(),
            Some("") => ", no snapshots".to_owned(),
            Some(schedule) => format!(", snapshots {schedule}"),
        };
        let least = match self.min_replicas_to_write.as_deref() {
            None => String::new(),
            Some(least) => format!(", min-replicas-to-write {least}"),
        };
        let policy = &self.max_memory_policy;
        let mut facts = vec![
            ("server", format!("{product}, {}", self.role)),
            ("persistence", format!("{log}{snapshots}")),
            ("eviction", format!("maxmemory-policy {policy}, maxmemory {}", self.max_memory)),
            ("replicas", format!("{} connected{least}", self.replicas)),
        ];
        if let Some(state) = &self.cluster_state {
            facts.push(("cluster", format!("cluster_state {state}")));
        }
        for (_, fact) in &mut facts {
            *fact = self.named(fact);
        }
        facts
    }

    pub(super) fn faults(&self, is_in_cluster: bool, min_replicas: u32) -> Vec<Fault> {
        let faults = [
            self.fault_of_version(),
            self.fault_of_shape(is_in_cluster),
            self.fault_of_eviction(),
            self.fault_of_role(),
            self.fault_of_state(),
            self.fault_of_loss(),
            self.fault_of_snapshots(),
            self.fault_of_replicas(min_replicas),
        ];
        let named = |fault: Fault| Fault { text: self.named(&fault.text), ..fault };
        faults.into_iter().flatten().map(named).collect()
    }

    /// What a crash of the server, or the loss of its power, takes with it.
    pub(super) fn lost_in_a_crash(&self) -> String {
        match (self.has_log, self.log_sync.as_deref(), self.snapshots.as_deref()) {
            (true, Some("always"), _) => {
                "a crash or a power loss: nothing that was acknowledged (appendfsync always), as long as the disk \
                 keeps what it confirmed"
            }
            (true, Some("everysec"), _) => {
                "a power loss, and seldom a crash: claims and answers of the last two seconds (appendfsync everysec)"
            }
            (true, Some(_), _) => {
                "a power loss: claims and answers that the operating system had not written yet, half a minute of \
                 them or more (appendfsync no)"
            }
            (true, None, _) => {
                "a power loss: claims and answers of the last seconds, unless appendfsync is always, which this server \
                 does not tell"
            }
            (false, _, Some("")) => "a crash, a restart or a power loss: every claim and every answer",
            (false, _, _) => {
                "a crash or a power loss: claims and answers since the last snapshot, which is minutes or hours old"
            }
        }
        .to_owned()
    }

    /// What is lost when another server takes this one's place.
    pub(super) fn lost_in_a_failover(&self, min_replicas: u32) -> String {
        let replicas = self.replicas;
        if replicas == 0 {
            return "the loss of the machine or its disk: every claim and every answer, since no replica follows it"
                .to_owned();
        }
        let few = min_replicas < replicas;
        match (min_replicas, few) {
            (0, _) => format!(
                "a failover: claims and answers that the promoted replica had not received, and those taken by the old \
                 master until a gateway hears of it; with store.min_replicas = {replicas} none that was acknowledged"
            ),
            (_, true) => format!(
                "a failover to a replica that is not among the {min_replicas} that acknowledged a claim: that claim, and \
                 answers likewise; with store.min_replicas = {replicas} none"
            ),
            (_, false) => {
                "a failover to one of the replicas: nothing that was acknowledged; a power loss of all \
                           servers at once: what each of them loses by itself"
                    .to_owned()
            }
        }
    }

    fn named(&self, text: &str) -> String {
        self.name.as_ref().map_or_else(|| text.to_owned(), |name| format!("{name}: {text}"))
    }

    /// Whether the server is too old to be used at all. What is not known is not held against it.
    fn is_too_old(&self) -> bool {
        let mut numbers = self.version.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < VERSION_MIN,
            _ => false,
        }
    }

    fn fault_of_version(&self) -> Option<Fault> {
        let version = &self.version;
        let text = format!("Redis {version} is too old: Onceway needs 7.0 or later, for SET with NX and GET");
        self.is_too_old().then_some(Fault { severity: Severity::Unusable, text })
    }

    fn fault_of_shape(&self, is_in_cluster: bool) -> Option<Fault> {
        let text = match (is_in_cluster, self.is_clustered) {
            (true, false) => {
                "this server is not part of a cluster: name it as redis://, or redis-sentinel://"
            }
            (false, true) => {
                "this server is part of a cluster and holds some keys only: name it as redis-cluster://"
            }
            (true, true) | (false, false) => return None,
        };
        Some(Fault { severity: Severity::Unusable, text: text.to_owned() })
    }

    fn fault_of_eviction(&self) -> Option<Fault> {
        let policy = &self.max_memory_policy;
        let when = if self.max_memory == 0 { "once maxmemory is set, it" } else { "when memory is full, it" };
        (policy != "noeviction" && !policy.is_empty()).then(|| Fault {
            severity: Severity::Evicts,
            text: format!(
                "maxmemory-policy is {policy}: {when} evicts claims, and an evicted claim is a second \
                 execution; set it to noeviction"
            ),
        })
    }

    fn fault_of_role(&self) -> Option<Fault> {
        (self.role == "slave").then(|| weak("this Redis is a replica: it refuses every claim".to_owned()))
    }

    fn fault_of_state(&self) -> Option<Fault> {
        let state = self.cluster_state.as_deref().filter(|state| *state != "ok")?;
        Some(weak(format!("cluster_state is {state}: claims are refused until it is ok")))
    }

    fn fault_of_loss(&self) -> Option<Fault> {
        let loses = match (self.has_log, self.snapshots.as_deref()) {
            (true, _) => return None,
            (false, Some("")) => "a restart loses every claim",
            (false, Some(_) | None) => "a crash loses the claims since the last snapshot",
        };
        Some(weak(format!(
            "appendonly is off: {loses}, and a lost claim is a second execution; set it to yes"
        )))
    }

    fn fault_of_snapshots(&self) -> Option<Fault> {
        self.is_snapshot_broken.then(|| {
            weak(
                "the last snapshot could not be written: unless told otherwise, Redis refuses every claim"
                    .to_owned(),
            )
        })
    }

    fn fault_of_replicas(&self, min_replicas: u32) -> Option<Fault> {
        let replicas = self.replicas;
        (replicas < min_replicas).then(|| {
            weak(format!(
                "store.min_replicas is {min_replicas} and {replicas} replicas are connected: every claim is refused \
                 until {min_replicas} are"
            ))
        })
    }
}

fn weak(text: String) -> Fault {
    Fault { severity: Severity::Weak, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\n\
                         maxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n\
                         connected_slaves:2\r\nrdb_last_bgsave_status:ok\r\ncluster_enabled:0\r\n";

    fn faults(info: &str, min_replicas: u32) -> String {
        let found = Server::of_info(None, info).faults(false, min_replicas);
        found.into_iter().map(|fault| fault.text).collect::<Vec<_>>().join("\n")
    }

    fn warnings(from: &str, to: &str) -> String {
        assert!(SOUND.contains(from));
        faults(&SOUND.replace(from, to), 0)
    }

    fn with(settings: &[(&str, &str)], info: &str) -> Server {
        let mut server = Server::of_info(None, info);
        let owned: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        server.settings(&owned);
        server
    }

    #[test]
    fn a_sound_server_is_not_warned_of() {
        assert_eq!(faults(SOUND, 2), "");
    }

    #[test]
    fn whatever_may_lose_a_claim_is_warned_of() {
        for policy in ["allkeys-lru", "volatile-ttl", "volatile-lfu"] {
            assert!(warnings("noeviction", policy).contains("a second execution"), "{policy}");
        }
        assert!(warnings("aof_enabled:1", "aof_enabled:0").contains("appendonly is off"));
        assert!(warnings("role:master", "role:slave").contains("replica"));
        assert!(warnings("status:ok", "status:err").contains("snapshot"));
    }

    #[test]
    fn too_few_replicas_mean_that_every_claim_is_refused() {
        assert!(
            faults(SOUND, 3)
                .contains("min_replicas is 3 and 2 replicas are connected: every claim is refused")
        );
    }

    #[test]
    fn old_servers_are_told_from_new_ones_by_number() {
        for (version, is_too_old) in
            [("6.2.14", true), ("7.0.0", false), ("10.1.0", false), ("unstable", false)]
        {
            let server = Server::of_info(None, &SOUND.replace("7.0.15", version));
            assert_eq!(server.is_too_old(), is_too_old, "{version}");
        }
    }

    #[test]
    fn what_a_crash_loses_follows_from_the_log_and_the_snapshots() {
        let no_log = &SOUND.replace("aof_enabled:1", "aof_enabled:0");
        for (settings, info, loss) in [
            (&[("appendfsync", "always")][..], SOUND, "nothing that was acknowledged"),
            (&[("appendfsync", "everysec")], SOUND, "the last two seconds"),
            (&[("appendfsync", "no")], SOUND, "the operating system had not written"),
            (&[], SOUND, "unless appendfsync is always"),
            (&[("save", "")], no_log, "every claim and every answer"),
            (&[("save", "3600 1")], no_log, "since the last snapshot"),
            (&[], no_log, "since the last snapshot"),
        ] {
            let told = with(settings, info).lost_in_a_crash();
            assert!(told.contains(loss), "{settings:?}: {told}");
        }
    }

    #[test]
    fn what_a_failover_loses_follows_from_the_replicas_and_how_many_are_waited_for() {
        let server = |replicas: &str| {
            Server::of_info(
                None,
                &SOUND.replace("connected_slaves:2", &format!("connected_slaves:{replicas}")),
            )
        };
        for (replicas, waited_for, loss) in [
            ("0", 0, "no replica follows it"),
            ("2", 0, "had not received"),
            ("2", 1, "not among the 1"),
            ("2", 2, "nothing that was acknowledged"),
            ("1", 2, "nothing that was acknowledged"),
        ] {
            let told = server(replicas).lost_in_a_failover(waited_for);
            assert!(told.contains(loss), "{replicas} {waited_for}: {told}");
        }
    }

    #[test]
    fn valkey_is_called_by_its_name_and_judged_by_what_it_is_compatible_with() {
        let info = format!("{}valkey_version:8.1.0\r\n", SOUND.replace("7.0.15", "7.2.4"));
        let server = Server::of_info(Some("one:6379".to_owned()), &info);
        assert_eq!(server.facts()[0], ("server", "one:6379: Valkey 8.1.0, master".to_owned()));
        assert!(!server.is_too_old());
    }
}
