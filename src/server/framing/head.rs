//! Reads a request's head as its bytes come, strictly: what passes here is read in one way by every server.
//!
//! Pure. Knows framing, syntax and limits; what fields mean is looked at in `../../proxy/wellformed.rs`. Source: RFC
//! 9112 §2 to §6. Read `scan.rs` after.

use memchr::memchr;

use super::Limits;
use super::start_line::{self, StartLine};
use crate::octets::is_token;
use crate::proxy::Doubt;

/// Empty lines before a request that are passed over (RFC 9112 §2.2): some old clients send one after a body.
const LEADING_LINES_MAX: usize = 4;

/// A head that is being received. Each line is read once, when it is complete.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Where the line begins that is not complete yet, and up to where its end has been sought.
    line_at: usize,
    sought: usize,
    leading_lines: usize,
    start: Option<StartLine>,
    fields: usize,
    lengths: Given<Option<u64>>,
    codings: Given<Coding>,
    asks_upgrade: bool,
    holds_control: bool,
}

/// How often a field was given, and what it said.
#[derive(Debug, Default)]
enum Given<T> {
    #[default]
    Never,
    Once(T),
    Again,
}

/// What `Transfer-Encoding` says.
#[derive(Debug)]
enum Coding {
    /// Exactly `chunked`.
    Chunked,
    /// Ends in `chunked`, after codings that are not undone here.
    Unknown,
    /// Nobody can tell where the body ends.
    Endless,
}

/// A head that reads in one way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complete {
    /// Its length in bytes.
    pub(super) len: usize,
    pub(super) framing: Framing,
    /// It asks for another protocol.
    pub(super) asks_upgrade: bool,
}

/// How the body after a head is framed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

impl Head {
    /// Looks at the head's bytes, from its first on; those looked at before stand there again. `None`: more are to
    /// come.
    pub(super) fn look(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Complete>, Doubt> {
        while let Some(found) = memchr(b'\n', bytes.get(self.sought..).unwrap_or_default()) {
            let end = self.sought + found;
            let line = bytes.get(self.line_at..end).unwrap_or_default();
            (self.line_at, self.sought) = (end + 1, end + 1);
            self.check_size(self.line_at, limits)?;
            let Some(line) = line.strip_suffix(b"\r") else {
                // RFC 9112 §2.2 lets a bare line feed be taken for a line's end; not all servers do.
                return Err(Doubt::Malformed("a line of the head does not end in CR LF"));
            };
            match (&self.start, line) {
                (None, []) if self.leading_lines == LEADING_LINES_MAX => {
                    return Err(Doubt::Malformed("too many empty lines stand before the request"));
                }
                (None, []) => self.leading_lines += 1,
                (None, line) => self.start = Some(start_line::read(line, limits)?),
                (Some(start), []) => return self.complete(*start).map(Some),
                (Some(_), line) => self.field(line, limits)?,
            }
        }
        self.sought = bytes.len();
        self.check_size(bytes.len(), limits)?;
        if self.start.is_none() {
            start_line::check_beginning(bytes.get(self.line_at..).unwrap_or_default(), limits)?;
        }
        Ok(None)
    }

    /// Whether anything of a request is among `bytes`, which were looked at: empty lines are nothing.
    pub(super) fn has_begun(&self, bytes: &[u8]) -> bool {
        self.start.is_some() || bytes.len() > self.line_at
    }

    /// A well-formed head in the place of this one, of which `bytes` have come: the same start line if it is one, and
    /// nothing else. A head whose only fault are control bytes in values is kept, with another forbidden byte in
    /// their place, so that the key can be seen among its fields.
    pub(super) fn stand_in(&self, bytes: &[u8]) -> Vec<u8> {
        let begins_at = 2 * self.leading_lines;
        let Some(start) = self.start.filter(|start| !start.is_connect) else {
            let is_head = bytes.get(begins_at..).is_some_and(|bytes| bytes.starts_with(b"HEAD "));
            return if is_head {
                b"HEAD * HTTP/1.1\r\n\r\n".to_vec()
            } else {
                b"GET * HTTP/1.1\r\n\r\n".to_vec()
            };
        };
        let whole = bytes.get(..self.line_at).unwrap_or_default();
        if self.holds_control && whole.ends_with(b"\r\n\r\n") {
            return whole.iter().map(|byte| if is_control(*byte) { 0xff } else { *byte }).collect();
        }
        let line = bytes.get(begins_at..begins_at + start.len).unwrap_or_default();
        [line, b"\r\n\r\n"].concat()
    }

    fn check_size(&self, size: usize, limits: &Limits) -> Result<(), Doubt> {
        let max = limits.header_bytes_max;
        match self.start {
            _ if size <= max => Ok(()),
            None => Err(Doubt::TargetTooLong { max: limits.target_bytes_max }),
            Some(_) => Err(Doubt::HeadTooLarge { max }),
        }
    }

    /// RFC 9112 §5.1.
    fn field(&mut self, line: &[u8], limits: &Limits) -> Result<(), Doubt> {
        self.fields += 1;
        if self.fields > limits.header_count_max {
            return Err(Doubt::TooManyFields { max: limits.header_count_max });
        }
        let first_odd = || line.iter().position(|byte| !is_token(*byte));
        // Seeking the colon first is quicker where all is well: the name is looked at without an early end.
        let colon = memchr(b':', line)
            .filter(|at| line.iter().take(*at).fold(true, |fine, byte| fine & is_token(*byte)));
        let (name, value) = match colon.or_else(first_odd).and_then(|at| line.split_at_checked(at)) {
            Some((name @ [_, ..], [b':', value @ ..])) => (name, value),
            Some(([], [b' ' | b'\t', ..])) => {
                return Err(Doubt::Malformed("a line of the head begins with a blank"));
            }
            Some(([_, ..], [b' ' | b'\t', ..])) => {
                return Err(Doubt::Malformed("a blank stands in a field's name or before its colon"));
            }
            Some(_) | None => return Err(Doubt::Malformed("a field's name is not well-formed")),
        };
        if memchr(b'\r', value).is_some() {
            return Err(Doubt::Malformed("a field's value holds a bare CR"));
        }
        // Without an early end, so that the compiler may look at many bytes at once.
        self.holds_control |= value.iter().fold(0, |odd, byte| odd | u8::from(is_control(*byte))) != 0;
        self.note(name, value);
        Ok(())
    }

    /// Keeps what frames the body, or asks for another protocol.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.asks_upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.lengths.add(length_of(value)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.codings.add(coding_of(value)),
            _ => {}
        }
    }

    /// RFC 9112 §6.3.
    fn complete(&mut self, start: StartLine) -> Result<Complete, Doubt> {
        if self.holds_control {
            return Err(Doubt::Malformed("a field's value holds a control byte"));
        }
        let framing = match (&self.lengths, &self.codings) {
            (Given::Again, _) => Err("Content-Length is given more than once"),
            (_, Given::Again) => Err("Transfer-Encoding is given more than once"),
            (Given::Once(_), Given::Once(_)) => Err("Content-Length stands beside Transfer-Encoding"),
            (Given::Never, Given::Never) => Ok(Framing::Length(0)),
            (Given::Once(Some(length)), Given::Never) => Ok(Framing::Length(*length)),
            (Given::Once(None), Given::Never) => Err("Content-Length is not one number"),
            (Given::Never, Given::Once(_)) if start.is_1_0 => Err("HTTP/1.0 knows no Transfer-Encoding"),
            (Given::Never, Given::Once(Coding::Chunked)) => Ok(Framing::Chunked),
            (Given::Never, Given::Once(Coding::Endless)) => {
                Err("the last transfer coding is not \"chunked\"")
            }
            // RFC 9112 §6.1: 501 where the end of the body is beyond doubt.
            (Given::Never, Given::Once(Coding::Unknown)) => return Err(Doubt::CodingNotKnown),
        };
        let framing = framing.map_err(Doubt::Malformed)?;
        if start.is_connect {
            return Err(Doubt::Tunnel);
        }
        let asks_upgrade = self.asks_upgrade && !start.is_1_0;
        Ok(Complete { len: self.line_at, framing, asks_upgrade })
    }
}

impl<T> Given<T> {
    fn add(&mut self, value: T) {
        *self = match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Again => Self::Again,
        };
    }
}

/// RFC 9110 §8.6: digits and nothing else, and no more than any server can count.
fn length_of(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(trimmed(value)).ok()?;
    let length: u64 = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
    i64::try_from(length).is_ok().then_some(length)
}

/// RFC 9112 §7: a list of codings. `chunked` stands once, at its end, without parameters.
fn coding_of(value: &[u8]) -> Coding {
    let mut codings = trimmed(value).rsplit(|byte| *byte == b',').map(trimmed);
    if !codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
        return Coding::Endless;
    }
    let mut before = codings.peekable();
    if before.peek().is_none() {
        return Coding::Chunked;
    }
    let is_another = |coding: &[u8]| {
        !coding.is_empty()
            && coding.iter().all(|byte| is_token(*byte))
            && !coding.eq_ignore_ascii_case(b"chunked")
    };
    if before.all(is_another) { Coding::Unknown } else { Coding::Endless }
}

/// RFC 9110 §5.5: what a field's value may not hold, line ends aside.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t')
}

/// Without the blanks around it (RFC 9110 §5.6.3: SP and HTAB, no others).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
