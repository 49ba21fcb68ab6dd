//! What callers say that must never be told: noted as it is sent, and looked for in the gateway's log when that ends.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Mutex;

use super::wire::Lines;

/// Shorter ones stand in a log by chance.
const LENGTH_MIN: usize = 12;

/// So many are looked for of each gateway: all of a campaign's would take long.
const MOST: usize = 64;

static SAID: Mutex<Option<HashMap<SocketAddr, BTreeSet<String>>>> = Mutex::new(None);

/// Somebody says this to the gateway at `address`.
pub(super) fn note(address: SocketAddr, lines: &Lines) {
    let secrets = lines.iter().filter(|(name, value)| {
        ["authorization", "cookie", "idempotency-key"].contains(&name.to_ascii_lowercase().as_str())
            && value.len() >= LENGTH_MIN
    });
    let mut said = SAID.lock().unwrap();
    let of_gateway = said.get_or_insert_default().entry(address).or_default();
    for secret in secrets.filter_map(|(_, value)| String::from_utf8(value.clone()).ok()) {
        if of_gateway.len() < MOST {
            of_gateway.insert(secret);
        }
    }
}

/// Something that was said to the gateway at `address` and stands in its log. Forgets what was said.
pub(super) fn told(address: SocketAddr, log: &str) -> Option<String> {
    let said = SAID.lock().unwrap().as_mut()?.remove(&address)?;
    said.into_iter().find(|secret| log.contains(secret))
}
