//! What kind of Redis this is, and how well it keeps what it acknowledges.
//!
//! Must not know records. Asked once at start; the answers are for people.

use redis::{Cmd, Value};

use super::super::StoreError;
use super::link::Link;
use super::unexpected;

/// The oldest server that can insert and answer in one command (`SET … NX GET`).
const VERSION_MIN: (u32, u32) = (7, 0);

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// `redis_version`: for Valkey the Redis version it is compatible with.
    pub version: String,
    /// `role`: `master` or `slave`.
    pub role: String,
    /// `maxmemory` in bytes; 0: no bound.
    pub max_memory: u64,
    /// `maxmemory_policy`.
    pub max_memory_policy: String,
    /// Whether every write goes to a log on the disk.
    pub has_log: bool,
    /// Whether snapshots are made by a schedule; `None` if the server does not tell.
    pub has_snapshots: Option<bool>,
}

impl Deployment {
    /// What an operator should change, the worst first; empty if all is well.
    pub fn warnings(&self) -> Vec<String> {
        [self.warn_of_version(), self.warn_of_role(), self.warn_of_eviction(), self.warn_of_loss()]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Whether the server is too old to be used at all. What is not known is not held against it.
    pub fn is_too_old(&self) -> bool {
        let mut numbers = self.version.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < VERSION_MIN,
            _ => false,
        }
    }

    fn warn_of_version(&self) -> Option<String> {
        self.is_too_old().then(|| {
            format!("Redis {} is too old: Onceway needs 7.0 or later, for SET with NX and GET", self.version)
        })
    }

    fn warn_of_role(&self) -> Option<String> {
        (self.role == "slave").then(|| "this Redis is a replica: it refuses every claim".to_owned())
    }

    fn warn_of_eviction(&self) -> Option<String> {
        let policy = &self.max_memory_policy;
        let when = if self.max_memory == 0 { "once maxmemory is set, it" } else { "when memory is full, it" };
        (policy != "noeviction" && !policy.is_empty()).then(|| {
            format!(
                "maxmemory-policy is {policy}: {when} evicts claims, and an evicted claim is a second \
                 execution; set it to noeviction"
            )
        })
    }

    fn warn_of_loss(&self) -> Option<String> {
        let loses = match (self.has_log, self.has_snapshots) {
            (true, _) => return None,
            (false, Some(false)) => "a restart loses every claim",
            (false, Some(true) | None) => "a crash loses the claims since the last snapshot",
        };
        Some(format!("appendonly is off: {loses}, and a lost claim is a second execution; set it to yes"))
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

    fn warnings(from: &str, to: &str) -> String {
        assert!(SOUND.contains(from));
        Deployment::from_info(&SOUND.replace(from, to)).warnings().join("\n")
    }

    #[test]
    fn a_sound_deployment_is_not_warned_of() {
        assert_eq!(Deployment::from_info(SOUND).warnings(), Vec::<String>::new());
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
