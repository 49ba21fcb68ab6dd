//! The database of the embedded store, and how it is opened anew after it has failed.
//!
//! Once a write has failed, the engine refuses all others until it is closed and opened again, because it
//! cannot know what reached the disk. Opening it anew goes back to the last commit that did. What makes this
//! safe while the process goes on, although the system's page cache may then hold what the disk does not:
//!
//! * Every commit syncs its pages before the header names them. So the pages of the commit that a header
//!   names are on the disk, and pages of a commit that failed before are free, and are written anew before
//!   anything relies on them.
//! * A header whose own sync failed may name a commit that the disk does not know yet. So after a failed
//!   sync nothing is read until a commit has written the header again, and it has been synced.
//!
//! Must not know what is kept. Read `tables.rs` before, `writer.rs` after.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend};

use super::super::Gate;
use super::tables::{self, Failure, StoreClock};

/// Bytes of pages kept in memory. The engine's own default is 1 GiB.
pub(super) const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The same while a copy is made, which needs each page once.
const COPY_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Up to this size of the file, all of its pages are expected in memory.
const READ_AT_ONCE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file that is being made.
const UNFINISHED_NAME: &str = "onceway.redb.new";

/// What the database stands on; asked again each time it is opened.
pub(super) type Medium = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// The database, open unless it has failed and could not be opened anew.
pub(super) struct Engine {
    medium: Medium,
    database: RwLock<Option<Database>>,
    /// As the file says, so that a heartbeat need not read it.
    gate: Mutex<Gate>,
    vitals: Arc<Vitals>,
    /// Keeps other processes out, also while the database is being opened anew.
    lock: Option<File>,
}

/// What is noticed of the file while it is used.
#[derive(Debug, Default)]
struct Vitals {
    /// A sync has failed, and no commit has succeeded since.
    is_in_doubt: AtomicBool,
    bytes: AtomicU64,
}

/// The file at `path`, readable by its owner only where it is made.
pub(super) fn file_medium(path: &Path) -> Medium {
    let path = path.to_owned();
    Box::new(move || {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    })
}

impl Engine {
    /// Opens the database on `medium`, or makes it there. `lock` is held as long as the engine lives.
    ///
    /// Answers it with its clock, or the format that is too new.
    pub(super) fn open(
        medium: Medium,
        lock: Option<File>,
    ) -> Result<Result<(Self, StoreClock), u64>, Failure> {
        let vitals = Arc::default();
        let database = guarded(|| open(&medium, &vitals, PAGE_CACHE_BYTES))?;
        let store_clock = match guarded(|| tables::prepare(&database))? {
            Ok(store_clock) => store_clock,
            Err(newer) => return Ok(Err(newer)),
        };
        let gate = Mutex::new(guarded(|| tables::gate(&database))?);
        let database = RwLock::new(Some(database));
        Ok(Ok((Self { medium, database, gate, vitals, lock }, store_clock)))
    }

    /// The file whose lock keeps other processes out. It holds nothing.
    pub(super) fn lock(&self) -> Option<&File> {
        self.lock.as_ref()
    }

    /// Whether the store takes new claims, from memory.
    pub(super) fn gate(&self) -> Gate {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the gate from the file. The lock is held meanwhile, so that of two who changed it the later
    /// one is remembered.
    pub(super) fn read_gate(&self) -> Result<(), Failure> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        *gate = self.read(tables::gate)?;
        Ok(())
    }

    /// Has `look` read what is committed.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Failure> {
        if self.vitals.is_in_doubt.load(Ordering::Acquire) {
            return Err(Failure::InDoubt);
        }
        self.write(look)
    }

    /// The same where it hardly waits: all of the file fits into the memory for its pages, and it is not
    /// being opened anew. Answers nothing where it may have to.
    pub(super) fn read_at_once<T>(
        &self,
        look: impl FnOnce(&Database) -> Result<T, Failure>,
    ) -> Option<Result<T, Failure>> {
        if self.vitals.bytes.load(Ordering::Relaxed) > READ_AT_ONCE_BYTES_MAX {
            return None;
        }
        if self.vitals.is_in_doubt.load(Ordering::Acquire) {
            return Some(Err(Failure::InDoubt));
        }
        let database = self.database.try_read().ok()?;
        let database = database.as_ref()?;
        Some(guarded(|| look(database)))
    }

    /// Has `work` write. Only the writer's thread may ask for this: two would wait for each other.
    pub(super) fn write<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(Failure::NotOpen)?;
        guarded(|| work(database))
    }

    /// Closes the database and opens it anew. Waits for those who read.
    pub(super) fn reopen(&self) -> Result<(), Failure> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // First closed, because it locks its file. What a close after a failure says is known already.
        let old = database.take();
        drop(guarded(move || {
            drop(old);
            Ok(())
        }));
        *database = Some(guarded(|| open(&self.medium, &self.vitals, PAGE_CACHE_BYTES))?);
        Ok(())
    }

    /// Commits something that says nothing new. After this, what is read is on the disk.
    pub(super) fn prove(&self, now: u64) -> Result<(), Failure> {
        self.write(|database| tables::prove(database, now))?;
        self.vitals.is_in_doubt.store(false, Ordering::Release);
        self.read_gate()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// A file that is being made in a directory whose lock is held. It gets its name when it is whole: a process
/// that ends in between leaves no file that cannot be opened. Dropped before that, it is removed.
pub(super) struct Unfinished {
    path: PathBuf,
    is_finished: bool,
}

impl Unfinished {
    /// Nothing is kept in what an earlier process left there.
    pub(super) fn in_directory(dir: &Path) -> io::Result<Self> {
        let path = dir.join(UNFINISHED_NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(Self { path, is_finished: false }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name, in place of what stands there, and brings both to the disk.
    pub(super) fn finish(mut self, name: &Path) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, name)?;
        self.is_finished = true;
        sync_directory(name.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // Whoever comes next removes it too.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Without this a power loss may take a new file's name, and with it all that was synced into the file.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a database that nobody else writes to, with little memory.
pub(super) fn create(medium: &Medium) -> Result<Database, Failure> {
    open(medium, &Arc::default(), COPY_CACHE_BYTES)
}

fn open(medium: &Medium, vitals: &Arc<Vitals>, cache_bytes: usize) -> Result<Database, Failure> {
    let inner = medium()
        .map_err(|error| Failure::Open(Box::new(DatabaseError::from(redb::StorageError::Io(error)))))?;
    let watched = Watched { inner, vitals: vitals.clone() };
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder.create_with_backend(watched).map_err(|error| Failure::Open(Box::new(error)))
}

/// A file that was damaged from outside can make the engine panic. That is a failure like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure::Panicked))
}

/// Notices when a sync fails, and how large the file is. Everything else is the medium's.
#[derive(Debug)]
struct Watched {
    inner: Box<dyn StorageBackend>,
    vitals: Arc<Vitals>,
}

impl StorageBackend for Watched {
    fn len(&self) -> Result<u64, io::Error> {
        let bytes = self.inner.len()?;
        self.vitals.bytes.store(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.vitals.bytes.store(len, Ordering::Relaxed);
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.inner.sync_data().inspect_err(|_| self.vitals.is_in_doubt.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
