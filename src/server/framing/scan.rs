//! Follows a connection's bytes from request to request: where a head ends, how its body is framed.
//!
//! Pure. Reads heads with the parser that hyper uses. Read `chunks.rs` for chunked bodies.

use super::chunks::{Chunks, Step};

/// Longest method that any registered one comes near to.
const METHOD_LEN_MAX: usize = 64;

/// Bytes that may wait for the answer to an upgrade; more than that is no request any more.
const UNDECIDED_LEN_MAX: usize = 256 * 1024;

/// Fields looked at in one head; hyper's own limit is told by the configuration and is not larger.
const FIELDS_MAX: usize = 1024;

/// The doubt about a head with a control byte in a field's value. hyper refuses such a head by itself, without
/// a word to the service; see [`super::LookedOver`].
pub(super) const CONTROL_BYTE: &str = "a field's value holds a control byte";

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Clear,
    /// The head of this request, by number, reads in more than one way.
    DoubtfulHead {
        request: u64,
        reason: &'static str,
    },
    /// The body of this request does, at the end of the first `clear` bytes of those looked at.
    DoubtfulBody {
        request: u64,
        reason: &'static str,
        clear: usize,
    },
}

/// Where in the stream of requests a connection is.
#[derive(Debug)]
pub(super) struct Scan {
    at: At,
    heads: u64,
    answers: u64,
    /// The request being read asks for another protocol.
    asks_upgrade: bool,
}

#[derive(Debug)]
enum At {
    /// In a head, of which these bytes have come so far.
    Head(Vec<u8>),
    /// In a body, of which this many bytes are to come.
    Body(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// After a request that asks for another protocol: these bytes belong to the next request, unless the
    /// answer is 101.
    Undecided(Vec<u8>),
    /// No longer looking: the connection has changed protocol, or ends.
    Elsewhere,
}

/// How the body after a head is framed.
enum Framing {
    Length(u64),
    Chunked,
    Tunnel,
}

impl Scan {
    pub(super) fn new() -> Self {
        Self { at: At::Head(Vec::new()), heads: 0, answers: 0, asks_upgrade: false }
    }

    /// Looks at the next bytes.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> Sight {
        let given = bytes.len();
        while !bytes.is_empty() {
            match &mut self.at {
                At::Elsewhere => return Sight::Clear,
                At::Undecided(held) => {
                    held.extend_from_slice(bytes);
                    if held.len() > UNDECIDED_LEN_MAX {
                        self.at = At::Elsewhere;
                    }
                    return Sight::Clear;
                }
                At::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(taken..).unwrap_or_default();
                    *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                    if *left == 0 {
                        self.at = self.after_request();
                    }
                }
                At::Chunked(chunks) => match chunks.step(&mut bytes) {
                    Step::More => {}
                    Step::End => self.at = self.after_request(),
                    Step::Doubt(reason) => {
                        self.at = At::Elsewhere;
                        let request = self.heads.saturating_sub(1);
                        let clear = given.saturating_sub(bytes.len() + 1);
                        return Sight::DoubtfulBody { request, reason, clear };
                    }
                },
                At::Head(so_far) => {
                    let Some(end) = head_end(so_far, &mut bytes) else { return Sight::Clear };
                    let joined;
                    let head = if so_far.is_empty() {
                        let (head, rest) = bytes.split_at(end);
                        bytes = rest;
                        head
                    } else {
                        let (last, rest) = bytes.split_at(end);
                        bytes = rest;
                        so_far.extend_from_slice(last);
                        joined = std::mem::take(so_far);
                        &joined
                    };
                    let framing = framing(head, &mut self.asks_upgrade);
                    let request = self.heads;
                    self.heads += 1;
                    self.at = match framing {
                        Ok(Framing::Length(0)) => self.after_request(),
                        Ok(Framing::Length(length)) => At::Body(length),
                        Ok(Framing::Chunked) => At::Chunked(Chunks::new()),
                        Ok(Framing::Tunnel) => At::Elsewhere,
                        Err(reason) => {
                            self.at = At::Elsewhere;
                            return Sight::DoubtfulHead { request, reason };
                        }
                    };
                }
            }
        }
        Sight::Clear
    }
}

impl Scan {
    /// Learns the beginning of what is answered: whether the connection changes protocol. Answers what was seen
    /// in the bytes that waited for it.
    pub(super) fn answered(&mut self, answer: &[u8]) -> Sight {
        if !answer.starts_with(b"HTTP/1.") || answer.starts_with(b"HTTP/1.1 100") {
            return Sight::Clear;
        }
        self.answers += 1;
        // An answer to an earlier request decides nothing.
        if !matches!(self.at, At::Undecided(_)) || self.answers < self.heads {
            return Sight::Clear;
        }
        if answer.starts_with(b"HTTP/1.1 101") {
            self.at = At::Elsewhere;
            return Sight::Clear;
        }
        match std::mem::replace(&mut self.at, At::Head(Vec::new())) {
            At::Undecided(held) => self.look(&held),
            At::Head(_) | At::Body(_) | At::Chunked(_) | At::Elsewhere => Sight::Clear,
        }
    }

    fn after_request(&mut self) -> At {
        if std::mem::take(&mut self.asks_upgrade) { At::Undecided(Vec::new()) } else { At::Head(Vec::new()) }
    }
}

/// Finds where in `bytes` the head that began with `so_far` ends. If it does not, all bytes are kept.
fn head_end(so_far: &mut Vec<u8>, bytes: &mut &[u8]) -> Option<usize> {
    if so_far.is_empty() {
        // RFC 9112 §2.2: empty lines before a request are ignored.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        *bytes = bytes.get(blank..).unwrap_or_default();
    }
    let mut tail = [0; 3];
    let kept = so_far.len().min(3);
    let (_, last) = so_far.split_at(so_far.len() - kept);
    if let Some(place) = tail.get_mut(..kept) {
        place.copy_from_slice(last);
    }
    let before = tail.get(..kept).unwrap_or_default();
    let byte_at = |at: usize| {
        if at < kept { before.get(at).copied() } else { bytes.get(at - kept).copied() }
    };
    for at in kept..kept + bytes.len() {
        // An empty line ends a head; hyper takes a bare line feed for a line's end too.
        let is_end = byte_at(at) == Some(b'\n')
            && at.checked_sub(1).is_some_and(|before| {
                byte_at(before) == Some(b'\n')
                    || (byte_at(before) == Some(b'\r')
                        && before.checked_sub(1).and_then(byte_at) == Some(b'\n'))
            });
        if is_end {
            return Some(at + 1 - kept);
        }
    }
    so_far.extend_from_slice(bytes);
    *bytes = &[];
    None
}

/// Reads how a head frames its body, and whether it asks for another protocol.
fn framing(head: &[u8], asks_upgrade: &mut bool) -> Result<Framing, &'static str> {
    let mut fields = vec![httparse::EMPTY_HEADER; fields_in(head)];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::HeaderValue) if head.iter().any(|byte| is_control(*byte)) => {
            return Err(CONTROL_BYTE);
        }
        // hyper refuses these too. Should it not, the two read the bytes differently, which is the doubt itself.
        Ok(httparse::Status::Partial) | Err(_) => return Err("the head is not well-formed"),
    }
    let method = request.method.unwrap_or_default();
    if method.len() > METHOD_LEN_MAX {
        return Err("the method is too long");
    }
    if !request.path.unwrap_or_default().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err("the request target holds a fragment or a byte that is not visible ASCII");
    }
    let named = |name: &'static str| {
        request
            .headers
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    };
    *asks_upgrade = named("upgrade").next().is_some();
    let (mut lengths, mut codings) = (named("content-length"), named("transfer-encoding"));
    match (lengths.next(), codings.next()) {
        (Some(_), Some(_)) => Err("Content-Length stands beside Transfer-Encoding"),
        (None, Some(_)) if codings.next().is_some() => Err("Transfer-Encoding is given more than once"),
        (None, Some(coding)) if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => {
            Err("the transfer coding is not exactly \"chunked\"")
        }
        (None, Some(_)) => Ok(Framing::Chunked),
        (Some(_), None) if lengths.next().is_some() => Err("Content-Length is given more than once"),
        _ if method == "CONNECT" => Ok(Framing::Tunnel),
        (Some(length), None) => match length_of(length) {
            Some(length) => Ok(Framing::Length(length)),
            None => Err("Content-Length is not a number"),
        },
        (None, None) => Ok(Framing::Length(0)),
    }
}

/// RFC 9110 §5.5: what a field's value may not hold, line ends aside.
pub(super) fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t')
}

/// RFC 9110 §8.6: digits and nothing else.
fn length_of(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Room for as many fields as there are lines, within bounds.
#[expect(clippy::naive_bytecount, reason = "a head is short")]
fn fields_in(head: &[u8]) -> usize {
    head.iter().filter(|byte| **byte == b'\n').count().min(FIELDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a scan says of bytes that come in pieces of this size.
    fn look(bytes: &str, piece: usize) -> Sight {
        let mut scan = Scan::new();
        for piece in bytes.as_bytes().chunks(piece) {
            match scan.look(piece) {
                Sight::Clear => {}
                Sight::DoubtfulBody { request, reason, .. } => {
                    return Sight::DoubtfulBody { request, reason, clear: 0 };
                }
                sight @ Sight::DoubtfulHead { .. } => return sight,
            }
        }
        Sight::Clear
    }

    fn doubt_of(bytes: &str) -> Option<Sight> {
        let sights: Vec<_> = [1, 2, 3, 7, 10_000].iter().map(|piece| look(bytes, *piece)).collect();
        assert!(sights.windows(2).all(|pair| pair[0] == pair[1]), "pieces matter: {sights:?}");
        (sights[0] != Sight::Clear).then_some(sights[0])
    }

    fn head(lines: &str) -> String {
        format!("POST /p HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
    }

    #[test]
    fn well_framed_requests_in_a_row_are_clear() {
        let requests = [
            head("Content-Length: 5\r\n") + "a\r\n\r\n",
            head(""),
            head("Transfer-Encoding: Chunked\r\n")
                + "3;ext=\"a;b\"\r\nabc\r\n0a\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            "\r\n".to_owned() + &head("Content-Length: 0\r\n"),
            head("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
        ]
        .concat();
        assert_eq!(doubt_of(&requests), None);
    }

    #[test]
    fn a_head_that_frames_its_body_twice_or_strangely_is_in_doubt() {
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
        ] {
            assert!(
                matches!(doubt_of(&head(lines)), Some(Sight::DoubtfulHead { request: 0, .. })),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn the_doubtful_request_is_told_by_its_number() {
        let requests = head("Content-Length: 2\r\n") + "{}" + &head("Content-Length: 5, 5\r\n");
        assert!(matches!(doubt_of(&requests), Some(Sight::DoubtfulHead { request: 1, .. })));
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
            let request = head("Transfer-Encoding: chunked\r\n") + body;
            assert!(matches!(doubt_of(&request), Some(Sight::DoubtfulBody { .. })), "{body:?}");
        }
    }

    #[test]
    fn a_control_byte_in_a_value_is_told_from_other_broken_heads() {
        let sight = doubt_of(&head("Idempotency-Key: a\u{1}b\r\n"));
        assert_eq!(sight, Some(Sight::DoubtfulHead { request: 0, reason: CONTROL_BYTE }));
        let reason = "the head is not well-formed";
        assert_eq!(doubt_of(&head("X\u{1}: a\r\n")), Some(Sight::DoubtfulHead { request: 0, reason }));
    }

    #[test]
    fn an_upgrade_ends_the_look_only_when_it_is_granted() {
        let doubtful = head("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
        let asking = head("Upgrade: websocket\r\nConnection: upgrade\r\n");
        for (answer, sight) in
            [("HTTP/1.1 101 Switching Protocols\r\n", None), ("HTTP/1.1 200 OK\r\n", Some(1))]
        {
            let mut scan = Scan::new();
            let early = [scan.look(asking.as_bytes()), scan.look(&doubtful.as_bytes()[..20])];
            assert_eq!(early, [Sight::Clear; 2]);
            assert_eq!(scan.answered(b"HTTP/1.1 100 Continue\r\n\r\n"), Sight::Clear);
            let late = [scan.answered(answer.as_bytes()), scan.look(&doubtful.as_bytes()[20..])];
            let told = late.iter().find_map(|sight| match sight {
                Sight::DoubtfulHead { request, .. } => Some(*request),
                Sight::Clear | Sight::DoubtfulBody { .. } => None,
            });
            assert_eq!(told, sight, "{answer}");
        }
    }

    #[test]
    fn a_target_with_a_fragment_or_a_foreign_byte_is_in_doubt() {
        for target in ["/p#f", "/caf\u{e9}"] {
            let request = format!("POST {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            assert!(doubt_of(&request).is_some(), "{target}");
        }
    }
}
