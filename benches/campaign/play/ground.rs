//! Where the servers run. As root, each has a network of its own, joined to the others by a bridge, and a disk of its
//! own that can be filled; otherwise they share the loopback interface, and can be neither cut off nor filled up.
//!
//! Networks and disks are made inside namespaces that `scripts/campaign` has entered, so they end with the
//! process. Must not know what runs in a place.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The campaign's own address in the network of networks; places have those after it.
const HOME: [u8; 4] = [10, 77, 0, 1];

/// The service's address, in the same place as the campaign.
const SERVICE: [u8; 4] = [10, 77, 0, 2];

/// A disk as it is when nobody has filled it. Only what is used takes memory.
const DISK: &str = "3g";

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// All places.
pub(crate) struct Ground {
    dir: TempDir,
    has_networks: bool,
    places: u8,
}

/// Where one server runs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) ip: IpAddr,
    pub(crate) dir: PathBuf,
    has_network: bool,
    has_clock: bool,
}

impl Ground {
    /// With `has_networks`, the process must be in a network and a mount namespace of its own, as root.
    pub(crate) fn new(has_networks: bool) -> Self {
        if has_networks {
            // Whatever is written below it ends with the process.
            run("mount -t tmpfs none /run");
            fs::create_dir("/run/netns").unwrap();
            run("mount -t tmpfs none /dev/shm");
            run("ip link set lo up");
            run("ip link add bridge type bridge");
            run(&format!("ip address add {}/24 dev bridge", Ipv4Addr::from(HOME)));
            run(&format!("ip address add {}/24 dev bridge", Ipv4Addr::from(SERVICE)));
            run("ip link set bridge up");
        }
        let dir = if has_networks { TempDir::new_in("/run") } else { TempDir::new() }.unwrap();
        // A server may run as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, has_networks, places: 0 }
    }

    /// Copies what the servers logged.
    pub(crate) fn keep_logs(&self, to: &Path) {
        fs::create_dir_all(to).unwrap();
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }

    pub(crate) fn has_networks(&self) -> bool {
        self.has_networks
    }

    /// Whether clocks can be set. What sets them leaves files behind when it is killed, so only where those end too.
    pub(crate) fn has_clocks(&self) -> bool {
        self.has_networks && Path::new(LIBRARY).exists()
    }

    /// The service's address. Callers have another, so that a gateway can be cut off from one alone.
    pub(crate) fn service(&self) -> IpAddr {
        if self.has_networks { IpAddr::from(SERVICE) } else { IpAddr::from(Ipv4Addr::LOCALHOST) }
    }

    /// A new place.
    pub(crate) fn place(&mut self, name: &str) -> Place {
        self.places += 1;
        let dir = self.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        let mut place = Place {
            name: name.to_owned(),
            ip: self.service(),
            dir,
            has_network: self.has_networks,
            has_clock: self.has_clocks(),
        };
        if self.has_networks {
            let [a, b, c, d] = HOME;
            place.ip = IpAddr::from([a, b, c, d + 10 + self.places]);
            place.connect(self.places);
            run(&format!("mount -t tmpfs -o size={DISK} none {}", place.dir.display()));
        }
        place.set_clock(0);
        place
    }
}

impl Place {
    /// An address here that nobody listens on, below those that the system gives to whoever connects.
    pub(crate) fn address(&self) -> SocketAddr {
        loop {
            let port = fastrand::u16(10_000..32_000);
            // In a network of its own every port is free.
            if self.has_network || TcpListener::bind((self.ip, port)).is_ok() {
                return SocketAddr::new(self.ip, port);
            }
        }
    }

    /// A command that runs here, as another user if one is named, under the clock of this place.
    pub(crate) fn command(&self, program: &str, user: Option<(u32, u32)>) -> Command {
        let mut words: Vec<String> = Vec::new();
        if self.has_network {
            words.extend(["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)]);
        }
        if let Some((uid, gid)) = user {
            words.extend(["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={gid}")]);
            words.push("--clear-groups".to_owned());
        }
        if self.has_clock {
            words.push("env".to_owned());
            // The C library beside it, so that its allocator is used: others ask for the time before they can be told.
            words.push(format!("LD_PRELOAD={LIBRARY}:libc.so.6"));
            words.push(format!("FAKETIME_TIMESTAMP_FILE={}", self.clock_file().display()));
            words.extend(["FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"].map(str::to_owned));
        }
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Nothing from `off` arrives here any more, what comes from `torn` is answered with a reset, and the rest arrives.
    pub(crate) fn filter_out(&self, off: &BTreeSet<IpAddr>, torn: &BTreeSet<IpAddr>) {
        let mut rules = "flush set inet campaign cut; flush set inet campaign torn".to_owned();
        for (set, addresses) in [("cut", off), ("torn", torn)] {
            for address in addresses {
                write!(rules, "; add element inet campaign {set} {{ {address} }}").unwrap();
            }
        }
        self.filter(&rules);
    }

    /// Leaves no room on the disk but for a page or two.
    pub(crate) fn fill(&self) {
        if self.has_network {
            // Smaller than what is used is refused; then a little is written in between, and it is tried again.
            for spare in [16, 256, 4_096] {
                let kibibytes = used_kibibytes(&self.dir) + spare;
                let options = format!("remount,size={kibibytes}k");
                let mut mount = Command::new("mount");
                mount.args(["-o", &options]).arg(&self.dir).stderr(Stdio::null());
                if mount.status().unwrap().success() {
                    return;
                }
            }
        }
    }

    pub(crate) fn empty(&self) {
        if self.has_network {
            run(&format!("mount -o remount,size={DISK} {}", self.dir.display()));
        }
    }

    /// Sets the clock so many seconds from the right time.
    pub(crate) fn set_clock(&self, by: i64) {
        let (file, new) = (self.clock_file(), self.clock_file().with_extension("new"));
        fs::write(&new, format!("{by:+}\n")).unwrap();
        fs::rename(new, file).unwrap();
    }

    /// A file that belongs to this place, and is not on its disk, which may be full.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.parent().unwrap().join(format!("{}.{name}", self.name))
    }

    fn clock_file(&self) -> PathBuf {
        self.beside("clock")
    }

    /// Makes its network, with a filter that passes everything.
    fn connect(&self, number: u8) {
        let Self { name, ip, .. } = self;
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add v{number} type veth peer name eth0 netns {name}"));
        run(&format!("ip link set v{number} master bridge up"));
        run(&format!("ip -n {name} address add {ip}/24 dev eth0"));
        run(&format!("ip -n {name} link set eth0 up"));
        run(&format!("ip -n {name} link set lo up"));
        self.filter(
            "add table inet campaign; \
             add set inet campaign cut { type ipv4_addr; }; \
             add set inet campaign torn { type ipv4_addr; }; \
             add chain inet campaign in { type filter hook input priority 0; }; \
             add rule inet campaign in ip saddr @cut drop; \
             add rule inet campaign in ip saddr @torn meta l4proto tcp reject with tcp reset",
        );
    }

    fn filter(&self, rules: &str) {
        if self.has_network {
            let mut nft = Command::new("nsenter");
            nft.arg(format!("--net=/run/netns/{}", self.name)).args(["nft", rules]);
            assert!(nft.status().unwrap().success(), "nft {rules}");
        }
    }
}

fn used_kibibytes(dir: &Path) -> u64 {
    let told = Command::new("df").args(["--output=used", "-k"]).arg(dir).output().unwrap();
    String::from_utf8_lossy(&told.stdout).split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn run(words: &str) {
    let mut words = words.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "a command to make networks failed");
}
