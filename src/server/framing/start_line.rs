//! The first line of a request: a method, a target, a version, one blank between them.
//!
//! Pure. Source: RFC 9112 §3 and §2.3. Read `head.rs` for the lines below it.

use super::Limits;
use crate::octets::is_token;
use crate::proxy::Doubt;

/// Longest method that any registered one comes near to.
const METHOD_LEN_MAX: usize = 64;

/// `HTTP/1.1`
const VERSION_LEN: usize = 8;

/// A start line that reads in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StartLine {
    /// Its length, its end not counted.
    pub(super) len: usize,
    pub(super) is_1_0: bool,
    pub(super) is_connect: bool,
}

/// Reads a line, which came without its CR LF.
pub(super) fn read(line: &[u8], limits: &Limits) -> Result<StartLine, Doubt> {
    let mut words = line.split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    check_method(method)?;
    let Some(target) = words.next() else {
        return Err(Doubt::Malformed("the request line is no method, target and version"));
    };
    if target.len() > limits.target_bytes_max {
        return Err(Doubt::TargetTooLong { max: limits.target_bytes_max });
    }
    let (Some(version), None) = (words.next(), words.next()) else {
        return Err(Doubt::Malformed("the request line is no method, target and version"));
    };
    let is_1_0 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Doubt::VersionNotSupported);
        }
        _ => return Err(Doubt::Malformed("the request line does not end in a version of HTTP")),
    };
    let is_connect = method == b"CONNECT";
    check_target(method, target)?;
    Ok(StartLine { len: line.len(), is_1_0, is_connect })
}

/// Looks at the beginning of a line that is not complete: what can become no start line is not waited for.
pub(super) fn check_beginning(line: &[u8], limits: &Limits) -> Result<(), Doubt> {
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let whole = method.strip_suffix(b"\r").unwrap_or(method);
    if !whole.is_empty() || method.len() < line.len() {
        check_method(whole)?;
    }
    if line.len() > METHOD_LEN_MAX + limits.target_bytes_max + VERSION_LEN + 3 {
        return Err(Doubt::TargetTooLong { max: limits.target_bytes_max });
    }
    Ok(())
}

/// RFC 9110 §9.1. Methods are case-sensitive, but some servers fold them, so a lower-case `post` could slip past a
/// route that guards POST.
fn check_method(method: &[u8]) -> Result<(), Doubt> {
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Doubt::Malformed("the method is not well-formed"));
    }
    if method.len() > METHOD_LEN_MAX {
        return Err(Doubt::Malformed("the method is too long"));
    }
    if method.iter().any(u8::is_ascii_lowercase) {
        return Err(Doubt::Malformed("the method is not in upper case"));
    }
    Ok(())
}

/// RFC 9112 §3.2: a path, an absolute address, or an asterisk with OPTIONS. A gateway opens no tunnels, so the target
/// of CONNECT does not matter.
fn check_target(method: &[u8], target: &[u8]) -> Result<(), Doubt> {
    if !target.iter().all(u8::is_ascii_graphic) {
        return Err(Doubt::Malformed("the request target holds a byte that is not visible ASCII"));
    }
    // RFC 9112 §3.2 has no place for a fragment; some servers cut a target at it, some do not.
    if target.contains(&b'#') {
        return Err(Doubt::Malformed("the request target holds a fragment"));
    }
    let is_plain = target.first() == Some(&b'/') && !target.iter().any(|byte| b"<>`\"".contains(byte));
    if is_plain || method == b"CONNECT" || (target == b"*" && method == b"OPTIONS") {
        return Ok(());
    }
    // The parser that hyper uses: what it does not take never reaches it.
    match http::Uri::try_from(target) {
        Ok(uri) if target.first() == Some(&b'/') || (uri.scheme().is_some() && uri.authority().is_some()) => {
            Ok(())
        }
        Ok(_) => Err(Doubt::Malformed("the request target is neither a path nor an absolute address")),
        Err(_) => Err(Doubt::Malformed("the request target is not well-formed")),
    }
}
