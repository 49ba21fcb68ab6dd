//! What kind of PostgreSQL this is, and how well it keeps what it acknowledges.
//!
//! Must not know records. Asked at start and by `check --online`; the answers are for people.

use super::link::Link;
use super::trouble::Failure;
use crate::store::durability::{Durability, Fault, Severity};

/// The oldest server that is tested with.
const VERSION_MIN: i32 = 150_000;

/// `reset_val` is what a connection begins with, before the store asks for more. What a replica is at is hidden from
/// a role that is no member of `pg_monitor`, and reads as null.
const INSPECT: &str = "
SELECT current_setting('server_version'), current_setting('server_version_num')::integer,
    pg_is_in_recovery(), current_setting('transaction_read_only'),
    current_setting('fsync'), current_setting('full_page_writes'),
    (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
    current_setting('synchronous_standby_names'),
    (SELECT count(*) FROM pg_stat_replication WHERE coalesce(state, 'streaming') = 'streaming'),
    (SELECT CASE WHEN bool_and(state IS NOT NULL)
        THEN count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END FROM pg_stat_replication)";

/// What the server said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "settings of the server, each on or off by itself")]
struct Deployment {
    version: String,
    version_number: i32,
    is_in_recovery: bool,
    is_read_only: bool,
    has_fsync: bool,
    has_full_page_writes: bool,
    /// With what a connection begins.
    synchronous_commit: String,
    synchronous_standby_names: String,
    replicas: i64,
    /// Unknown where there is none, or where the role may not see it.
    synchronous_replicas: Option<i64>,
    min_replicas: u32,
}

/// How many replicas each commit waits for, by `synchronous_standby_names`.
pub(super) fn replicas_waited_for(setting: &str) -> u32 {
    let setting = setting.trim();
    if setting.is_empty() {
        return 0;
    }
    let words = setting.split_once('(').map_or("", |(words, _)| words);
    words.split_whitespace().last().and_then(|count| count.parse().ok()).unwrap_or(1)
}

pub(super) async fn inspect(link: &Link, min_replicas: u32) -> Result<Durability, Failure> {
    let rows = link.ask(INSPECT, &[]).await?;
    let mut deployment = Deployment { min_replicas, ..Deployment::default() };
    if let Some(row) = rows.first() {
        deployment.read(row).map_err(Failure::unexpected)?;
    }
    Ok(deployment.durability())
}

impl Deployment {
    fn read(&mut self, row: &tokio_postgres::Row) -> Result<(), tokio_postgres::Error> {
        let is_on = |at: usize| row.try_get(at).map(|setting: &str| setting == "on");
        self.version = row.try_get(0)?;
        self.version_number = row.try_get(1)?;
        self.is_in_recovery = row.try_get(2)?;
        self.is_read_only = is_on(3)?;
        self.has_fsync = is_on(4)?;
        self.has_full_page_writes = is_on(5)?;
        self.synchronous_commit = row.try_get::<_, Option<String>>(6)?.unwrap_or_default();
        self.synchronous_standby_names = row.try_get(7)?;
        self.replicas = row.try_get(8)?;
        self.synchronous_replicas = row.try_get(9)?;
        Ok(())
    }

    fn durability(&self) -> Durability {
        Durability { facts: self.facts(), losses: self.losses(), faults: self.faults() }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let on = |is_on| if is_on { "on" } else { "off" };
        let role = if self.is_in_recovery { "in recovery" } else { "primary" };
        let names =
            if self.synchronous_standby_names.is_empty() { "none" } else { &*self.synchronous_standby_names };
        vec![
            ("server", format!("PostgreSQL {}, {role}", self.version)),
            (
                "persistence",
                format!(
                    "fsync {}, full_page_writes {}, synchronous_commit {}",
                    on(self.has_fsync),
                    on(self.has_full_page_writes),
                    self.synchronous_commit_used()
                ),
            ),
            ("replicas", format!("{}; synchronous_standby_names: {names}", self.replicas_told())),
        ]
    }

    fn replicas_told(&self) -> String {
        match (self.replicas, self.synchronous_replicas) {
            (0, _) => "none streaming".to_owned(),
            (count, Some(synchronous)) => format!("{count} streaming, {synchronous} of them synchronous"),
            (count, None) => format!("{count} (a member of pg_monitor would see how they do)"),
        }
    }

    /// The server's own setting, or what the store puts in the place of a weaker one.
    fn synchronous_commit_used(&self) -> &str {
        if self.is_too_eager() { "on" } else { &self.synchronous_commit }
    }

    fn is_too_eager(&self) -> bool {
        matches!(&*self.synchronous_commit, "off" | "local")
    }

    fn losses(&self) -> Vec<String> {
        let crash = if self.has_fsync && self.has_full_page_writes {
            "a crash of the server or of its machine loses nothing that was acknowledged"
        } else if self.has_fsync {
            "a crash of the server's process loses nothing; a crash of its machine may leave torn pages"
        } else {
            "a crash of the server's process loses nothing; a crash of its machine may lose everything"
        };
        let waited_for = replicas_waited_for(&self.synchronous_standby_names);
        let failover = match (waited_for, self.synchronous_commit_used()) {
            (0, _) if self.replicas == 0 => {
                "there is no replica: the loss of the disk loses every claim since the last backup".to_owned()
            }
            (0, _) => {
                "a failover to a replica loses the claims that had not reached it: commits wait for none"
                    .to_owned()
            }
            (count, "remote_write") => format!(
                "a failover to one of the {count} replicas that commits wait for loses nothing, unless that \
                 replica's machine crashed too: it need not have written to its disk"
            ),
            (count, _) => format!(
                "a failover to one of the {count} replicas that commits wait for loses nothing; to any other \
                 it loses the claims that had not reached it"
            ),
        };
        vec![crash.to_owned(), failover]
    }

    fn faults(&self) -> Vec<Fault> {
        let unusable = |text: String| Fault { severity: Severity::Unusable, text };
        let weak = |text: &str| Fault { severity: Severity::Weak, text: text.to_owned() };
        let waited_for = replicas_waited_for(&self.synchronous_standby_names);
        [
            (self.version_number < VERSION_MIN).then(|| {
                unusable(format!("PostgreSQL {} is too old: Onceway needs 15 or later", self.version))
            }),
            self.is_in_recovery.then(|| {
                unusable("this PostgreSQL is in recovery: a replica takes no claims; name the primary".to_owned())
            }),
            (waited_for < self.min_replicas).then(|| {
                unusable(format!(
                    "store.min_replicas is {}, and synchronous_standby_names lets commits wait for {waited_for}",
                    self.min_replicas
                ))
            }),
            (self.is_read_only && !self.is_in_recovery)
                .then(|| weak("default_transaction_read_only is on: every claim is refused until it is off")),
            (!self.has_fsync).then(|| {
                weak(
                    "fsync is off: a crash of the server's machine may lose every claim or damage them all, and \
                     a lost claim is a second execution; set it to on",
                )
            }),
            (!self.has_full_page_writes).then(|| {
                weak(
                    "full_page_writes is off: a crash of the server's machine may damage claims, unless its file \
                     system never tears a page; set it to on",
                )
            }),
            self.is_too_eager().then(|| {
                weak(
                    "synchronous_commit is off or local by default: Onceway sets it to on for its own writes, so \
                     none of its claims is lost, but what applications write beside it may be",
                )
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Deployment {
        Deployment {
            version: "15.18".to_owned(),
            version_number: 150_018,
            has_fsync: true,
            has_full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            ..Deployment::default()
        }
    }

    fn faults(deployment: &Deployment) -> Vec<(Severity, String)> {
        deployment.durability().faults.into_iter().map(|fault| (fault.severity, fault.text)).collect()
    }

    #[test]
    fn a_sound_deployment_is_not_warned_of() {
        assert_eq!(faults(&sound()), Vec::new());
    }

    #[test]
    fn a_server_that_takes_no_claims_is_of_no_use() {
        for unfit in [
            Deployment { version_number: 140_012, ..sound() },
            Deployment { is_in_recovery: true, is_read_only: true, ..sound() },
            Deployment { min_replicas: 1, ..sound() },
        ] {
            assert_eq!(faults(&unfit).first().map(|fault| fault.0), Some(Severity::Unusable), "{unfit:?}");
        }
    }

    #[test]
    fn whatever_may_lose_a_claim_is_warned_of() {
        for (weak, word) in [
            (Deployment { has_fsync: false, ..sound() }, "fsync is off"),
            (Deployment { has_full_page_writes: false, ..sound() }, "full_page_writes"),
            (Deployment { synchronous_commit: "off".to_owned(), ..sound() }, "sets it to on"),
            (Deployment { is_read_only: true, ..sound() }, "read_only"),
        ] {
            let found = faults(&weak);
            assert_eq!((found.len(), found[0].0, found[0].1.contains(word)), (1, Severity::Weak, true));
        }
    }

    #[test]
    fn the_replicas_that_commits_wait_for_are_counted() {
        for (setting, count) in [
            ("", 0),
            ("*", 1),
            ("one, two", 1),
            ("2 (one, two, three)", 2),
            ("FIRST 3 (*)", 3),
            ("ANY 2 (\"a b\", c)", 2),
        ] {
            assert_eq!(replicas_waited_for(setting), count, "{setting}");
        }
    }
}
