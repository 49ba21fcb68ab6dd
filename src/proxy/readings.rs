//! The readings of a path: what upstreams are known to make of the same bytes.
//!
//! Pure. A path that reads in one way costs one look; only paths with something to read differently cost
//! more. Must not know routes. Read `route.rs` after.

use std::collections::BTreeSet;

/// Every reading of `path`, the literal one included.
///
/// Each rule may or may not be applied by an upstream, in this order, so the readings are all that any
/// subset of the rules makes: unreserved characters decoded, `%2f`, `%5c` and `\` as separators,
/// `;parameters` dropped, slashes merged, dot segments resolved, a trailing slash dropped.
///
/// Source: RFC 3986 §6.2.2 for decoding, §5.2.4 for dot segments.
pub(super) fn readings(path: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([path.to_owned()]);
    if !has_choices(path) {
        return all;
    }
    for rule in [
        unreserved_decoded,
        separators_decoded,
        parameters_dropped,
        slashes_merged,
        dots_resolved,
        trailing_slash_dropped,
    ] {
        let read: Vec<String> = all.iter().map(|path| rule(path)).collect();
        all.extend(read);
    }
    all
}

fn has_choices(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().any(|byte| matches!(byte, b'%' | b';' | b'\\'))
        || path.contains("//")
        || path.contains("/.")
        || (bytes.len() > 1 && bytes.ends_with(b"/"))
}

fn unreserved_decoded(path: &str) -> String {
    decoded(path, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

fn separators_decoded(path: &str) -> String {
    decoded(path, |byte| matches!(byte, b'/' | b'\\')).replace('\\', "/")
}

/// Replaces `%XX` by the byte it stands for where `wanted` says so. Only ASCII is ever wanted.
fn decoded(path: &str, wanted: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let code = from.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) if wanted(byte) => {
                out.push(char::from(byte));
                rest = from.get(3..).unwrap_or_default();
            }
            Some(_) | None => {
                out.push('%');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

fn parameters_dropped(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

fn slashes_merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !out.ends_with('/') {
            out.push(character);
        }
    }
    out
}

fn dots_resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn trailing_slash_dropped(path: &str) -> String {
    match path.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        Some(_) | None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_has_one_reading() {
        assert_eq!(readings("/payments/42").len(), 1);
    }

    #[test]
    fn every_spelling_of_a_path_is_read_as_it() {
        for spelling in [
            "/payments/",
            "//payments",
            "/%70ayments",
            "/./payments",
            "/x/../payments",
            "/x/%2e%2e/payments",
            "/x/..;a=b/payments",
            "/payments;v=1",
            "/%2fpayments",
            "/%2Fpayments",
            "/x%2f..%2fpayments",
            "/x%5c..%5cpayments",
            "\\payments",
            "/payments/.",
            "/payments/x/..",
            "/.//%70ayments/;p",
        ] {
            assert!(readings(spelling).contains("/payments"), "{spelling}: {:?}", readings(spelling));
        }
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        for path in ["/a%", "/a%2", "/a%zz", "/a%é"] {
            assert!(readings(path).contains(path), "{path}");
        }
    }
}
