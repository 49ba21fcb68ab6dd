//! What holds where a file says nothing. `keys.rs` tells the same in the words of a file, and a test in
//! `tests/it/config.rs` holds the two together. A route's defaults are `Policy::default`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::{
    Admin, Compression, Forwarded, ForwardedFields, Log, LogFormat, Server, Store, StoreUrl, Traces,
};

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            drain_timeout: Duration::from_secs(65),
            stop_delay: Duration::ZERO,
            tls: None,
            http2: true,
            proxy_protocol: false,
            trusted_peers: Vec::new(),
            forwarded: Forwarded::Append,
            forwarded_fields: ForwardedFields::XForwarded,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_secs(10),
            body_rate_min: 1024,
            write_timeout: Duration::from_secs(30),
            target_bytes_max: 16 * 1024,
            header_bytes_max: 64 * 1024,
            header_count_max: 100,
            connections_max: 16_384,
            connections_per_peer_max: 0,
            streams_max: 128,
            resets_max: 100,
            in_flight_max: 10_000,
            buffered_bytes_max: 256 * 1024 * 1024,
            problem_base: "urn:onceway:problem:".to_owned(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            is_explicit: false,
            token: None,
            is_token_open: false,
            audit_file: None,
            tls: None,
            host_names: Vec::new(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: StoreUrl::Embedded(PathBuf::from("./onceway-data")),
            namespace: "onceway".to_owned(),
            local_cache: 64 * 1024 * 1024,
            timeout: Duration::from_secs(1),
            session_ttl: Duration::from_secs(5),
            hash_key: None,
            min_replicas: 0,
            accept_eviction: false,
            encryption_keys: Vec::new(),
            open_only: false,
            accept_unsealed: false,
            accept_lost_keys: false,
            compression: Compression::Off,
            backup: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            collector: None,
            service_name: "onceway".to_owned(),
            sample_one_in: 1,
            timeout: Duration::from_secs(5),
        }
    }
}

/// How often the embedded store is backed up.
pub(super) const BACKUP_EVERY: Duration = Duration::from_hours(1);
/// The upstream that takes whatever no route names.
pub(super) const DEFAULT_UPSTREAM: &str = "default";
