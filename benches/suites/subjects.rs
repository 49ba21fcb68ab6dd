//! The proxies compared: what each is started with, and where it listens. They are killed by their own handles.
//!
//! nginx and `HAProxy` are set up as Debian does it, plus what any reverse proxy needs: connections to the upstream
//! are kept, upgrades are passed on, HTTP/2 and TLS are on. `docs/suites.md` tells the same in words.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::table::{Cell, NAMES, Row};
use super::{Failure, tell, tools};

const START_WITHIN: Duration = Duration::from_secs(10);

/// Another process may take a port between its choice and its use; then others are chosen.
const TRIES_MAX: usize = 5;

/// What a proxy speaks at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// HTTP/1.1 in the clear.
    Clear,
    /// HTTP/2 in the clear, by prior knowledge.
    H2c,
    /// TLS, HTTP/2 and HTTP/1.1 by ALPN.
    Tls,
    /// HTTP/1.1 in the clear after a PROXY protocol header.
    Proxied,
}

const DOORS: [Door; 4] = [Door::Clear, Door::H2c, Door::Tls, Door::Proxied];

/// One proxy before one upstream.
pub(super) struct Subject {
    doors: Vec<(Door, SocketAddr)>,
    _processes: Vec<Process>,
}

struct Process {
    child: Child,
}

/// A directory for all, below Cargo's own.
pub(super) fn directory() -> io::Result<TempDir> {
    tempfile::Builder::new().prefix("suites-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))
}

/// What is compared.
pub(super) fn versions() -> String {
    let version = |program: &str, argument: &str| {
        let said = tools::run(program, &[argument], Path::new("."), START_WITHIN);
        let text = said.map(|said| said.text).unwrap_or_default();
        let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
        text.split([' ', '/', '\n']).find(is_version).unwrap_or("not installed").to_owned()
    };
    let (nginx, haproxy) = (version("nginx", "-v"), version("haproxy", "-v"));
    let processors = thread::available_parallelism().map_or(1, usize::from);
    format!(
        "onceway {} ({}), nginx {nginx}, haproxy {haproxy}, on {processors} shared processors",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "debug build" } else { "release build" }
    )
}

/// All three before one upstream; `None` for one that is not installed.
pub(super) fn all(dir: &Path, upstream: SocketAddr) -> Result<[Option<Subject>; 3], Failure> {
    Ok([
        Some(onceway(&dir.join("onceway"), upstream)?),
        if tools::is_installed("nginx") { Some(nginx(&dir.join("nginx"), upstream)?) } else { None },
        if tools::is_installed("haproxy") { Some(haproxy(&dir.join("haproxy"), upstream)?) } else { None },
    ])
}

/// One of the three, by its column.
pub(super) fn one(column: usize, dir: &Path, upstream: SocketAddr) -> Result<Option<Subject>, Failure> {
    let dir = dir.join(NAMES.get(column).copied().unwrap_or_default());
    match column {
        0 => onceway(&dir, upstream).map(Some),
        1 if tools::is_installed("nginx") => nginx(&dir, upstream).map(Some),
        2 if tools::is_installed("haproxy") => haproxy(&dir, upstream).map(Some),
        _ => Ok(None),
    }
}

/// A row whose cells come from asking each proxy at one of its doors.
pub(super) fn row(
    name: &str,
    subjects: &[Option<Subject>; 3],
    door: Door,
    ask: impl Fn(SocketAddr) -> Result<Cell, Failure>,
) -> Row {
    Row::case(name, subjects.each_ref().map(|subject| cell(subject.as_ref(), door, &ask)))
}

fn cell(subject: Option<&Subject>, door: Door, ask: &impl Fn(SocketAddr) -> Result<Cell, Failure>) -> Cell {
    let Some(subject) = subject else { return Cell::none("not installed") };
    let Some(address) = subject.door(door) else { return Cell::no_answer() };
    ask(address).unwrap_or_else(|error| Cell::wrong(error.to_string()))
}

impl Subject {
    /// Where it speaks so; `None` if it does not.
    pub(super) fn door(&self, door: Door) -> Option<SocketAddr> {
        self.doors.iter().find(|(which, _)| *which == door).map(|(_, address)| *address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the rows have told.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The gateway has one listener, so each way to be spoken to takes a process. What this build does not know
/// yet stays shut.
fn onceway(dir: &Path, upstream: SocketAddr) -> Result<Subject, Failure> {
    let (certificate, key) = certificate(dir)?;
    let tls = format!("tls_certificate_file = \"{certificate}\"\ntls_key_file = \"{key}\"\n");
    let (mut doors, mut processes) = (Vec::new(), Vec::new());
    let kinds: [(&[Door], &str); 3] = [
        (&[Door::Clear, Door::H2c], ""),
        (&[Door::Tls], &tls),
        (&[Door::Proxied], "proxy_protocol = true\n"),
    ];
    for (number, (opens, lines)) in kinds.into_iter().enumerate() {
        let dir = dir.join(number.to_string());
        fs::create_dir(&dir)?;
        let started = started("onceway", &dir, 2, |ports| {
            let config = dir.join("onceway.toml");
            fs::write(&config, onceway_config(ports, lines, upstream))?;
            let mut command = Command::new(binary());
            command.current_dir(&dir).arg("serve").arg("--config").arg(config);
            Ok(command)
        });
        match started {
            Ok((process, ports)) => {
                doors.extend(opens.iter().zip(ports.iter().cycle()).map(|(door, _)| (*door, at(&ports, 0))));
                processes.push(process);
            }
            Err(error) if number == 0 => return Err(error),
            Err(error) => tell(&format!("onceway at {opens:?}: {error}")),
        }
    }
    Ok(Subject { doors, _processes: processes })
}

/// This build's, unless another is named.
fn binary() -> OsString {
    std::env::var_os("ONCEWAY_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_onceway").into())
}

fn nginx(dir: &Path, upstream: SocketAddr) -> Result<Subject, Failure> {
    let (certificate, key) = certificate(dir)?;
    let (process, ports) = started("nginx", dir, DOORS.len(), |ports| {
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx_config(dir, ports, upstream, &certificate, &key))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(config);
        Ok(command)
    })?;
    Ok(Subject { doors: doors(&ports), _processes: vec![process] })
}

fn haproxy(dir: &Path, upstream: SocketAddr) -> Result<Subject, Failure> {
    let (certificate, key) = certificate(dir)?;
    let pem = dir.join("both.pem");
    fs::write(&pem, fs::read_to_string(certificate)? + &fs::read_to_string(key)?)?;
    let (process, ports) = started("haproxy", dir, DOORS.len(), |ports| {
        let config = dir.join("haproxy.cfg");
        fs::write(&config, haproxy_config(ports, upstream, &pem))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        Ok(command)
    })?;
    Ok(Subject { doors: doors(&ports), _processes: vec![process] })
}

fn doors(ports: &[u16]) -> Vec<(Door, SocketAddr)> {
    (0..).zip(DOORS).map(|(number, door)| (door, at(ports, number))).collect()
}

fn at(ports: &[u16], number: usize) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, ports.get(number).copied().unwrap_or_default()).into()
}

/// Starts a program that is to listen on the first of some free ports.
fn started(
    program: &str,
    dir: &Path,
    ports: usize,
    command: impl Fn(&[u16]) -> io::Result<Command>,
) -> Result<(Process, Vec<u16>), Failure> {
    let mut log = String::new();
    for _ in 0..TRIES_MAX {
        let ports = free_ports(ports)?;
        let output = File::create(dir.join("log"))?;
        let mut command = command(&ports)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().map_err(|error| format!("start {program}: {error}"))?;
        let mut process = Process { child };
        if process.listens_in_time(at(&ports, 0))? {
            return Ok((process, ports));
        }
        log = fs::read_to_string(dir.join("log"))?;
        if !log.contains("in use") {
            break;
        }
    }
    Err(format!("it did not start: {}", log.lines().next_back().unwrap_or("it said nothing")).into())
}

impl Process {
    /// Waits until the process listens. Answers whether it does and still runs.
    fn listens_in_time(&mut self, address: SocketAddr) -> io::Result<bool> {
        let deadline = Instant::now() + START_WITHIN;
        while Instant::now() < deadline && self.child.try_wait()?.is_none() {
            if TcpStream::connect(address).is_ok() {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(false)
    }
}

/// Ports that nobody holds now.
pub(super) fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held: Vec<_> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// Makes the proxy's directory with a certificate in it, and answers the paths of the certificate and its key.
fn certificate(dir: &Path) -> Result<(String, String), Failure> {
    fs::create_dir(dir)?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((certificate.display().to_string(), key.display().to_string()))
}

fn onceway_config(ports: &[u16], lines: &str, upstream: SocketAddr) -> String {
    let (listen, admin) = (at(ports, 0), at(ports, 1));
    format!(
        "[server]
listen = \"{listen}\"
{lines}[admin]
listen = \"{admin}\"
[store]
url = \"memory:\"
[upstreams.default]
url = \"http://{upstream}\"
[[routes]]
path = \"/payments\"
"
    )
}

/// One process does the work of a worker; a master beside it could outlive the run.
fn nginx_config(dir: &Path, ports: &[u16], upstream: SocketAddr, certificate: &str, key: &str) -> String {
    let [clear, h2c, tls, proxied] = [0, 1, 2, 3].map(|number| at(ports, number));
    let dir = dir.display();
    format!(
        "daemon off; master_process off; worker_processes 1; pid {dir}/pid;
events {{ worker_connections 768; }}
http {{
    sendfile on; tcp_nopush on; types_hash_max_size 2048;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
    gzip on; access_log {dir}/access.log;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream service {{ server {upstream}; keepalive 32; }}
    server {{
        listen {clear};
        listen {h2c} http2;
        listen {tls} ssl http2;
        listen {proxied} proxy_protocol;
        ssl_certificate {certificate}; ssl_certificate_key {key};
        location / {{
            proxy_pass http://service;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"
    )
}

fn haproxy_config(ports: &[u16], upstream: SocketAddr, pem: &Path) -> String {
    let [clear, h2c, tls, proxied] = [0, 1, 2, 3].map(|number| at(ports, number));
    let pem = pem.display();
    format!(
        "global
    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:\
ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
defaults
    mode http
    option dontlognull
    option forwardfor
    timeout connect 5000
    timeout client 50000
    timeout server 50000
frontend callers
    bind {clear}
    bind {h2c} proto h2
    bind {tls} ssl crt {pem} alpn h2,http/1.1
    bind {proxied} accept-proxy
    default_backend service
backend service
    server service {upstream}
"
    )
}
