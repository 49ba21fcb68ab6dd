//! A service of one connection, played by the test byte by byte, for what a script cannot say: an answer while the
//! request is still under way.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::PATIENCE;
use super::gateway::{Gateway, GatewayPlan};

/// A service of one connection, played by the test byte by byte.
pub(crate) struct Service(TcpListener);

impl Service {
    /// Listens, with a gateway before it.
    pub(crate) fn listening() -> (Self, Gateway) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let gateway = GatewayPlan::before_url(&format!("http://{}", listener.local_addr().unwrap())).start();
        (Self(listener), gateway)
    }

    /// Takes a connection and reads up to `end`.
    pub(crate) fn accept_up_to(&self, end: &[u8]) -> TcpStream {
        let (mut stream, _) = self.0.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        read_up_to(&mut stream, end);
        stream
    }
}

/// Reads up to `end`.
pub(crate) fn read_up_to(stream: &mut TcpStream, end: &[u8]) {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{:?}", String::from_utf8_lossy(&read));
        read.push(byte[0]);
    }
}
