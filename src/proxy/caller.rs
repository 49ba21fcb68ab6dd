//! Who asks, and over what: what the listener knows of a connection before anything is read of a request.
//!
//! Must not know requests. Made in `../server/`, read in `headers.rs` and `admit.rs`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A caller, as its connection tells. Shared by all requests on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where the caller is: the source that a PROXY header tells, else the other end of the connection.
    pub address: SocketAddr,
    /// Whether the peer's own word about where requests came from is believed.
    pub is_trusted: bool,
    /// Whether the connection is encrypted up to this gateway.
    pub is_tls: bool,
    /// Who the caller has shown itself to be.
    pub certificate: Option<CallersName>,
}

/// What a verified client certificate says of whom it was made for. It stays the same when the certificate is
/// renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallersName(pub Arc<[u8]>);

impl Caller {
    /// A caller in the clear, whose word is believed.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, is_trusted: true, is_tls: false, certificate: None }
    }

    /// Its address, as it is written: an IPv4 address that came over IPv6 is an IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}
