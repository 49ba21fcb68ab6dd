//! A real `redis-server` in a directory of its own. It can be killed, stopped, continued and restarted
//! with the same data; it is killed when dropped.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use onceway::store::redis::RedisStore;
use onceway::store::{Options, Store};
use redis::Value;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use crate::records::eventually;

/// The namespace of every store the fixture makes.
pub(crate) const NAMESPACE: &str = "onceway";

const START_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct RedisServer {
    dir: TempDir,
    port: u16,
    is_tls: bool,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server whose every write is in its log before it is acknowledged.
    pub(crate) fn start() -> Self {
        Self::start_on(TempDir::new().unwrap(), false)
    }

    /// Starts a server that speaks TLS only, as `localhost`; see [`Self::certificate`].
    pub(crate) fn start_with_tls() -> Self {
        let dir = TempDir::new().unwrap();
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        Self::start_on(dir, true)
    }

    fn start_on(dir: TempDir, is_tls: bool) -> Self {
        let mut server = Self { dir, port: 0, is_tls, child: None };
        // Another process may take the port between its choice and its use; then another is chosen.
        for _ in 0..5 {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server did not start; its log:\n{}", server.log());
    }

    pub(crate) fn url(&self) -> String {
        if self.is_tls {
            return format!("rediss://localhost:{}/0", self.port);
        }
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    /// The certificate of a server with TLS, which signed it itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// A store that is connected.
    pub(crate) async fn store(&self) -> RedisStore {
        let store = RedisStore::connect(&self.url(), &Options::of(NAMESPACE)).unwrap();
        eventually("the store connects", || async { store.ping().await.is_ok() }).await;
        store
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

    /// How often the server has run `command`, as `INFO commandstats` counts it.
    pub(crate) async fn calls(&self, command: &str) -> u64 {
        let stats = self.text("INFO commandstats").await;
        let start = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts again on the same port with the data that reached the disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server did not start again; its log:\n{}", self.log());
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

    /// Answers whether the server came up and still runs.
    fn launch(&mut self) -> bool {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(self.listening())
            .args(["--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("is redis-server installed? {error}")));
        self.is_up_in_time()
    }

    fn listening(&self) -> Vec<String> {
        let port = self.port.to_string();
        let options = if self.is_tls {
            let (cert, key) = (self.certificate(), self.dir.path().join("key.pem"));
            format!(
                "--port 0 --tls-port {port} --tls-auth-clients no --tls-cert-file {} --tls-key-file {}",
                cert.display(),
                key.display()
            )
        } else {
            format!("--port {port}")
        };
        options.split(' ').map(str::to_owned).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own deadline")]
    fn is_up_in_time(&mut self) -> bool {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if self.log().contains("Ready to accept connections") {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn log(&self) -> String {
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

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
