//! The gateways: the real binary, each in its place with its file, on one store and before one service. Another binary
//! than the one that was built with this is named by the environment variable `CAMPAIGN_GATEWAY`.
//!
//! Must not know what is done to them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::ground::{Ground, Place};
use super::machine::Machine;
use super::stores::Servers;

/// Keys that seal records. All gateways seal with the first and open with both.
const KEYS: [&str; 2] = [
    "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9f",
];

/// What all gateways of a campaign have in common.
pub(crate) struct Setting {
    pub(crate) url: String,
    pub(crate) min_replicas: u32,
    pub(crate) service: SocketAddr,
    /// As in the configuration, such as `2s`.
    pub(crate) session_ttl: String,
}

/// A gateway and where callers find it.
pub(crate) struct Gateway {
    pub(crate) machine: Machine,
    pub(crate) at: SocketAddr,
}

/// So many gateways, started.
pub(crate) fn start(setting: &Setting, count: usize, ground: &mut Ground) -> Vec<Gateway> {
    let gateways = (1..=count).map(|number| {
        let mut gateway = gateway(setting, ground.place(&format!("gateway{number}")));
        gateway.machine.start();
        gateway
    });
    gateways.collect()
}

impl Setting {
    pub(crate) fn of(servers: &Servers, min_replicas: u32, service: SocketAddr, session_ttl: &str) -> Self {
        Self { url: servers.url.clone(), min_replicas, service, session_ttl: session_ttl.to_owned() }
    }

    fn text(&self, at: SocketAddr, admin: SocketAddr, keys: &Path) -> String {
        let Self { url, min_replicas, service, session_ttl } = self;
        let keys = keys.display();
        format!(
            "[server]\nlisten = \"{at}\"\nthreads = 1\ndrain_timeout = \"2s\"\n\
             [admin]\nlisten = \"{admin}\"\n\
             [store]\nurl = \"{url}\"\nmin_replicas = {min_replicas}\nsession_ttl = \"{session_ttl}\"\n\
             local_cache = \"256KiB\"\nencryption_key_file = \"{keys}\"\n\
             [upstreams.default]\nurl = \"http://{service}\"\nresponse_timeout = \"1s\"\n\
             [policy]\nkey = \"required\"\nresponse_body_max = \"8KiB\"\ncommit_timeout = \"2s\"\n\
             late_answer_window = \"5s\"\n\
             [[routes]]\npath = \"/payments\"\n\
             [[routes]]\npath = \"/orders\"\nin_flight = \"wait\"\nwait_timeout = \"2500ms\"\n\
             [[routes]]\npath = \"/retried\"\non_unknown = \"retry\"\n\
             [log]\nlevel = \"warn\"\n"
        )
    }
}

fn gateway(setting: &Setting, place: Place) -> Gateway {
    let (at, mut admin) = (place.address(), place.address());
    admin.set_ip([127, 0, 0, 1].into());
    // In the other way it is started without the key with which all others seal: it cannot read their records,
    // and they can read its own.
    for (name, keys) in [("usual", &KEYS[..]), ("altered", &KEYS[1..])] {
        let key_file = place.dir.join(format!("{name}.keys"));
        fs::write(&key_file, keys.join("\n") + "\n").unwrap();
        fs::write(place.dir.join(format!("{name}.toml")), setting.text(at, admin, &key_file)).unwrap();
    }
    let machine = Machine::new(place, |place, is_altered| {
        let other = std::env::var("CAMPAIGN_GATEWAY").ok();
        let mut command = place.command(other.as_deref().unwrap_or(env!("CARGO_BIN_EXE_onceway")), None);
        command.args(["serve", "--config"]).arg(if is_altered { "altered.toml" } else { "usual.toml" });
        command
    });
    Gateway { machine, at }
}
