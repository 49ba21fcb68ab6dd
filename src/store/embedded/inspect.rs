//! What the embedded store tells of how well it keeps what it acknowledges. Read `disk.rs` before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::ReadableDatabase;

use super::super::durability::{Durability, Fault, Severity};
use super::disk;
use super::engine::{Engine, PAGE_CACHE_BYTES};
use super::records::Records;
use super::tables::Failure;

/// With less room than this, a fault: a full disk refuses all claims.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// A sync that is quicker than this has probably not waited for a disk.
const SYNC_MIN: Duration = Duration::from_micros(5);

/// The share in use is counted, page by page, up to this size of the file: counting takes time, and the
/// gateway may be starting.
const COUNTED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Kinds of file systems that are gone when the machine is switched off, or with the container.
const FORGETFUL: &[(&str, &str)] = &[
    ("tmpfs", "is lost when the machine stops"),
    ("ramfs", "is lost when the machine stops"),
    ("overlay", "is lost with the container, if this is a container's own layer"),
];

/// Kinds of file systems behind a network or another process, whose locks and syncs are only as good as those.
const REMOTE: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.s3fs"];

/// What one transaction tells of the records.
#[derive(Clone, Copy, Debug)]
struct Count {
    records: u64,
    used_bytes: Option<u64>,
}

/// Asks the engine and the system about the store in `file`.
pub(super) fn inspect(engine: &Engine, file: &Path) -> Result<Durability, Failure> {
    let dir = file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    let size = disk::size(file).ok();
    let count = engine.read(|database| {
        let records = Records::read(&database.begin_read()?)?;
        let used_bytes = if size.is_some_and(|(bytes, _)| bytes <= COUNTED_BYTES_MAX) {
            Some(records.used_bytes()?)
        } else {
            None
        };
        Ok(Count { records: records.len()?, used_bytes })
    })?;
    let found = Found {
        count,
        size,
        kind: disk::kind(&dir),
        free: disk::free_bytes(&dir).ok(),
        sync: engine.lock().and_then(|lock| disk::time_to_sync(lock).ok()),
    };
    Ok(found.told())
}

/// All that was found out.
#[derive(Clone, Debug)]
struct Found {
    count: Count,
    size: Option<(u64, u64)>,
    kind: Option<String>,
    free: Option<u64>,
    sync: Option<Duration>,
}

impl Found {
    fn told(&self) -> Durability {
        Durability {
            facts: self.facts(),
            losses: vec![
                "a power loss: nothing that was acknowledged, if the disk keeps what it says it has synced"
                    .to_owned(),
                "the loss of the disk: everything since the last backup; retries of what was done since then \
                 run again"
                    .to_owned(),
            ],
            faults: self.faults(),
        }
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let unknown = || "unknown".to_owned();
        let mut facts = vec![
            ("engine", "redb, one process, every write synced before it is acknowledged".to_owned()),
            ("records", self.count.records.to_string()),
        ];
        if let Some((bytes, on_disk)) = self.size {
            facts.push(("file size", format!("{}, {} on the disk", mib(bytes), mib(on_disk))));
        }
        if let Some((bytes, used)) = self.size.map(|(bytes, _)| bytes).zip(self.count.used_bytes) {
            let percent = used.saturating_mul(100) / bytes.max(1);
            facts.push(("in use", format!("{} ({percent} %)", mib(used))));
        }
        let cache = u64::try_from(PAGE_CACHE_BYTES).unwrap_or(u64::MAX);
        facts.push(("page cache", format!("at most {}", mib(cache))));
        facts.push(("file system", self.kind.clone().unwrap_or_else(unknown)));
        facts.push(("free space", self.free.map_or_else(unknown, mib)));
        facts.push(("fsync", self.sync.map_or_else(unknown, |sync| format!("{} µs", sync.as_micros()))));
        facts
    }

    fn faults(&self) -> Vec<Fault> {
        let mut texts = Vec::new();
        if let Some(kind) = &self.kind {
            if let Some((_, loss)) = FORGETFUL.iter().find(|(forgetful, _)| forgetful == kind) {
                texts.push(format!(
                    "the store's directory is on {kind}, which {loss}, and retries would run again: \
                     use a directory on a disk or a volume"
                ));
            } else if REMOTE.contains(&kind.as_str()) {
                texts.push(format!(
                    "the store's directory is on {kind}: its locks and syncs are only as good as the other \
                     side's; use a local disk, or a shared store such as PostgreSQL"
                ));
            } else if self.sync.is_some_and(|sync| sync < SYNC_MIN) {
                texts.push(
                    "a sync takes so little time that it cannot have waited for the disk, so a power loss \
                     may lose claims: switch synchronous writes on"
                        .to_owned(),
                );
            }
        }
        if let Some(free) = self.free.filter(|free| *free < FREE_BYTES_MIN) {
            texts.push(format!(
                "there are {} of free space left where the store stands, and without space every claim is \
                 refused: make room",
                mib(free)
            ));
        }
        texts.into_iter().map(|text| Fault { severity: Severity::Weak, text }).collect()
    }
}

/// In MiB, with one place after the point.
fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Found {
        Found {
            count: Count { records: 3, used_bytes: Some(1024 * 1024) },
            size: Some((4 * 1024 * 1024, 2 * 1024 * 1024)),
            kind: Some("ext4".to_owned()),
            free: Some(1024 * FREE_BYTES_MIN),
            sync: Some(Duration::from_micros(750)),
        }
    }

    fn faults(found: &Found) -> Vec<(Severity, String)> {
        found.faults().into_iter().map(|fault| (fault.severity, fault.text)).collect()
    }

    #[test]
    fn a_local_disk_with_room_has_no_fault() {
        assert_eq!(faults(&found()), []);
    }

    #[test]
    fn a_directory_in_memory_or_in_a_container_s_layer_is_a_fault_that_lets_start() {
        for kind in ["tmpfs", "ramfs", "overlay", "nfs4"] {
            let faults = faults(&Found { kind: Some(kind.to_owned()), ..found() });
            let [(Severity::Weak, text)] = faults.as_slice() else { panic!("{faults:?}") };
            assert!(text.contains(&format!("on {kind}")), "{text}");
        }
    }

    #[test]
    fn little_room_is_a_fault_that_says_how_little() {
        let faults = faults(&Found { free: Some(20 * 1024 * 1024), ..found() });
        assert!(matches!(&faults[..], [(Severity::Weak, text)] if text.contains("20.0 MiB")), "{faults:?}");
    }

    #[test]
    fn a_sync_that_waits_for_nothing_is_a_fault() {
        assert_eq!(faults(&Found { sync: Some(Duration::from_nanos(900)), ..found() }).len(), 1);
    }

    #[test]
    fn the_share_in_use_is_told_of_the_whole_file() {
        let facts = found().facts();
        assert!(facts.contains(&("in use", "1.0 MiB (25 %)".to_owned())), "{facts:?}");
        assert!(facts.contains(&("fsync", "750 µs".to_owned())), "{facts:?}");
    }
}
