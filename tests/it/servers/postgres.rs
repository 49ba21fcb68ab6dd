//! A real PostgreSQL. One is shared by all tests that only need rows of their own; a test that kills, freezes or
//! promotes its server starts another.
//!
//! Every server is guarded by a shell that reads from a pipe held by this process: when the process ends, however
//! it ends, the pipe closes, and the shell kills the server and removes its files. PostgreSQL refuses to run as
//! root, so there it runs as another user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use onceway::store::postgres::PostgresStore;
use onceway::store::{Options, Store};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use uuid::Uuid;

use super::free_port;
use crate::harness::until;

/// Long enough for a machine that does many things at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct PostgresServer {
    dir: PathBuf,
    port: u16,
    guard: Option<Child>,
}

/// A database on the shared server, removed with it.
pub(crate) struct Database {
    server: &'static PostgresServer,
    name: String,
}

impl PostgresServer {
    /// The server that tests share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut server = Self::somewhere();
            server.make_data();
            // Never dropped by this process, hence removed by the guard, and the template with it.
            copy(&server.data(), &server.template());
            server.launch_somewhere();
            server
        })
    }

    /// Starts a server of its own.
    pub(crate) fn start() -> Self {
        let mut server = Self::somewhere();
        copy(&Self::shared().template(), &server.data());
        server.launch_somewhere();
        server
    }

    fn somewhere() -> Self {
        let dir = TempDir::new().unwrap().keep();
        give_away(&dir);
        Self { dir, port: 0, guard: None }
    }

    /// Another process may take the port between its choice and its use; then another is chosen.
    fn launch_somewhere(&mut self) {
        for _ in 0..5 {
            self.port = free_port();
            if self.has_launched() {
                return;
            }
            self.release();
        }
        panic!("postgres did not start; its log:\n{}", self.log());
    }

    fn make_data(&self) {
        let initdb = as_server(&bin("initdb")).args(INITDB).arg("-D").arg(self.data()).output().unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        self.write("pg_hba.conf", HBA);
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        self.write("server.crt", &own.cert.pem());
        self.write("server.key", &own.signing_key.serialize_pem());
    }

    /// Starts again on the same port, with the data that reached the disk.
    pub(crate) fn launch(&mut self) {
        assert!(self.has_launched(), "postgres did not start again; its log:\n{}", self.log());
    }

    /// Whether the port was free.
    fn has_launched(&mut self) -> bool {
        let command = format!(
            "{} -D data -p {} {SETTINGS} >> log 2>&1 & pid=$!; read line; kill -QUIT $pid; wait $pid; \
             [ \"$line\" = keep ] || rm -rf '{}'",
            bin("postgres").display(),
            self.port,
            self.dir.display()
        );
        let refused = self.log().matches(NO_PORT).count();
        let sh = as_server(Path::new("/bin/sh"))
            .args(["-c", &command])
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.guard = Some(sh.unwrap());
        let is_refused = || self.log().matches(NO_PORT).count() > refused;
        until("postgres is up", || self.is_up() || is_refused());
        self.is_up()
    }

    /// Kills the server as a crash does, and waits until nothing is left of it.
    pub(crate) fn kill(&mut self) {
        let children = self.children();
        self.signal("KILL");
        // They notice that their parent is gone; a successor must not meet them.
        until("its children have ended", || {
            children.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        });
        self.release();
    }

    /// Stops it in order, at once.
    pub(crate) fn stop(&mut self) {
        self.signal("INT");
        until("postgres has stopped", || !self.data().join("postmaster.pid").exists());
        self.release();
    }

    pub(crate) fn freeze(&self) {
        self.signal_all("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal_all("CONT");
    }

    /// Writes a file of the data directory.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        give_away(&path);
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        // The data directory is the server's alone; a copy is for everybody.
        let copy = self.dir.join("trusted.crt");
        fs::copy(self.data().join("server.crt"), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
        copy
    }

    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub(crate) fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// A store in a namespace that nobody else uses, connected.
    pub(crate) async fn store(&self) -> PostgresStore {
        connected(&self.url(), &Uuid::new_v4().to_string()).await
    }

    /// A connection past the store.
    pub(crate) async fn client(&self) -> Client {
        client(&self.url()).await
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn template(&self) -> PathBuf {
        self.dir.join("template")
    }

    fn is_up(&self) -> bool {
        let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        status.lines().nth(7).is_some_and(|state| state.trim() == "ready" || state.trim() == "standby")
    }

    fn pid(&self) -> u32 {
        let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        status.lines().next().unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// To the postmaster and to every process it has.
    fn signal_all(&self, name: &str) {
        for pid in self.children().into_iter().chain([self.pid()]) {
            // One may end between the look and the signal.
            Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
        }
    }

    fn children(&self) -> Vec<u32> {
        let found = Command::new("pgrep").args(["-P", &self.pid().to_string()]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Ends the guard, whose server has ended, and keeps the files.
    fn release(&mut self) {
        use std::io::Write as _;
        let mut guard = self.guard.take().unwrap();
        guard.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        guard.wait().unwrap();
        fs::remove_file(self.data().join("postmaster.pid")).ok();
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        match &mut self.guard {
            Some(guard) => {
                drop(guard.stdin.take());
                guard.wait().ok();
            }
            None => drop(fs::remove_dir_all(&self.dir)),
        }
    }
}

impl Database {
    /// An empty database on the shared server.
    pub(crate) async fn create() -> Self {
        let server = PostgresServer::shared();
        let name = format!("d{}", Uuid::new_v4().simple());
        let sql = format!("CREATE DATABASE {name} STRATEGY file_copy");
        server.client().await.batch_execute(&sql).await.unwrap();
        Self { server, name }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url_of(&self.name)
    }

    /// The address for another role.
    pub(crate) fn url_as(&self, role: &str) -> String {
        self.url().replace("postgres@", &format!("{role}@"))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        connected(&self.url(), "onceway").await
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.url()).await
    }

    /// Runs statements past the store. Answers the first column of the last of its rows.
    pub(crate) async fn run(&self, sql: &str) -> Option<String> {
        run(&self.client().await, sql).await
    }
}

/// Runs statements. Answers the first column of the last of its rows.
pub(crate) async fn run(client: &Client, sql: &str) -> Option<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        SimpleQueryMessage::CommandComplete(_) | SimpleQueryMessage::RowDescription(_) | _ => None,
    })
}

/// As all others, with more patience than a loaded machine can exhaust.
pub(crate) fn patient(namespace: &str) -> Options {
    Options { timeout: PATIENCE, ..Options::of(namespace) }
}

pub(crate) async fn connected(url: &str, namespace: &str) -> PostgresStore {
    let store = PostgresStore::connect(url, &patient(namespace)).unwrap();
    let connecting = async {
        while store.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::SETTLED_WITHIN, connecting).await.expect("the store connects");
    store
}

pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { drop(connection.await) });
    client
}

const INITDB: &[&str] = &[
    "--no-sync",
    "--auth=trust",
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
];

/// Whoever is called `guarded` needs a password.
const HBA: &str = "host all guarded 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n\
                   host replication all 127.0.0.1/32 trust\n";

/// What the server's log says when another process has its port.
const NO_PORT: &str = "could not create any TCP/IP sockets";

const SETTINGS: &str = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
                        -c max_connections=300 -c shared_buffers=32MB -c ssl=on -c log_line_prefix='%d %a ' \
                        -c hot_standby=on";

fn bin(name: &str) -> PathBuf {
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).chain(told).map(|dir| dir.join(name));
    let found = found.filter(|path| path.is_file()).max();
    found.unwrap_or_else(|| panic!("{name} was not found: is PostgreSQL installed?"))
}

/// A user and a group to run as, where this process is root.
fn other_user() -> Option<(u32, u32)> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| (fields.nth(1).unwrap(), fields.next().unwrap()))
        })
    };
    let (uid, gid) = user("postgres").or_else(|| user("nobody")).expect("a user called postgres or nobody");
    Some((uid.parse().unwrap(), gid.parse().unwrap()))
}

fn give_away(path: &Path) {
    if let Some((uid, gid)) = other_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Copies a directory, whose files stay the server's.
fn copy(from: &Path, to: &Path) {
    let status = as_server(Path::new("/bin/cp")).arg("-r").args([from, to]).status().unwrap();
    assert!(status.success(), "copy {}", from.display());
}

fn as_server(program: &Path) -> Command {
    let Some((uid, gid)) = other_user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups").arg(program);
    command
}
