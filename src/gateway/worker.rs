//! One worker: a thread, its runtime, and everything in it that is not shared.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::backing::Backing;
use super::{GatewayError, Running, Upstreams};
use crate::proxy::{Entrance, Proxy};
use crate::server;

/// Starts a worker on its share of the listener.
pub(super) fn spawn(
    number: usize,
    running: &Running,
    listener: &TcpListener,
    backing: &Arc<Backing>,
    upstreams: &Upstreams,
) -> Result<JoinHandle<()>, GatewayError> {
    let listener = listener.try_clone().map_err(GatewayError::Worker)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatewayError::Worker)?;
    let (config, shared) = (Arc::clone(&running.config), Arc::clone(&running.shared));
    let settings = Arc::clone(&running.settings);
    let (ledger, stop) = (running.ledger.clone(), running.stop.clone());
    let reception = Arc::clone(&running.reception);
    let (backing, upstreams) = (Arc::clone(backing), upstreams.clone());
    let work = async move {
        let store = backing.handle().map_err(io::Error::other)?;
        let clients = upstreams.connect(&config).map_err(io::Error::other)?;
        let proxy = Proxy::new(shared, settings, ledger.over(store), clients);
        server::serve(listener, Entrance::to(proxy), reception, &stop).await
    };
    let thread = Builder::new().name(format!("onceway-{number}"));
    let run = move || {
        if let Err(error) = runtime.block_on(work) {
            tracing::error!(%error, "a worker failed");
        }
    };
    thread.spawn(run).map_err(GatewayError::Worker)
}
