//! `onceway demo`: a payments API, the gateway before it, and the lost-response story played against
//! them.
//!
//! Owns the order: the API, then the gateway on a store of its own in a temporary directory, the story,
//! and then staying up until a signal. Must not print: it writes where it is told to.
//!
//! Read `demo/story.rs` for the story, `demo/payments.rs` for the API.

mod client;
pub mod payments;
mod stage;
pub mod story;

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::parse_listen;

use payments::Payments;
use story::StoryError;

/// Where the payments API listens, unless told otherwise.
const PAYMENTS_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

/// What the demonstration can be told.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Address of the gateway [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    /// Address of the payments API [default: 127.0.0.1:9000, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    pub payments_listen: Option<SocketAddr>,
    /// Run the payments API alone
    #[arg(long)]
    pub payments_only: bool,
}

/// Whether standard output is a terminal whose owner has not asked for plain text (no-color.org).
pub fn colour_is_wanted() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Why the demo ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("wait for signals")]
    Signals(#[source] std::io::Error),
    /// There is no place for the store.
    #[error("make {path} for the gateway's store")]
    Directory {
        /// Where it was to be.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What was to be said could not be written.
    #[error("write to the terminal")]
    Write(#[from] std::io::Error),
    /// The story broke off.
    #[error("play the story")]
    Story(#[from] StoryError),
}

/// Waits for whoever wants the demo to end.
struct Farewell {
    interrupt: Signal,
    terminate: Signal,
}

impl Farewell {
    /// From here on the signals no longer end the process by themselves.
    fn expect() -> Result<Self, DemoError> {
        let on = |kind| signal(kind).map_err(DemoError::Signals);
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// Cancel safety: nothing is lost.
    async fn said(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Runs the payments API alone, until SIGINT or SIGTERM.
///
/// Cancel safety: the API ends.
pub async fn payments_alone(args: &DemoArgs, out: &mut impl Write) -> Result<(), DemoError> {
    let mut farewell = Farewell::expect()?;
    let payments = start_payments(args.payments_listen, out).await?;
    writeln!(out, "payments API on http://{}: every POST /payments charges the card", payments.address())?;
    out.flush()?;
    farewell.said().await;
    payments.stop().await;
    Ok(())
}

async fn start_payments(wanted: Option<SocketAddr>, out: &mut impl Write) -> Result<Payments, DemoError> {
    let listen = free_unless_wanted(wanted, PAYMENTS_LISTEN, out).await?;
    let failed = |source| DemoError::Listen { address: listen, source };
    payments::serve(TcpListener::bind(listen).await.map_err(failed)?).map_err(failed)
}

/// The address to listen on: the one wanted; where none is, the usual one, or, if that is taken, any free
/// port beside it, which is said.
async fn free_unless_wanted(
    wanted: Option<SocketAddr>,
    usual: SocketAddr,
    out: &mut impl Write,
) -> Result<SocketAddr, DemoError> {
    if let Some(wanted) = wanted {
        return Ok(wanted);
    }
    match TcpListener::bind(usual).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            writeln!(out, "{usual} is taken; listening on a free port instead")?;
            Ok(SocketAddr::new(usual.ip(), 0))
        }
        // Whatever else is wrong with it is told when it is listened on.
        _ => Ok(usual),
    }
}
