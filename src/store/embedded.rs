//! Records in one file on this machine, for one gateway process: durable before it is acknowledged.
//!
//! Owns the directory, the writer's thread and the lock that keeps other processes out. Writes go to
//! `embedded/writer.rs`, which commits them in groups; the file's layout is `embedded/tables.rs`. Must
//! not know what a record means.

mod backlog;
mod backup;
mod disk;
mod engine;
#[cfg(test)]
mod faults;
mod inspect;
mod listing;
mod records;
mod scan;
mod tables;
mod transfer;
mod walk;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redb::DatabaseError;
use tokio::sync::Semaphore;

pub use self::backup::{BackupError, Taken};
use self::engine::{Engine, Medium, Unfinished};
use self::tables::{Failure, StoreClock};
use self::writer::Writer;
use super::codec::Codec;
use super::durability::Durability;
use super::memory::OwnSessions;
use super::{Cursor, Gate, Listed, Listing, SessionLife, Store, StoreError, Swapped, Watch};
use crate::protocol::record::{Record, Seen, Session, Version};
use crate::protocol::scope::StorageKey;

/// The records, within the directory.
const FILE_NAME: &str = "onceway.redb";

/// Holds nothing: whoever has locked it owns the directory. Never removed, so that two cannot each lock a
/// file of this name.
const LOCK_NAME: &str = "onceway.lock";

/// Threads that read at once. A read is short, so few suffice, and a crowd of callers makes no crowd of
/// threads.
const READERS_MAX: usize = 8;

/// How often a directory that is in use is tried again, and how long after.
const IN_USE_TRIES: u32 = 20;
const IN_USE_PAUSE: Duration = Duration::from_millis(25);

/// A store in a directory of this machine.
///
/// Dropping it commits what is queued, ends the writer's thread and releases the lock.
///
/// After an I/O error, a full disk among them, every write fails until one succeeds again: the store opens
/// its file anew and tries, by itself.
#[derive(Debug)]
pub struct EmbeddedStore {
    codec: Codec,
    path: PathBuf,
    clock: StoreClock,
    readers: Arc<Semaphore>,
    /// One at a time, beside the readers.
    operators: Arc<Semaphore>,
    sessions: OwnSessions,
    writer: Writer,
    engine: Arc<Engine>,
}

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing and cannot be made, or cannot be written.
    #[error("make and write the store's directory {}", .dir.display())]
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
    /// The file is no store, is damaged, or cannot be read or written. Nothing of it is removed.
    #[error("open the store's file {}", .file.display())]
    Engine {
        /// The file.
        file: PathBuf,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The thread that writes could not be started.
    #[error("start the store's writer")]
    Writer(#[source] io::Error),
}

impl EmbeddedStore {
    /// Whether there is one in `dir`, so that opening it makes none.
    pub fn stands_in(dir: &Path) -> bool {
        dir.join(FILE_NAME).is_file()
    }

    /// Opens the store in `dir`, or makes one there.
    ///
    /// Blocks: reads the file's head, and after a crash the engine's saved state. A directory that is in use is waited
    /// for, half a second at most.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        for _ in 0..IN_USE_TRIES {
            match Self::open_now(dir) {
                // Whoever has it may be ending. And a child of this process that has not begun its program yet holds
                // every lock of its parent's for a moment.
                Err(OpenError::InUse { .. }) => std::thread::sleep(IN_USE_PAUSE),
                opened => return opened,
            }
        }
        Self::open_now(dir)
    }

    fn open_now(dir: &Path) -> Result<Self, OpenError> {
        let cannot_use = |source| OpenError::Directory { dir: dir.to_owned(), source };
        make_directory(dir).map_err(cannot_use)?;
        let lock = lock_directory(dir)?;
        let path = dir.join(FILE_NAME);
        let broken = |failure| OpenError::Engine { file: path.clone(), source: Box::new(failure) };
        if !path.exists() {
            make_file(dir).map_err(cannot_use)?.map_err(broken)?;
        }
        match Self::open_on(engine::file_medium(&path), Some(lock), path.clone()) {
            Ok(Ok(store)) => store.map_err(OpenError::Writer),
            Ok(Err(found)) => {
                Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: tables::FORMAT })
            }
            Err(Failure::Open(error)) if matches!(*error, DatabaseError::DatabaseAlreadyOpen) => {
                Err(OpenError::InUse { dir: dir.to_owned() })
            }
            Err(failure) => Err(broken(failure)),
        }
    }

    fn open_on(
        medium: Medium,
        lock: Option<File>,
        path: PathBuf,
    ) -> Result<Result<io::Result<Self>, u64>, Failure> {
        let (engine, clock) = match Engine::open(medium, lock)? {
            Ok(opened) => opened,
            Err(newer) => return Ok(Err(newer)),
        };
        let engine = Arc::new(engine);
        Ok(Ok(Writer::start(engine.clone(), clock).map(|writer| Self {
            codec: Codec::default(),
            path,
            clock,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            operators: Arc::new(Semaphore::new(1)),
            sessions: OwnSessions::default(),
            writer,
            engine,
        })))
    }

    /// The same store, writing and reading with `codec`.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Reads what is committed under `key`: at once where the file is small enough to be in memory, because
    /// the way to another thread and back costs more than the look; else on a thread that may block.
    async fn read(&self, key: StorageKey) -> Result<Option<Bytes>, StoreError> {
        let now = self.clock.now();
        if let Some(found) = self.engine.read_at_once(|database| tables::read(database, &key, now)) {
            return found.map_err(|failure| StoreError::Engine(Box::new(failure)));
        }
        self.look(move |engine, now| engine.read(|database| tables::read(database, &key, now))).await
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine, u64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.look_on(&self.readers, look).await
    }

    /// Has `look` read on a thread that may block, as soon as one of `places` is free.
    async fn look_on<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        look: impl FnOnce(&Engine, u64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = places.clone().acquire_owned().await;
        let (engine, now) = (self.engine.clone(), self.clock.now());
        let looking = tokio::task::spawn_blocking(move || {
            let found = look(&engine, now);
            drop(permit);
            found
        });
        match looking.await {
            Ok(found) => found.map_err(|failure| StoreError::Engine(Box::new(failure))),
            Err(died) => Err(StoreError::Engine(Box::new(died))),
        }
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
        let stands =
            self.writer.write_if_there_is_time(move |tables| tables.insert(&key, &fresh, keep_for)).await?;
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
        Ok(self.engine.gate())
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

    async fn list(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        self.listing(after, most).await
    }

    async fn outline(&self, key: &StorageKey) -> Result<Option<Listed>, StoreError> {
        self.listed(*key).await
    }

    async fn count_forgetting(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn forgettings(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        let file = self.path.clone();
        self.look(move |engine, _now| inspect::inspect(engine, &file)).await
    }

    fn describe(&self) -> String {
        format!("file:{}", self.path.display())
    }
}

/// Makes an empty store in `dir`, whose lock is held.
fn make_file(dir: &Path) -> io::Result<Result<(), Failure>> {
    let unfinished = Unfinished::in_directory(dir)?;
    if let Err(failure) = Engine::open(engine::file_medium(unfinished.path()), None) {
        return Ok(Err(failure));
    }
    unfinished.finish(&dir.join(FILE_NAME)).map(Ok)
}

/// Keeps other processes out of `dir` for as long as the file is open.
fn lock_directory(dir: &Path) -> Result<File, OpenError> {
    let cannot_lock = |source| OpenError::Directory { dir: dir.to_owned(), source };
    let lock = dir.join(LOCK_NAME);
    let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(lock);
    let file = file.map_err(cannot_lock)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(cannot_lock(source)),
    }
}

/// Makes `dir` readable by its owner only; one that is there keeps its mode.
fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => engine::sync_directory(parent),
        Some(_) | None => engine::sync_directory(Path::new(".")),
    }
}
