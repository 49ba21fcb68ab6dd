//! Finds pseudo-fields among a client's trailers, where they are malformed (RFC 9113 §8.1), and which h2 drops in
//! silence: one server would take such a request for whole, and the next would not.
//!
//! Pure. Looks at how fields are written, and keeps no table of what a client has written before: a pseudo-field that is
//! only pointed at there is not found here. h2 drops it, so that it goes no further either. Source: RFC 7541 §5 and §6.

use super::frames::{END_HEADERS, Frame, Kind};

/// Places of the static table that hold pseudo-fields (Appendix A).
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;

/// The code of a colon, which is seven bits long (Appendix B).
const COLON_CODED: u8 = 0x5c;

/// Flags of a HEADERS frame (RFC 9113 §6.2).
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// Bytes of trailers that are kept to be looked at. h2 takes fewer.
const KEPT_MAX: usize = 256 * 1024;

/// The trailers that are coming, as far as their block has come.
#[derive(Debug, Default)]
pub(super) struct Trailers(Option<Vec<u8>>);

impl Trailers {
    /// Takes a frame; answers whether trailers are malformed by it. `is_open`: whether its stream was opened before and
    /// the client has not ended it.
    pub(super) fn are_malformed_by(&mut self, frame: Frame<'_>, is_open: bool) -> bool {
        if frame.kind == Kind::Headers {
            self.0 = piece_of(frame.payload, frame.flags).filter(|_| is_open).map(<[u8]>::to_vec);
        } else if let (Kind::Continuation, Some(block)) = (frame.kind, &mut self.0) {
            block.extend_from_slice(frame.payload);
        } else {
            return false;
        }
        let is_too_long = self.0.as_ref().is_some_and(|block| block.len() > KEPT_MAX);
        let whole = if frame.has(END_HEADERS) { self.0.take() } else { None };
        is_too_long || whole.is_some_and(|block| holds_pseudo_field(&block))
    }
}

/// The piece of a header block that the payload of a HEADERS frame with these flags holds; `None` if it holds none.
fn piece_of(payload: &[u8], flags: u8) -> Option<&[u8]> {
    let (padding, rest) = if flags & PADDED == 0 { (0, payload) } else { split(payload)? };
    let rest = rest.get(if flags & PRIORITY == 0 { 0 } else { 5 }..)?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

/// Whether a header block holds a pseudo-field. One that cannot be read is h2's to refuse.
fn holds_pseudo_field(mut block: &[u8]) -> bool {
    while let Some(first) = block.first() {
        let field = match first {
            0x80.. => number(&mut block, 7).map(|index| PSEUDO.contains(&index)),
            0x40..0x80 => literal(&mut block, 6),
            0x20..0x40 => number(&mut block, 5).map(|_size_of_the_table| false),
            0x00..0x20 => literal(&mut block, 4),
        };
        match field {
            Some(false) => {}
            Some(true) => return true,
            None => return false,
        }
    }
    false
}

/// Takes a field whose name, if it is not at the place that a prefix of so many bits tells, stands before its value.
/// Answers whether it is a pseudo-field.
fn literal(block: &mut &[u8], prefix: u32) -> Option<bool> {
    let is_pseudo = match number(block, prefix)? {
        0 => {
            let (is_coded, name) = text(block)?;
            name.first()
                .is_some_and(|first| if is_coded { first >> 1 == COLON_CODED } else { *first == b':' })
        }
        index => PSEUDO.contains(&index),
    };
    text(block)?;
    Some(is_pseudo)
}

/// Takes a text; answers whether it is coded, and its bytes.
fn text<'a>(block: &mut &'a [u8]) -> Option<(bool, &'a [u8])> {
    let is_coded = block.first()? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some((is_coded, text))
}

/// Takes a number that begins in the last bits of a byte, of which there are so many (§5.1).
fn number(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let (first, mut rest) = split(block)?;
    let mut number = usize::from(first) & most;
    if number == most {
        for shift in [0, 7, 14, 21] {
            let (byte, after) = split(rest)?;
            rest = after;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(number);
            }
        }
        return None;
    }
    *block = rest;
    Some(number)
}

fn split(bytes: &[u8]) -> Option<(u8, &[u8])> {
    bytes.split_first().map(|(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudo_field_is_found_however_it_is_written() {
        for block in [
            &b"\x84"[..],
            b"\x00\x05:path\x01/",
            b"\x40\x05:path\x01/",
            b"\x10\x84\xb9\x58\x33\x3f\x01/",
            b"\x44\x01/",
            b"\x04\x01/",
            b"\x3f\xe1\x1f\x00\x01a\x01b\x84",
        ] {
            assert!(holds_pseudo_field(block), "{block:?}");
        }
    }

    #[test]
    fn other_trailers_are_none() {
        for block in
            [&b""[..], b"\x00\x0bgrpc-status\x010", b"\x8f", b"\x0f\x00\x01x", b"\xff\x00", b"\x00\x01:"]
        {
            assert!(!holds_pseudo_field(block), "{block:?}");
        }
    }

    #[test]
    fn padding_and_priority_are_no_part_of_the_block() {
        assert_eq!(piece_of(b"\x02\0\0\0\0\0ab\0\0", PADDED | PRIORITY), Some(&b"ab"[..]));
        assert_eq!(piece_of(b"ab", 0), Some(&b"ab"[..]));
        assert_eq!(piece_of(b"\x05ab", PADDED), None);
    }
}
