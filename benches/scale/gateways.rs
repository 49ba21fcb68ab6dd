//! The gateways measured: one thread each, everything by default but what a step is about; and the Redis behind them.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Failure;
use super::servers::Server;

/// Under which records stand, so that they can be put there past the gateway.
pub(super) const NAMESPACE: &str = "scale";

/// A gateway's configuration as far as it is not the same for all.
pub(super) struct Config {
    pub(super) upstream: SocketAddr,
    pub(super) store_url: String,
    /// Lines for the tables of their names.
    pub(super) server: String,
    pub(super) store: String,
    pub(super) upstreams: String,
    pub(super) policy: String,
    pub(super) routes: String,
}

/// A gateway, running.
pub(super) struct Gateway {
    pub(super) server: Server,
    log: PathBuf,
}

/// Redis without its log: where the disk is slow it stops for seconds, and that is not what is measured.
pub(super) fn redis(dir: &Path) -> Result<Server, Failure> {
    let server = Server::redis(dir)?;
    let answer = asked(&server, "CONFIG SET appendonly no")?;
    if answer.starts_with("+OK") { Ok(server) } else { Err("Redis goes on with its log".into()) }
}

/// What Redis says that it holds.
pub(super) fn redis_memory(server: &Server) -> Result<u64, Failure> {
    let told = asked(server, "INFO memory")?;
    let line = told.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line.ok_or("Redis does not tell its memory")?.trim().parse()?)
}

fn asked(server: &Server, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

impl Config {
    /// One guarded path, records in memory.
    pub(super) fn new(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            store_url: "memory:".to_owned(),
            server: String::new(),
            store: String::new(),
            upstreams: String::new(),
            policy: String::new(),
            routes: "[[routes]]\npath = \"/payments\"\nkey = \"required\"\n".to_owned(),
        }
    }

    fn text(&self, port: u16) -> Result<String, fmt::Error> {
        use fmt::Write as _;
        let mut text = String::new();
        writeln!(text, "[server]\nlisten = \"127.0.0.1:{port}\"\nthreads = 1")?;
        // Callers wait for each other.
        writeln!(text, "idle_timeout = \"6h\"\nheader_timeout = \"6h\"")?;
        writeln!(text, "{}\n[admin]\nlisten = \"127.0.0.1:0\"", self.server)?;
        writeln!(text, "[store]\nurl = \"{}\"\nnamespace = \"{NAMESPACE}\"", self.store_url)?;
        // A disk or a server that others keep busy is not what is measured.
        writeln!(text, "timeout = \"30s\"\nsession_ttl = \"60s\"")?;
        writeln!(text, "{}\n[upstreams.default]\nurl = \"http://{}\"", self.store, self.upstream)?;
        writeln!(
            text,
            "{}\n[policy]\ncommit_timeout = \"30s\"\n{}\n{}",
            self.upstreams, self.policy, self.routes
        )?;
        Ok(text)
    }
}

impl Gateway {
    /// Starts one in a directory of its own below `dir`.
    pub(super) fn start(dir: &Path, config: &Config) -> Result<Self, Failure> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let own = dir.join(format!("gateway-{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let server = Server::start("onceway", &own, |own, port| {
            let path = own.join("onceway.toml");
            fs::write(&path, config.text(port).map_err(io::Error::other)?)?;
            let mut command = Command::new(env!("CARGO_BIN_EXE_onceway"));
            command.current_dir(own).arg("serve").arg("--config").arg(path);
            Ok(command)
        })?;
        Ok(Self { server, log: own.join("log") })
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Gives the room of its log back, which has a line for every request.
    pub(super) fn empty_log(&self) -> io::Result<()> {
        fs::File::options().write(true).open(&self.log)?.set_len(0)
    }
}
