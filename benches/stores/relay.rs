//! Stands between a store and its server and counts how often the store asked and waited: a round trip
//! begins whenever the store writes after the server has answered.
//!
//! Only for counting, with one caller; nothing is measured through it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const PIECE_BYTES: usize = 64 * 1024;

/// A relay to one server, which ends when it is dropped.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    round_trips: Arc<AtomicU64>,
    _serving: JoinSet<io::Result<()>>,
}

impl Relay {
    pub(super) async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let round_trips = Arc::new(AtomicU64::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, server, Arc::clone(&round_trips)));
        Ok(Self { address, round_trips, _serving: serving })
    }

    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Acquire)
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, round_trips: Arc<AtomicU64>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        let server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (is_asked, counter) = (Arc::new(AtomicBool::new(false)), Arc::clone(&round_trips));
        let asking = Arc::clone(&is_asked);
        connections.spawn(pass_on(from_client, to_server, move || {
            if !asking.swap(true, Ordering::AcqRel) {
                counter.fetch_add(1, Ordering::AcqRel);
            }
        }));
        connections.spawn(pass_on(from_server, to_client, move || is_asked.store(false, Ordering::Release)));
    }
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    told: impl Fn(),
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while from.read_buf(&mut piece).await? > 0 {
        told();
        to.write_all(&piece).await?;
        piece.clear();
    }
    to.shutdown().await
}
