//! The embedded store in a process that is killed, and on a disk that is full: real files, real processes.
//!
//! The long form: `ONCEWAY_TEST_KILLS=2000 cargo test --test it embedded_crash`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use onceway::protocol::record::{Phase, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::embedded::{EmbeddedStore, OpenError};
use onceway::store::{Store, Swapped};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::records::{LONG, a_claim, after, bytes_of, done_with, some_key};

const CHILD_DIR: &str = "ONCEWAY_TEST_CHILD_DIR";
const KILLS: &str = "ONCEWAY_TEST_KILLS";

/// A process that writes to a store and says what was acknowledged and what was refused.
struct Writing {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

/// One line of it.
enum Said {
    Claimed(StorageKey),
    Done(StorageKey),
    Refused,
}

impl Writing {
    fn start(dir: &Path) -> Self {
        Self::started_by(Command::new(std::env::current_exe().unwrap()), dir)
    }

    /// One that may not make a file larger than so many KiB. The signal that says so is ignored, as on a
    /// full disk there is none.
    fn with_room_for(kib: u32, dir: &Path) -> Self {
        let mut command = Command::new("bash");
        let script = "trap '' XFSZ; ulimit -S -f \"$0\"; exec \"$@\"";
        command.args(["-c", script, &kib.to_string()]).arg(std::env::current_exe().unwrap());
        Self::started_by(command, dir)
    }

    fn started_by(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .args(["--exact", "embedded_crash::a_child_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    fn give_room(&self) {
        let id = self.child.id().to_string();
        let given = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited:"]).status().unwrap();
        assert!(given.success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Iterator for Writing {
    type Item = Said;

    /// Ends when the process has ended. The last line may be cut short by the kill.
    fn next(&mut self) -> Option<Said> {
        loop {
            let line = self.said.next()?.ok()?;
            let Some(said) = line.strip_prefix("store ") else { continue };
            match said.split_once(' ') {
                Some(("claimed", key)) if key.len() == 64 => return Some(Said::Claimed(key_of(key))),
                Some(("done", key)) if key.len() == 64 => return Some(Said::Done(key_of(key))),
                Some(("refused", "!")) => return Some(Said::Refused),
                Some(_) | None => {}
            }
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn key_of(hex: &str) -> StorageKey {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    StorageKey::from_bytes(std::array::from_fn(byte))
}

async fn expect_all(dir: &Path, acknowledged: &[Said]) {
    let store = EmbeddedStore::open(dir).unwrap();
    for said in acknowledged {
        let (key, must_be_done) = match said {
            Said::Claimed(key) => (key, false),
            Said::Done(key) => (key, true),
            Said::Refused => continue,
        };
        let Seen::Record(record) = store.fetch(key).await.unwrap() else {
            panic!("{key} was acknowledged and is not there");
        };
        let is_done = matches!(record.phase, Phase::Done { .. });
        assert!(is_done || !must_be_done, "{key} lost its answer");
    }
}

/// Not a claim by itself: the child of the tests here, which does nothing when nobody is its parent.
#[tokio::test]
async fn a_child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let store = Arc::new(EmbeddedStore::open(Path::new(&dir)).unwrap());
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        writers.spawn(async move {
            loop {
                if write(&store).await.is_err() {
                    say("refused !");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    writers.join_next().await.unwrap().unwrap();
}

async fn write(store: &EmbeddedStore) -> Result<(), onceway::store::StoreError> {
    let (key, claim) = (some_key(), a_claim());
    assert_eq!(store.insert(&key, &claim, LONG).await?, Seen::Nothing);
    say(&format!("claimed {key}"));
    let done = after(&claim, done_with(bytes_of(9_000)));
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await?, Swapped::Done);
    say(&format!("done {key}"));
    Ok(())
}

fn say(what: &str) {
    writeln!(std::io::stdout().lock(), "\nstore {what}").unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_after_it() {
    let kills: u64 = std::env::var(KILLS).map_or(6, |kills| kills.parse().unwrap());
    let (dir, mut all) = (TempDir::new().unwrap(), Vec::new());
    for round in 0..kills {
        let mut writing = Writing::start(dir.path());
        all.extend(writing.by_ref().take(usize::try_from(60 + round * 45 % 400).unwrap()));
        writing.kill();
        all.extend(writing);
        expect_all(dir.path(), &all[all.len().saturating_sub(5_000)..]).await;
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_takes_writes_again_when_there_is_room_without_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut writing = Writing::with_room_for(4_000, dir.path());
    let mut all: Vec<Said> = writing.by_ref().take_while(|said| !matches!(said, Said::Refused)).collect();
    assert!(all.len() > 50, "it wrote while there was room");
    writing.give_room();
    let is_done = |said: &Said| matches!(said, Said::Done(_));
    while all.iter().filter(|said| is_done(said)).count() < 900 {
        all.push(writing.next().expect("the process goes on"));
    }
    writing.kill();
    all.extend(writing);
    expect_all(dir.path(), &all).await;
}

#[tokio::test]
async fn a_store_on_a_full_disk_can_be_opened_and_read_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    let mut writing = Writing::with_room_for(2_000, dir.path());
    let mut all: Vec<Said> = writing.by_ref().take_while(|said| !matches!(said, Said::Refused)).collect();
    writing.kill();
    all.extend(writing);
    expect_all(dir.path(), &all).await;
}

#[tokio::test]
async fn the_room_of_what_has_expired_is_used_again() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let record = after(&a_claim(), done_with(bytes_of(100_000)));
    for _ in 0..200 {
        store.insert(&some_key(), &record, Duration::ZERO).await.unwrap();
    }
    let bytes = dir.path().join("onceway.redb").metadata().unwrap().len();
    assert!(bytes < 5_000_000, "20 MB were written and have expired, and the file has {bytes} bytes");
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_an_error_that_names_it_and_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    for _ in 0..50 {
        store.insert(&some_key(), &after(&a_claim(), done_with(bytes_of(9_000))), LONG).await.unwrap();
    }
    drop(store);
    let file = dir.path().join("onceway.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, &bytes).unwrap();
    let error = EmbeddedStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Engine { .. }) && error.to_string().contains("onceway.redb"));
    assert!(std::fs::read(&file).unwrap() == bytes, "nobody changed it");
}
