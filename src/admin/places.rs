//! What is at which path, for whom, and by which methods: the one table of this listener.
//!
//! `openapi.json` is held to it by a test. Read `road.rs` for what is done at each place.

use http::Method;

/// Something that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Live,
    Ready,
    Metrics,
    Console,
    OpenApi,
    Status,
    LogLevel,
    Operations,
    Find,
    Operation,
    Resolve,
}

/// What stands in a template where a path names a record.
const REF: &str = "{ref}";

const READ: &str = "GET, HEAD";

/// Each place, its path, and the methods that it takes as `Allow` says them (RFC 9110 §10.2.1).
const TABLE: [(Place, &str, &str); 11] = [
    (Place::Live, "/livez", READ),
    (Place::Ready, "/readyz", READ),
    (Place::Metrics, "/metrics", READ),
    (Place::Console, "/", READ),
    (Place::OpenApi, "/v1/openapi.json", READ),
    (Place::Status, "/v1/status", READ),
    (Place::LogLevel, "/v1/log-level", "GET, HEAD, PUT"),
    (Place::Operations, "/v1/operations", READ),
    // Before the one that it would match too.
    (Place::Find, "/v1/operations/find", "POST"),
    (Place::Operation, "/v1/operations/{ref}", "GET, HEAD, DELETE"),
    (Place::Resolve, "/v1/operations/{ref}/resolve", "POST"),
];

impl Place {
    /// What is at a path, and what the path names there, if anything.
    pub(super) fn at(path: &str) -> Option<(Self, &str)> {
        TABLE.iter().find_map(|(place, template, _)| Some((*place, named_by(path, template)?)))
    }

    /// Whether it is for everybody who reaches the port.
    pub(super) fn is_open(self) -> bool {
        match self {
            Self::Live | Self::Ready | Self::Metrics => true,
            Self::Console
            | Self::OpenApi
            | Self::Status
            | Self::LogLevel
            | Self::Operations
            | Self::Find
            | Self::Operation
            | Self::Resolve => false,
        }
    }

    /// The methods that it takes.
    pub(super) fn methods(self) -> &'static str {
        TABLE.iter().find(|(place, _, _)| *place == self).map_or("", |(_, _, methods)| methods)
    }

    /// Whether it takes a method.
    pub(super) fn takes(self, method: &Method) -> bool {
        self.methods().split(", ").any(|taken| taken == method.as_str())
    }
}

/// What a path names where the template leaves it open, or nothing; `None` if it is another path.
fn named_by<'p>(path: &'p str, template: &str) -> Option<&'p str> {
    let (mut segments, mut named) = (path.split('/'), "");
    for expected in template.split('/') {
        let segment = segments.next()?;
        if expected == REF && !segment.is_empty() {
            named = segment;
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(named)
}

/// Every path of this listener, as a template, with the methods that it takes.
pub fn places() -> Vec<(&'static str, Vec<&'static str>)> {
    TABLE.iter().map(|(_, template, methods)| (*template, methods.split(", ").collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_found_by_its_path_and_by_no_other() {
        for (place, template, _) in TABLE {
            let named = if template.contains(REF) { "ab" } else { "" };
            assert_eq!(Place::at(&template.replace(REF, "ab")), Some((place, named)));
        }
        for path in [
            "",
            "/v1",
            "/livez/",
            "//livez",
            "/LIVEZ",
            "/v1/operations/",
            "/v1/operations/a/b",
            "/v1/operations//resolve",
        ] {
            assert_eq!(Place::at(path), None, "{path}");
        }
    }
}
