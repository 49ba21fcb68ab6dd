//! Path patterns and host names of routes, and when two routes are the same.

use super::problem::Unfit;
use super::{PathCase, Place};

/// Reads a path pattern: exact, `{name}` for one segment, `{*name}` as the last segment for the rest.
///
/// A pattern that no request could reach is refused: it would look protected and never be.
pub(super) fn path(text: &str) -> Result<String, Unfit> {
    const WANTED: &str = "a path such as \"/payments\", \"/orders/{id}/refunds\" or \"/v1/{*rest}\"";
    let Some(rest) = text.strip_prefix('/') else { return Unfit::expected(WANTED) };
    if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#' | b';')) {
        return Unfit::expected(
            "a path of visible ASCII characters without \"?\", \"#\", \";\" and \"\\\" (others are percent-encoded)",
        );
    }
    if !escapes_are_needed(text) {
        return Unfit::expected("a path that percent-encodes only what must be, such as \"/caf%C3%A9\"");
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, "." | "..") || (segment.is_empty() && !is_last) {
            return Unfit::expected(
                "a path without empty, \".\" and \"..\" segments, which no request reaches",
            );
        }
        if !is_segment(segment, is_last) {
            return Unfit::expected("\"{name}\" as a whole segment, or \"{*name}\" as the last one");
        }
    }
    Ok(text.to_owned())
}

fn is_segment(segment: &str, is_last: bool) -> bool {
    if !segment.contains(['{', '}']) {
        return true;
    }
    let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return false };
    let name = match name.strip_prefix('*') {
        Some(name) if is_last => name,
        Some(_) => return false,
        None => name,
    };
    !name.is_empty() && !name.contains(['{', '}', '*', ':'])
}

/// Whether every `%` begins the encoding of a byte that a path cannot hold as it is. Others are decoded
/// before a path is matched, so a pattern with them would never match.
fn escapes_are_needed(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let byte = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let is_hex = after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
        is_hex
            && byte.is_some_and(|byte| {
                !byte.is_ascii_alphanumeric()
                    && !matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'{' | b'}' | b';')
            })
    })
}

/// Reads a host name, without port; answers it in lower case.
pub(super) fn host(text: &str) -> Result<String, Unfit> {
    const WANTED: &str = "a host name without port, such as \"api.example.com\"";
    let is_name = text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        });
    let is_ipv6 = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    if is_name || is_ipv6 { Ok(text.to_ascii_lowercase()) } else { Unfit::expected(WANTED) }
}

/// The paths taken so far, to find two routes that are one.
#[derive(Debug, Default)]
pub(super) struct Taken(Vec<Shape>);

/// What a route matches, without the names of its parameters.
#[derive(Debug)]
struct Shape {
    host: Option<String>,
    path: String,
    case: PathCase,
    place: Place,
}

impl Taken {
    /// Takes a path; answers the place of the route that took it before.
    pub(super) fn take(
        &mut self,
        host: Option<&str>,
        path: &str,
        case: PathCase,
        place: Place,
    ) -> Option<Place> {
        let shape = Shape { host: host.map(str::to_owned), path: nameless(path), case, place };
        let first = self.0.iter().find(|taken| taken.is_same(&shape)).map(|taken| taken.place);
        if first.is_none() {
            self.0.push(shape);
        }
        first
    }
}

impl Shape {
    fn is_same(&self, other: &Self) -> bool {
        let folds = self.case == PathCase::Insensitive || other.case == PathCase::Insensitive;
        self.host == other.host
            && if folds { self.path.eq_ignore_ascii_case(&other.path) } else { self.path == other.path }
    }
}

/// The pattern with its parameters' names left out.
fn nameless(path: &str) -> String {
    let segments: Vec<_> = path
        .split('/')
        .map(|segment| match segment {
            rest if rest.starts_with("{*") => "{*}",
            one if one.starts_with('{') => "{}",
            exact => exact,
        })
        .collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_path_are_read() {
        for text in
            ["/", "/payments", "/orders/{id}/refunds", "/v1/{*rest}", "/{*rest}", "/a/", "/caf%C3%A9", "/a:b"]
        {
            assert_eq!(path(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_path_that_no_request_reaches_is_refused() {
        for text in [
            "",
            "payments",
            "//a",
            "/a//b",
            "/a/./b",
            "/a/..",
            "/a?b",
            "/a#b",
            "/a;b",
            "/a b",
            "/é",
            "/a\\b",
            "/%41",
            "/%2f",
            "/%zz",
            "/%",
            "/%4",
            "/{}",
            "/{*}",
            "/{*rest}/a",
            "/x{id}",
            "/{id}x",
            "/{a}{b}",
            "/{{a}}",
            "/{a",
            "/{a/b}",
            "/a}",
        ] {
            assert!(path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_without_port_in_lower_case() {
        assert_eq!(host("API.example.com"), Ok("api.example.com".into()));
        assert_eq!(host("[::1]"), Ok("[::1]".into()));
        for text in ["", "a:80", "http://a", "*.a", "a..b", "a.", "ä", "[x]"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_parameters_do_not_make_two_paths_different() {
        let place = |line| Place { line, column: 1 };
        let mut taken = Taken::default();
        let mut take = |host, path, line| taken.take(host, path, PathCase::Sensitive, place(line));
        assert_eq!(take(None, "/orders/{id}", 1), None);
        assert_eq!(take(None, "/orders/{number}", 2), Some(place(1)));
        assert_eq!(take(None, "/orders/{*id}", 3), None);
        assert_eq!(take(Some("h"), "/orders/{id}", 4), None);
        assert_eq!(take(None, "/Orders/{id}", 5), None);
        assert_eq!(taken.take(None, "/ORDERS/{id}", PathCase::Insensitive, place(6)), Some(place(1)));
    }
}
