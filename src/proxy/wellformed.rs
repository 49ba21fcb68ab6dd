//! What a request must be before anything is made of it: a method, a target and a host that read in one way only.
//!
//! Must not know routes. Framing has been looked at in `../server/`. Source: RFC 9110 §7.2, RFC 9112 §3.

use std::net::Ipv6Addr;

use http::header;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Version};

use super::respond::Rejection;
use super::upgrade;

/// Refuses what is not well-formed before anything is made of it.
pub(super) fn check<B>(mut request: Request<B>) -> Result<Request<B>, Rejection> {
    // A trace would show its sender, or a script in its sender's name, the fields that carry credentials
    // (RFC 9110 §9.3.8), and those that gateways added.
    if [Method::CONNECT, Method::TRACE].contains(request.method()) {
        return Err(Rejection::MethodNotSupported);
    }
    // Methods are case-sensitive (RFC 9110 §9.1), but some servers fold them, so a lower-case "post" could
    // slip past a route that guards POST.
    if request.method().as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Rejection::Malformed("the method is not in upper case"));
    }
    check_target(&request)?;
    check_connection(request.headers())?;
    check_values(&request)?;
    let named = check_host(request.headers())?;
    // RFC 9112 §3.2: HTTP/1.1 always names the host in a field, and HTTP/2 may do so in the target alone.
    let is_named =
        named.is_some() || (request.uri().authority().is_some() && request.version() != Version::HTTP_11);
    if !is_named && request.version() != Version::HTTP_10 {
        return Err(Rejection::Malformed("there is no Host field"));
    }
    if let Some(authority) = request.uri().authority() {
        let host = authority.as_str();
        // RFC 9112 §3.2.2 lets the target win. But an upstream may let Host win, and then the two read two requests.
        if named.is_some_and(|named| !is_same_host(named, host, request.uri().scheme_str())) {
            return Err(Rejection::Malformed("the target names another host than the Host field"));
        }
        let Some(host) = http::HeaderValue::try_from(host).ok().filter(|host| is_host(host.as_bytes()))
        else {
            return Err(Rejection::Malformed("the target's authority is no host"));
        };
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// RFC 9112 §3.2: a path, an absolute address, or an asterisk with OPTIONS. Anything else is read by one server
/// as one path and by the next as another.
fn check_target<B>(request: &Request<B>) -> Result<(), Rejection> {
    let target = request.uri();
    if target.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(Rejection::Malformed("the target's scheme is neither http nor https"));
    }
    let is_authority_alone = target.authority().is_some() && target.scheme().is_none();
    let is_asterisk = target.path() == "*" && request.method() == Method::OPTIONS;
    // Over HTTP/1 the listener has looked. HTTP/2 may bring bytes that one server decodes and the next takes as they are.
    if !target.path_and_query().is_none_or(|path| path.as_str().bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(Rejection::Malformed("the request target holds a byte that is not visible ASCII"));
    }
    if is_authority_alone || !(target.path().starts_with('/') || is_asterisk) {
        return Err(Rejection::Malformed("the request target is neither a path nor an absolute address"));
    }
    Ok(())
}

/// RFC 9110 §7.6.1: a list of tokens. What is none hides from one server the names that the next finds beside it.
fn check_connection(fields: &HeaderMap) -> Result<(), Rejection> {
    let is_option = |option: &[u8]| {
        option.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    let lines = fields.get_all(header::CONNECTION).iter();
    let mut options =
        lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if options.all(is_option) {
        return Ok(());
    }
    Err(Rejection::Malformed("Connection holds what is no option"))
}

/// RFC 9113 §8.2.1: no blank before or after a value. In HTTP/1 the blanks there are no part of it.
fn check_values<B>(request: &Request<B>) -> Result<(), Rejection> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_bad =
        |value: &http::HeaderValue| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last());
    if request.version() == Version::HTTP_2 && request.headers().values().any(is_bad) {
        return Err(Rejection::Malformed("a field's value begins or ends with a blank"));
    }
    // RFC 9110 §8.6: HTTP/2 frames bodies by itself, but the next hop may be framed by the first or by the last of these.
    if request.headers().get_all(header::CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(Rejection::Malformed("Content-Length is given more than once"));
    }
    Ok(())
}

/// RFC 9112 §3.2: no more than one `Host`, and a valid one.
fn check_host(fields: &HeaderMap) -> Result<Option<&str>, Rejection> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Rejection::Malformed("there is more than one Host field")),
        (Some(host), None) => match host.to_str() {
            Ok(host) if is_host(host.as_bytes()) => Ok(Some(host)),
            Ok(_) | Err(_) => Err(Rejection::Malformed("the Host field is no host")),
        },
    }
}

/// RFC 9110 §7.2 and RFC 3986 §3.2.2: `uri-host [ ":" port ]`. A comma, which a name may hold, would make it a list
/// to some.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => {
                let (address, port) = rest.split_at(end);
                let is_address =
                    std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
                return is_address && port.strip_prefix(b"]").is_some_and(is_port);
            }
            None => return false,
        },
        _ => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    is_port(port) && !name.is_empty() && is_name(name)
}

fn is_name(name: &[u8]) -> bool {
    let mut left = name;
    while let [byte, rest @ ..] = left {
        left = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            (byte, rest) if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte) => rest,
            _ => return false,
        };
    }
    true
}

/// Nothing, or a colon and a number that a port can have; it may be left out after the colon (RFC 3986 §3.2.3).
fn is_port(port: &[u8]) -> bool {
    let Some(digits) = port.strip_prefix(b":") else { return port.is_empty() };
    let number =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number.is_some_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok())
}

/// Whether two hosts are one: by name in any case, and by port, the scheme's own where none is given.
fn is_same_host(one: &str, other: &str, scheme: Option<&str>) -> bool {
    let default = if scheme == Some("https") { 443 } else { 80 };
    let split = |host: &'_ str| -> (String, u16) {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().unwrap_or(default)),
            Some(_) | None => (host, default),
        };
        (name.to_ascii_lowercase(), port)
    };
    split(one) == split(other)
}

/// Whether a request is of a kind that is never claimed: gRPC, and a change of protocol.
///
/// `Upgrade: h2c` is no such change: some clients offer it with every first request, and this gateway never
/// takes it up. A request is not left unguarded for it, nor for an offer in HTTP/1.0, which is none.
pub(super) fn is_beyond_guarding<B>(request: &Request<B>) -> bool {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/grpc"));
    is_grpc || upgrade::is_asked_for(request.headers(), request.version())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(target: &str, hosts: &[&str]) -> Result<String, Rejection> {
        let mut request = Request::get(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = check(request.body(()).unwrap())?;
        Ok(request.headers().get(header::HOST).unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
        for host in ["h", "a.example:80", "192.0.2.1:8080", "[::1]", "[2001:db8::1]:443", "h:", "a_b~c%2e"] {
            assert_eq!(checked("/", &[host]), Ok(host.to_owned()));
        }
        for host in [
            "",
            ":80",
            "h:x",
            "h:-1",
            "h:65536",
            "h:8 0",
            "h h",
            "h,i",
            "h/p",
            "h?q",
            "u@h",
            "h#f",
            "h:1:2",
            "[::1",
            "::1",
            "[::g]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "h%2",
            "h\\i",
            "http://h",
        ] {
            assert!(matches!(checked("/", &[host]), Err(Rejection::Malformed(_))), "{host:?}");
        }
    }

    #[test]
    fn a_host_stands_exactly_once() {
        assert!(checked("/", &[]).is_err());
        assert!(checked("http://h/", &[]).is_err());
        assert!(checked("/", &["h", "h"]).is_err());
        assert!(checked("http://h/", &["h", "h"]).is_err());
    }

    #[test]
    fn a_target_with_a_host_names_the_same_as_the_host_field() {
        for (target, host) in [
            ("http://h/", "h"),
            ("http://H/", "h:80"),
            ("https://h/", "h:443"),
            ("http://h:/", "h"),
            ("http://[::1]/", "[::1]:80"),
            ("http://h:8080/", "h:8080"),
        ] {
            assert!(checked(target, &[host]).is_ok(), "{target} {host}");
        }
        for (target, host) in [
            ("http://h/", "i"),
            ("http://h:81/", "h"),
            ("http://h/", "h:443"),
            ("http://u@h/", "h"),
            ("http://u@h/", "u@h"),
            ("ftp://h/", "h"),
            ("http://[::1]/", "[::2]"),
        ] {
            assert!(matches!(checked(target, &[host]), Err(Rejection::Malformed(_))), "{target} {host}");
        }
    }

    #[test]
    fn http_2_may_name_the_host_in_the_target_alone() {
        let request = Request::get("https://h:81/").version(Version::HTTP_2).body(()).unwrap();
        assert_eq!(check(request).unwrap().headers().get(header::HOST).unwrap(), "h:81");
    }

    #[test]
    fn a_value_of_http_2_has_no_blank_around_it() {
        for (value, is_right) in [("a b", true), (" a", false), ("a\t", false), ("", true)] {
            let request = Request::get("https://h/").version(Version::HTTP_2).header("x", value);
            assert_eq!(check(request.body(()).unwrap()).is_ok(), is_right, "{value:?}");
        }
    }

    #[test]
    fn an_option_of_the_connection_is_a_token() {
        for (value, is_right) in [
            (&b"close, X-One,,\tte "[..], true),
            (b"", true),
            (b"close,\xc3\xa9 x-one", false),
            (b"a b", false),
            (b"\"a\"", false),
        ] {
            let request = Request::get("/").header(header::HOST, "h").header(header::CONNECTION, value);
            assert_eq!(check(request.body(()).unwrap()).is_ok(), is_right, "{value:?}");
        }
    }
}
