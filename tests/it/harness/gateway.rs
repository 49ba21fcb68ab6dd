//! The gateway as its users run it: the real binary, a configuration file, signals and an exit code.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::client::{Ask, Client, get};
use super::manager::Manager;
use super::planted;
use super::until;
use super::upstream::Upstream;
use super::wire::Answer;

/// A gateway to be started.
#[derive(Clone)]
pub(crate) struct GatewayPlan {
    upstream: String,
    upstream_name: String,
    upstream_lines: String,
    store: String,
    store_lines: String,
    server_lines: String,
    admin_lines: String,
    policy: String,
    routes: Vec<String>,
    log_level: String,
    log_lines: String,
}

/// A process that is killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    listen: SocketAddr,
    admin: SocketAddr,
    dir: TempDir,
}

impl GatewayPlan {
    /// Guards POST on `/payments`, keeps records in memory.
    pub(crate) fn before(upstream: &Upstream) -> Self {
        Self::before_url(&upstream.url())
    }

    pub(crate) fn before_url(url: &str) -> Self {
        Self {
            upstream: url.to_owned(),
            upstream_name: "default".to_owned(),
            upstream_lines: String::new(),
            store: "memory:".to_owned(),
            store_lines: String::new(),
            server_lines: String::new(),
            admin_lines: String::new(),
            policy: String::new(),
            routes: vec!["path = \"/payments\"\n".to_owned()],
            log_level: "info".to_owned(),
            log_lines: String::new(),
        }
    }

    /// Adds a line of `[policy]`.
    pub(crate) fn policy(mut self, line: &str) -> Self {
        self.policy.push_str(line);
        self.policy.push('\n');
        self
    }

    /// Adds a line of `[server]`.
    pub(crate) fn server(mut self, line: &str) -> Self {
        self.server_lines.push_str(line);
        self.server_lines.push('\n');
        self
    }

    /// Adds a line of `[admin]`.
    pub(crate) fn admin(mut self, line: &str) -> Self {
        self.admin_lines.push_str(line);
        self.admin_lines.push('\n');
        self
    }

    /// Adds a line of `[upstreams.default]`.
    pub(crate) fn upstream(mut self, line: &str) -> Self {
        self.upstream_lines.push_str(line);
        self.upstream_lines.push('\n');
        self
    }

    /// Gives the upstream a name other than `default`, and the route so far leads to it.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.upstream_name);
        for route in &mut self.routes {
            writeln!(route, "upstream = \"{name}\"").unwrap();
        }
        self
    }

    /// Adds a route beside `/payments`.
    pub(crate) fn route(mut self, path: &str, lines: &str) -> Self {
        self.routes.push(format!("path = \"{path}\"\n{lines}\n"));
        self
    }

    /// Logs at another level than `info`, for a line of which the harness looks.
    pub(crate) fn logged(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Adds a line of `[log]`, or the tables after it.
    pub(crate) fn log_line(mut self, line: &str) -> Self {
        self.log_lines.push_str(line);
        self.log_lines.push('\n');
        self
    }

    /// Adds tables of their own.
    pub(crate) fn more(self, tables: &str) -> Self {
        self.log_line(tables)
    }

    /// Takes away the routes so far.
    pub(crate) fn without_routes(mut self) -> Self {
        self.routes.clear();
        self
    }

    pub(crate) fn store(mut self, url: &str) -> Self {
        url.clone_into(&mut self.store);
        self
    }

    /// Adds a line of `[store]`.
    pub(crate) fn store_line(mut self, line: &str) -> Self {
        self.store_lines.push_str(line);
        self.store_lines.push('\n');
        self
    }

    /// A gateway that dies is known to be dead after little more than a second.
    pub(crate) fn with_short_sessions(self) -> Self {
        self.store_line("session_ttl = \"1s\"")
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway {
        let gateway = self.launch();
        until("the gateway is ready", || gateway.readiness().status == 200);
        gateway
    }

    /// Starts it and waits until it listens, whether or not its store is there.
    pub(crate) fn launch(&self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.listen = gateway.told_address("listen");
        gateway.admin = gateway.told_address("admin");
        gateway
    }

    /// Starts it and waits for its end. Answers its exit code, and whether it told a reason.
    pub(crate) fn fail(&self) -> (Option<i32>, bool) {
        let mut gateway = self.spawn();
        (gateway.exit_code(), gateway.log().contains("onceway failed to"))
    }

    /// What `check --online` ends with and prints.
    pub(crate) fn check_online(&self) -> (Option<i32>, String) {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("onceway.toml");
        std::fs::write(&file, self.text()).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_onceway"));
        check.args(["check", "--online", "--config"]).arg(&file).current_dir(dir.path());
        let output = check.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    }

    /// Starts it as a service manager does, and waits until it is ready. `listener` is passed to it, if there is one.
    pub(crate) fn start_under(&self, manager: &Manager, listener: Option<&TcpListener>) -> Gateway {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("onceway.toml");
        std::fs::write(&file, self.text()).unwrap();
        // The shell gives its process to the gateway, so that LISTEN_PID is right.
        let script = match listener {
            Some(_) => "LISTEN_PID=$$ exec \"$@\" 3<&0 </dev/null",
            None => "exec \"$@\"",
        };
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_onceway"), "serve", "--config"]).arg(&file);
        command.envs(manager.environment());
        match listener {
            Some(listener) => {
                command.env("LISTEN_FDS", "1").stdin(OwnedFd::from(listener.try_clone().unwrap()));
            }
            None => {
                command.stdin(Stdio::null());
            }
        }
        let mut gateway = running(command, dir);
        gateway.listen = gateway.told_address("listen");
        gateway.admin = gateway.told_address("admin");
        gateway
    }

    /// Starts it with its upstream and store on the command line, where it guards every path.
    pub(crate) fn start_without_file(&self) -> Gateway {
        let arguments =
            ["serve", "--listen", "127.0.0.1:0", "--upstream", &self.upstream, "--store", &self.store];
        let mut command = Command::new(env!("CARGO_BIN_EXE_onceway"));
        command.args(arguments).stdin(Stdio::null());
        let mut gateway = running(command, TempDir::new().unwrap());
        gateway.listen = gateway.told_address("listen");
        gateway
    }

    fn spawn(&self) -> Gateway {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("onceway.toml");
        std::fs::write(&file, self.text()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_onceway"));
        command.args(["serve", "--config"]).arg(&file).stdin(Stdio::null());
        running(command, dir)
    }

    /// Its configuration file.
    pub(crate) fn text(&self) -> String {
        // Ports are chosen by the system and told by the start-up line, so no two tests ever want the same.
        let mut text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{}[admin]\nlisten = \"127.0.0.1:0\"\n{}\
             [store]\nurl = \"{}\"\n{}[upstreams.{}]\nurl = \"{}\"\n{}[policy]\n{}",
            self.server_lines,
            self.admin_lines,
            self.store,
            self.store_lines,
            self.upstream_name,
            self.upstream,
            self.upstream_lines,
            self.policy
        );
        for route in &self.routes {
            write!(text, "[[routes]]\n{route}").unwrap();
        }
        write!(text, "[log]\nlevel = \"{}\"\n{}", self.log_level, self.log_lines).unwrap();
        text
    }
}

/// Starts a command in a directory of its own, and keeps what it logs.
fn running(mut command: Command, dir: TempDir) -> Gateway {
    let mut child =
        command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = Arc::<Mutex<String>>::default();
    let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
    let reader = thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            writeln!(kept.lock().unwrap(), "{line}").unwrap();
        }
    });
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    Gateway { child, log, reader: Some(reader), listen: nowhere, admin: nowhere, dir }
}

impl Gateway {
    /// Asks on a connection of its own, and reads the answer.
    pub(crate) fn ask(&self, ask: &Ask) -> Answer {
        self.client().send(ask).read()
    }

    /// Sends a request on a connection of its own, and reads nothing yet.
    pub(crate) fn send(&self, ask: &Ask) -> Client {
        let mut client = self.client();
        client.send(ask);
        client
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.listen)
    }

    /// Where operators ask.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether its process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What `/readyz` says.
    pub(crate) fn readiness(&self) -> Answer {
        Client::connect(self.admin).send(&get("/readyz")).read()
    }

    /// The most memory that it has held so far, in bytes.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Everything in the directory in which it runs, and below it: its embedded store's files, say.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files_below(self.dir.path())
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Gives it another file and has it read that. Answers whether the file was taken.
    pub(crate) fn reload(&self, plan: &GatewayPlan) -> bool {
        self.reload_text(&plan.text())
    }

    /// As [`Gateway::reload`], with a file of any text.
    pub(crate) fn reload_text(&self, text: &str) -> bool {
        const TAKEN: &str = "the new configuration holds";
        const REFUSED: &str = "the old configuration stays";
        let count = |words| self.log().matches(words).count();
        let before = (count(TAKEN), count(REFUSED));
        std::fs::write(self.dir.path().join("onceway.toml"), text).unwrap();
        self.signal("HUP");
        until("the file is taken or refused", || (count(TAKEN), count(REFUSED)) != before);
        count(TAKEN) > before.0
    }

    /// Stops it in its tracks; its sockets stay open. [`Gateway::signal`] with `CONT` lets it go on.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        };
        until("every thread has stopped", || std::fs::read_dir(&tasks).unwrap().all(is_stopped));
    }

    /// Kills it, as a crash or a power loss does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        until("the gateway ends", || self.child.try_wait().unwrap().is_some());
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.child.wait().unwrap().code()
    }

    fn told_address(&mut self, name: &str) -> SocketAddr {
        let mut told = None;
        until("the gateway tells its addresses", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the gateway ended with {status}:\n{}", self.log());
            }
            let log = self.log();
            let line = log.lines().find(|line| line.contains("onceway is up"));
            told = line.and_then(|line| {
                let after = line.split(&format!(" {name}=")).nth(1);
                let after = after.or_else(|| line.split(&format!("\"{name}\":")).nth(1))?;
                after.trim_start_matches('"').split([' ', '"']).next()?.parse().ok()
            });
            told.is_some()
        });
        told.unwrap()
    }
}

fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![(path.clone(), std::fs::read(&path).unwrap())]
            }
        })
        .collect()
}

impl Drop for Gateway {
    #[expect(clippy::print_stderr, reason = "shown with the failure it explains")]
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        let log = self.log();
        let told = [self.listen, self.admin].into_iter().find_map(|address| planted::told(address, &log));
        if thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        } else {
            assert_eq!(told, None, "a key or a credential stands in the log:\n{}", self.log());
        }
    }
}
