//! The real thing: gateways, servers and the command itself, which may be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use onceway::protocol::record::Seen;
use onceway::protocol::scope::StorageKey;
use onceway::store::embedded::EmbeddedStore;
use onceway::store::redis::RedisStore;
use onceway::store::transfer::Transfer;
use onceway::store::{Closure, Gate as StoreGate, Store};
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{Gate, Gateway, GatewayPlan, Reply, Unlistened, Upstream, post, until};
use crate::records::{LONG, a_claim, after, done_with, some_key};
use crate::servers::postgres::Database;
use crate::servers::redis::RedisServer;

const LEFT: StoreGate = StoreGate::Closed(Closure::Leaving);

/// Two stores, each named by a file, and the command between them.
struct Tool {
    dir: TempDir,
}

impl Tool {
    fn between(from: &str, to: &str) -> Self {
        let tool = Self { dir: TempDir::new().unwrap() };
        for (name, url) in [("old.toml", from), ("new.toml", to)] {
            let text = format!(
                "[store]\nurl = \"{url}\"\nsession_ttl = \"1s\"\n[upstreams.default]\nurl = \"http://h\"\n"
            );
            std::fs::write(tool.dir.path().join(name), text).unwrap();
        }
        tool
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = migrate(more);
        command.arg("--from-config").arg(self.file("old.toml"));
        if !more.contains(&"--abort") {
            command.arg("--to-config").arg(self.file("new.toml"));
        }
        command.current_dir(self.dir.path());
        command
    }

    /// Runs to the end, which must be a good one. Answers the summary.
    fn run(&self, more: &[&str]) -> String {
        let output = self.command(more).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs until it has told so many lines of its progress, and is killed there.
    fn run_and_kill_after(&self, lines: usize) {
        let mut child = self.command(&[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let progress = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(progress.take(lines).count(), lines, "it ended by itself");
        kill(&mut child);
    }
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn migrate(more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceway"));
    command.args(["store", "migrate"]).args(more).stdin(Stdio::null());
    command
}

fn told(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}\n{err}", output.status)
}

/// Says what key it was asked with.
fn service() -> Upstream {
    Upstream::by(|request| Reply::answer(201).body(request.header("idempotency-key").unwrap()))
}

fn sharing(url: &str, upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).store(url).with_short_sessions()
}

/// Callers that ask with key after key, each until it is answered, through whichever gateway answers.
struct Load {
    gateways: RwLock<Vec<Gateway>>,
    answered: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Load {
    fn on(gateways: Vec<Gateway>) -> Self {
        Self { gateways: RwLock::new(gateways), answered: Mutex::default(), is_over: AtomicBool::new(false) }
    }

    fn call(&self, caller: usize) {
        for number in 0.. {
            let (key, mut asked) = (format!("k{caller}-{number}"), number);
            until(&key, || {
                asked += 1;
                let gateways = self.gateways.read().unwrap();
                let answer = gateways[asked % gateways.len()].ask(&post("/payments").key(&key));
                assert!(answer.status != 201 || answer.text() == key, "{}", answer.shown());
                answer.status == 201
            });
            self.answered.lock().unwrap().push(key);
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }

    /// Moves the store and starts a gateway on the new one as soon as that is closed.
    fn move_between(&self, from: &str, to: &str, new: &GatewayPlan) {
        let tool = Tool::between(from, to);
        let mut command = tool.command(&["--settle-timeout", "20s"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            said = said + &line + "\n";
            if line.contains("the destination takes no claims") {
                let early = new.launch();
                self.gateways.write().unwrap().push(early);
            }
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}{}", told(&output), said);
    }
}

/// Ends the load when it is dropped.
struct EndOf<'l>(&'l Load);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
    }
}

/// Two gateways under load on `from`, one that waits on `to`, and the move between them.
fn move_under_load(from: &str, to: &str) {
    let upstream = service();
    let (old, new) = (sharing(from, &upstream), sharing(to, &upstream).store_line("local_cache = \"0\""));
    let load = Load::on(vec![old.start(), old.start()]);
    thread::scope(|scope| {
        // Also where something fails here, so that the callers do not go on for ever.
        let _end = EndOf(&load);
        for caller in 0..3 {
            let load = &load;
            scope.spawn(move || load.call(caller));
        }
        until("records are there", || load.count() > 30);
        load.move_between(from, to, &new);
        let before = load.count();
        until("the new store serves", || load.count() > before + 30);
    });
    load.gateways.write().unwrap().drain(..2);
    for key in &*load.answered.lock().unwrap() {
        let replay = load.gateways.read().unwrap()[0].ask(&post("/payments").key(key));
        assert_eq!((replay.word().as_deref(), &replay.text()), (Some("replayed"), key));
        assert_eq!(upstream.executions_of(key), 1, "{key}");
    }
}

#[test]
fn a_fleet_under_load_moves_from_one_redis_to_another_and_runs_every_key_once() {
    let (from, to) = (RedisServer::start(), RedisServer::start());
    move_under_load(&from.url(), &to.url());
}

#[test]
fn a_fleet_under_load_moves_from_redis_to_postgresql_and_runs_every_key_once() {
    let (from, to) = (RedisServer::start(), database());
    move_under_load(&from.url(), &to.url());
}

#[test]
fn a_fleet_under_load_moves_from_postgresql_to_redis_and_runs_every_key_once() {
    let (from, to) = (database(), RedisServer::start());
    move_under_load(&from.url(), &to.url());
}

fn database() -> Database {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Database::create())
}

/// A Redis with so many finished records.
async fn filled(records: usize) -> (RedisServer, Arc<RedisStore>, Vec<(StorageKey, Seen)>) {
    let server = RedisServer::start();
    let store = Arc::new(server.store().await);
    let mut kept = Vec::new();
    for number in 0..records {
        let (key, done) = (some_key(), after(&a_claim(), done_with(format!("answer {number}"))));
        store.insert(&key, &done, LONG).await.unwrap();
        kept.push((key, Seen::Record(Box::new(done))));
    }
    (server, store, kept)
}

async fn expect_all(server: &RedisServer, kept: &[(StorageKey, Seen)]) {
    let store = server.store().await;
    assert_eq!(store.gate().await.unwrap(), StoreGate::Open);
    for (key, seen) in kept {
        assert_eq!(store.fetch(key).await.unwrap(), *seen);
    }
}

#[tokio::test]
async fn a_move_that_was_killed_is_finished_by_the_next_run() {
    let ((from, source, kept), to) = (filled(300).await, RedisServer::start());
    let tool = Tool::between(&from.url(), &to.url());
    tool.run_and_kill_after(3);
    tool.run(&[]);
    expect_all(&to, &kept).await;
    assert_eq!(source.gate().await.unwrap(), LEFT);
    assert!(tool.run(&[]).contains("holds all records already"));
}

#[tokio::test]
async fn a_move_that_was_killed_can_be_called_off_and_made_anew() {
    let ((from, source, kept), to) = (filled(300).await, RedisServer::start());
    let tool = Tool::between(&from.url(), &to.url());
    tool.run_and_kill_after(4);
    assert_eq!(source.gate().await.unwrap(), LEFT);
    assert!(tool.run(&["--abort"]).contains("takes claims again"));
    assert_eq!(source.gate().await.unwrap(), StoreGate::Open);
    tool.run(&[]);
    expect_all(&to, &kept).await;
    let output = tool.command(&["--abort"]).output().unwrap();
    assert!(
        output.status.code() == Some(1) && told(&output).contains("was carried out"),
        "{}",
        told(&output)
    );
}

#[tokio::test]
async fn records_move_from_a_file_to_redis_and_into_another_file() {
    let dir = TempDir::new().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let key = some_key();
    let done = after(&a_claim(), done_with("paid"));
    let embedded = EmbeddedStore::open(&one).unwrap();
    embedded.insert(&key, &done, LONG).await.unwrap();
    drop(embedded);
    let redis = RedisServer::start();
    let file = |path: &Path| format!("file:{}", path.display());
    Tool::between(&file(&one), &redis.url()).run(&[]);
    Tool::between(&redis.url(), &file(&other)).run(&[]);
    let embedded = EmbeddedStore::open(&other).unwrap();
    assert_eq!(embedded.fetch(&key).await.unwrap(), Seen::Record(Box::new(done)));
    assert_eq!(embedded.gate().await.unwrap(), StoreGate::Open);
    assert_eq!(EmbeddedStore::open(&one).unwrap().gate().await.unwrap(), LEFT);
}

#[test]
fn sealed_answers_move_without_their_keys_and_replay() {
    let (from, to, upstream) = (RedisServer::start(), RedisServer::start(), service());
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("keys");
    std::fs::write(&file, format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple())).unwrap();
    let line = format!("encryption_key_file = \"{}\"", file.display());
    let old = sharing(&from.url(), &upstream).store_line(&line).start();
    assert_eq!(old.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    Tool::between(&from.url(), &to.url()).run(&[]);
    let new = sharing(&to.url(), &upstream).store_line(&line).start();
    let replay = new.ask(&post("/payments").key("k"));
    assert_eq!((replay.word().as_deref(), &*replay.text()), (Some("replayed"), "k"));
}

#[test]
fn a_file_that_its_gateway_uses_is_not_moved() {
    let (dir, upstream, redis) = (TempDir::new().unwrap(), service(), RedisServer::start());
    let url = format!("file:{}", dir.path().display());
    let _gateway = sharing(&url, &upstream).start();
    let output = Tool::between(&url, &redis.url()).command(&[]).output().unwrap();
    assert!(output.status.code() == Some(1) && told(&output).contains("its gateway must be stopped"));
    assert!(told(&output).contains("used by another process"), "{}", told(&output));
}

#[test]
fn a_gateway_that_was_frozen_while_its_store_moved_runs_nothing_that_the_new_store_ran() {
    let (from, to, upstream) = (RedisServer::start(), RedisServer::start(), Upstream::of_payments());
    let (frozen, witness) =
        (sharing(&from.url(), &upstream).start(), sharing(&from.url(), &upstream).start());
    witness.ask(&post("/payments").key("before"));
    frozen.freeze();
    let mut late = frozen.send(&post("/payments").key("k"));
    Tool::between(&from.url(), &to.url()).run(&[]);
    let new = sharing(&to.url(), &upstream).start();
    assert_eq!(new.ask(&post("/payments").key("k")).word().as_deref(), Some("executed"));
    frozen.signal("CONT");
    assert_eq!(late.read().status, 503);
    assert_eq!(upstream.executions_of("k"), 1);
}

#[test]
fn a_request_in_flight_on_a_frozen_gateway_is_an_unknown_outcome_in_the_new_store() {
    let (from, to, gate) = (RedisServer::start(), RedisServer::start(), Gate::shut());
    let upstream = Upstream::always(Reply::payment(1).held_by(&gate));
    let frozen = sharing(&from.url(), &upstream).start();
    let mut first = frozen.send(&post("/payments").key("k"));
    upstream.request(1);
    frozen.freeze();
    Tool::between(&from.url(), &to.url()).run(&["--settle-timeout", "1s"]);
    let new = sharing(&to.url(), &upstream).start();
    let retry = || new.ask(&post("/payments").key("k")).problem();
    until("its session is known to be dead", || retry() == (409, "outcome-unknown".into()));
    frozen.signal("CONT");
    gate.open();
    assert_eq!(first.read().text(), "payment 1");
    assert_eq!((retry().1.as_str(), upstream.executions()), ("outcome-unknown", 1));
}

#[tokio::test]
async fn a_closed_store_replays_what_is_finished_and_takes_nothing_new_even_where_errors_are_forwarded() {
    let (redis, upstream) = (RedisServer::start(), Upstream::of_payments());
    let plan = sharing(&redis.url(), &upstream).policy("on_store_error = \"forward\"");
    let gateway = plan.store_line("local_cache = \"0\"").start();
    let ask = |key: &str| gateway.ask(&post("/payments").key(key));
    ask("finished");
    let store = redis.store().await;
    store.set_gate(LEFT).await.unwrap();
    until("it hears of the closing", || gateway.readiness().status == 503);
    assert_eq!(ask("finished").word().as_deref(), Some("replayed"));
    assert_eq!(ask("new").problem(), (503, "store-unavailable".into()));
    store.set_gate(StoreGate::Open).await.unwrap();
    until("it hears of the opening", || ask("new").word().as_deref() == Some("executed"));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn what_makes_no_move_is_wrong_usage_and_shows_no_address() {
    for (from, to, tells) in [
        ("memory:", "redis://h", "--from: found memory:"),
        ("redis://h", "memory:", "--to: found memory:"),
        ("redis://:hunter2@", "redis://h", "--from: found an address (not shown)"),
        (
            "redis://${ONCEWAY_NO_SUCH_VARIABLE}@h",
            "redis://h",
            "${ONCEWAY_NO_SUCH_VARIABLE}, which is not set",
        ),
    ] {
        let output = migrate(&["--from", from, "--to", to]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains(tells) && !told(&output).contains("hunter2"), "{}", told(&output));
    }
}

#[test]
fn where_there_is_nothing_to_move_no_destination_is_made() {
    let dir = TempDir::new().unwrap();
    let (nobody, empty, target) = (Unlistened::port(), dir.path().join("empty"), dir.path().join("target"));
    std::fs::create_dir(&empty).unwrap();
    drop(EmbeddedStore::open(&dir.path().join("unused")).unwrap());
    let file = |name: &str| format!("file:{}", dir.path().join(name).display());
    for (from, tells) in [
        (file("no-such"), "there is no directory"),
        (file("empty"), "there is no store in"),
        (file("unused"), "the source holds no records"),
        (nobody.url().replace("http://", "redis://"), "use the source"),
    ] {
        let output = migrate(&["--from", &from, "--to", &file("target")]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(told(&output).contains(tells), "{}", told(&output));
        assert!(!target.exists(), "{from}: {}", told(&output));
    }
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "the source is left as it is");
}

#[test]
fn gateways_that_would_not_know_each_others_keys_make_no_move() {
    let tool = Tool::between("redis://h", "redis://g");
    let text = std::fs::read_to_string(tool.file("new.toml")).unwrap();
    for (line, tells) in [
        ("namespace = \"other\"", "the namespaces differ"),
        ("hash_key_file = \"secret\"", "the secrets in store.hash_key_file differ"),
    ] {
        std::fs::write(tool.file("secret"), "a secret of more than sixteen bytes").unwrap();
        std::fs::write(tool.file("new.toml"), text.replace("[store]", &format!("[store]\n{line}"))).unwrap();
        let output = tool.command(&[]).output().unwrap();
        assert!(output.status.code() == Some(2) && told(&output).contains(tells), "{}", told(&output));
    }
}

#[test]
fn gateways_that_would_tell_callers_apart_by_something_else_make_no_move() {
    let tool = Tool::between("redis://h", "redis://g");
    for (name, scope) in [("old.toml", "Authorization"), ("new.toml", "X-Account")] {
        let text = std::fs::read_to_string(tool.file(name)).unwrap();
        let route = format!("[[routes]]\npath = \"/orders\"\nscope = [\"header:{scope}\"]\n");
        std::fs::write(tool.file(name), format!("{text}\n{route}")).unwrap();
    }
    let output = tool.command(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("the scopes of /orders differ"), "{}", told(&output));
}
