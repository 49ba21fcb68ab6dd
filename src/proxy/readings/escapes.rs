//! The rules about characters in another form: escapes, and what some decoders take for a character.
//!
//! Pure, over bytes. Read `rules.rs` for all the others and for when these apply.

use super::rules::changed;

/// The path with the digits of its escapes in upper case, which all servers read alike (RFC 3986 §6.2.2.1).
pub(in crate::proxy) fn hex_in_upper_case(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    let mut at = 0;
    while at < out.len() {
        match out.get_mut(at..at + 3) {
            Some(escape) if escape_at(escape).is_some() => {
                escape.make_ascii_uppercase();
                at += 3;
            }
            Some(_) | None => at += 1,
        }
    }
    out
}

/// RFC 3986 §2.1, except for the slash: it may be kept as part of a segment.
pub(super) fn decoded_but_slashes(path: &[u8]) -> Option<Vec<u8>> {
    decoded_where(path, |byte| byte != b'/')
}

/// Every escape decoded, once. What was escaped twice is decoded when the rule is applied again, as it is by
/// servers in a row.
pub(in crate::proxy) fn decoded(path: &[u8]) -> Option<Vec<u8>> {
    decoded_where(path, |_| true)
}

/// Slashes alone, for those who look for segments first.
pub(super) fn slashes_decoded(path: &[u8]) -> Option<Vec<u8>> {
    decoded_where(path, |byte| matches!(byte, b'/' | b'\\'))
}

/// RFC 3986 §6.2.2.2: what need not have been encoded.
pub(super) fn unreserved_decoded(path: &[u8]) -> Option<Vec<u8>> {
    decoded_where(path, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// Dots alone, as browsers and URL classes look for dot segments.
pub(super) fn dots_decoded(path: &[u8]) -> Option<Vec<u8>> {
    decoded_where(path, |byte| byte == b'.')
}

fn decoded_where(path: &[u8], wanted: fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut left = path;
    while let Some((first, rest)) = left.split_first() {
        let escaped = escape_at(left).filter(|byte| wanted(*byte));
        out.push(escaped.unwrap_or(*first));
        left = if escaped.is_some() { left.get(3..).unwrap_or_default() } else { rest };
    }
    changed(path, out)
}

/// The byte that the escape at the start of `text` stands for.
fn escape_at(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// `%u70BA`, as scripts and servers of Microsoft escape.
pub(super) fn percent_u_decoded(path: &[u8]) -> Option<Vec<u8>> {
    rewritten(path, |text| match *text {
        [b'%', b'u' | b'U', a, b, c, d, ..] => {
            let high = hex_digit(a)? << 4 | hex_digit(b)?;
            let low = hex_digit(c)? << 4 | hex_digit(d)?;
            let character = char::from_u32(u32::from(high) << 8 | u32::from(low))?;
            Some((character, 6))
        }
        _ => None,
    })
}

/// UTF-8 in more bytes than it takes, as decoders once took it that do not check.
pub(super) fn overlong_shortened(path: &[u8]) -> Option<Vec<u8>> {
    rewritten(path, |text| {
        let (middle, last, length) = match *text {
            [lead @ (0xc0 | 0xc1), last, ..] => (lead & 1, last, 2),
            [0xe0, middle @ (0x80 | 0x81), last, ..] => (middle & 1, last, 3),
            [0xf0, 0x80, middle @ (0x80 | 0x81), last, ..] => (middle & 1, last, 4),
            _ => return None,
        };
        matches!(last, 0x80..=0xbf).then(|| (char::from(middle << 6 | (last & 0x3f)), length))
    })
}

/// What the code pages of Windows make of characters that they do not have.
pub(super) fn look_alikes_fitted(path: &[u8]) -> Option<Vec<u8>> {
    rewritten(path, |text| match *text {
        // Fullwidth forms, U+FF01 to U+FF5E.
        [0xef, 0xbc, last @ 0x81..=0xbf, ..] => Some((char::from(last - 0x60), 3)),
        [0xef, 0xbd, last @ 0x80..=0x9e, ..] => Some((char::from(last - 0x20), 3)),
        // The slashes of fractions and of division; the signs of yen and won, and of set difference.
        [0xe2, 0x81, 0x84, ..] | [0xe2, 0x88, 0x95, ..] => Some(('/', 3)),
        [0xe2, 0x82, 0xa9, ..] | [0xe2, 0x88, 0x96, ..] => Some(('\\', 3)),
        [0xc2, 0xa5, ..] => Some(('\\', 2)),
        _ => None,
    })
}

/// Puts characters in the place of longer forms: `form` tells which one `text` starts with, and its length.
fn rewritten(path: &[u8], form: fn(&[u8]) -> Option<(char, usize)>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut left = path;
    while let Some((first, rest)) = left.split_first() {
        if let Some((character, length)) = form(left) {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            left = left.get(length..).unwrap_or_default();
        } else {
            out.push(*first);
            left = rest;
        }
    }
    changed(path, out)
}
