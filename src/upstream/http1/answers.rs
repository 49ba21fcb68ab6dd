//! Follows what a server says over HTTP/1 from answer to answer, strictly.
//!
//! hyper is lenient with answers: it takes bare line feeds and folded lines, settles a length beside a transfer
//! coding, and skips what it cannot read in chunks. What two readers read differently must not reach a caller as
//! well-formed, and must never be stored. A doubtful byte is not handed on, and the connection ends with it. Pure.
//! Source: RFC 9112 §2 to §7. Where it leaves a choice to a gateway, the answer is refused:
//!
//! * A length beside a transfer coding (§6.3): a server that sends both contradicts itself, and a cache or caller
//!   behind us may believe the other one.
//! * Folded lines (§5.2), blanks before a colon (§5.1), bare CR or LF (§2.2): mending them would need a second
//!   parser to agree with the first.
//!
//! Read `chunks.rs` for chunked bodies, `../http1.rs` for what is made of a doubt.

use std::borrow::Cow;

use memchr::{memchr, memmem};

use super::chunks::{self, Chunks, Step};

/// Longest head, and most fields in it.
pub(in crate::upstream) const HEAD_LEN_MAX: usize = 64 * 1024;
pub(in crate::upstream) const FIELDS_MAX: usize = 256;

/// Interim answers (1xx) before the final one.
const INTERIM_MAX: usize = 16;

/// The doubt about bytes after an answer, which leaves the answer itself as it is.
pub(super) const UNASKED: &str = "bytes that nobody asked for";

/// What was asked, as far as it decides how the answer is framed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) offers_upgrade: bool,
}

/// What was seen: all is clear, or it is so up to the first `clear` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Clear,
    Doubt { reason: &'static str, clear: usize },
}

/// Where in the stream of answers a connection is.
#[derive(Debug)]
pub(super) struct Answers {
    at: At,
    interim: usize,
}

#[derive(Debug)]
enum At {
    /// Nothing was asked.
    Rest,
    /// In a head, of which these bytes have come so far.
    Head(Asked, Vec<u8>),
    /// In a body, of which this many bytes are to come.
    Body(u64),
    Chunked(Chunks),
    /// No longer looking: the body lasts until the connection ends, or the connection changed protocol.
    Elsewhere,
    Doubt(&'static str),
}

/// What follows a head.
enum Follows {
    Head,
    Body(u64),
    Chunked,
    Rest,
    Elsewhere,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { at: At::Rest, interim: 0 }
    }

    /// Whether what comes next must have been asked for.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.at, At::Rest)
    }

    /// Learns what was asked.
    pub(super) fn expect(&mut self, asked: Asked) {
        self.interim = 0;
        self.at = At::Head(asked, Vec::new());
    }

    /// Looks at the next bytes.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Sight {
        let mut left = bytes;
        while !left.is_empty() {
            let before = left.len();
            if let Err(reason) = self.step(&mut left) {
                self.at = At::Doubt(reason);
                return Sight::Doubt { reason, clear: bytes.len() - before };
            }
        }
        Sight::Clear
    }

    fn step(&mut self, bytes: &mut &[u8]) -> Result<(), &'static str> {
        match &mut self.at {
            At::Doubt(reason) => return Err(reason),
            At::Rest => return Err(UNASKED),
            At::Elsewhere => *bytes = &[],
            At::Body(left) => {
                *left -= chunks::skip(bytes, *left);
                if *left == 0 {
                    self.at = At::Rest;
                }
            }
            At::Chunked(chunks) => {
                if chunks.step(bytes)? == Step::End {
                    self.at = At::Rest;
                }
            }
            At::Head(asked, so_far) => {
                let asked = *asked;
                let Some(head) = take_head(so_far, bytes)? else { return Ok(()) };
                let follows = follows(&head, asked)?;
                self.at = match follows {
                    Follows::Head if self.interim == INTERIM_MAX => return Err("too many interim answers"),
                    Follows::Head => {
                        self.interim += 1;
                        At::Head(asked, Vec::new())
                    }
                    Follows::Body(0) | Follows::Rest => At::Rest,
                    Follows::Body(length) => At::Body(length),
                    Follows::Chunked => At::Chunked(Chunks::new()),
                    Follows::Elsewhere => At::Elsewhere,
                };
            }
        }
        Ok(())
    }
}

/// Takes bytes up to the end of the head that began with `so_far`, if it is among them.
fn take_head<'a>(so_far: &mut Vec<u8>, bytes: &mut &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, &'static str> {
    const TOO_LONG: &str = "the head is too long";
    let kept = so_far.len();
    if kept == 0
        && let Some(end) = end_of_head(bytes)
    {
        let (head, rest) = bytes.split_at(end);
        *bytes = rest;
        return if end > HEAD_LEN_MAX { Err(TOO_LONG) } else { Ok(Some(Cow::Borrowed(head))) };
    }
    so_far.extend_from_slice(bytes);
    let from = kept.saturating_sub(3);
    if let Some(end) = end_of_head(so_far.get(from..).unwrap_or_default()).map(|end| from + end) {
        *bytes = bytes.get(end - kept..).unwrap_or_default();
        so_far.truncate(end);
        let head = std::mem::take(so_far);
        return if end > HEAD_LEN_MAX { Err(TOO_LONG) } else { Ok(Some(Cow::Owned(head))) };
    }
    if so_far.len() > HEAD_LEN_MAX {
        return Err(TOO_LONG);
    }
    // hyper would take a bare line feed for an end: the lines are looked at before they are handed on.
    if has_bare_line_feed(so_far) {
        return Err(BARE_LINE_FEED);
    }
    *bytes = &[];
    Ok(None)
}

/// How long the head is that `bytes` begin with.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    memmem::find(bytes, END).map(|at| at + END.len())
}

const BARE_LINE_FEED: &str = "a line of the head does not end in CR LF";

fn has_bare_line_feed(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|byte| {
        let last = std::mem::replace(&mut before, *byte);
        *byte == b'\n' && last != b'\r'
    })
}

/// The lines of a head, without their ends. The last has lost its own with the head's.
fn lines(head: &[u8]) -> impl Iterator<Item = Result<&[u8], &'static str>> {
    let mut left = Some(head);
    std::iter::from_fn(move || {
        let text = left.take()?;
        let Some((line, after)) = memchr(b'\n', text).and_then(|end| text.split_at_checked(end)) else {
            return Some(Ok(text));
        };
        left = after.get(1..);
        Some(line.strip_suffix(b"\r").ok_or(BARE_LINE_FEED))
    })
}

/// Reads a head, and how it frames what follows.
fn follows(head: &[u8], asked: Asked) -> Result<Follows, &'static str> {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines = lines(text);
    let start = lines.next().ok_or(BARE_LINE_FEED)??;
    let (is_http11, status) = status_line(start)?;
    let mut fields = Fields::default();
    for (number, line) in lines.enumerate() {
        if number == FIELDS_MAX {
            return Err("the head has too many fields");
        }
        fields.take(line?)?;
    }
    if fields.is_chunked && fields.length.is_some() {
        return Err("Content-Length stands beside Transfer-Encoding");
    }
    // RFC 9112 §6.1: HTTP/1.0 knows no transfer coding.
    if fields.is_chunked && !is_http11 {
        return Err("an answer in HTTP/1.0 has a transfer coding");
    }
    match status {
        101 if asked.offers_upgrade => return Ok(Follows::Elsewhere),
        // A 101 that nobody asked for ends the exchange for hyper.
        101 | 204 | 304 => return Ok(Follows::Rest),
        100..=199 => return Ok(Follows::Head),
        _ if asked.is_head => return Ok(Follows::Rest),
        _ => {}
    }
    Ok(match fields.length {
        _ if fields.is_chunked => Follows::Chunked,
        Some(length) => Follows::Body(length),
        None => Follows::Elsewhere,
    })
}

/// RFC 9112 §4: `HTTP/1.1 SP 3DIGIT SP [reason]`. The last blank is missing from some servers without a reason.
fn status_line(line: &[u8]) -> Result<(bool, u16), &'static str> {
    const MALFORMED: &str = "the status line is not well-formed";
    let (version, rest) = line.split_at_checked(9).ok_or(MALFORMED)?;
    let is_http11 = match version {
        b"HTTP/1.1 " => true,
        b"HTTP/1.0 " => false,
        _ => return Err(MALFORMED),
    };
    let (digits, reason) = rest.split_at_checked(3).ok_or(MALFORMED)?;
    if !digits.iter().all(u8::is_ascii_digit) || !(reason.is_empty() || reason.starts_with(b" ")) {
        return Err(MALFORMED);
    }
    if !reason.iter().all(|byte| chunks::is_text(*byte)) {
        return Err(MALFORMED);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if status < 100 { Err(MALFORMED) } else { Ok((is_http11, status)) }
}

/// What the fields of a head say of the body.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    is_chunked: bool,
}

impl Fields {
    fn take(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let (name, value) = chunks::field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = length_of(value).ok_or("Content-Length is not a number")?;
            if self.length.replace(length).is_some() {
                return Err("Content-Length is given more than once");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("the transfer coding is not exactly \"chunked\"");
            }
            if std::mem::replace(&mut self.is_chunked, true) {
                return Err("Transfer-Encoding is given more than once");
            }
        }
        Ok(())
    }
}

/// RFC 9110 §8.6: digits and nothing else.
fn length_of(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Asked = Asked { is_head: false, offers_upgrade: false };

    /// What is said of one answer, and what is clear of it, whatever the pieces in which it comes.
    fn look(bytes: &[u8], asked: Asked) -> (Option<&'static str>, usize) {
        let seen: Vec<_> = [1, 2, 3, 7, 100_000]
            .map(|size| {
                let mut answers = Answers::new();
                answers.expect(asked);
                let mut clear = 0;
                for piece in bytes.chunks(size) {
                    match answers.look(piece) {
                        Sight::Clear => clear += piece.len(),
                        Sight::Doubt { reason, .. } => return (Some(reason), clear),
                    }
                }
                (None, clear)
            })
            .into();
        assert!(seen.windows(2).all(|pair| pair[0].0 == pair[1].0), "pieces matter: {seen:?}");
        seen[0]
    }

    fn doubt(answer: &str) -> Option<&'static str> {
        look(answer.as_bytes(), GET).0
    }

    fn head(lines: &str) -> String {
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
    }

    #[test]
    fn well_formed_answers_are_clear() {
        for answer in [
            head("Content-Length: 2\r\n") + "ok",
            head("Content-Length: 0\r\n"),
            head("Transfer-Encoding: Chunked\r\n") + "2;ext=\"a\"\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            head("X:\r\nY: caf\u{e9}\tz \r\n") + "until the end",
            "HTTP/1.1 204\r\n\r\n".to_owned(),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n".to_owned(),
            "HTTP/1.0 200 OK\r\n\r\nold".to_owned(),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n".to_owned() + &head(""),
        ] {
            assert_eq!(doubt(&answer), None, "{answer:?}");
        }
    }

    #[test]
    fn an_answer_whose_head_reads_in_more_than_one_way_is_in_doubt() {
        for answer in [
            head("Content-Length: 2\r\nContent-Length: 3\r\n"),
            head("Content-Length: 2\r\nContent-Length: 2\r\n"),
            head("Content-Length: 2, 2\r\n"),
            head("Content-Length: +2\r\n"),
            head("Content-Length: 0x2\r\n"),
            head("Content-Length: \r\n"),
            head("Content-Length: 99999999999999999999\r\n"),
            head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
            head("Transfer-Encoding: gzip, chunked\r\n"),
            head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            head("Transfer-Encoding: identity\r\n"),
            head("Name : value\r\n"),
            head(" folded: 1\r\n"),
            head("A: 1\r\n folded\r\n"),
            head("A: 1\r\n\tfolded\r\n"),
            head("no colon\r\n"),
            head(": nameless\r\n"),
            head("A: 1\nB: 2\r\n"),
            head("A: 1\rB: 2\r\n"),
            head("A: \0\r\n"),
            head("A\u{e9}: 1\r\n"),
            "HTTP/1.1 200 OK\nA: 1\n\n".to_owned(),
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "HTTP/1.1  200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 20 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 2000 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 099 OK\r\n\r\n".to_owned(),
            "http/1.1 200 OK\r\n\r\n".to_owned(),
            "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
            "HTTP/1.1 200 O\u{1}K\r\n\r\n".to_owned(),
            "\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
            "just bytes, as in HTTP/0.9\r\n\r\n".to_owned(),
        ] {
            assert!(doubt(&answer).is_some(), "{answer:?}");
        }
    }

    #[test]
    fn nothing_of_a_doubtful_head_is_handed_on_with_its_end() {
        let answer = head("A: 1\nB: 2\r\n");
        let mut answers = Answers::new();
        answers.expect(GET);
        assert!(matches!(answers.look(answer.as_bytes()), Sight::Doubt { clear: 0, .. }));
    }

    #[test]
    fn chunks_that_read_in_more_than_one_way_are_in_doubt() {
        for body in [
            "2 \r\nok\r\n0\r\n\r\n",
            "0x2\r\nok\r\n0\r\n\r\n",
            "2\nok\r\n0\r\n\r\n",
            "2\r\nokX\r\n0\r\n\r\n",
            "2\r\nok\n0\r\n\r\n",
            "2;a\nb\r\nok\r\n0\r\n\r\n",
            "-2\r\nok\r\n0\r\n\r\n",
            "\r\nok\r\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "2\r\nok\r\n0\r\nX : y\r\n\r\n",
            "2\r\nok\r\n0\r\nX: y\n\r\n",
            "2\r\nok\r\n0\r\n folded\r\n\r\n",
        ] {
            let answer = head("Transfer-Encoding: chunked\r\n") + body;
            assert!(doubt(&answer).is_some(), "{body:?}");
        }
    }

    #[test]
    fn bytes_after_an_answer_are_not_handed_on() {
        let head_asked = Asked { is_head: true, ..GET };
        for (answer, asked) in [
            (head("Content-Length: 2\r\n") + "ok" + "extra", GET),
            (head("Content-Length: 5\r\n") + "extra", head_asked),
            ("HTTP/1.1 204 No Content\r\n\r\nextra".to_owned(), GET),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nextra".to_owned(), GET),
            (head("Transfer-Encoding: chunked\r\n") + "0\r\n\r\nextra", GET),
        ] {
            let (reason, clear) = look(answer.as_bytes(), asked);
            assert_eq!((reason, clear), (Some(UNASKED), answer.len() - "extra".len()), "{answer:?}");
        }
    }

    #[test]
    fn heads_and_interim_answers_without_end_are_in_doubt() {
        let interim = "HTTP/1.1 103 Early\r\n\r\n".repeat(INTERIM_MAX + 1);
        assert_eq!(doubt(&interim), Some("too many interim answers"));
        let large = head(&format!("A: {}\r\n", "a".repeat(HEAD_LEN_MAX)));
        assert_eq!(doubt(&large), Some("the head is too long"));
        let many = head(&"A: 1\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(doubt(&many), Some("the head has too many fields"));
    }

    #[test]
    fn a_change_of_protocol_that_was_asked_for_ends_the_look() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello";
        assert_eq!(look(answer, Asked { is_head: false, offers_upgrade: true }).0, None);
        assert!(look(answer, GET).0.is_some());
    }
}
