//! Backups of the embedded store: consistent, whole or absent, and closed for claims.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onceway::protocol::record::{Record, Seen};
use onceway::protocol::scope::StorageKey;
use onceway::store::embedded::{BackupError, EmbeddedStore, OpenError};
use onceway::store::transfer::Transfer;
use onceway::store::{Closure, Gate, Store, Swapped};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::embedded_store::format_of;
use crate::harness::{GatewayPlan, Upstream, post, until};
use crate::records::{LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session};

async fn a_store_with(records: usize) -> (TempDir, EmbeddedStore, Vec<(StorageKey, Record)>) {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let mut kept = Vec::new();
    for number in 0..records {
        let (key, record) = (some_key(), after(&a_claim(), done_with(bytes_of(number * 100))));
        store.insert(&key, &record, LONG).await.unwrap();
        kept.push((key, record));
    }
    (dir, store, kept)
}

async fn expect_all(store: &EmbeddedStore, kept: &[(StorageKey, Record)]) {
    for (key, record) in kept {
        assert_eq!(store.fetch(key).await.unwrap(), Seen::Record(Box::new(record.clone())));
    }
}

#[tokio::test]
async fn a_backup_holds_every_record_and_no_expired_one() {
    let (_dir, store, kept) = a_store_with(30).await;
    store.insert(&some_key(), &a_claim(), Duration::ZERO).await.unwrap();
    let place = TempDir::new().unwrap();
    let taken = store.backup_to(&place.path().join("below")).await.unwrap();
    assert_eq!(taken.records, 30);
    expect_all(&EmbeddedStore::open(&place.path().join("below")).unwrap(), &kept).await;
}

#[tokio::test]
async fn a_gateway_on_a_backup_is_told_to_claim_nothing() {
    let (_dir, store, _) = a_store_with(1).await;
    let place = TempDir::new().unwrap();
    store.backup_to(place.path()).await.unwrap();
    assert_eq!(store.renew_session(some_session(), LONG).await.unwrap(), Gate::Open);
    let backup = EmbeddedStore::open(place.path()).unwrap();
    let told = backup.renew_session(some_session(), LONG).await.unwrap();
    assert_eq!(told, Gate::Closed(Closure::Backup));
}

#[tokio::test]
async fn a_backup_holds_what_was_in_flight_and_is_refused_by_builds_that_would_not_see_it() {
    let (_dir, store, _) = a_store_with(1).await;
    let (key, claim) = (some_key(), a_claim());
    store.insert(&key, &claim, LONG).await.unwrap();
    let place = TempDir::new().unwrap();
    store.backup_to(place.path()).await.unwrap();
    assert_eq!(format_of(place.path()), 3, "before any build has opened it");
    let backup = EmbeddedStore::open(place.path()).unwrap();
    assert_eq!(backup.fetch(&key).await.unwrap(), Seen::Record(Box::new(claim)));
}

#[tokio::test]
async fn a_gateway_that_is_given_a_backup_by_mistake_forwards_no_guarded_request() {
    let (_dir, store, _) = a_store_with(1).await;
    let place = TempDir::new().unwrap();
    store.backup_to(place.path()).await.unwrap();
    let upstream = Upstream::of_payments();
    let plan = GatewayPlan::before(&upstream).store(&format!("file:{}", place.path().display()));
    let gateway = plan.launch();
    assert_eq!(gateway.ask(&post("/payments").key("a key")).status, 503);
    until("the log says why", || gateway.log().contains("backup"));
    assert_eq!(gateway.readiness().status, 503);
    assert_eq!(upstream.executions(), 0);
}

#[tokio::test]
async fn a_backup_takes_the_place_of_the_one_before() {
    let (_dir, store, mut kept) = a_store_with(3).await;
    let place = TempDir::new().unwrap();
    store.backup_to(place.path()).await.unwrap();
    kept.push((some_key(), a_claim()));
    store.insert(&kept[3].0, &kept[3].1, LONG).await.unwrap();
    store.backup_to(place.path()).await.unwrap();
    expect_all(&EmbeddedStore::open(place.path()).unwrap(), &kept).await;
}

#[tokio::test]
async fn a_backup_taken_under_load_is_of_one_moment_and_holds_what_was_acknowledged_before_it() {
    let (_dir, store, kept) = a_store_with(60).await;
    let (store, is_over) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (store, is_over) = (store.clone(), is_over.clone());
        writers.spawn(async move {
            while !is_over.load(Ordering::SeqCst) {
                let (key, claim) = (some_key(), a_claim());
                store.insert(&key, &claim, LONG).await.unwrap();
                let done = after(&claim, done_with(bytes_of(5_000)));
                assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
            }
        });
    }
    let place = TempDir::new().unwrap();
    for _ in 0..3 {
        store.backup_to(place.path()).await.unwrap();
    }
    is_over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    let backup = EmbeddedStore::open(place.path()).unwrap();
    expect_all(&backup, &kept).await;
    let all = backup.page(None, 1_000_000).await.unwrap().records;
    assert!(all.len() >= kept.len() && all.iter().all(|moved| !moved.encoded.head.is_empty()));
}

#[tokio::test]
async fn a_store_is_never_replaced_by_a_backup() {
    let (_dir, store, _) = a_store_with(1).await;
    let (place, other, kept) = a_store_with(2).await;
    let there = place.path();
    let in_use = store.backup_to(there).await.unwrap_err();
    assert!(matches!(in_use, BackupError::Directory(OpenError::InUse { .. })), "{in_use:?}");
    drop(other);
    assert!(matches!(store.backup_to(there).await, Err(BackupError::NotABackup { .. })));
    expect_all(&EmbeddedStore::open(there).unwrap(), &kept).await;
}

#[tokio::test]
async fn a_store_is_not_backed_up_into_its_own_directory() {
    let (dir, store, kept) = a_store_with(2).await;
    assert!(store.backup_to(dir.path()).await.is_err());
    expect_all(&store, &kept).await;
}

#[tokio::test]
async fn a_backup_that_fails_leaves_the_one_before_whole() {
    let (dir, store, kept) = a_store_with(3).await;
    let place = TempDir::new().unwrap();
    store.backup_to(place.path()).await.unwrap();
    // A folder where the unfinished copy is to be made: an error for everybody, the superuser included.
    std::fs::create_dir(place.path().join("onceway.redb.new")).unwrap();
    assert!(matches!(store.backup_to(place.path()).await, Err(BackupError::Place(_))));
    expect_all(&EmbeddedStore::open(place.path()).unwrap(), &kept).await;
    drop(dir);
}

#[tokio::test]
async fn a_backup_that_is_given_up_leaves_nothing_behind() {
    let (_dir, store, _) = a_store_with(60).await;
    let place = TempDir::new().unwrap();
    drop(tokio::time::timeout(Duration::ZERO, store.backup_to(place.path())).await);
    // Refused as long as the one before is at work.
    eventually("the copy ends", || async { store.backup_to(place.path()).await.is_ok() }).await;
    assert!(!place.path().join("onceway.redb.new").exists());
}

#[tokio::test]
async fn backups_are_taken_again_and_again() {
    let (_dir, store, _) = a_store_with(3).await;
    let place = TempDir::new().unwrap();
    let file = place.path().join("onceway.redb");
    let watched = async {
        eventually("the first backup", || async { file.exists() }).await;
        let first = inode(&file);
        eventually("another backup", || async { inode(&file) != first }).await;
    };
    tokio::select! {
        () = store.keep_backups(place.path(), Duration::from_millis(20)) => {}
        () = watched => {}
    }
}

fn inode(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).unwrap().ino()
}

#[test]
fn a_backup_that_a_gateway_took_is_restored_by_a_move_and_replays_what_it_knew() {
    let (upstream, places) = (Upstream::of_payments(), TempDir::new().unwrap());
    let place = |name: &str| places.path().join(name);
    let on = |name: &str| GatewayPlan::before(&upstream).store(&format!("file:{}", place(name).display()));
    let backed_up = on("store").store_line(&format!("backup_dir = \"{}\"", place("backup").display()));
    let mut gateway = backed_up.store_line("backup_every = \"1s\"").start();
    gateway.ask(&post("/payments").key("k"));
    let file = place("backup").join("onceway.redb");
    // The one that is under way may have begun before the payment.
    for _ in 0..2 {
        let before = file.exists().then(|| inode(&file));
        until("another backup is taken", || file.exists() && Some(inode(&file)) != before);
    }
    gateway.kill();
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_onceway"));
    restore
        .args(["store", "migrate", "--accept-loss", "--from"])
        .arg(format!("file:{}", place("backup").display()));
    let restored = restore.arg("--to").arg(format!("file:{}", place("restored").display())).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let replay = on("restored").start().ask(&post("/payments").key("k"));
    assert_eq!((replay.text(), replay.word().as_deref()), ("payment 1".into(), Some("replayed")));
    assert_eq!(upstream.executions(), 1);
}
