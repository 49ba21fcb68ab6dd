//! Sealed and compressed records: the bytes that releases left behind, and fleets of gateways that do not all
//! hold the same keys or the same version.

mod fleet;
mod golden;
mod store;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::harness::{GatewayPlan, Upstream};
use crate::servers::redis::RedisServer;

const OLD: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const NEW: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";

/// Files of keys.
struct KeyFiles(TempDir);

impl KeyFiles {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// The line of `[store]` that names a file of these lines.
    fn line(&self, lines: &[&str]) -> String {
        format!("encryption_key_file = '{}'", self.file(&lines.join("\n")).display())
    }

    fn file(&self, text: &str) -> PathBuf {
        let number = std::fs::read_dir(self.0.path()).unwrap().count();
        let file = self.0.path().join(number.to_string());
        std::fs::write(&file, text).unwrap();
        file
    }
}

/// A plan for gateways that share `redis`, and that ask it for every answer.
fn sharing(redis: &RedisServer, upstream: &Upstream) -> GatewayPlan {
    GatewayPlan::before(upstream).store(&redis.url()).store_line("local_cache = \"0\"")
}

/// Runs a command on `redis`.
fn run<T: redis::FromRedisValue>(redis: &RedisServer, words: &[&[u8]]) -> T {
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let (verb, arguments) = words.split_first().unwrap();
    redis::Cmd::new().arg(*verb).arg(arguments).query(&mut connection).unwrap()
}

/// The names of the records, or of the bodies kept apart, on `redis`.
fn names(redis: &RedisServer, kind: &str) -> Vec<String> {
    run(redis, &[b"KEYS", format!("onceway:{kind}:*").as_bytes()])
}
