//! Follows a chunked body, strictly.
//!
//! Pure. Source: RFC 9112 §7.1; blanks after a size and bare line feeds are refused although some servers
//! take them, because others do not.

use crate::octets::is_token;

/// Longest line with a chunk's size and extensions, and longest trailer section, in bytes.
const LINE_LEN_MAX: usize = 4096;
const TRAILERS_LEN_MAX: usize = 64 * 1024;

/// Where in a chunked body the reader is.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
}

#[derive(Debug)]
enum At {
    /// In the line with a chunk's size.
    Size(Vec<u8>),
    /// In a chunk's data, of which this many bytes are to come.
    Data(u64),
    /// After a chunk's data: this many bytes of its line end have come.
    DataEnd(usize),
    /// In the trailer section: bytes of it so far, of its present line, and whether a CR came last.
    Trailers { total: usize, line: usize, after_cr: bool },
}

/// What came of looking at some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Some bytes were taken; more belong to the body.
    More,
    /// The body has ended; the bytes left belong to the next request.
    End,
    /// The body reads in more than one way.
    Doubt(&'static str),
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Size(Vec::new()) }
    }

    /// Looks at the next bytes and takes those that belong together.
    pub(super) fn step(&mut self, bytes: &mut &[u8]) -> Step {
        match &mut self.at {
            At::Data(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *bytes = bytes.get(taken..).unwrap_or_default();
                *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                if *left == 0 {
                    self.at = At::DataEnd(0);
                }
                Step::More
            }
            At::Size(_) | At::DataEnd(_) | At::Trailers { .. } => match bytes.split_first() {
                Some((byte, rest)) => {
                    *bytes = rest;
                    self.take(*byte)
                }
                None => Step::More,
            },
        }
    }

    fn take(&mut self, byte: u8) -> Step {
        match &mut self.at {
            At::Size(line) if byte == b'\n' => {
                let Some(text) = line.strip_suffix(b"\r") else {
                    return Step::Doubt("a chunk's size does not end in CR LF");
                };
                match size_of(text) {
                    Some(0) => self.at = At::Trailers { total: 0, line: 0, after_cr: false },
                    Some(size) => self.at = At::Data(size),
                    None => return Step::Doubt("a chunk's size or extension is not well-formed"),
                }
                Step::More
            }
            At::Size(line) => {
                line.push(byte);
                if line.len() > LINE_LEN_MAX {
                    Step::Doubt("a chunk's extensions are too long")
                } else {
                    Step::More
                }
            }
            At::DataEnd(seen) => {
                if Some(&byte) != b"\r\n".get(*seen) {
                    return Step::Doubt("a chunk's data does not end where its size says");
                }
                *seen += 1;
                if *seen == 2 {
                    self.at = At::Size(Vec::new());
                }
                Step::More
            }
            At::Trailers { total, line, after_cr } => {
                *total += 1;
                if *total > TRAILERS_LEN_MAX {
                    return Step::Doubt("the trailers are too long");
                }
                match (byte, std::mem::replace(after_cr, byte == b'\r')) {
                    (b'\n', true) if *line == 0 => return Step::End,
                    (b'\n', true) => *line = 0,
                    (b'\n', false) | (_, true) => {
                        return Step::Doubt("a trailer's line does not end in CR LF");
                    }
                    (b'\r', false) => {}
                    (_, false) => *line += 1,
                }
                Step::More
            }
            At::Data(_) => Step::More,
        }
    }
}

/// The size of a line `1*HEXDIG *( ";" name [ "=" value ] )`.
fn size_of(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    if !are_extensions(extensions) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

fn are_extensions(mut left: &[u8]) -> bool {
    while let Some((b';', rest)) = left.split_first() {
        let name = rest.iter().take_while(|byte| is_token(**byte)).count();
        if name == 0 {
            return false;
        }
        left = rest.get(name..).unwrap_or_default();
        if let Some((b'=', rest)) = left.split_first() {
            match value_len(rest) {
                Some(len) => left = rest.get(len..).unwrap_or_default(),
                None => return false,
            }
        }
    }
    left.is_empty()
}

/// How long the token or quoted string at the start of `text` is.
fn value_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        let len = text.iter().take_while(|byte| is_token(**byte)).count();
        return (len > 0).then_some(len);
    }
    let mut is_escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if !matches!(byte, b'\t' | b' '..=b'~') => return None,
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}
