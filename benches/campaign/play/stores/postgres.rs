//! PostgreSQL: one server with the durability it has by itself. It refuses to run as root, so there it runs as
//! another user.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::super::ground::Ground;
use super::super::machine::Machine;
use super::{Kind, Servers};

const SETTINGS: &str = "-c unix_socket_directories= -c max_connections=100 -c shared_buffers=64MB";

pub(super) fn alone(ground: &mut Ground) -> Servers {
    let place = ground.place("postgres");
    let at = place.address();
    let user = other_user();
    if let Some((uid, gid)) = user {
        chown(&place.dir, Some(uid), Some(gid)).unwrap();
    }
    let mut initdb = place.command(&bin("initdb").display().to_string(), user);
    initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
    initdb.arg("-D").arg(place.dir.join("data")).stdout(Stdio::null());
    assert!(initdb.status().unwrap().success(), "initdb failed");
    // Callers come from other networks than the server's own.
    fs::write(place.dir.join("data/pg_hba.conf"), "host all all 0.0.0.0/0 trust\n").unwrap();
    let url = format!("postgres://postgres@{at}/postgres?sslmode=disable");
    let server = Machine::new(place, move |place, _| {
        // A crash leaves it behind, and it names a process that is gone, or has become another.
        fs::remove_file(place.dir.join("data/postmaster.pid")).ok();
        let mut command = place.command(&bin("postgres").display().to_string(), user);
        let SocketAddr::V4(at) = at else { return command };
        command.args(["-D", "data", "-p", &at.port().to_string()]);
        command.arg("-c").arg(format!("listen_addresses={}", at.ip())).args(SETTINGS.split(' '));
        command
    });
    let server = server.ended_for_good_by(Signal::QUIT);
    Servers { kind: Kind::Postgres, url, nodes: vec![server], watchers: Vec::new() }
}

pub(super) fn is_up(nodes: &[Machine]) -> bool {
    nodes.iter().all(|node| {
        let status = fs::read_to_string(node.place.dir.join("data/postmaster.pid")).unwrap_or_default();
        status.lines().nth(7).is_some_and(|state| state.trim() == "ready")
    })
}

/// Another user and group, where this process is root.
fn other_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next() == Some(name);
            is_it.then(|| Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?)))?
        })
    };
    Some(user("postgres").or_else(|| user("nobody")).expect("a user called postgres or nobody"))
}

fn bin(name: &str) -> PathBuf {
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).chain(told).map(|dir| dir.join(name));
    let found = found.filter(|path: &PathBuf| Path::is_file(path)).max();
    found.unwrap_or_else(|| panic!("{name} was not found: is PostgreSQL installed?"))
}
