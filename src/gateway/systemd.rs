//! What a service manager is told, and what it hands over: readiness, reload, watchdog, sockets.
//!
//! All of it goes by the environment that systemd gives; without it, nothing here does anything. Must not know what
//! the gateway does with its sockets.

use std::env;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The name by which the operators' socket is passed.
const ADMIN: &str = "admin";

/// Sockets that listen already, to be used instead of the configured addresses.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For callers.
    pub(super) server: Option<TcpListener>,
    /// For operators.
    pub(super) admin: Option<TcpListener>,
}

impl Sockets {
    /// The sockets that were passed to this process: the one named `admin` is for operators, the first of the others
    /// for callers. To be called once, before any thread is started: it clears the variables that tell of them.
    ///
    /// Errors: one of them is no TCP socket, or nobody would know what it is for.
    pub fn passed() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let (mut passed, mut sockets) = (ListenFd::from_env(), Self::default());
        for at in 0..passed.len() {
            let Some(listener) = passed.take_tcp_listener(at)? else { continue };
            listener.set_nonblocking(true)?;
            let place = if names.next() == Some(ADMIN) { &mut sockets.admin } else { &mut sockets.server };
            if place.replace(listener).is_some() {
                return Err(io::Error::other(
                    "more sockets were passed than one for callers and one named admin",
                ));
            }
        }
        Ok(sockets)
    }
}

/// Says that requests are taken.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the configuration is being read again; [`ready`] ends it, however it went.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reloading the configuration")]),
        Err(error) => tracing::warn!(%error, "the service manager was not told of the reload"),
    }
}

/// Says that the end has begun.
pub(super) fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Counts the turns of one worker's runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// Counts for as long as the runtime turns, where a watchdog looks; never returns.
    pub(super) async fn count(&self) {
        let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(limit / 8).await;
        }
    }
}

/// Tells the watchdog that all is well, for as long as every worker's runtime turns; never returns. A worker that
/// hangs is thus ended together with the process, whose claims then read as unknown, and restarted.
pub(super) async fn watch(workers: Vec<Turns>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut seen = vec![0; workers.len()];
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        pause = limit / 4;
        let now: Vec<_> = workers.iter().map(|turns| turns.0.load(Ordering::Relaxed)).collect();
        if now.iter().zip(&seen).all(|(now, seen)| now != seen) {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::warn!("a worker hangs: the watchdog is not told that all is well");
        }
        seen = now;
    }
}
