//! The signals that a gateway answers.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the process was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// To end, by the signal of this name.
    Stop(&'static str),
    /// To read its configuration again.
    Reload,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one. Several of a kind that come meanwhile count as one.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Waits for one that tells to end; a gateway that ends reads no configuration.
    pub(super) async fn next_stop(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Told::Stop(name) => return name,
                Told::Reload => tracing::warn!("SIGHUP is ignored: the gateway is stopping"),
            }
        }
    }
}
