//! A caller with an address of its own that says some bytes and listens until the gateway has ended.
//!
//! Must not know what is right; that is `oracle.rs`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// After this, a gateway that has been told everything does not answer any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// The address of the caller of this number: another of the loopback network's for each.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    let [_, high, middle, low] = (number % 0xff_0000 + 0x1_0000).to_be_bytes();
    Ipv4Addr::new(127, high, middle, low)
}

/// Sends `bytes` in pieces of the given sizes, says that nothing more comes, and reads to the end. Answers what
/// came back.
///
/// A gateway that closes early is no failure: it may have found enough.
pub(crate) fn say(gateway: SocketAddr, from: Ipv4Addr, bytes: &[u8], split: usize) -> Vec<u8> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&gateway.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (first, rest) = bytes.split_at(split.min(bytes.len()));
    let is_heard = stream.write_all(first).is_ok() && stream.write_all(rest).is_ok();
    if is_heard {
        stream.shutdown(Shutdown::Write).ok();
    }
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => answer.extend_from_slice(&piece[..count]),
            Ok(_) => return answer,
            Err(error) => {
                let is_late =
                    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!is_late, "neither answered nor closed: {}", bytes.escape_ascii());
                return answer;
            }
        }
    }
}
