//! What kind of Redis this is, and how well it keeps what it acknowledges.
//!
//! Must not know records. Asked once at start; the answers are for people.

use redis::{Cmd, Value};

use super::super::StoreError;
use super::super::durability::{Durability, Fault, Severity};
use super::link::Link;
use super::unexpected;

/// The oldest server that can insert and answer in one command (`SET … NX GET`).
const VERSION_MIN: (u32, u32) = (7, 0);

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Deployment {
    /// `redis_version`: for Valkey the Redis version it is compatible with.
    pub(super) version: String,
    /// `role`: `master` or `slave`.
    pub(super) role: String,
    /// `maxmemory` in bytes; 0: no bound.
    pub(super) max_memory: u64,
    /// `maxmemory_policy`.
    pub(super) max_memory_policy: String,
    /// Whether every write goes to a log on the disk.
    pub(super) has_log: bool,
    /// Whether snapshots are made by a schedule; `None` if the server does not tell.
    pub(super) has_snapshots: Option<bool>,
}

impl Deployment {
    /// The same in the words that all stores share.
    pub(super) fn durability(&self) -> Durability {
        let policy = &self.max_memory_policy;
        Durability {
            facts: vec![
                ("server", format!("Redis {}, {}", self.version, self.role)),
                ("persistence", format!("appendonly {}", if self.has_log { "yes" } else { "no" })),
                ("eviction", format!("maxmemory-policy {policy}, maxmemory {}", self.max_memory)),
            ],
            losses: Vec::new(),
            faults: [
                self.fault_of_version(),
                self.fault_of_role(),
                self.fault_of_eviction(),
                self.fault_of_loss(),
            ]
            .into_iter()
            .flatten()
            .collect(),
        }
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
        self.is_too_old().then(|| Fault {
            severity: Severity::Unusable,
            text: format!(
                "Redis {} is too old: Onceway needs 7.0 or later, for SET with NX and GET",
                self.version
            ),
        })
    }

    fn fault_of_role(&self) -> Option<Fault> {
        (self.role == "slave").then(|| Fault {
            severity: Severity::Weak,
            text: "this Redis is a replica: it refuses every claim".to_owned(),
        })
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

    fn fault_of_loss(&self) -> Option<Fault> {
        let loses = match (self.has_log, self.has_snapshots) {
            (true, _) => return None,
            (false, Some(false)) => "a restart loses every claim",
            (false, Some(true) | None) => "a crash loses the claims since the last snapshot",
        };
        Some(Fault {
            severity: Severity::Weak,
            text: format!(
                "appendonly is off: {loses}, and a lost claim is a second execution; set it to yes"
            ),
        })
    }

    fn from_info(text: &str) -> Self {
        let field = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.into_iter().find(|(at, _)| *at == name).map_or("", |(_, value)| value.trim())
        };
        Self {
            version: field("redis_version").to_owned(),
            role: field("role").to_owned(),
            max_memory: field("maxmemory").parse().unwrap_or(0),
            max_memory_policy: field("maxmemory_policy").to_owned(),
            has_log: field("aof_enabled") == "1",
            has_snapshots: None,
        }
    }
}

pub(super) async fn inspect(link: &Link) -> Result<Deployment, StoreError> {
    let answer = link.ask(Cmd::new().arg("INFO")).await?;
    let Value::VerbatimString { text, .. } = &answer else { return Err(unexpected("INFO")) };
    let mut deployment = Deployment::from_info(text);
    // Managed servers forbid this; then it stays unknown.
    if let Ok(schedule) = link.ask(Cmd::new().arg("CONFIG").arg("GET").arg("save")).await {
        deployment.has_snapshots = has_schedule(&schedule);
    }
    Ok(deployment)
}

fn has_schedule(answer: &Value) -> Option<bool> {
    let Value::Map(entries) = answer else { return None };
    let Some((_, Value::BulkString(schedule))) = entries.first() else { return None };
    Some(!schedule.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory:0\r\n\
                         maxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\n";

    fn faults(deployment: &Deployment) -> Vec<String> {
        deployment.durability().faults.into_iter().map(|fault| fault.text).collect()
    }

    fn warnings(from: &str, to: &str) -> String {
        assert!(SOUND.contains(from));
        faults(&Deployment::from_info(&SOUND.replace(from, to))).join("\n")
    }

    #[test]
    fn a_sound_deployment_is_not_warned_of() {
        assert_eq!(faults(&Deployment::from_info(SOUND)), Vec::<String>::new());
    }

    #[test]
    fn whatever_may_lose_a_claim_is_warned_of() {
        for policy in ["allkeys-lru", "volatile-ttl", "volatile-lfu"] {
            assert!(warnings("noeviction", policy).contains("a second execution"), "{policy}");
        }
        assert!(warnings("aof_enabled:1", "aof_enabled:0").contains("appendonly is off"));
        assert!(warnings("role:master", "role:slave").contains("replica"));
    }

    #[test]
    fn old_servers_are_told_from_new_ones_by_number() {
        for (version, is_too_old) in
            [("6.2.14", true), ("7.0.0", false), ("10.1.0", false), ("unstable", false)]
        {
            let deployment = Deployment::from_info(&SOUND.replace("7.0.15", version));
            assert_eq!(deployment.is_too_old(), is_too_old, "{version}");
        }
    }
}
