//! The PROXY protocol, versions 1 and 2: what a load balancer puts before a connection to tell whose it is.
//!
//! Reads no byte beyond the header. Must not know what follows it. Source: the protocol's specification,
//! §2.1 and §2.2.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;

use crate::net::Stream;

/// What every header of version 2 begins with.
const SIGNATURE_V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// §2.2: version 2, and the command of a connection that the balancer makes by itself.
const LOCAL_V2: u8 = 0x20;

/// §2.1: the longest line of version 1, with its end.
const LINE_MAX: usize = 107;

/// The longest header of version 2 that is read. Addresses take at most 216 bytes; the rest are extensions, of which a
/// chain of certificates is the longest that is in use.
const LONG_MAX: usize = 16 + 4096;

/// Why a connection has no header that can be believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadHeader {
    /// It ended or broke off.
    #[error("read the PROXY header")]
    Read(#[source] io::Error),
    /// It begins with something else.
    #[error("find a PROXY header")]
    Missing,
    /// There is one, and it is wrong.
    #[error("parse the PROXY header")]
    Malformed,
    /// There is one, and it is longer than any that is in use.
    #[error("take a PROXY header of {0} bytes")]
    TooLong(usize),
}

/// Reads the header, and answers whose connection it is; `None` if it does not say so (a health check by the balancer
/// itself, or an address that is none of the internet's).
pub(super) async fn read(stream: &mut Stream) -> Result<Option<SocketAddr>, BadHeader> {
    let mut header = vec![0; SIGNATURE_V2.len()];
    exactly(stream, &mut header, 0).await?;
    if header == SIGNATURE_V2 {
        long(stream, &mut header).await?;
        // §2.2: with LOCAL the family and the addresses mean nothing, whatever they are.
        if header.get(SIGNATURE_V2.len()) == Some(&LOCAL_V2) {
            return Ok(None);
        }
    } else if header.starts_with(b"PROXY ") {
        line(stream, &mut header).await?;
        if !is_by_the_letter(&header) {
            return Err(BadHeader::Malformed);
        }
    } else {
        return Err(BadHeader::Missing);
    }
    // Extensions are the balancer's business; a header is not refused for what stands in them.
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(&header, config) {
        Ok((parsed, length)) if length == header.len() => {
            Ok(parsed.proxied_address().map(|address| address.source))
        }
        Ok(_) | Err(_) => Err(BadHeader::Malformed),
    }
}

/// §2.2: 16 bytes, the last two of which tell how many follow.
async fn long(stream: &mut Stream, header: &mut Vec<u8>) -> Result<(), BadHeader> {
    let begun = header.len();
    header.resize(16, 0);
    exactly(stream, header, begun).await?;
    let Some([.., high, low]) = header.get(..16) else { return Err(BadHeader::Malformed) };
    let length = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    if length > LONG_MAX {
        return Err(BadHeader::TooLong(length));
    }
    header.resize(length, 0);
    exactly(stream, header, 16).await
}

/// §2.1: a line. Its end is looked for without taking anything, so that what follows it stays in the socket.
async fn line(stream: &mut Stream, header: &mut Vec<u8>) -> Result<(), BadHeader> {
    while header.last() != Some(&b'\n') {
        let begun = header.len();
        let room = LINE_MAX.saturating_sub(begun);
        if room == 0 {
            return Err(BadHeader::Malformed);
        }
        let mut ahead = [0; LINE_MAX];
        let seen = stream.peek(ahead.get_mut(..room).unwrap_or_default()).await.map_err(BadHeader::Read)?;
        if seen == 0 {
            return Err(BadHeader::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        let end = ahead.iter().take(seen).position(|byte| *byte == b'\n').map_or(seen, |at| at + 1);
        header.resize(begun + end, 0);
        exactly(stream, header, begun).await?;
    }
    Ok(())
}

/// What the parser takes beyond §2.1: a family that only begins with `UNKNOWN`, and ports with a sign.
fn is_by_the_letter(line: &[u8]) -> bool {
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ').skip(1);
    match words.next() {
        Some(b"UNKNOWN") => true,
        Some(b"TCP4" | b"TCP6") => words.skip(2).all(|port| port.iter().all(u8::is_ascii_digit)),
        Some(_) | None => false,
    }
}

async fn exactly(stream: &mut Stream, header: &mut [u8], from: usize) -> Result<(), BadHeader> {
    let rest = header.get_mut(from..).unwrap_or_default();
    stream.read_exact(rest).await.map(drop).map_err(BadHeader::Read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    /// What is made of these bytes, and what is left in the socket.
    async fn made_of(pieces: &[&[u8]]) -> (Result<Option<SocketAddr>, BadHeader>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut reader = Stream::Tcp(listener.accept().await.unwrap().0);
        let writing = async {
            for piece in pieces {
                writer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            writer.shutdown().await.unwrap();
        };
        let (made, ()) = tokio::join!(read(&mut reader), writing);
        let mut left = Vec::new();
        reader.read_to_end(&mut left).await.ok();
        (made, left)
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE_V2[..], &[command, family], &length, rest].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x1f, 0x90, 0, 80];

    #[tokio::test]
    async fn a_header_tells_whose_the_connection_is_and_nothing_behind_it_is_touched() {
        let six: Vec<u8> = [[0x20, 1, 0xd, 0xb8], [0; 4], [0; 4], [0, 0, 0, 1]].concat();
        let six = [six.clone(), six, vec![0x1f, 0x90, 0, 80]].concat();
        for (header, source) in [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 8080 80\r\n".to_vec(), "192.0.2.1:8080"),
            (b"PROXY TCP6 2001:db8::1 ::1 8080 80\r\n".to_vec(), "[2001:db8::1]:8080"),
            (version_2(0x21, 0x11, &FOUR), "192.0.2.1:8080"),
            (version_2(0x21, 0x21, &six), "[2001:db8::1]:8080"),
            (
                version_2(0x21, 0x11, &[&FOUR[..], &[3, 0, 4, 1, 2, 3, 4, 0xee, 0, 0]].concat()),
                "192.0.2.1:8080",
            ),
        ] {
            let (made, left) = made_of(&[&header, b"GET"]).await;
            assert_eq!(made.unwrap(), Some(source.parse().unwrap()));
            assert_eq!(left, b"GET");
            let bytes: Vec<&[u8]> = header.chunks(1).chain([&b"GET"[..]]).collect();
            assert_eq!(made_of(&bytes).await.0.unwrap(), Some(source.parse().unwrap()));
        }
    }

    #[tokio::test]
    async fn a_header_that_names_nobody_leaves_the_peer_who_it_is() {
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:f...f:ffff 1 2 3\r\n".to_vec(),
            version_2(0x20, 0x00, &[]),
            version_2(0x20, 0x11, &FOUR),
            version_2(0x20, 0x11, &[]),
            version_2(0x21, 0x00, &[]),
            version_2(0x21, 0x31, &[0; 216]),
        ] {
            let (made, left) = made_of(&[&header, b"x"]).await;
            assert_eq!((made.unwrap(), left), (None, b"x".to_vec()));
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 8080\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.256 192.0.2.2 8080 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 8080 80\n\r".to_vec(),
            b"PROXY TCP4 2001:db8::1 ::1 8080 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +8080 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 8080 +80\r\n".to_vec(),
            b"PROXY UNKNOWNS\r\n".to_vec(),
            b"PROXY TCP4 192.0".to_vec(),
            b"PROXY".to_vec(),
            long,
            version_2(0x31, 0x11, &FOUR),
            version_2(0x21, 0x11, &FOUR[..8]),
            version_2(0x21, 0x11, &vec![0; 5000]),
        ] {
            assert!(made_of(&[&bytes]).await.0.is_err(), "{bytes:?}");
        }
    }
}
