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
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Config, ConfigProblems, StoreUrl, parse_listen};
use crate::gateway::{self, GatewayError};

use payments::Payments;
use story::StoryError;

/// Where the gateway listens, unless told otherwise.
const GATEWAY_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// Where the payments API listens, unless told otherwise.
const PAYMENTS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000);

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
fn colour_is_wanted() -> bool {
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
    /// The gateway has no valid configuration.
    #[error("configure the gateway")]
    Config(#[from] ConfigProblems),
    /// The gateway did not start.
    #[error("start the gateway")]
    Gateway(#[from] GatewayError),
    /// The story broke off.
    #[error("play the story")]
    Story(#[from] StoryError),
}

/// Plays the demo on `out`, and stays up until SIGINT or SIGTERM, which may also break the story off.
///
/// Cancel safety: everything ends and the store is removed, but what is under way is not drained.
pub async fn run(args: &DemoArgs, out: &mut impl Write) -> Result<(), DemoError> {
    let mut farewell = Farewell::expect()?;
    let payments = start_payments(args.payments_listen, out).await?;
    if args.payments_only {
        let address = payments.address();
        writeln!(out, "payments API on http://{address}: every POST /payments charges the card")?;
        out.flush()?;
        farewell.said().await;
    } else {
        let listen = free_unless_wanted(args.listen, GATEWAY_LISTEN, out).await?;
        with_gateway(listen, &payments, &mut farewell, out).await?;
    }
    payments.stop().await;
    Ok(())
}

async fn with_gateway(
    listen: SocketAddr,
    payments: &Payments,
    farewell: &mut Farewell,
    out: &mut impl Write,
) -> Result<(), DemoError> {
    let api = reached_from_here(payments.address());
    let scratch = Scratch::new()?;
    let gateway = gateway::start(config(listen, api, scratch.path())?).await?;
    let front = reached_from_here(gateway.listen_addr());
    let told = tokio::select! {
        told = tell(out, payments, api, front) => match told {
            Ok(()) => {
                farewell.said().await;
                Ok(())
            }
            failed => failed,
        },
        () = farewell.said() => Ok(()),
    };
    tokio::select! {
        () = gateway.drain() => {}
        // Whoever asks twice does not want to wait.
        () = farewell.said() => {}
    }
    told
}

async fn tell(
    out: &mut impl Write,
    payments: &Payments,
    api: SocketAddr,
    front: SocketAddr,
) -> Result<(), DemoError> {
    writeln!(out, "payments API  http://{api}  charges the card at every POST /payments")?;
    writeln!(out, "gateway       http://{front}  before it; its records are in a temporary directory")?;
    story::play(out, colour_is_wanted(), payments, api, front).await?;
    writeln!(out, "\n{}", invitation(api, front))?;
    out.flush()?;
    Ok(())
}

fn invitation(api: SocketAddr, front: SocketAddr) -> String {
    format!(
        r#"Try it yourself, in another terminal:

  curl -i http://{front}/payments -H 'Idempotency-Key: order-1' \
       -H 'Content-Type: application/json' -d '{{"amount":42.00,"currency":"EUR","card":"4242"}}'

  The same again: the first answer, marked Idempotent-Replayed. Another amount: 422. With
  /payments?slow_ms=9000 there is time for a second terminal: 409. With /payments?lose=1 the API
  charges and drops the connection: 502, and every retry is told that the outcome is unknown.

  curl http://{api}/payments        what was charged

Both stay up until Ctrl-C."#
    )
}

/// What `onceway serve --upstream` runs, on a store of its own.
fn config(listen: SocketAddr, api: SocketAddr, store: &Path) -> Result<Config, DemoError> {
    let mut config = config::for_upstream(&format!("http://{api}"), None, None)?;
    config.server.listen = listen;
    config.store.url = StoreUrl::Embedded(store.to_owned());
    Ok(config)
}

/// Where a listener is reached from this machine: one on all addresses, on the loopback one.
fn reached_from_here(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) => IpAddr::V4(if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }),
        IpAddr::V6(ip) => IpAddr::V6(if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip }),
    };
    SocketAddr::new(ip, listener.port())
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

/// A directory of this run alone, removed at the end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, DemoError> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("onceway-demo-{}", uuid::Uuid::new_v4().simple()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(DemoError::Directory { path, source }),
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary directory.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_usual_port_that_is_taken_gives_way_and_a_wanted_one_does_not() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let taken = other.local_addr().unwrap();
        let mut said = Vec::new();
        let chosen = free_unless_wanted(None, taken, &mut said).await.unwrap();
        assert_eq!(chosen, SocketAddr::new(taken.ip(), 0));
        assert!(String::from_utf8(said).unwrap().starts_with(&format!("{taken} is taken")));
        let refused = start_payments(Some(taken), &mut Vec::new()).await;
        assert!(matches!(refused, Err(DemoError::Listen { address, .. }) if address == taken));
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_the_loopback_one() {
        for (listener, reached) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.7:1", "192.0.2.7:1")]
        {
            assert_eq!(reached_from_here(listener.parse().unwrap()), reached.parse().unwrap());
        }
    }

    #[test]
    fn a_directory_of_a_run_goes_with_it() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("record"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
