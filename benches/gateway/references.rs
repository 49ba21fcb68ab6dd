//! What the gateway is measured beside: nginx with files to serve, `HAProxy`, and another gateway of its kind.
//!
//! The other gateway is `idempotent-proxy-server` from crates.io, which `scripts/bench` installs. Its path in its own URL
//! names the upstream, and it marks no replay.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Failure;
use super::servers::Server;
use super::upstream::{ANSWER_BYTES, GUARDED_PATH, LARGE_BYTES};

/// The path of a file as long as an answer, and of one as long as a large answer.
pub(super) const SMALL_FILE: &str = "/static/small.json";
pub(super) const LARGE_FILE: &str = "/static/large.json";

/// The path below which the other gateway forwards to [`GUARDED_PATH`].
pub(super) const PEERS_PATH: &str = "/URL_PAYMENTS";

const PEERS_PROGRAM: &str = "idempotent-proxy-server";

/// nginx as a plain proxy to `upstream` that serves the two files, too. Its directory is made in `dir`.
pub(super) fn nginx(dir: &Path, upstream: SocketAddr) -> Result<Server, Failure> {
    let server = Server::nginx(dir, upstream)?;
    for (path, bytes) in [(SMALL_FILE, ANSWER_BYTES), (LARGE_FILE, LARGE_BYTES)] {
        fs::write(dir.join("nginx").join(path.trim_start_matches('/')), file(bytes))?;
    }
    Ok(server)
}

/// What is in a file of so many bytes.
pub(super) fn file(bytes: usize) -> Vec<u8> {
    vec![b'.'; bytes]
}

/// `HAProxy` as a plain proxy with one thread, its log to a file.
pub(super) fn haproxy(dir: &Path, upstream: SocketAddr) -> Result<Server, Failure> {
    Server::start("haproxy", &dir.join("haproxy"), |dir, port| {
        let config = dir.join("haproxy.cfg");
        fs::write(&config, haproxy_config(port, upstream))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Ok(command)
    })
}

/// The other gateway with one thread, its records in the second database of `redis`, its log as it is by default.
pub(super) fn peer(dir: &Path, redis: SocketAddr, upstream: SocketAddr) -> Result<Server, Failure> {
    Server::start(PEERS_PROGRAM, &dir.join("peer"), |dir, port| {
        // It insists on such a file.
        fs::write(dir.join(".env"), "")?;
        let mut command = Command::new(peers_program());
        command.current_dir(dir).env("SERVER_ADDR", format!("127.0.0.1:{port}"));
        command.env("REDIS_URL", format!("redis://{redis}/1"));
        command.env("URL_PAYMENTS", format!("http://{upstream}{GUARDED_PATH}"));
        command.env("TOKIO_WORKER_THREADS", "1");
        // In milliseconds. It is the life of its records, too.
        command.env("REQUEST_TIMEOUT", "3600000");
        Ok(command)
    })
}

/// Where `scripts/bench` puts it, else wherever it is found.
fn peers_program() -> PathBuf {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/bin").join(PEERS_PROGRAM);
    if tools.exists() { tools } else { PathBuf::from(PEERS_PROGRAM) }
}

fn haproxy_config(port: u16, upstream: SocketAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 4096
    log stderr format raw local0
defaults
    mode http
    log global
    option httplog
    option forwardfor
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen service
    bind 127.0.0.1:{port}
    server service {upstream}
"
    )
}
