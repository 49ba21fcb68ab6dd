//! A gateway that is counted: the real program with a store of its own, by itself or under valgrind's callgrind.
//!
//! It is killed by its own handle when dropped, which it needs no time for: its counts are read while it runs.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::Failure;

/// Valgrind translates the program while it starts.
const START_WITHIN: Duration = Duration::from_secs(90);

/// For a store call or a new connection, which with valgrind on a busy machine may take longer than it should elsewhere.
const STEP_WITHIN: &str = "20s";

/// Another process may take a port between its choice and its use; then another is chosen.
const PORTS_TRIED_MAX: usize = 3;

/// What a gateway is started with.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) program: &'a Path,
    pub(super) store: &'a str,
    /// `store.local_cache`, if set.
    pub(super) cache: Option<&'a str>,
    pub(super) upstream: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    Nothing,
    Callgrind,
}

pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    dir: PathBuf,
    child: Child,
}

impl Gateway {
    /// Starts one with a directory of its own, and waits until it listens.
    pub(super) async fn start(dir: PathBuf, setting: Setting<'_>, under: Under) -> Result<Self, Failure> {
        fs::create_dir(&dir)?;
        for _ in 0..PORTS_TRIED_MAX {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            fs::write(dir.join("onceway.toml"), config(setting, address, free_port()?))?;
            let child = command(&dir, setting.program, under)?.spawn();
            let child = child.map_err(|error| format!("start the gateway: {error}"))?;
            let mut gateway = Self { address, dir: dir.clone(), child };
            if gateway.is_up_in_time().await? {
                return Ok(gateway);
            }
        }
        let log = fs::read_to_string(dir.join("log"))?;
        Err(format!("the gateway did not start; its log:\n{log}").into())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn is_up_in_time(&mut self) -> io::Result<bool> {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline && self.child.try_wait()?.is_none() {
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(false)
    }

    /// Instructions that all threads of a gateway under callgrind have executed since it began.
    pub(super) fn instructions(&self) -> Result<u64, Failure> {
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(format!("--pid={}", self.pid())).arg(prefix(&self.dir));
        // Without this it would wait for ever where the system lets it attach to nobody.
        let said = vgdb.args(["--cmd-time-out=30", "status", "internal"]).stdin(Stdio::null()).output();
        let said = said.map_err(|error| format!("run vgdb, which comes with valgrind: {error}"))?;
        let text = String::from_utf8_lossy(&said.stdout);
        executed(&text).ok_or_else(|| {
            format!("callgrind tells no counts: {}\n{text}", String::from_utf8_lossy(&said.stderr)).into()
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself, which the run has told already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The sum of the lines `events-2: 817927`, one for each thread. Lines such as `events-2-1:` are of its stack's
/// functions.
fn executed(status: &str) -> Option<u64> {
    let mut threads = status.lines().filter_map(|line| {
        let (name, count) = line.strip_prefix("events-")?.split_once(": ")?;
        name.parse::<u32>().ok()?;
        count.trim().parse::<u64>().ok()
    });
    threads.next().map(|first| first + threads.sum::<u64>())
}

fn command(dir: &Path, program: &Path, under: Under) -> io::Result<Command> {
    let mut command = match under {
        Under::Nothing => Command::new(program),
        Under::Callgrind => {
            let mut valgrind = Command::new("valgrind");
            // Of threads that wait, the next in the queue goes on, so that runs are alike.
            valgrind.args(["--tool=callgrind", "--fair-sched=try", "--vgdb=yes"]).arg(prefix(dir));
            let mut out = std::ffi::OsString::from("--callgrind-out-file=");
            out.push(dir.join("callgrind.out"));
            valgrind.arg(out).arg(program);
            valgrind
        }
    };
    let output = File::create(dir.join("log"))?;
    command.current_dir(dir).args(["serve", "--config", "onceway.toml"]);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(command)
}

/// Where valgrind and vgdb find each other, both being told.
fn prefix(dir: &Path) -> std::ffi::OsString {
    let mut prefix = std::ffi::OsString::from("--vgdb-prefix=");
    prefix.push(dir.join("vgdb"));
    prefix
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn config(setting: Setting<'_>, address: SocketAddr, admin_port: u16) -> String {
    let Setting { store, cache, upstream, .. } = setting;
    let cache = cache.map_or_else(String::new, |size| format!("local_cache = \"{size}\"\n"));
    format!(
        "[server]
listen = \"{address}\"
threads = 1
[admin]
listen = \"127.0.0.1:{admin_port}\"
[store]
url = \"{store}\"
namespace = \"n{admin_port}\"
timeout = \"{STEP_WITHIN}\"
{cache}[upstreams.default]
url = \"http://{upstream}\"
connect_timeout = \"{STEP_WITHIN}\"
[[routes]]
path = \"/payments\"
key = \"required\"
"
    )
}
