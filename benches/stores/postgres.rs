//! The database server with its settings as they are by default, and the plain insert that the store is held
//! against.
//!
//! It refuses to run as root, so there it runs as another user.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls, Statement};

use super::Failure;
use super::cpu::Used;
use super::servers::{self, Server};

/// Connections of the plain insert: more of them have not been seen to do more.
const PLAIN_CONNECTIONS: usize = 16;

const STOP_WITHIN: Duration = Duration::from_secs(10);

const INSERT: &str = "INSERT INTO plain (key, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";

/// A server that ends in order when it is dropped.
pub(super) struct Postgres(Server);

/// Connections to it, for the plain insert.
pub(super) struct Plain {
    clients: Vec<(Client, Statement)>,
    next: AtomicUsize,
    _connections: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Postgres {
    pub(super) fn start(dir: &Path) -> Result<Self, Failure> {
        let (initdb, postgres) = (program("initdb")?, program("postgres")?);
        let server = Server::start("postgres", &dir.join("postgres"), |dir, port| {
            give_away(dir)?;
            let data = dir.join(format!("data-{port}"));
            let mut making = as_other(&initdb)?;
            making.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D"]);
            let made = making.arg(&data).output()?;
            if !made.status.success() {
                return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
            }
            let mut command = as_other(&postgres)?;
            command.arg("-D").arg(data).args(["-p", &port.to_string()]);
            command.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
            Ok(command)
        })?;
        Ok(Self(server))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The processor time of the server and of the processes it has.
    pub(super) fn used(&self) -> io::Result<Used> {
        let mut used = Used::by(self.0.pid())?;
        let parent = self.0.pid().to_string();
        for process in fs::read_dir("/proc")? {
            let process = process?;
            // One may end between the look and the reading.
            let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let of_whom = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1));
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if let (Some(pid), true) = (pid, of_whom == Some(&parent))
                && let Ok(child) = Used::by(pid)
            {
                used.total += child.total;
            }
        }
        Ok(used)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Killed outright, it would leave shared memory behind.
        let stop = Command::new("kill").args(["-s", "INT", &self.0.pid().to_string()]).status();
        let began = Instant::now();
        let is_up = || TcpStream::connect(self.0.address).is_ok();
        while stop.is_ok() && is_up() && began.elapsed() < STOP_WITHIN {
            std::thread::sleep(Duration::from_millis(10));
        }
        // It no longer listens a moment before it is done.
        std::thread::sleep(Duration::from_millis(500));
    }
}

impl Plain {
    pub(super) async fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let (mut clients, mut connections) = (Vec::new(), JoinSet::new());
        for _ in 0..PLAIN_CONNECTIONS {
            let (client, connection) = tokio_postgres::connect(&url(server), NoTls).await?;
            connections.spawn(connection);
            client
                .batch_execute(
                    "CREATE TABLE IF NOT EXISTS plain (key bytea PRIMARY KEY, value bytea NOT NULL)",
                )
                .await?;
            let insert = client.prepare(INSERT).await?;
            clients.push((client, insert));
        }
        Ok(Self { clients, next: AtomicUsize::new(0), _connections: connections })
    }

    pub(super) async fn write(&self, key: &[u8], value: &[u8]) -> Result<bool, Failure> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % PLAIN_CONNECTIONS;
        let (client, insert) = self.clients.get(at).ok_or("there is no connection")?;
        Ok(client.execute(insert, &[&key, &value]).await? == 1)
    }
}

pub(super) fn url(server: SocketAddr) -> String {
    format!("postgres://postgres@{server}/postgres?sslmode=disable")
}

pub(super) fn version() -> Result<String, Failure> {
    let postgres = program("postgres")?;
    servers::version_of(&postgres.display().to_string(), "--version")
}

/// The newest of the versions installed.
fn program(name: &str) -> Result<PathBuf, Failure> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let dirs = versions.map(|version| version.path().join("bin")).chain(told);
    let found = dirs.map(|dir| dir.join(name)).filter(|path| path.is_file()).max();
    found.ok_or_else(|| format!("{name} was not found: is PostgreSQL installed?").into())
}

/// A user and a group to run as, where this process is root.
fn other_user() -> io::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let user = |name: &str| {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = user("postgres").or_else(|| user("nobody"));
    found.map(Some).ok_or_else(|| io::Error::other("there is no user called postgres or nobody"))
}

fn give_away(dir: &Path) -> io::Result<()> {
    match other_user()? {
        Some((user, group)) => chown(dir, Some(user), Some(group)),
        None => Ok(()),
    }
}

fn as_other(program: &Path) -> io::Result<Command> {
    let Some((user, group)) = other_user()? else { return Ok(Command::new(program)) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(program);
    Ok(command)
}
