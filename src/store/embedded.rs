//! Records in one file on this machine, for one gateway process: durable before it is acknowledged.
//!
//! Owns the directory, the writer's thread and the lock that keeps other processes out. Writes go to
//! `embedded/writer.rs`, which commits them in groups; the file's layout is `embedded/tables.rs`. Must
//! not know what a record means.

mod tables;
mod transfer;
mod writer;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{Database, DatabaseError};
use tokio::sync::Semaphore;

use self::tables::{Failure, StoreClock};
use self::writer::Writer;
use super::codec::Codec;
use super::durability::Durability;
use super::memory::OwnSessions;
use super::{Gate, SessionLife, Store, StoreError, Swapped, Watch};
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

/// The file within the directory.
const FILE_NAME: &str = "onceway.redb";

/// Bytes of pages kept in memory. The engine's own default is 1 GiB.
const PAGE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Threads that read at once. A read is short, so few suffice, and a crowd of callers makes no crowd of
/// threads.
const READERS_MAX: usize = 8;

/// A store in a directory of this machine.
///
/// Dropping it commits what is queued, ends the writer's thread and releases the lock.
///
/// After an I/O error, a full disk among them, every write fails until the store is opened anew: the
/// engine cannot know what reached the disk, and a store that does not know must not acknowledge.
#[derive(Debug)]
pub struct EmbeddedStore {
    codec: Codec,
    path: PathBuf,
    database: Arc<Database>,
    clock: StoreClock,
    readers: Arc<Semaphore>,
    sessions: OwnSessions,
    /// As the file says, so that a heartbeat need not read it.
    gate: Arc<Mutex<Gate>>,
    writer: Writer,
}

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing and cannot be made, or cannot be written.
    #[error("create the store's directory {}", .dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process, or another part of this one, holds the lock.
    #[error("open the store in {}: it is used by another process", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The file was written by a newer Onceway.
    #[error("open the store in {}: its format is {found}, this version reads up to {known}", .dir.display())]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format of the file.
        found: u64,
        /// The newest format this version reads.
        known: u64,
    },
    /// The file is no store, is damaged, or cannot be read or written.
    #[error("open the store's file {}", .file.display())]
    Engine {
        /// The file.
        file: PathBuf,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EmbeddedStore {
    /// Opens the store in `dir`, or makes one there.
    ///
    /// Blocks: reads the file's head, and after a crash the engine's saved state.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        make_directory(dir).map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })?;
        let path = dir.join(FILE_NAME);
        let broken = |source| OpenError::Engine { file: path.clone(), source };
        let database = match Database::builder().set_cache_size(PAGE_CACHE_BYTES).create(&path) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err(OpenError::InUse { dir: dir.to_owned() });
            }
            Err(other) => return Err(broken(Box::new(other))),
        };
        sync_directory(dir).map_err(|source| OpenError::Directory { dir: dir.to_owned(), source })?;
        match tables::prepare(&database).map_err(|failure| broken(Box::new(failure)))? {
            Ok(clock) => Self::over(database, clock, path.clone()).map_err(broken),
            Err(found) => {
                Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: tables::NEWEST_FORMAT })
            }
        }
    }

    fn over(
        database: Database,
        clock: StoreClock,
        path: PathBuf,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let gate = Arc::new(Mutex::new(tables::gate(&database)?));
        let database = Arc::new(database);
        let writer = Writer::start(database.clone(), clock)?;
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let sessions = OwnSessions::default();
        Ok(Self { codec: Codec::default(), path, database, clock, readers, sessions, gate, writer })
    }

    /// The same store, writing and reading with `codec`.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Reads what is committed under `key`, on a thread that may block: a page that is not in memory is
    /// read from the disk, and a large answer is copied.
    async fn read(&self, key: StorageKey) -> Result<Option<Bytes>, StoreError> {
        self.look(move |database, now| tables::read(database, &key, now)).await
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Database, u64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.readers.clone().acquire_owned().await;
        let (database, now) = (self.database.clone(), self.clock.now());
        let looking = tokio::task::spawn_blocking(move || {
            let found = look(&database, now);
            drop(permit);
            found
        });
        match looking.await {
            Ok(found) => found.map_err(|failure| StoreError::Engine(Box::new(failure))),
            Err(died) => Err(StoreError::Engine(Box::new(died))),
        }
    }

    /// Takes the gate from the file. The lock is held meanwhile, so that of two who changed it the later
    /// one is remembered.
    async fn read_gate_again(&self) -> Result<(), StoreError> {
        let gate = Arc::clone(&self.gate);
        let look = move |database: &Database, _now| {
            let mut remembered = gate.lock().unwrap_or_else(PoisonError::into_inner);
            *remembered = tables::gate(database)?;
            Ok(())
        };
        self.look(look).await
    }

    fn gate_in_memory(&self) -> Gate {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn insert(&self, key: &StorageKey, fresh: &Record, keep_for: Duration) -> Result<Seen, StoreError> {
        // What is committed stands, whatever is queued: a replay need not wait for anybody's fsync.
        if let Some(stands) = self.read(*key).await? {
            return Ok(self.codec.decode_whole(key, stands));
        }
        let (key, fresh) = (*key, self.codec.encode(key, fresh));
        let stands = self.writer.write(move |tables| tables.insert(&key, &fresh, keep_for)).await?;
        Ok(stands.map_or(Seen::Nothing, |stands| self.codec.decode_whole(&key, stands)))
    }

    async fn swap(
        &self,
        key: &StorageKey,
        seen: Version,
        next: &Record,
        keep_for: Duration,
    ) -> Result<Swapped, StoreError> {
        let (key, next) = (*key, self.codec.encode(key, next));
        self.writer.write(move |tables| tables.swap(&key, seen, &next, keep_for)).await
    }

    async fn remove(&self, key: &StorageKey, seen: Version) -> Result<Swapped, StoreError> {
        let key = *key;
        self.writer.write(move |tables| tables.remove(&key, seen)).await
    }

    async fn fetch(&self, key: &StorageKey) -> Result<Seen, StoreError> {
        let stands = self.read(*key).await?;
        Ok(stands.map_or(Seen::Nothing, |stands| self.codec.decode_whole(key, stands)))
    }

    async fn renew_session(&self, session: Session, _ttl: Duration) -> Result<Gate, StoreError> {
        self.sessions.register(session);
        Ok(self.gate_in_memory())
    }

    async fn end_session(&self, session: Session) -> Result<(), StoreError> {
        self.sessions.end(session);
        Ok(())
    }

    async fn session_life(&self, session: Session) -> Result<SessionLife, StoreError> {
        Ok(self.sessions.life(session))
    }

    async fn watch(&self, _key: &StorageKey) -> Result<Watch, StoreError> {
        Ok(Watch::never())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // Changes nothing, but begins a transaction, which the engine refuses once it has failed.
        self.writer.write(|_tables| Ok(())).await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        Ok(Durability::default())
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }
}

/// Makes `dir` readable by its owner only; one that is there keeps its mode.
fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        Some(_) | None => sync_directory(Path::new(".")),
    }
}

/// Without this a power loss may take a new file's name, and with it all that was synced into the file.
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::protocol::fingerprint::Fingerprint;
    use crate::protocol::record::{Attempt, Phase, UnixMillis};

    /// A disk that can be full.
    #[derive(Debug)]
    struct Disk {
        inner: InMemoryBackend,
        is_full: Arc<AtomicBool>,
    }

    impl StorageBackend for Disk {
        fn len(&self) -> Result<u64, io::Error> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.inner.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.inner.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.inner.write(offset, data)
        }
    }

    fn store_on_a_disk() -> (EmbeddedStore, Arc<AtomicBool>) {
        let is_full = Arc::new(AtomicBool::new(false));
        let disk = Disk { inner: InMemoryBackend::new(), is_full: is_full.clone() };
        let database = Database::builder().create_with_backend(disk).unwrap();
        let clock = tables::prepare(&database).unwrap().unwrap();
        (EmbeddedStore::over(database, clock, PathBuf::from("in-memory")).unwrap(), is_full)
    }

    fn claim(attempt: u8) -> Record {
        Record {
            version: Version { attempt: Attempt([attempt; 16]), revision: 0 },
            session: Session([1; 16]),
            fingerprint: Fingerprint::from_bytes([2; 32]),
            attempts: 1,
            opened_at: UnixMillis(3),
            route: "/payments".to_owned(),
            phase: Phase::InFlight,
        }
    }

    const LONG: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_write_that_did_not_reach_the_disk_is_an_error_and_so_is_every_later_one() {
        let (store, is_full) = store_on_a_disk();
        let (kept, lost) = (StorageKey::from_bytes([1; 32]), StorageKey::from_bytes([2; 32]));
        assert_eq!(store.insert(&kept, &claim(1), LONG).await.unwrap(), Seen::Nothing);
        is_full.store(true, Ordering::SeqCst);
        assert!(matches!(store.insert(&lost, &claim(2), LONG).await, Err(StoreError::Engine(_))));
        is_full.store(false, Ordering::SeqCst);
        assert!(matches!(store.insert(&lost, &claim(3), LONG).await, Err(StoreError::Engine(_))));
        assert!(matches!(store.ping().await, Err(StoreError::Engine(_))));
    }

    #[tokio::test]
    async fn a_failed_commit_is_told_to_everybody_in_the_batch() {
        let (store, is_full) = store_on_a_disk();
        is_full.store(true, Ordering::SeqCst);
        let store = Arc::new(store);
        let mut inserts = tokio::task::JoinSet::new();
        for number in 0..32 {
            let store = store.clone();
            inserts.spawn(async move {
                store.insert(&StorageKey::from_bytes([number; 32]), &claim(number), LONG).await.is_err()
            });
        }
        assert!(inserts.join_all().await.into_iter().all(|is_err| is_err));
    }

    #[tokio::test]
    async fn a_dead_writer_is_an_error_and_not_a_hang() {
        let (store, _) = store_on_a_disk();
        let died = store.writer.write(|_| -> Result<(), _> { panic!("on purpose, in a test") }).await;
        assert!(matches!(died, Err(StoreError::Engine(_))));
        assert!(matches!(store.ping().await, Err(StoreError::Engine(_))));
    }
}
