//! Follows the chunked body of an answer, strictly; and reads the lines that fields stand in.
//!
//! Pure. Source: RFC 9112 §5 and §7.1. Read `answers.rs` before.

use memchr::memchr;

use crate::octets::is_token;

/// Longest line with a chunk's size and extensions, and longest trailer section, in bytes.
const LINE_LEN_MAX: usize = 4096;
const TRAILERS_LEN_MAX: usize = 64 * 1024;

/// Where in a chunked body the reader is.
#[derive(Debug)]
pub(super) struct Chunks {
    at: At,
    /// The line so far, where the reader is in one.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In the line with a chunk's size.
    Size,
    /// In a chunk's data, of which this many bytes are to come.
    Data(u64),
    /// In the line end after a chunk's data.
    DataEnd,
    /// In the trailer section, of which so many bytes have come.
    Trailers(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    End,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { at: At::Size, line: Vec::new() }
    }

    /// Looks at the next bytes and takes those that belong together.
    pub(super) fn step(&mut self, bytes: &mut &[u8]) -> Result<Step, &'static str> {
        if let At::Data(left) = &mut self.at {
            *left -= skip(bytes, *left);
            if *left == 0 {
                self.at = At::DataEnd;
            }
            return Ok(Step::More);
        }
        let Some((byte, rest)) = bytes.split_first() else { return Ok(Step::More) };
        let is_end = *byte == b'\n';
        if !is_end {
            self.line.push(*byte);
            self.check_length()?;
            *bytes = rest;
            return Ok(Step::More);
        }
        let Some(line) = self.line.strip_suffix(b"\r") else {
            return Err("a line of a chunked body does not end in CR LF");
        };
        let step = match self.at {
            At::Size => {
                let size = size_of(line).ok_or("a chunk's size or extension is not well-formed")?;
                self.at = if size == 0 { At::Trailers(0) } else { At::Data(size) };
                Step::More
            }
            At::Trailers(_) if line.is_empty() => Step::End,
            At::Trailers(taken) => {
                field(line)?;
                self.at = At::Trailers(taken + line.len() + 2);
                Step::More
            }
            At::DataEnd | At::Data(_) => {
                self.at = At::Size;
                Step::More
            }
        };
        self.line.clear();
        *bytes = rest;
        Ok(step)
    }

    fn check_length(&self) -> Result<(), &'static str> {
        match self.at {
            At::Size if self.line.len() > LINE_LEN_MAX => Err("a chunk's extensions are too long"),
            At::DataEnd if self.line != b"\r" => Err("a chunk's data does not end where its size says"),
            At::Trailers(taken) if taken + self.line.len() > TRAILERS_LEN_MAX => {
                Err("the trailers are too long")
            }
            At::Size | At::DataEnd | At::Trailers(_) | At::Data(_) => Ok(()),
        }
    }
}

/// Skips up to `most` bytes, and answers how many.
pub(super) fn skip(bytes: &mut &[u8], most: u64) -> u64 {
    let taken = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    *bytes = bytes.get(taken..).unwrap_or_default();
    u64::try_from(taken).unwrap_or(most)
}

/// The size of a line `1*HEXDIG *( ";" extension )`. Extensions are for this hop alone and go no further.
fn size_of(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    let is_sound =
        extensions.is_empty() || extensions.starts_with(b";") && extensions.iter().all(|byte| is_text(*byte));
    is_sound.then(|| u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok())?
}

/// The name and the trimmed value of a field's line, without its end.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a line of the head is folded");
    }
    let colon = memchr(b':', line).ok_or("a field has no colon")?;
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err("a field's name is none");
    }
    // Without an early end, so that the compiler may look at many bytes at once.
    if value.iter().fold(false, |odd, byte| odd | !is_text(*byte)) {
        return Err("a field's value holds a control byte");
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 §5.5: what may stand in a field's value or a reason.
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
