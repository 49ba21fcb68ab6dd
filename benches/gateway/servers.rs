//! The processes measured: nginx, Redis and the gateways, each on a free port of the loopback, with its files
//! in one directory that is removed at the end. They are killed by their own handles when dropped.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Failure;

const START_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Another process may take a port between its choice and its use; then another is chosen.
const PORTS_TRIED_MAX: usize = 5;

/// A directory for all, below Cargo's own, so that the embedded store meets a real disk.
pub(super) fn directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

/// A process that serves on an address.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// When it was started.
    pub(super) since: Instant,
    child: Child,
}

/// What a gateway's configuration says beside its address and its upstream.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    /// `store.url`.
    pub(super) store: &'a str,
    /// `store.local_cache`, if set.
    pub(super) cache: Option<&'a str>,
    /// `server.threads`.
    pub(super) threads: u32,
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// nginx with one process and an access log: a plain proxy that keeps its connections to `upstream`, and below
    /// `/static/` a server of the files in the folder of that name.
    pub(super) fn nginx(dir: &Path, upstream: SocketAddr) -> Result<Self, Failure> {
        Self::start("nginx", &dir.join("nginx"), |dir, port| {
            let config = dir.join("nginx.conf");
            fs::create_dir_all(dir.join("static"))?;
            fs::write(&config, nginx_config(dir, port, upstream))?;
            let mut command = Command::new("nginx");
            command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(config);
            Ok(command)
        })
    }

    /// Redis with its log written at once and put on the disk every second.
    pub(super) fn redis(dir: &Path) -> Result<Self, Failure> {
        Self::start("redis-server", &dir.join("redis"), |dir, port| {
            let mut command = Command::new("redis-server");
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
            command.args(["--maxmemory-policy", "noeviction", "--dir"]).arg(dir);
            Ok(command)
        })
    }

    /// The gateway with one thread, its log as it is by default. `cache` is `store.local_cache`, if set.
    pub(super) fn gateway(
        dir: &Path,
        name: &str,
        store: &str,
        cache: Option<&str>,
        upstream: SocketAddr,
    ) -> Result<Self, Failure> {
        Self::gateway_with(dir, name, &Setup { store, cache, threads: 1 }, upstream)
    }

    /// The gateway set up so, its log as it is by default. `name` is that of its directory and its namespace.
    pub(super) fn gateway_with(
        dir: &Path,
        name: &str,
        setup: &Setup<'_>,
        upstream: SocketAddr,
    ) -> Result<Self, Failure> {
        Self::start("onceway", &dir.join(name), |dir, port| {
            let config = dir.join("onceway.toml");
            fs::write(&config, gateway_config(name, port, free_port()?, setup, upstream))?;
            let mut command = Command::new(env!("CARGO_BIN_EXE_onceway"));
            command.current_dir(dir).arg("serve").arg("--config").arg(config);
            Ok(command)
        })
    }

    /// Starts a program with a directory and a port of its own.
    pub(super) fn start(
        program: &str,
        dir: &PathBuf,
        command: impl Fn(&Path, u16) -> io::Result<Command>,
    ) -> Result<Self, Failure> {
        fs::create_dir(dir)?;
        for _ in 0..PORTS_TRIED_MAX {
            let port = free_port()?;
            let output = File::create(dir.join("log"))?;
            let mut command = command(dir, port)?;
            command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
            let since = Instant::now();
            let child = command.spawn().map_err(|error| format!("start {program}: {error}"))?;
            let mut server = Self { address: (Ipv4Addr::LOCALHOST, port).into(), since, child };
            if server.is_up_in_time()? {
                return Ok(server);
            }
        }
        let log = fs::read_to_string(dir.join("log"))?;
        Err(format!("{program} did not start; its log:\n{log}").into())
    }

    /// Has the process end in order.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("a server did not end in time".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Waits until the process listens. Answers whether it does and still runs.
    fn is_up_in_time(&mut self) -> io::Result<bool> {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline && self.child.try_wait()?.is_none() {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(false)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which the run has told already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What Redis has counted since it began.
pub(super) struct RedisCounts {
    /// Reads from its clients' connections: with one caller at a time, the commands it was sent.
    pub(super) reads: u64,
    /// Calls of each command, those of scripts among them.
    pub(super) calls: Vec<(String, u64)>,
}

impl RedisCounts {
    pub(super) fn of(redis: &Server) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(redis.address)?;
        stream.write_all(b"INFO stats\r\nINFO commandstats\r\nQUIT\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let reads = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        let calls = text.lines().filter_map(|line| {
            let (name, counts) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), counts.split(',').next()?.parse().ok()?))
        });
        let reads = reads.ok_or("Redis does not count reads")?.trim().parse()?;
        Ok(Self { reads, calls: calls.collect() })
    }

    pub(super) fn calls_of(&self, name: &str) -> u64 {
        self.calls.iter().find(|(given, _)| given == name).map_or(0, |(_, calls)| *calls)
    }
}

/// The version that a program tells of itself, in a few words.
pub(super) fn version_of(program: &str, argument: &str) -> Result<String, Failure> {
    let told = Command::new(program).arg(argument).output();
    let told = told.map_err(|error| format!("run {program}, which the benchmark needs: {error}"))?;
    let text = String::from_utf8([told.stdout, told.stderr].concat())?;
    let version =
        text.split([' ', '/', '\n', '=']).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Ok(version.unwrap_or("of an unknown version").to_owned())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// One process does the work of a worker; a master beside it could outlive the benchmark. `sendfile` and `tcp_nopush`
/// are as in Debian's own configuration.
fn nginx_config(dir: &Path, port: u16, upstream: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {dir}/pid;
events {{ worker_connections 16384; }}
http {{
    access_log {dir}/access.log; sendfile on; tcp_nopush on;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    upstream service {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000000;
        location /static/ {{ root {dir}; }}
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"
    )
}

fn gateway_config(name: &str, port: u16, admin_port: u16, setup: &Setup<'_>, upstream: SocketAddr) -> String {
    let Setup { store, cache, threads } = setup;
    let cache = cache.map_or_else(String::new, |size| format!("local_cache = \"{size}\"\n"));
    format!(
        "[server]
listen = \"127.0.0.1:{port}\"
threads = {threads}
[admin]
listen = \"127.0.0.1:{admin_port}\"
[store]
url = \"{store}\"
namespace = \"{name}\"
{cache}[upstreams.default]
url = \"http://{upstream}\"
[[routes]]
path = \"/payments\"
key = \"required\"
[[routes]]
path = \"/statements\"
key = \"required\"
"
    )
}
