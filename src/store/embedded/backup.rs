//! Copies of the store, taken while it is written to.
//!
//! A copy holds what one read transaction sees. It becomes the file of its directory when it is whole and on
//! the disk; until then the copy before it stands. What is claimed after it was taken is not in it, so it is
//! closed for new claims: a gateway that is given it by mistake refuses instead of running a key again.
//! Read `engine.rs` before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::super::{Closure, Gate};
use super::engine::{self, Engine, Unfinished};
use super::scan;
use super::tables::{self, Failure};
use super::{EmbeddedStore, FILE_NAME, OpenError};
use crate::clock;

/// How soon a backup that failed is tried again at the latest.
const RETRY_AFTER: Duration = Duration::from_mins(5);

/// A backup that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many records it holds.
    pub records: u64,
    /// The size of its file.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Why a backup was not taken. The one before it stands as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory cannot be used, or a process uses it: this one, if it is the store's own.
    #[error("back up into the directory")]
    Directory(#[from] OpenError),
    /// What stands there takes claims, or cannot be read: replacing it could lose a store.
    #[error("replace {}: it is no backup, or one that cannot be read; remove it or name another directory", .file.display())]
    NotABackup {
        /// The file that stands in the way.
        file: PathBuf,
    },
    /// The copy could not be read or written.
    #[error("copy the records")]
    Copy(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The copy could not be brought to the disk under its name.
    #[error("put the copy in its place")]
    Place(#[source] io::Error),
    /// Whoever asked for it has gone.
    #[error("finish the copy: it was given up")]
    GivenUp,
}

impl EmbeddedStore {
    /// Copies the store, as it is at one moment, into `dir`, in place of the backup that stands there.
    ///
    /// Writers go on meanwhile. The file of the store grows by what they replace until the copy is done.
    /// Cancel safety: dropping the future gives the copy up.
    pub async fn backup_to(&self, dir: &Path) -> Result<Taken, BackupError> {
        let (engine, now, dir) = (self.engine.clone(), self.clock.now(), dir.to_owned());
        let is_given_up = GivenUp::default();
        let flag = is_given_up.0.clone();
        let copying = tokio::task::spawn_blocking(move || take(&engine, now, &dir, &flag));
        copying.await.unwrap_or_else(|died| Err(BackupError::Copy(Box::new(died))))
    }

    /// Takes a backup into `dir` whenever the newest one there is older than `every`. Never returns; what
    /// fails is logged and tried again.
    ///
    /// Cancel safety: dropping the future gives up a copy that is under way.
    pub async fn keep_backups(&self, dir: &Path, every: Duration) {
        let mut pause = every.saturating_sub(age(&dir.join(FILE_NAME)).unwrap_or(every));
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.backup_to(dir).await {
                Ok(Taken { records, bytes, took }) => {
                    let dir = dir.display();
                    tracing::info!(%dir, records, bytes, ?took, "a backup was taken");
                    every
                }
                Err(failure) => {
                    let error: &dyn std::error::Error = &failure;
                    tracing::error!(error, "no backup was taken; the one before it stands");
                    every.min(RETRY_AFTER)
                }
            };
        }
    }
}

/// Says so when it is dropped.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn take(engine: &Engine, now: u64, dir: &Path, is_given_up: &AtomicBool) -> Result<Taken, BackupError> {
    let began = clock::monotonic();
    if is_given_up.load(Ordering::Relaxed) {
        return Err(BackupError::GivenUp);
    }
    super::make_directory(dir).map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })?;
    let _lock = super::lock_directory(dir)?;
    let file = dir.join(FILE_NAME);
    if file.exists() && !is_backup(&file) {
        return Err(BackupError::NotABackup { file });
    }
    // The transaction is begun in the engine and outlives the visit there, so that a store that has to be
    // opened anew need not wait for the copy; its reads fail then, and with them the copy.
    let from = engine.read(|database| Ok(database.begin_read()?)).map_err(copy_failed)?;
    let unfinished = Unfinished::in_directory(dir).map_err(BackupError::Place)?;
    let records = copy(&from, unfinished.path(), now, is_given_up)?.ok_or(BackupError::GivenUp)?;
    drop(from);
    let bytes = unfinished.path().metadata().map_err(BackupError::Place)?.len();
    unfinished.finish(&file).map_err(BackupError::Place)?;
    Ok(Taken { records, bytes, took: clock::monotonic().saturating_duration_since(began) })
}

/// Answers how many records were copied; nothing if it was given up.
fn copy(
    from: &ReadTransaction,
    to: &Path,
    now: u64,
    is_given_up: &AtomicBool,
) -> Result<Option<u64>, BackupError> {
    let copying = engine::guarded(|| {
        let database = engine::create(&engine::file_medium(to))?;
        let goes_on = || !is_given_up.load(Ordering::Relaxed);
        let copied = scan::copy(from, &database, now, Gate::Closed(Closure::Backup), goes_on)?;
        database.close().map_err(|error| Failure::Open(Box::new(error)))?;
        Ok(copied)
    });
    copying.map_err(copy_failed)
}

fn copy_failed(failure: Failure) -> BackupError {
    BackupError::Copy(Box::new(failure))
}

fn is_backup(file: &Path) -> bool {
    let read = || {
        let database =
            Database::builder().open_read_only(file).map_err(|error| Failure::Open(Box::new(error)))?;
        tables::gate(&database)
    };
    engine::guarded(read).is_ok_and(|gate| gate == Gate::Closed(Closure::Backup))
}

fn age(file: &Path) -> Option<Duration> {
    let modified = fs::metadata(file).and_then(|metadata| metadata.modified()).ok()?;
    clock::wall().duration_since(modified).ok()
}
