//! What the system tells of the disk under a store: its kind, its room, and how long it takes to sync.
//!
//! Must not know the engine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use crate::clock;

/// Syncs measured; the median counts.
const SYNCS: usize = 5;

/// Bytes to a block of `st_blocks`, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// Bytes that a file seems to have, and those that it takes on the disk.
pub(super) fn size(file: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(file)?;
    Ok((metadata.len(), metadata.blocks().saturating_mul(BLOCK_BYTES)))
}

/// Bytes that may still be written where `dir` stands.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// How long it takes to bring a few bytes of `file` to the disk.
pub(super) fn time_to_sync(file: &File) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(SYNCS);
    for turn in (0_u8..).take(SYNCS) {
        let began = clock::monotonic();
        file.write_all_at(&[turn], 0)?;
        file.sync_data()?;
        times.push(clock::monotonic().saturating_duration_since(began));
    }
    times.sort_unstable();
    Ok(times.get(SYNCS / 2).copied().unwrap_or_default())
}

/// The kind of file system that `dir` stands on, where the system tells it.
pub(super) fn kind(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    kind_by(&fs::read_to_string("/proc/self/mountinfo").ok()?, &dir)
}

/// proc(5): the mount point is the fifth field, the kind the first after a lone hyphen. The last mount at the
/// longest point counts, since it covers the others.
fn kind_by(mounts: &str, dir: &Path) -> Option<String> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (mount.split(' ').nth(4), kind.split(' ').next()) else { continue };
        let point = unescaped(point);
        if dir.starts_with(&point) && best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), kind));
        }
    }
    best.map(|(_, kind)| kind.to_owned())
}

/// Blanks and backslashes are written in octal there.
fn unescaped(point: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(point.to_owned(), |point, (escape, meant)| point.replace(escape, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
24 22 0:5 / /dev rw,relatime - devtmpfs devtmpfs rw
25 24 0:21 / /dev/shm rw,nosuid shared:4 - tmpfs tmpfs rw,size=1k
26 22 0:30 / /var/lib/my\\040data rw - xfs /dev/vdb rw
27 22 0:31 / /srv rw - ext4 /dev/vdc rw
28 27 0:32 / /srv rw - overlay overlay rw
half a line";

    fn kind_of(dir: &str) -> Option<String> {
        kind_by(MOUNTS, Path::new(dir))
    }

    #[test]
    fn the_kind_is_that_of_the_nearest_mount() {
        assert_eq!(kind_of("/opt/onceway").as_deref(), Some("ext4"));
        assert_eq!(kind_of("/dev/shm/data").as_deref(), Some("tmpfs"));
        assert_eq!(kind_of("/dev/shmother").as_deref(), Some("devtmpfs"));
        assert_eq!(kind_of("/var/lib/my data/x").as_deref(), Some("xfs"));
    }

    #[test]
    fn of_two_mounts_at_one_place_the_later_counts() {
        assert_eq!(kind_of("/srv/data").as_deref(), Some("overlay"));
    }

    #[test]
    fn a_sync_takes_time_and_a_file_takes_room() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(time_to_sync(file.as_file()).unwrap() > Duration::ZERO);
        assert_eq!(size(file.path()).unwrap().0, 1);
        assert!(free_bytes(file.path()).unwrap() > 0);
    }
}
