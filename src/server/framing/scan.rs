//! Follows a connection's bytes from request to request, and tells how many of them may go on to hyper.
//!
//! Pure. Read `head.rs` for heads, `chunks.rs` for chunked bodies.

use super::Limits;
use super::chunks::{Chunks, Step};
use super::head::{Framing, Head};
use crate::proxy::Doubt;

/// What was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// So many of the bytes may go on.
    pub(super) clear: usize,
    pub(super) then: Then,
}

/// What is to be done with the bytes after those that are clear.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// There are none.
    Nothing,
    /// Keep them, and look at them again with those that come.
    Keep,
    /// Drop them, and all that come: the request that they begin is in doubt. `stand_in` goes on in its place.
    Doubt(Doubt, Vec<u8>),
    /// Drop them, and all that come: the body of a request that has gone on is in doubt.
    Break(&'static str),
}

/// Where in the stream of requests a connection is.
#[derive(Debug)]
pub(super) struct Scan {
    at: At,
    limits: Limits,
    /// The request being read asks for another protocol.
    asks_upgrade: bool,
    has_seen_any: bool,
}

#[derive(Debug)]
enum At {
    /// In a head.
    Head(Head),
    /// In a body, of which this many bytes are to come.
    Body(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// After a request that asks for another protocol: what follows belongs to the next request, unless the answer
    /// is 101.
    Undecided,
    /// No longer looking: the connection has changed protocol, or ends.
    Elsewhere,
}

impl Scan {
    pub(super) fn new(limits: Limits) -> Self {
        Self { at: At::Head(Head::default()), limits, asks_upgrade: false, has_seen_any: false }
    }

    /// Looks at bytes that begin where those end which were clear in the look before.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Sight {
        let (mut left, mut head_at) = (bytes, None);
        while !left.is_empty() {
            let clear = bytes.len() - left.len();
            match &mut self.at {
                At::Elsewhere => break,
                At::Undecided => return Sight { clear, then: Then::Keep },
                At::Body(to_come) => {
                    let taken = usize::try_from(*to_come).unwrap_or(usize::MAX).min(left.len());
                    left = left.get(taken..).unwrap_or_default();
                    *to_come = to_come.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                    if *to_come == 0 {
                        self.at = self.after_request();
                    }
                }
                At::Chunked(chunks) => match chunks.step(&mut left) {
                    Step::More => {}
                    Step::End => self.at = self.after_request(),
                    Step::Doubt(reason) => return self.broken_body(bytes, clear, head_at, reason),
                },
                At::Head(head) => match head.look(left, &self.limits) {
                    Ok(None) => return Sight { clear, then: Then::Keep },
                    Ok(Some(complete)) => {
                        head_at = Some(clear);
                        self.has_seen_any = true;
                        left = left.get(complete.len..).unwrap_or_default();
                        self.asks_upgrade = complete.asks_upgrade;
                        self.at = match complete.framing {
                            Framing::Length(0) => self.after_request(),
                            Framing::Length(length) => At::Body(length),
                            Framing::Chunked => At::Chunked(Chunks::new()),
                        };
                    }
                    Err(doubt) => {
                        let then = Then::Doubt(doubt, head.stand_in(left));
                        self.at = At::Elsewhere;
                        return Sight { clear, then };
                    }
                },
            }
        }
        Sight { clear: bytes.len(), then: Then::Nothing }
    }

    /// Whether a request has begun whose head is not complete: of `kept`, which are the bytes kept so far.
    pub(super) fn is_in_head(&self, kept: &[u8]) -> bool {
        matches!(&self.at, At::Head(head) if head.has_begun(kept))
    }

    /// What there is to be done because the rest of a head does not come.
    pub(super) fn give_up(&mut self, doubt: Doubt, kept: &[u8]) -> Then {
        let stand_in = match &self.at {
            At::Head(head) => head.stand_in(kept),
            At::Body(_) | At::Chunked(_) | At::Undecided | At::Elsewhere => Head::default().stand_in(kept),
        };
        self.at = At::Elsewhere;
        Then::Doubt(doubt, stand_in)
    }

    /// Whether any request has come.
    pub(super) fn has_seen_any(&self) -> bool {
        self.has_seen_any
    }

    /// Whether the next request is waited for, or its head.
    pub(super) fn awaits_head(&self) -> bool {
        matches!(self.at, At::Head(_))
    }

    /// Whether only the answer can tell what the next bytes are.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.at, At::Undecided)
    }

    /// Learns whether the connection changes protocol.
    pub(super) fn decide(&mut self, is_granted: bool) {
        self.at = if is_granted { At::Elsewhere } else { At::Head(Head::default()) };
    }

    fn after_request(&mut self) -> At {
        if std::mem::take(&mut self.asks_upgrade) { At::Undecided } else { At::Head(Head::default()) }
    }

    /// The last byte taken makes a body doubtful. If its head has not gone on, nothing of the request does.
    fn broken_body(
        &mut self,
        bytes: &[u8],
        clear: usize,
        head_at: Option<usize>,
        reason: &'static str,
    ) -> Sight {
        self.at = At::Elsewhere;
        let Some(head_at) = head_at else {
            return Sight { clear, then: Then::Break(reason) };
        };
        let mut head = Head::default();
        let whole = bytes.get(head_at..).unwrap_or_default();
        // It was clear before; it is read again for its start line.
        let stand_in = match head.look(whole, &self.limits) {
            Ok(_) | Err(_) => head.stand_in(whole),
        };
        Sight { clear: head_at, then: Then::Doubt(Doubt::Malformed(reason), stand_in) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limits() -> Limits {
        Limits {
            target_bytes_max: 100,
            header_bytes_max: 1000,
            header_count_max: 10,
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
        }
    }

    /// What may go on of bytes that come in pieces of this size, and what follows it.
    fn look(bytes: &[u8], piece: usize) -> (Vec<u8>, Then) {
        let (mut scan, mut held, mut passed) = (Scan::new(limits()), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            held.extend_from_slice(piece);
            let Sight { clear, then } = scan.look(&held);
            passed.extend(held.drain(..clear));
            if matches!(then, Then::Doubt(..) | Then::Break(_)) {
                return (passed, then);
            }
        }
        (passed, if held.is_empty() { Then::Nothing } else { Then::Keep })
    }

    /// The doubt about a request whose head or body this is, however it comes.
    fn doubt_of(bytes: &str) -> Option<Doubt> {
        let of = |piece| match look(bytes.as_bytes(), piece).1 {
            Then::Nothing | Then::Keep => None,
            Then::Doubt(doubt, _) => Some(doubt),
            Then::Break(reason) => Some(Doubt::Malformed(reason)),
        };
        let doubts = [1, 2, 3, 7, 10_000].map(of);
        assert!(doubts.windows(2).all(|pair| pair[0] == pair[1]), "pieces matter: {doubts:?}");
        doubts[0]
    }

    fn head(lines: &str) -> String {
        format!("POST /p HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
    }

    fn is_malformed(bytes: &str) -> bool {
        matches!(doubt_of(bytes), Some(Doubt::Malformed(_)))
    }

    #[test]
    fn well_formed_requests_in_a_row_go_on_as_they_are() {
        let requests = [
            head("Content-Length: 5\r\n") + "a\r\n\r\n",
            head(""),
            head("Transfer-Encoding: Chunked\r\n")
                + "3;ext=\"a;b\"\r\nabc\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            "\r\n".to_owned() + &head("Content-Length: 0\r\nX-Empty:\r\nX-Odd: \t caf\u{e9} \r\n"),
            head("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\n\r\nGET http://h:80/?q={\"a\":1}|[] HTTP/1.1\r\nHost: h\r\n\r\n"
                .to_owned(),
        ]
        .concat();
        let requests = requests.replace("?q={\"a\":1}", "?q={a}");
        for piece in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(look(requests.as_bytes(), piece), (requests.clone().into_bytes(), Then::Nothing));
        }
    }

    #[test]
    fn a_body_that_is_framed_twice_or_strangely_is_malformed() {
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 1 0\r\n",
            "Content-Length: 5.0\r\n",
            "Content-Length:\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding: chunked;q=1\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding: chunked,\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert!(is_malformed(&head(lines)), "{lines:?}");
        }
        assert!(is_malformed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn a_coding_that_is_not_known_is_no_fault_of_the_framing() {
        for value in ["gzip, chunked", "identity, chunked", "gzip,deflate , Chunked"] {
            let doubt = doubt_of(&head(&format!("Transfer-Encoding: {value}\r\n")));
            assert_eq!(doubt, Some(Doubt::CodingNotKnown), "{value}");
        }
    }

    #[test]
    fn a_line_that_servers_read_differently_is_malformed() {
        for lines in [
            "X: y\nZ: a\r\n",
            "X: y\rZ: a\r\n",
            "X: y\r\r\n",
            " X: y\r\n",
            "X: y\r\n folded\r\n",
            "X: y\r\n\tfolded\r\n",
            "X : y\r\n",
            "X\t: y\r\n",
            "X y\r\n",
            "X\r\n",
            ": y\r\n",
            "X\u{1}: y\r\n",
            "X: a\u{0}b\r\n",
            "X: a\u{7f}\r\n",
            "caf\u{e9}: y\r\n",
            "(X): y\r\n",
        ] {
            assert!(is_malformed(&head(lines)), "{lines:?}");
        }
    }

    #[test]
    fn a_start_line_that_is_none_is_malformed() {
        for line in [
            "GET /",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET HTTP/1.1",
            "GET / http/1.1",
            "GET / HTTP/1",
            "GET / HTTP/11",
            "GET / HTTP/1.10",
            "GET / HTTP/1,1",
            "GET / HTTPS/1.1",
            "G(T / HTTP/1.1",
            "get / HTTP/1.1",
            "GET /caf\u{e9} HTTP/1.1",
            "GET /a\u{0} HTTP/1.1",
            "GET /p#f HTTP/1.1",
            "GET /a<b HTTP/1.1",
            "GET * HTTP/1.1",
            "GET h HTTP/1.1",
            "GET h:80 HTTP/1.1",
            "GET http:///p HTTP/1.1",
            "GET //h:p:p HTTP/1.1\r",
            "\u{16}\u{3}\u{1}",
        ] {
            assert!(is_malformed(&format!("{line}\r\nHost: h\r\n\r\n")), "{line:?}");
        }
        assert!(is_malformed(&format!("{} / HTTP/1.1\r\n\r\n", "G".repeat(65))));
        assert!(is_malformed(&format!("{}{}", "\r\n".repeat(5), head(""))));
        assert!(is_malformed(&format!("\n{}", head(""))));
        assert!(is_malformed(&head("").replace("\r\n", "\n")));
    }

    #[test]
    fn other_versions_and_tunnels_are_told_from_what_is_malformed() {
        for version in ["1.2", "2.0", "0.9", "3.0", "9.9"] {
            let doubt = doubt_of(&format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n"));
            assert_eq!(doubt, Some(Doubt::VersionNotSupported), "{version}");
        }
        assert_eq!(doubt_of("CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n"), Some(Doubt::Tunnel));
    }

    #[test]
    fn a_head_beyond_a_limit_is_told_as_soon_as_it_is() {
        let (long, max) = ("x".repeat(101), limits().header_bytes_max);
        assert_eq!(doubt_of(&format!("GET /{long} HTTP/1.1\r\n")), Some(Doubt::TargetTooLong { max: 100 }));
        assert_eq!(doubt_of(&format!("GET /{}", long.repeat(3))), Some(Doubt::TargetTooLong { max: 100 }));
        let fields = "X: y\r\n".repeat(11);
        assert_eq!(doubt_of(&head(&fields)), Some(Doubt::TooManyFields { max: 10 }));
        let large = head("").replace("\r\n\r\n", &format!("\r\nX: {}", "y".repeat(1000)));
        assert_eq!(doubt_of(&large), Some(Doubt::HeadTooLarge { max }));
    }

    #[test]
    fn what_came_before_a_doubtful_head_goes_on_and_a_stand_in_comes_after_it() {
        let first = head("Content-Length: 2\r\n") + "{}";
        let requests = first.clone() + &head("Content-Length: 5, 5\r\n");
        for piece in [1, 7, 10_000] {
            let (passed, then) = look(requests.as_bytes(), piece);
            assert_eq!(passed, first.as_bytes());
            assert!(matches!(then, Then::Doubt(_, stand_in) if stand_in == b"POST /p HTTP/1.1\r\n\r\n"));
        }
    }

    #[test]
    fn nothing_of_a_request_goes_on_whose_doubtful_body_comes_with_its_head() {
        let request = head("Transfer-Encoding: chunked\r\n") + "5 \r\nhello\r\n0\r\n\r\n";
        assert!(matches!(look(request.as_bytes(), 10_000), (passed, Then::Doubt(..)) if passed.is_empty()));
        assert!(
            matches!(look(request.as_bytes(), 1), (passed, Then::Break(_)) if passed.ends_with(b"\n5 \r"))
        );
    }

    #[test]
    fn a_control_byte_in_a_value_is_blanked_in_the_stand_in() {
        let request = head("Idempotency-Key: a\u{1}b\r\n");
        let (_, then) = look(request.as_bytes(), 10_000);
        assert!(
            matches!(then, Then::Doubt(_, stand_in) if stand_in.windows(3).any(|window| window == b"a\xffb"))
        );
    }

    #[test]
    fn chunks_that_servers_read_differently_are_in_doubt() {
        for body in [
            "5 \r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5;\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\n",
            "5\r\nhello\r\n0\r\nX: y\n\r\n",
            "5\r\nhello\r\n0\r\nX: \ry\r\n\r\n",
        ] {
            assert!(is_malformed(&(head("Transfer-Encoding: chunked\r\n") + body)), "{body:?}");
        }
    }

    #[test]
    fn what_follows_an_upgrade_is_kept_until_its_answer_is_known() {
        let doubtful = head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
        let asking = head("Upgrade: websocket\r\nConnection: upgrade\r\n");
        for is_granted in [true, false] {
            let mut scan = Scan::new(limits());
            let sight = scan.look((asking.clone() + &doubtful).as_bytes());
            assert_eq!(sight, Sight { clear: asking.len(), then: Then::Keep });
            scan.decide(is_granted);
            assert_eq!(scan.look(doubtful.as_bytes()).then == Then::Nothing, is_granted);
        }
    }

    #[test]
    fn what_goes_on_is_read_as_a_whole_head_by_another_parser_too() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let pieces: [&[u8]; 24] = [
            b"GET",
            b"POST",
            b" ",
            b"/",
            b"/p?q",
            b" HTTP/1.1",
            b"\r\n",
            b"\n",
            b"\r",
            b"Host: h",
            b"X:",
            b":",
            b"a",
            b"\t",
            b"Content-Length: 0",
            b"Transfer-Encoding: chunked",
            b"0\r\n\r\n",
            b"\0",
            b"\x80",
            b"%",
            b"#",
            b"http://h/",
            b"GET / HTTP/1.1\r\n",
            b"\r\n\r\n",
        ];
        for round in 0..20_000 {
            let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
            for _ in 0..random.usize(1..8) {
                bytes.extend_from_slice(pieces[random.usize(..pieces.len())]);
            }
            let (passed, _) = look(&bytes, 10_000);
            if passed.is_empty() {
                continue;
            }
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut fields);
            let read = request.parse(&passed);
            assert!(
                matches!(read, Ok(httparse::Status::Complete(_))),
                "seed {seed}, round {round}: {bytes:?}"
            );
        }
    }
}
