//! What the store does on a disk that is full, that fails, or that loses its power: claims, held against
//! the real engine on a disk that is only simulated.
//!
//! The disk tells what is durable from what is only written. When its power goes, each sector that was
//! written since the last sync is there or is not, at random. Read `engine.rs` before.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::StorageBackend;
use tokio::task::JoinSet;

use super::tables::Failure;
use super::{EmbeddedStore, Store, StoreError, Swapped};
use crate::clock;
use crate::protocol::fingerprint::Fingerprint;
use crate::protocol::record::{Attempt, Phase, Record, Seen, Session, Settled, UnixMillis, Version};
use crate::protocol::saved::{SavedHead, SavedResponse};
use crate::protocol::scope::StorageKey;

const SECTOR: usize = 512;
const LONG: Duration = Duration::from_hours(1);

/// A disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is read.
    written: Vec<u8>,
    /// What a loss of power leaves for certain.
    durable: Vec<u8>,
    /// Written since the last sync.
    unsynced: Vec<Range<usize>>,
    fault: Fault,
    /// Operations until the power goes.
    power_for: Option<u32>,
    /// What the loss of power left.
    left: Option<Vec<u8>>,
    dice: Dice,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    /// Nothing more fits: writes beyond the present end and growth fail.
    Full,
    /// Nothing can be written.
    NoWrite,
    /// Writes succeed, syncs fail, and the disk has nothing of what was written.
    NoSync,
    /// The same for one sync, after so many that succeed.
    OneSync(u32),
}

/// A small generator, so that a seed tells the whole story.
#[derive(Debug, Default)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

impl Disk {
    fn with(contents: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().durable.clone_from(&contents);
        disk.state().written = contents;
        disk
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn set(&self, fault: Fault) {
        self.state().fault = fault;
    }

    fn open(&self) -> EmbeddedStore {
        self.try_open().expect("the store opens")
    }

    fn try_open(&self) -> Result<EmbeddedStore, Failure> {
        let disk = self.clone();
        let medium = move || -> io::Result<Box<dyn StorageBackend>> { Ok(Box::new(disk.clone())) };
        let opened = EmbeddedStore::open_on(Box::new(medium), None, PathBuf::from("simulated"));
        Ok(opened?.expect("its format is known").expect("its writer starts"))
    }
}

impl State {
    /// Fails once the power is gone; takes it away when its time has come.
    fn step(&mut self) -> io::Result<()> {
        if self.left.is_none() && self.power_for.is_some_and(|steps| steps == 0) {
            self.lose_power();
        }
        self.power_for = self.power_for.map(|steps| steps.saturating_sub(1));
        if self.left.is_some() { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn lose_power(&mut self) {
        let mut left = self.durable.clone();
        // The length may have reached the disk without the contents, or not.
        if self.dice.throw(2) == 0 {
            left.resize(self.written.len(), 0);
        }
        for range in std::mem::take(&mut self.unsynced) {
            for start in range.step_by(SECTOR) {
                let sector = start..(start + SECTOR).min(self.written.len());
                if self.dice.throw(2) == 0 && sector.end <= left.len() {
                    left[sector.clone()].copy_from_slice(&self.written[sector]);
                }
            }
        }
        self.left = Some(left);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.step()?;
        Ok(u64::try_from(state.written.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let start = usize::try_from(offset).unwrap();
        let bytes = state.written.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let len = usize::try_from(len).unwrap();
        if len > state.written.len() && matches!(state.fault, Fault::Full | Fault::NoWrite) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let fails = matches!(state.fault, Fault::NoSync | Fault::OneSync(0));
        state.fault = match state.fault {
            Fault::OneSync(0) => Fault::None,
            Fault::OneSync(after) => Fault::OneSync(after - 1),
            other @ (Fault::None | Fault::Full | Fault::NoWrite | Fault::NoSync) => other,
        };
        if fails {
            // As Linux does it: the pages are taken for clean from here on, and the disk never had them.
            state.unsynced.clear();
            return Err(io::Error::other("the sync failed"));
        }
        let State { written, durable, unsynced, .. } = &mut *state;
        durable.resize(written.len(), 0);
        for range in unsynced.drain(..) {
            let range = range.start..range.end.min(written.len());
            durable[range.clone()].copy_from_slice(&written[range]);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        if state.fault == Fault::NoWrite {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(offset).unwrap();
        let range = start..start + data.len();
        if range.end > state.written.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.written[range.clone()].copy_from_slice(data);
        state.unsynced.push(range);
        Ok(())
    }
}

fn key(number: u64) -> StorageKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    StorageKey::from_bytes(bytes)
}

fn claim(number: u64) -> Record {
    let mut attempt = [0; 16];
    attempt[..8].copy_from_slice(&number.to_be_bytes());
    Record {
        version: Version { attempt: Attempt(attempt), revision: 0 },
        session: Session([1; 16]),
        fingerprint: Fingerprint::from_bytes([2; 32]),
        attempts: 1,
        opened_at: UnixMillis(3),
        route: "/payments".to_owned(),
        phase: Phase::InFlight,
    }
}

fn done(claim: &Record, body_bytes: usize) -> Record {
    let mut record = claim.clone();
    record.version.revision += 1;
    record.phase = Phase::Done {
        saved: SavedResponse {
            head: SavedHead { status: 201, headers: [].into() },
            body: vec![7; body_bytes].into(),
            trailers: [].into(),
        },
        settled: Settled { at: UnixMillis(4), keep_for: LONG },
    };
    record
}

async fn insert(store: &EmbeddedStore, number: u64) -> Result<Seen, StoreError> {
    store.insert(&key(number), &claim(number), LONG).await
}

async fn is_there(store: &EmbeddedStore, number: u64) -> bool {
    store.fetch(&key(number)).await.unwrap() == Seen::Record(Box::new(claim(number)))
}

/// Asks until the store takes writes again.
async fn healed(store: &EmbeddedStore) {
    let deadline = clock::monotonic() + Duration::from_mins(1);
    while store.ping().await.is_err() {
        assert!(clock::monotonic() < deadline, "the store has not healed within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_write_that_did_not_reach_the_disk_is_an_error_and_so_is_every_one_until_the_disk_is_well() {
    for fault in [Fault::Full, Fault::NoWrite, Fault::NoSync] {
        let disk = Disk::default();
        let store = disk.open();
        assert_eq!(insert(&store, 1).await.unwrap(), Seen::Nothing);
        disk.set(fault);
        let large = done(&claim(2), 3_000_000);
        let lost = store.insert(&key(2), &large, LONG).await;
        assert!(matches!(lost, Err(StoreError::Engine(_))), "{fault:?}");
        if fault != Fault::Full {
            assert!(matches!(insert(&store, 3).await, Err(StoreError::Engine(_))), "{fault:?}");
            assert!(matches!(store.ping().await, Err(StoreError::Engine(_))), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_disk_that_is_well_again_is_written_to_again_without_a_restart() {
    for fault in [Fault::Full, Fault::NoWrite, Fault::NoSync] {
        let disk = Disk::default();
        let store = disk.open();
        insert(&store, 1).await.unwrap();
        disk.set(fault);
        store.insert(&key(2), &done(&claim(2), 3_000_000), LONG).await.unwrap_err();
        disk.set(Fault::None);
        healed(&store).await;
        assert_eq!(insert(&store, 3).await.unwrap(), Seen::Nothing, "{fault:?}");
        drop(store);
        let store = Disk::with(disk.state().durable.clone()).open();
        assert!(is_there(&store, 1).await && is_there(&store, 3).await, "{fault:?}");
    }
}

#[tokio::test]
async fn what_is_committed_is_read_while_the_disk_is_full() {
    let disk = Disk::default();
    let store = disk.open();
    insert(&store, 1).await.unwrap();
    disk.set(Fault::Full);
    store.insert(&key(2), &done(&claim(2), 3_000_000), LONG).await.unwrap_err();
    assert!(is_there(&store, 1).await);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_read_that_the_disk_does_not_have() {
    for fault in [Fault::NoSync, Fault::OneSync(0), Fault::OneSync(1), Fault::OneSync(2)] {
        let disk = Disk::default();
        let store = disk.open();
        insert(&store, 1).await.unwrap();
        disk.set(fault);
        let was_acknowledged = insert(&store, 2).await.is_ok();
        for _ in 0..10 {
            if store.fetch(&key(2)).await.is_ok_and(|seen| seen != Seen::Nothing) {
                let on_disk = Disk::with(disk.state().durable.clone()).open();
                assert!(is_there(&on_disk, 2).await, "{fault:?}: a loss of power would take it back");
            }
        }
        disk.set(Fault::None);
        healed(&store).await;
        assert!(is_there(&store, 1).await && (is_there(&store, 2).await || !was_acknowledged));
    }
}

#[tokio::test]
async fn a_failed_commit_is_told_to_everybody_in_the_batch() {
    let disk = Disk::default();
    let store = Arc::new(disk.open());
    disk.set(Fault::NoSync);
    let mut inserts = JoinSet::new();
    for number in 0..32 {
        let store = store.clone();
        inserts.spawn(async move { insert(&store, number).await.is_err() });
    }
    assert!(inserts.join_all().await.into_iter().all(|is_err| is_err));
}

#[tokio::test]
async fn a_panic_of_the_engine_is_an_error_and_not_the_end() {
    let store = Disk::default().open();
    let died = store.writer.write(|_| -> Result<(), _> { panic!("on purpose, in a test") }).await;
    assert!(matches!(died, Err(StoreError::Engine(_))));
    healed(&store).await;
    assert_eq!(insert(&store, 1).await.unwrap(), Seen::Nothing);
}

/// What was acknowledged of each key before the power went, the last acknowledgement counting.
type Acknowledged = Arc<Mutex<Vec<(u64, Record)>>>;

#[tokio::test]
async fn whatever_moment_the_power_goes_all_that_was_acknowledged_is_there_after_it() {
    let first = RandomState::new().build_hasher().finish();
    for seed in (0..24).map(|number| first.wrapping_add(number)) {
        let acknowledged = Acknowledged::default();
        let (mut dice, mut contents) = (Dice(seed), made());
        // Several lives in a row, so that a recovery is built on a recovery.
        for life in 0..3 {
            contents = lose_power_while_opening(contents, &mut dice);
            let disk = Disk::with(contents);
            disk.state().dice = Dice(dice.throw(u64::from(u32::MAX)));
            let store = disk.open();
            expect_all(&store, &acknowledged, seed, life).await;
            disk.state().power_for = Some(u32::try_from(dice.throw(1500)).unwrap());
            write_until_the_power_goes(store, life * 1_000_000, &acknowledged).await;
            let state = disk.state();
            contents = state.left.clone().unwrap();
        }
        expect_all(&Disk::with(contents).open(), &acknowledged, seed, 3).await;
    }
}

/// A store that was made to its end; one that was not is never opened under its name.
fn made() -> Vec<u8> {
    let disk = Disk::default();
    drop(disk.open());
    let state = disk.state();
    state.durable.clone()
}

/// What is left when the power goes during the recovery, or shortly after it.
fn lose_power_while_opening(contents: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let disk = Disk::with(contents);
    disk.state().dice = Dice(dice.throw(u64::from(u32::MAX)));
    disk.state().power_for = Some(u32::try_from(dice.throw(60)).unwrap());
    drop(disk.try_open());
    let mut state = disk.state();
    state.power_for = Some(0);
    state.step().ok();
    state.left.take().unwrap()
}

async fn expect_all(store: &EmbeddedStore, acknowledged: &Acknowledged, seed: u64, life: u64) {
    let acknowledged = acknowledged.lock().unwrap().clone();
    for (number, record) in acknowledged {
        let Seen::Record(stands) = store.fetch(&key(number)).await.unwrap() else {
            panic!("seed {seed}, life {life}: {number} was acknowledged and is gone");
        };
        let (is, was) = (stands.version.revision, record.version.revision);
        assert!(is >= was, "seed {seed}, life {life}: {number} went back from {was} to {is}");
    }
}

async fn write_until_the_power_goes(store: EmbeddedStore, first: u64, acknowledged: &Acknowledged) {
    let store = Arc::new(store);
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        writers.spawn(async move {
            for number in (0..).map(|turn| first + 8 * turn + writer) {
                let claim = claim(number);
                let Ok(seen) = store.insert(&key(number), &claim, LONG).await else { return };
                assert_eq!(seen, Seen::Nothing);
                acknowledged.lock().unwrap().push((number, claim.clone()));
                let done = done(&claim, 200 * usize::try_from(number % 60).unwrap());
                let Ok(swapped) = store.swap(&key(number), claim.version, &done, LONG).await else { return };
                assert_eq!(swapped, Swapped::Done);
                acknowledged.lock().unwrap().push((number, done));
            }
        });
    }
    writers.join_all().await;
}
