//! How long a gateway on the embedded store takes from its start to its first answered request, after a
//! clean end and after `kill -9` under load, with many records in the file.
//!
//! The records are written through the store's own door, in the order of keys, so that filling takes minutes
//! and not hours; real keys come in any order, and leave the pages of the file about two thirds full.
//! Started by `scripts/recovery`.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use onceway::protocol::fingerprint::Fingerprint;
use onceway::protocol::record::{Attempt, Phase, Record, Session, Settled, UnixMillis, Version};
use onceway::protocol::saved::{SavedHead, SavedResponse};
use onceway::protocol::scope::StorageKey;
use onceway::store::codec::Codec;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::transfer::{Moved, Transfer};
use rustix::fs::{Advice, fadvise};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const RECORDS: u64 = 1_000_000;
const BATCH: u64 = 50_000;
const BODY_BYTES: usize = 200;
const KEEP_FOR: Duration = Duration::from_hours(24);
const STARTS: usize = 5;

/// Requests answered before a kill, and callers that send them.
const ANSWERED_BEFORE_KILL: u64 = 400;
const CALLERS: u64 = 8;

/// A start that takes longer fails the benchmark.
const START_MAX: Duration = Duration::from_mins(10);

const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\nconnection: close\r\n\r\npaid";

fn main() -> ExitCode {
    // `cargo test --all-targets` runs this file too, and has no time for it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("the benchmark failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    writeln!(io::stdout(), "{line}").ok();
}

fn run() -> Result<(), Failure> {
    let records = match std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        Some(number) => number.replace('_', "").parse()?,
        None => RECORDS,
    };
    let dir = tempfile::Builder::new().prefix("onceway-recovery-").tempdir()?;
    let store = dir.path().join("data");
    fill(&store, records)?;
    let upstream = upstream()?;
    let file = store.join("onceway.redb");
    report("opened in this process after a clean end", &times(|| open(&store))?);
    report("first answer after a clean end", &times(|| start(dir.path(), upstream, End::Clean))?);
    report(
        "  the same, file not in memory",
        &times(|| {
            forget(&file)?;
            start(dir.path(), upstream, End::Clean)
        })?,
    );
    start(dir.path(), upstream, End::Kill)?;
    report("first answer after kill -9", &times(|| start(dir.path(), upstream, End::Kill))?);
    report(
        "  the same, file not in memory",
        &times(|| {
            forget(&file)?;
            start(dir.path(), upstream, End::Kill)
        })?,
    );
    report(
        "opened in this process after kill -9",
        &times(|| {
            start(dir.path(), upstream, End::Kill)?;
            open(&store)
        })?,
    );
    let empty = dir.path().join("empty");
    fs::create_dir(&empty)?;
    report("first answer with an empty store", &times(|| start(&empty, upstream, End::Clean))?);
    Ok(())
}

fn report(what: &str, times: &[Duration]) {
    let text = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    let (median, max) = (text(times.get(times.len() / 2)), text(times.last()));
    say(&format!("{what:<45} median {median:>9.1} ms   max {max:>9.1} ms"));
}

fn times(mut measure: impl FnMut() -> Result<Duration, Failure>) -> Result<Vec<Duration>, Failure> {
    let mut times = (0..STARTS).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times)
}

fn fill(dir: &Path, records: u64) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let store = EmbeddedStore::open(dir)?;
    let spacing = u64::MAX / records.max(1);
    for first in (0..records).step_by(usize::try_from(BATCH)?) {
        let numbers = first..(first + BATCH).min(records);
        runtime.block_on(store.put(numbers.map(|number| moved(number, spacing)).collect()))?;
    }
    drop(store);
    let metadata = fs::metadata(dir.join("onceway.redb"))?;
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let (took, size, on_disk) = (began.elapsed(), mib(metadata.len()), mib(metadata.blocks() * 512));
    say(&format!("{records} records in {size} MiB ({on_disk} MiB on the disk), written in {took:.0?}"));
    Ok(())
}

fn moved(number: u64, spacing: u64) -> Moved {
    let (mut key, mut attempt) = ([0x5A; 32], [7; 16]);
    let places = key.iter_mut().zip((number * spacing).to_be_bytes());
    places.for_each(|(place, byte)| *place = byte);
    attempt.iter_mut().zip(number.to_be_bytes()).for_each(|(place, byte)| *place = byte);
    let key = StorageKey::from_bytes(key);
    let headers = [("content-type", "application/json"), ("location", "/payments/0123456789")];
    let line = |(name, value): (&str, &'static str)| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    let saved = SavedResponse {
        head: SavedHead { status: 201, headers: headers.map(line).into() },
        body: Bytes::from_static(&[b'x'; BODY_BYTES]),
        trailers: [].into(),
    };
    let record = Record {
        version: Version { attempt: Attempt(attempt), revision: 1 },
        session: Session([1; 16]),
        fingerprint: Fingerprint::from_bytes([2; 32]),
        attempts: 1,
        opened_at: UnixMillis(1_700_000_000_000),
        route: "/payments".to_owned(),
        phase: Phase::Done {
            saved,
            settled: Settled { at: UnixMillis(1_700_000_000_100), keep_for: KEEP_FOR },
        },
    };
    // A moment apart each, as they would have come.
    let keep_for = KEEP_FOR + Duration::from_millis(number / 10);
    Moved { key, encoded: Codec::default().encode(&key, &record), keep_for }
}

fn open(dir: &Path) -> Result<Duration, Failure> {
    let began = Instant::now();
    let store = EmbeddedStore::open(dir)?;
    let took = began.elapsed();
    drop(store);
    Ok(took)
}

/// Takes the file out of the system's memory, as after a restart of the machine.
fn forget(file: &PathBuf) -> io::Result<()> {
    let file = File::open(file)?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Clean,
    Kill,
}

struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts the gateway in `dir`, and ends it as told. Answers the time to its first answer.
fn start(dir: &Path, upstream: SocketAddr, end: End) -> Result<Duration, Failure> {
    let (listen, admin) = (free_address()?, free_address()?);
    let config = format!(
        "[server]\nlisten = \"{listen}\"\n[admin]\nlisten = \"{admin}\"\n[store]\nurl = \"file:data\"\n\
         [upstreams.default]\nurl = \"http://{upstream}\"\n[[routes]]\npath = \"/payments\"\nkey = \"required\"\n"
    );
    fs::write(dir.join("onceway.toml"), config)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceway"));
    command.current_dir(dir).args(["serve", "--config", "onceway.toml"]);
    let log = File::create(dir.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let began = Instant::now();
    let mut gateway = Gateway(command.spawn()?);
    while ask(listen).is_err() {
        if began.elapsed() > START_MAX || gateway.0.try_wait()?.is_some() {
            return Err(format!("it did not start:\n{}", fs::read_to_string(dir.join("log"))?).into());
        }
        thread::sleep(Duration::from_micros(500));
    }
    let took = began.elapsed();
    match end {
        End::Kill => kill_under_load(&mut gateway, listen)?,
        End::Clean => terminate(&mut gateway)?,
    }
    Ok(took)
}

fn kill_under_load(gateway: &mut Gateway, listen: SocketAddr) -> Result<(), Failure> {
    let (answered, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (answered, is_over) = (answered.clone(), is_over.clone());
            thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    answered.fetch_add(u64::from(ask(listen).is_ok()), Ordering::SeqCst);
                }
            })
        })
        .collect();
    let began = Instant::now();
    while answered.load(Ordering::SeqCst) < ANSWERED_BEFORE_KILL && began.elapsed() < START_MAX {
        thread::sleep(Duration::from_millis(1));
    }
    gateway.0.kill()?;
    gateway.0.wait()?;
    is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        drop(caller.join());
    }
    Ok(())
}

fn terminate(gateway: &mut Gateway) -> Result<(), Failure> {
    let id = gateway.0.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status()?;
    if gateway.0.wait()?.success() { Ok(()) } else { Err("it did not end well".into()) }
}

/// Sends a guarded request with a key of its own. An error unless it was executed.
fn ask(gateway: SocketAddr) -> Result<(), Failure> {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let key = format!("{}-{}", std::process::id(), ASKED.fetch_add(1, Ordering::SeqCst));
    let mut connection = TcpStream::connect(gateway)?;
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!(
        "POST /payments HTTP/1.1\r\nhost: onceway\r\nidempotency-key: {key}\r\ncontent-length: 2\r\n\
         connection: close\r\n\r\n{{}}"
    );
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    if answer.starts_with(b"HTTP/1.1 201") { Ok(()) } else { Err("not executed".into()) }
}

/// A service that answers every request, however small.
fn upstream() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || answer(connection));
        }
    });
    Ok(address)
}

/// The head and the two bytes of the body end with the body.
fn answer(mut connection: TcpStream) -> io::Result<()> {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"{}") {
        match connection.read(&mut piece)? {
            0 => return Ok(()),
            length => request.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }
    connection.write_all(ANSWER)
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
