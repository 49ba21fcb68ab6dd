//! What stands before a connection as its PROXY header: a request behind it comes from whom the header names by the letter
//! of its specification, from the peer where it names nobody, and goes nowhere behind what is none.
//!
//! The bytes stand before a request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::oracle::Got;
use super::origin::Origin;
use super::place::{self, Gateway};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header that the gateway says that it reads.
const LONG_MAX: usize = 16 + 4096;

/// A gateway that wants PROXY headers, before an upstream that keeps what it gets.
pub(crate) struct Stage {
    gateway: Gateway,
    origin: Origin,
    next: AtomicU64,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// This address's; the header took so many bytes.
    Named(IpAddr, usize),
    /// The peer's.
    Peers(usize),
    /// The specification leaves it to the receiver what it does.
    Open,
    /// Nobody's: what stands there is no header.
    Nobodys,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let origin = Origin::start();
        let gateway = place::gateway(
            "proxy_protocol = true\nforwarded = \"replace\"",
            "",
            &format!("[upstreams.default]\nurl = \"{}\"\n", origin.url()),
        );
        Self { gateway, origin, next: AtomicU64::new(1) }
    }

    pub(crate) fn bear(&self, bytes: &[u8]) {
        let target = format!("/case-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        place::said_back(self.gateway.callers, &[bytes, request.as_bytes()].concat());
        let got = self.origin.take_all();
        let told = format!("{} became {got:?}", bytes.escape_ascii());
        // Of what stands between the header and this request, something may come later.
        let is_this = |got: &Got| matches!(got, Got::Whole(asked) if asked.head.target == target);
        let callers =
            got.iter().filter(|(_, got)| got.iter().any(is_this)).map(|(caller, _)| caller.as_str());
        let callers: Vec<&str> = callers.collect();
        let expect = |address: IpAddr, used: usize| {
            assert!(callers.iter().all(|caller| *caller == address.to_string()), "{told}");
            assert!(callers.len() == 1 || used < bytes.len(), "{told}");
        };
        match whose(bytes) {
            Whose::Named(address, used) => expect(address, used),
            Whose::Peers(used) => expect(Ipv4Addr::LOCALHOST.into(), used),
            Whose::Nobodys => assert!(callers.is_empty(), "{told}"),
            Whose::Open => {}
        }
    }
}

fn whose(bytes: &[u8]) -> Whose {
    if let Some(rest) = bytes.strip_prefix(SIGNATURE) {
        return in_binary(rest, bytes.len());
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    let Some(end) = end.filter(|end| *end <= 107) else { return Whose::Nobodys };
    let Some(line) = bytes[..end].strip_suffix(b"\r\n") else { return Whose::Nobodys };
    if let Some(rest) = line.strip_prefix(b"PROXY UNKNOWN")
        && (rest.is_empty() || rest.starts_with(b" "))
    {
        // Whatever follows is ignored up to the end; whether a carriage return alone is one, nobody says.
        return if rest.contains(&b'\r') { Whose::Open } else { Whose::Peers(end) };
    }
    let words: Vec<_> = String::from_utf8_lossy(line).split(' ').map(str::to_owned).collect();
    let [proxy, family, source, target, source_port, target_port] = words.as_slice() else {
        return Whose::Nobodys;
    };
    let addresses = match (proxy.as_str(), family.as_str()) {
        ("PROXY", "TCP4") => four(source).zip(four(target)).map(|(source, _)| IpAddr::from(source)),
        ("PROXY", "TCP6") => six(source).zip(six(target)).map(|(source, _)| IpAddr::from(source)),
        _ => None,
    };
    let are_ports = is_port(source_port) && is_port(target_port);
    addresses.filter(|_| are_ports).map_or(Whose::Nobodys, |source| Whose::Named(source, end))
}

/// §2.2, after the signature. `given`: how many bytes there are before the request.
fn in_binary(rest: &[u8], given: usize) -> Whose {
    let Some(([command, family, high, low], rest)) = rest.split_first_chunk() else { return Whose::Open };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let used = 16 + length;
    if used > LONG_MAX {
        return Whose::Nobodys;
    }
    // It takes some of the request, which is none then.
    let Some(addresses) = rest.get(..length).filter(|_| used <= given) else { return Whose::Open };
    match (command, family) {
        (0x20, _) | (0x21, 0) => Whose::Peers(used),
        (0x21, 0x11) => match addresses.get(..12).and_then(|found| found.first_chunk::<4>()) {
            Some(source) => Whose::Named(Ipv4Addr::from(*source).into(), used),
            None => Whose::Nobodys,
        },
        (0x21, 0x21) => match addresses.get(..36).and_then(|found| found.first_chunk::<16>()) {
            Some(source) => Whose::Named(Ipv6Addr::from(*source).into(), used),
            None => Whose::Nobodys,
        },
        // Datagrams, paths of sockets, and families that nobody has given a meaning.
        (0x21, _) => Whose::Open,
        _ => Whose::Nobodys,
    }
}

fn four(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok()
}

fn six(text: &str) -> Option<Ipv6Addr> {
    text.parse().ok()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[test]
fn whatever_was_tried_as_a_proxy_header_names_whom_it_names_by_the_letter() {
    let stage = Stage::start();
    super::try_each("proxied", |bytes| stage.bear(bytes));
}
