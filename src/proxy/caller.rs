//! Who asks, and over what: what the listener knows of a connection before anything is read of a request.
//!
//! Must not know requests. Made in `../server/`, read in `headers.rs` and `admit.rs`.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A caller, as its connection tells. Shared by all requests on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where the caller is: the source that a PROXY header tells, else the other end of the connection.
    pub address: SocketAddr,
    /// The same without its port, as upstreams are told.
    pub ip_as_field: HeaderValue,
    /// Whether the peer's own word about where requests came from is believed.
    pub is_trusted: bool,
    /// Whether the connection is encrypted up to this gateway.
    pub is_tls: bool,
    /// Who the caller has shown itself to be.
    pub certificate: Option<CallersName>,
    /// Whether it has asked for anything yet.
    pub newcomer: Newcomer,
}

/// A connection that was accepted and on which nothing has been asked yet. Whoever is let in is served once, also
/// when the gateway begins to stop meanwhile: nobody has told it to go elsewhere.
#[derive(Debug, Default)]
pub struct Newcomer(Mutex<Option<TaskTrackerToken>>);

impl Newcomer {
    /// One for whom whoever waits for `newcomers` waits until it has asked or gone.
    pub fn among(newcomers: &TaskTracker) -> Self {
        Self(Mutex::new(Some(newcomers.token())))
    }

    /// Asks; answers whether it is for the first time.
    pub(super) fn asks(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }
}

/// A copy is not the connection, and so no newcomer.
impl Clone for Newcomer {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// What was asked is nothing by which callers are told apart.
impl PartialEq for Newcomer {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Newcomer {}

/// What a verified client certificate says of whom it was made for. It stays the same when the certificate is
/// renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallersName(pub Arc<[u8]>);

impl Caller {
    /// A caller in the clear, whose word is believed.
    pub fn at(address: SocketAddr) -> Self {
        let shown = HeaderValue::try_from(written(address).to_string());
        Self {
            address,
            ip_as_field: shown.unwrap_or(HeaderValue::from_static("unknown")),
            is_trusted: true,
            is_tls: false,
            certificate: None,
            newcomer: Newcomer::default(),
        }
    }

    /// Its address, as it is written.
    pub fn ip(&self) -> IpAddr {
        written(self.address)
    }
}

/// An IPv4 address that came over IPv6 is an IPv4 address.
fn written(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}
