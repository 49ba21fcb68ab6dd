//! What every measurement shares: a directory, the service behind, Redis, and the proxies that are held against.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::Failure;
use super::references;
use super::servers::{self, Server};
use super::upstream::Upstream;

/// All of it, running until it is dropped.
pub(super) struct Site {
    pub(super) upstream: Upstream,
    pub(super) redis: Server,
    pub(super) nginx: Arc<Server>,
    pub(super) haproxy: Arc<Server>,
    // Last, so that it is removed when the servers have ended.
    dir: TempDir,
}

impl Site {
    pub(super) fn start() -> Result<Self, Failure> {
        let dir = servers::directory()?;
        let upstream = Upstream::start()?;
        let redis = Server::redis(dir.path())?;
        let nginx = Arc::new(references::nginx(dir.path(), upstream.address)?);
        let haproxy = Arc::new(references::haproxy(dir.path(), upstream.address)?);
        Ok(Self { upstream, redis, nginx, haproxy, dir })
    }

    /// Below which every process has a directory of its own.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address of Redis for a gateway.
    pub(super) fn redis_url(&self) -> String {
        format!("redis://{}/0", self.redis.address)
    }
}

/// What runs here, and on what.
pub(super) fn versions() -> Result<String, Failure> {
    let nginx = servers::version_of("nginx", "-v")?;
    let haproxy = servers::version_of("haproxy", "-v")?;
    let redis = servers::version_of("redis-server", "--version")?;
    let processors = std::thread::available_parallelism()?;
    let own = env!("CARGO_PKG_VERSION");
    Ok(format!(
        "onceway {own}, nginx {nginx}, haproxy {haproxy}, redis {redis} on {processors} shared processors"
    ))
}
