//! What the embedded store promises beyond the contract of all stores: the directory, the lock, the file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{Attempt, Phase, Record, Seen, Session, UnixMillis, UnknownReason, Version};
use onceway::protocol::scope::StorageKey;
use onceway::store::embedded::{EmbeddedStore, OpenError};
use onceway::store::transfer::{Moved, Transfer};
use onceway::store::{Closure, Gate, SessionLife, Store, Swapped};
use redb::{Database, ReadableTable, TableDefinition};
use tempfile::TempDir;

use crate::harness::until;
use crate::records::{
    LONG, a_claim, after, bytes_of, done_with, eventually, some_key, some_session, unknown,
};

#[tokio::test]
async fn a_second_open_is_told_that_another_process_uses_the_store() {
    let dir = TempDir::new().unwrap();
    let first = EmbeddedStore::open(dir.path()).unwrap();
    let second = EmbeddedStore::open(dir.path());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    assert!(second.unwrap_err().to_string().contains("is used by another process"));
    drop(first);
    EmbeddedStore::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_new_directory_is_readable_by_its_owner_only() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("deep").join("onceway-data");
    let store = EmbeddedStore::open(&data).unwrap();
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(store.describe(), format!("file:{}", data.join("onceway.redb").display()));
}

#[tokio::test]
async fn a_path_that_cannot_be_a_directory_is_an_error_that_names_it() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = EmbeddedStore::open(&file.join("below")).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }));
    assert!(error.to_string().contains("below"));
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("onceway.redb");
    std::fs::write(&file, bytes_of(10_000)).unwrap();
    assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::Engine { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), bytes_of(10_000));
}

#[tokio::test]
async fn a_file_that_was_not_made_to_its_end_does_not_stand_in_the_way() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("onceway.redb.new"), bytes_of(10_000)).unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&some_key(), &a_claim(), LONG).await.unwrap();
    assert!(!dir.path().join("onceway.redb.new").exists());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_an_error_that_names_it() {
    // Where nobody makes files, not even the superuser.
    let dir = Path::new("/proc/self/task");
    let error = EmbeddedStore::open(dir).unwrap_err();
    assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
    assert!(error.to_string().contains("/proc/self/task"));
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_an_error_that_names_it() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedStore::open(dir.path()).unwrap());
    let file = dir.path().join("onceway.redb");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
    if std::fs::File::options().write(true).open(&file).is_ok() {
        return; // No mode binds the superuser.
    }
    let error = EmbeddedStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Engine { .. }) && error.to_string().contains("onceway.redb"));
}

#[tokio::test]
async fn a_store_tells_how_well_it_keeps_what_it_acknowledges() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&some_key(), &a_claim(), LONG).await.unwrap();
    let told = store.inspect().await.unwrap();
    let fact = |name| &told.facts.iter().find(|(fact, _)| *fact == name).unwrap().1;
    assert_eq!(fact("records"), "1");
    assert!(fact("fsync").ends_with(" µs") && fact("free space").ends_with(" MiB"), "{told:?}");
    assert!(fact("in use").ends_with("%)") && !fact("file system").is_empty(), "{told:?}");
    assert!(told.losses.iter().any(|loss| loss.contains("a power loss")));
    assert_eq!(told.refusal(false), None);
}

#[tokio::test]
async fn records_outlive_the_process_and_sessions_do_not() {
    let dir = TempDir::new().unwrap();
    let (key, claim, session) = (some_key(), a_claim(), some_session());
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&key, &claim, LONG).await.unwrap();
    store.renew_session(session, LONG).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(claim)));
    assert_eq!(store.session_life(session).await.unwrap(), SessionLife::Dead);
}

#[tokio::test]
async fn retention_goes_on_over_a_restart() {
    let dir = TempDir::new().unwrap();
    let key = some_key();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&key, &a_claim(), Duration::from_millis(100)).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    eventually("the record expires", || async { store.fetch(&key).await.unwrap() == Seen::Nothing }).await;
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(EmbeddedStore::open(dir.path()).unwrap());
    by_hand(dir.path(), |transaction| {
        let mut meta = transaction.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
        meta.insert("format", 4).unwrap();
    });
    let error = EmbeddedStore::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 4, known: 3, .. }));
    assert!(error.to_string().ends_with("its format is 4, this version reads up to 3"));
}

#[tokio::test]
async fn a_store_that_has_seen_a_later_time_goes_on_from_there() {
    let dir = TempDir::new().unwrap();
    let key = some_key();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&key, &a_claim(), LONG).await.unwrap();
    drop(store);
    by_hand(dir.path(), |transaction| {
        let mut meta = transaction.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
        let seen = meta.get("clock").unwrap().unwrap().value();
        meta.insert("clock", seen + 2 * 3_600_000).unwrap();
    });
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Nothing);
}

#[tokio::test]
async fn a_damaged_record_is_unreadable_and_never_absent() {
    let dir = TempDir::new().unwrap();
    let (key, claim) = (some_key(), a_claim());
    let done = after(&claim, done_with(bytes_of(20_000)));
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&key, &done, LONG).await.unwrap();
    drop(store);
    by_hand(dir.path(), |transaction| {
        let mut records = transaction.open_table(table("records")).unwrap();
        let mut value = records.get(key.as_bytes()).unwrap().unwrap().value().to_vec();
        value[15_000] ^= 1;
        records.insert(key.as_bytes(), value.as_slice()).unwrap();
    });
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable);
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Unreadable);
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Changed);
}

#[tokio::test]
async fn pages_hold_every_record_once_in_the_order_of_keys() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    for _ in 0..23 {
        store.insert(&some_key(), &a_claim(), LONG).await.unwrap();
    }
    store.insert(&some_key(), &a_claim(), Duration::ZERO).await.unwrap();
    let keys: Vec<StorageKey> = all_of(&store, 5).await.into_iter().map(|moved| moved.key).collect();
    assert_eq!(keys.len(), 23, "and not the one that has expired");
    assert!(keys.is_sorted());
}

#[tokio::test]
async fn what_is_put_is_as_it_was_in_the_store_it_came_from() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (from, to) = (EmbeddedStore::open(here.path()).unwrap(), EmbeddedStore::open(there.path()).unwrap());
    let (key, claim) = (some_key(), a_claim());
    let done = after(&claim, done_with(bytes_of(30_000)));
    from.insert(&key, &done, LONG).await.unwrap();
    to.insert(&key, &claim, LONG).await.unwrap();
    to.put(all_of(&from, 100).await).await.unwrap();
    assert_eq!(to.fetch(&key).await.unwrap(), Seen::Record(Box::new(done)));
    let moved = all_of(&to, 100).await;
    assert!(moved.len() == 1 && moved[0].keep_for <= LONG && moved[0].keep_for > LONG / 2);
}

#[tokio::test]
async fn what_cannot_be_read_is_moved_and_is_not_absent_there_either() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (torn, short) = (some_key(), some_key());
    let from = EmbeddedStore::open(here.path()).unwrap();
    from.insert(&torn, &after(&a_claim(), done_with("paid")), LONG).await.unwrap();
    drop(from);
    by_hand(here.path(), |transaction| {
        let mut records = transaction.open_table(table("records")).unwrap();
        let value = records.get(torn.as_bytes()).unwrap().unwrap().value().to_vec();
        records.insert(torn.as_bytes(), &value[..value.len() - 1]).unwrap();
        records.insert(short.as_bytes(), b"short".as_slice()).unwrap();
    });
    let to = EmbeddedStore::open(there.path()).unwrap();
    to.put(all_of(&EmbeddedStore::open(here.path()).unwrap(), 100).await).await.unwrap();
    assert_eq!(to.fetch(&torn).await.unwrap(), Seen::Unreadable);
    assert_eq!(to.fetch(&short).await.unwrap(), Seen::Unreadable);
}

#[tokio::test]
async fn a_closed_gate_outlives_the_process_and_is_told_by_the_heartbeat() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.renew_session(some_session(), LONG).await.unwrap(), Gate::Open);
    for (_, closure) in Closure::WORDS {
        store.set_gate(Gate::Closed(closure)).await.unwrap();
        assert_eq!(store.renew_session(some_session(), LONG).await.unwrap(), Gate::Closed(closure));
    }
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.gate().await.unwrap(), Gate::Closed(Closure::Backup));
    assert_eq!(store.renew_session(some_session(), LONG).await.unwrap(), Gate::Closed(Closure::Backup));
}

#[tokio::test]
async fn a_gate_that_was_opened_again_stays_open() {
    let dir = TempDir::new().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.set_gate(Gate::Closed(Closure::Leaving)).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.set_gate(Gate::Open).await.unwrap();
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.gate().await.unwrap(), Gate::Open);
}

/// What stands in the golden files, under keys of these bytes.
fn golden_records() -> [(u8, Record); 3] {
    let record = |number: u8, phase| Record {
        version: Version { attempt: Attempt([number; 16]), revision: 0 },
        session: Session([7; 16]),
        fingerprint: Fingerprint::from_bytes([8; 32]),
        attempts: 1,
        opened_at: UnixMillis(1_700_000_000_123),
        route: "/payments/{id}".to_owned(),
        phase,
    };
    [
        (1, record(1, Phase::InFlight)),
        (2, record(2, done_with(bytes_of(20_000)))),
        (3, record(3, unknown(UnknownReason::ConnectionLost))),
    ]
}

/// Opens a copy of a file of that format. Never make it anew: files outlive releases, and where it cannot be
/// read any more, those of users cannot either.
fn golden(name: &str) -> (TempDir, EmbeddedStore) {
    let dir = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::copy(golden, dir.path().join("onceway.redb")).unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    (dir, store)
}

async fn expect_golden(store: &EmbeddedStore) {
    for (byte, record) in golden_records() {
        let key = StorageKey::from_bytes([byte; 32]);
        assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(record)));
    }
}

/// What a file must do of whatever format it was: hold what it held, and go on.
async fn expect_served(name: &str) {
    let (dir, store) = golden(name);
    expect_golden(&store).await;
    assert_eq!(store.gate().await.unwrap(), Gate::Open);
    let (byte, claim) = &golden_records()[0];
    let (key, done) = (StorageKey::from_bytes([*byte; 32]), after(claim, done_with("paid")));
    assert_eq!(store.swap(&key, claim.version, &done, LONG).await.unwrap(), Swapped::Done);
    assert_eq!(store.insert(&some_key(), &a_claim(), LONG).await.unwrap(), Seen::Nothing);
    assert_eq!(all_of(&store, 2).await.len(), 4, "each once");
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(done)));
}

#[tokio::test]
async fn a_file_of_format_1_is_opened_and_served() {
    expect_served("embedded-format-1.redb").await;
}

#[tokio::test]
async fn a_file_of_format_2_is_opened_and_says_why_it_is_closed() {
    let (_dir, store) = golden("embedded-format-2.redb");
    expect_golden(&store).await;
    assert_eq!(store.gate().await.unwrap(), Gate::Closed(Closure::Leaving));
}

#[tokio::test]
async fn a_file_of_format_3_is_opened_and_served() {
    expect_served("embedded-format-3.redb").await;
}

#[tokio::test]
async fn a_file_of_an_earlier_format_is_refused_by_earlier_builds_as_soon_as_it_was_opened() {
    for earlier in ["embedded-format-1.redb", "embedded-format-2.redb"] {
        let (dir, store) = golden(earlier);
        drop(store);
        assert_eq!(format_of(dir.path()), 3, "{earlier}");
    }
}

#[tokio::test]
async fn a_claim_of_an_earlier_format_moves_when_it_is_written_and_leaves_nothing_behind() {
    let (dir, store) = golden("embedded-format-1.redb");
    let (byte, claim) = &golden_records()[0];
    let key = StorageKey::from_bytes([*byte; 32]);
    let again = after(claim, Phase::InFlight);
    assert_eq!(store.swap(&key, claim.version, &again, LONG).await.unwrap(), Swapped::Done);
    drop(store);
    assert_eq!(stands_in(dir.path(), &key), ["claims"]);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Record(Box::new(again.clone())));
    let done = after(&again, done_with("paid"));
    assert_eq!(store.swap(&key, again.version, &done, LONG).await.unwrap(), Swapped::Done);
    drop(store);
    assert_eq!(stands_in(dir.path(), &key), ["records"]);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.remove(&key, done.version).await.unwrap(), Swapped::Done);
    drop(store);
    assert_eq!(stands_in(dir.path(), &key), [""; 0]);
}

#[tokio::test]
async fn a_damaged_claim_is_unreadable_and_never_absent() {
    let dir = TempDir::new().unwrap();
    let (key, claim) = (some_key(), a_claim());
    let store = EmbeddedStore::open(dir.path()).unwrap();
    store.insert(&key, &claim, LONG).await.unwrap();
    drop(store);
    by_hand(dir.path(), |transaction| {
        let mut claims = transaction.open_table(table("claims")).unwrap();
        let mut value = claims.get(key.as_bytes()).unwrap().unwrap().value().to_vec();
        *value.last_mut().unwrap() ^= 1;
        claims.insert(key.as_bytes(), value.as_slice()).unwrap();
    });
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.fetch(&key).await.unwrap(), Seen::Unreadable);
    assert_eq!(store.insert(&key, &a_claim(), LONG).await.unwrap(), Seen::Unreadable);
}

async fn all_of(store: &EmbeddedStore, most: usize) -> Vec<Moved> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(after, most).await.unwrap();
        assert!(page.records.len() <= most);
        all.extend(page.records);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

fn table(name: &str) -> TableDefinition<'_, &'static [u8; 32], &'static [u8]> {
    TableDefinition::new(name)
}

/// The names of the tables in which there is something under `key`.
fn stands_in(dir: &Path, key: &StorageKey) -> Vec<&'static str> {
    let mut names = vec!["claims", "records"];
    by_hand(dir, |transaction| {
        names.retain(|name| {
            let table = transaction.open_table(table(name)).unwrap();
            table.get(key.as_bytes()).unwrap().is_some()
        });
    });
    names
}

pub(crate) fn format_of(dir: &Path) -> u64 {
    let mut format = 0;
    by_hand(dir, |transaction| {
        let meta = transaction.open_table(TableDefinition::<&str, u64>::new("meta")).unwrap();
        format = meta.get("format").unwrap().unwrap().value();
    });
    format
}

fn by_hand(dir: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    // Other claims start programs, and a child that has not begun its program yet holds this process's locks.
    let mut opened = None;
    until("the file is free", || {
        opened = Database::open(dir.join("onceway.redb")).ok();
        opened.is_some()
    });
    let database = opened.unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// A gateway on this store, and on ports of its own.
async fn gateway_on(dir: &Path) -> onceway::gateway::Running {
    let mut config = onceway::config::for_upstream("http://127.0.0.1:9", None, None).unwrap();
    config.server.listen = "127.0.0.1:0".parse().unwrap();
    config.admin.listen = config.server.listen;
    config.store.url = onceway::config::StoreUrl::Embedded(dir.to_owned());
    onceway::gateway::start(config).await.unwrap()
}

#[tokio::test]
async fn a_gateway_that_has_drained_leaves_its_store_closed() {
    let dir = TempDir::new().unwrap();
    let gateway = gateway_on(dir.path()).await;
    assert!(matches!(EmbeddedStore::open(dir.path()), Err(OpenError::InUse { .. })));
    gateway.drain().await;
    eventually("the store is let go of", async || EmbeddedStore::open(dir.path()).is_ok()).await;
}
