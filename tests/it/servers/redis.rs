//! A real `redis-server` in a directory of its own. It can be killed, stopped, continued and restarted
//! with the same data; it is killed when dropped.
//!
//! Sets of servers are made of these: `redis_sentinels.rs`, `redis_cluster.rs`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, Value};
use tempfile::TempDir;

use super::{LOOK_EVERY, SETTLED_WITHIN, awaited, free_port};

/// The namespace of every store the fixture makes.
pub(crate) const NAMESPACE: &str = "onceway";

/// How long a server may take to answer [`RedisServer::ask`]: a frozen one never does.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How often other ports are tried where one is taken.
const PORTS_TRIED: usize = 10;

pub(crate) struct RedisServer {
    dir: TempDir,
    port: u16,
    kind: Kind,
    child: Option<Child>,
}

/// What the process is started as.
enum Kind {
    /// Its every write is on the disk before it is acknowledged.
    Alone,
    /// The same, with TLS only.
    WithTls,
    /// One of several; these are the options that make it one.
    Member(Vec<String>),
    /// Keeps no data, and watches those who do as its file says.
    Sentinel,
}

impl RedisServer {
    /// Starts a server whose every write is in its log before it is acknowledged.
    pub(crate) fn start() -> Self {
        Self::start_on(TempDir::new().unwrap(), Kind::Alone)
    }

    /// Starts a server that speaks TLS only, as `localhost`; see [`Self::certificate`].
    pub(crate) fn start_with_tls() -> Self {
        let dir = TempDir::new().unwrap();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        Self::start_on(dir, Kind::WithTls)
    }

    fn start_on(dir: TempDir, kind: Kind) -> Self {
        let mut server = Self { dir, port: 0, kind, child: None };
        // Another process may take the port between its choice and its use; then another is chosen.
        for _ in 0..PORTS_TRIED {
            server.port = free_port();
            server.launch();
            if server.is_up() {
                return server;
            }
        }
        panic!("redis-server did not start; its log:\n{}", server.log());
    }

    /// One of several servers, not started yet.
    pub(super) fn member(port: u16, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { dir: TempDir::new().unwrap(), port, kind: Kind::Member(options), child: None }
    }

    /// A Sentinel that does as `file` says, not started yet.
    pub(super) fn sentinel(port: u16, file: &str) -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("sentinel.conf"), file).unwrap();
        Self { dir, port, kind: Kind::Sentinel, child: None }
    }

    pub(crate) fn url(&self) -> String {
        match self.kind {
            Kind::WithTls => format!("rediss://localhost:{}/0", self.port),
            Kind::Alone | Kind::Member(_) | Kind::Sentinel => format!("redis://{}/0", self.address()),
        }
    }

    /// The address to which it binds, with its port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The certificate of a server with TLS, which signed it itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// A store that is connected.
    pub(crate) async fn store(&self) -> RedisStore {
        connected(&self.url(), &Options::of(NAMESPACE)).await
    }

    /// Sends a command past the store.
    pub(crate) async fn raw(&self, words: &[&[u8]]) -> Value {
        let mut connection = self.connection().await;
        let (verb, arguments) = words.split_first().unwrap();
        let mut command = redis::Cmd::new();
        command.arg(*verb).arg(arguments).query_async(&mut connection).await.unwrap()
    }

    /// As [`Self::raw`], for commands that answer a text.
    pub(crate) async fn text(&self, words: &str) -> String {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        redis::from_redis_value(self.raw(&words).await).unwrap()
    }

    /// Sends a command past the store, from where there is no runtime. Errors where there is no answer, too.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &str) -> RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(ANSWER_WITHIN)?;
        connection.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut words = words.split(' ');
        redis::cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query(&mut connection)
    }

    /// Sends a command that takes its time; nobody hears what came of it.
    pub(crate) fn ask_in_background(&self, words: &str) -> JoinHandle<()> {
        let (client, words) = (redis::Client::open(self.url()).unwrap(), words.to_owned());
        std::thread::spawn(move || {
            let mut words = words.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            command.arg(words.collect::<Vec<_>>());
            client.get_connection().and_then(|mut connection| command.exec(&mut connection)).ok();
        })
    }

    /// How often the server has run `command`, as `INFO commandstats` counts it.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let stats = self.text("INFO commandstats").await;
        let start = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    /// Kills the process, as a crash does. What it wrote is with the system and not lost.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether there is a process that is not frozen.
    pub(super) fn is_running(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        !stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
    }

    /// Starts again on the same port with the data that reached the disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.launch();
        assert!(self.is_up(), "redis-server did not start again; its log:\n{}", self.log());
    }

    /// Freezes the process: its sockets stay open and answer nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success(), "send {name} to redis-server");
    }

    async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Begins to start; [`Self::is_up`] waits for the end of it.
    pub(super) fn launch(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("is redis-server installed? {error}")));
    }

    fn arguments(&self) -> Vec<String> {
        let (dir, port) = (self.dir.path().display(), self.port);
        let basic =
            format!("--bind 127.0.0.1 --save  --enable-debug-command local --appendonly yes --dir {dir}");
        let own = match &self.kind {
            Kind::Alone => format!("--port {port} --appendfsync always"),
            Kind::WithTls => format!(
                "--port 0 --tls-port {port} --tls-auth-clients no --tls-cert-file {dir}/cert.pem \
                 --tls-key-file {dir}/key.pem --appendfsync always"
            ),
            // What was written outlives the process without being forced to the disk; nobody pulls the plug.
            Kind::Member(options) => format!("--port {port} --appendfsync no {}", options.join(" ")),
            Kind::Sentinel => return vec![format!("{dir}/sentinel.conf"), "--sentinel".to_owned()],
        };
        format!("{basic} {own}").split(' ').map(str::to_owned).collect()
    }

    /// Waits until it has come up. Answers whether it still runs then.
    pub(super) fn is_up(&mut self) -> bool {
        let sign = match self.kind {
            Kind::Alone | Kind::WithTls | Kind::Member(_) => "Ready to accept connections",
            Kind::Sentinel => "+monitor master",
        };
        awaited("redis-server starts", || {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return Some(false);
            }
            self.log().contains(sign).then_some(true)
        })
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Changes a setting of the running server.
pub(crate) fn set(server: &RedisServer, name: &str, value: &str) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut connection).unwrap();
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A store that is connected.
pub(crate) async fn connected(url: &str, options: &Options) -> RedisStore {
    let store = RedisStore::connect(url, options).unwrap();
    let connecting = async {
        while store.ping().await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(SETTLED_WITHIN, connecting).await.expect("the store connects");
    store
}
