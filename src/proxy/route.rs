//! Which route a request takes: by host and path, in every reading of the path.
//!
//! Must not know keys or bodies. Read `readings.rs` before, `admit.rs` after.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::config::{PathCase, Route};

use super::patterns::{Patterns, segments};
use super::readings::{Look, Rules, decoded, has_choices, hex_in_upper_case, look};

/// The routes of a gateway, ready to be looked up.
#[derive(Clone, Debug)]
pub struct Router {
    any_host: Paths,
    by_host: HashMap<String, Paths>,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// To the route of this index.
    Route(usize),
    /// To no route.
    None,
    /// Its path leads to different routes when read differently, and one of them guards the request.
    Ambiguous,
}

/// The routes that a request to one host may take.
#[derive(Clone, Debug)]
struct Paths {
    patterns: Patterns<Found>,
    routes: Vec<usize>,
    has_insensitive: bool,
    /// Whether there is but one route, and it takes every path.
    takes_all: bool,
}

#[derive(Clone, Debug)]
struct Found {
    route: usize,
    /// The path must match this as it is written; `None` if its case does not count.
    exact: Option<Arc<[u8]>>,
    /// Rules that the pattern speaks against.
    spared: Rules,
}

impl Router {
    /// Prepares the routes. Those of a host take precedence over the same pattern without a host.
    pub fn new(routes: &[Route]) -> Self {
        let hosts = routes.iter().filter_map(|route| route.host.as_deref());
        let by_host = hosts.map(|host| (bare_host(host), Paths::of(routes, Some(host)))).collect();
        Self { any_host: Paths::of(routes, None), by_host }
    }

    /// Finds the route of a request. `guards` says whether a route guards this request's method: only
    /// then does it matter that readings disagree.
    pub fn find(&self, host: Option<&str>, path: &str, guards: impl Fn(usize) -> bool) -> Routed {
        let paths = self.paths_of(host);
        let found = paths.find(path.as_bytes());
        if has_choices(path.as_bytes())
            && !paths.takes_all
            && paths.routes.iter().any(|route| guards(*route))
            && paths.is_ambiguous(path.as_bytes(), found, guards)
        {
            return Routed::Ambiguous;
        }
        found.map_or(Routed::None, |found| Routed::Route(found.route))
    }

    fn paths_of(&self, host: Option<&str>) -> &Paths {
        if self.by_host.is_empty() {
            return &self.any_host;
        }
        host.and_then(|host| self.by_host.get(&bare_host(host))).unwrap_or(&self.any_host)
    }
}

impl Paths {
    /// The routes that a request to `host` may take.
    fn of(routes: &[Route], host: Option<&str>) -> Self {
        let own = |host: Option<&str>| {
            let all = routes.iter().enumerate();
            all.filter(move |(_, route)| route.host.as_deref() == host).collect::<Vec<_>>()
        };
        let (of_host, of_any) = (host.map(|host| own(Some(host))).unwrap_or_default(), own(None));
        let all = || of_host.iter().chain(&of_any).map(|(index, route)| (*index, *route));
        let mut paths = Self {
            patterns: Patterns::new(),
            routes: all().map(|(index, _)| index).collect(),
            has_insensitive: all().any(|(_, route)| route.path_case == PathCase::Insensitive),
            takes_all: of_host.len() + of_any.len() == 1
                && all().all(|(_, route)| route.path.starts_with("/{*")),
        };
        paths.add(&of_host);
        paths.add(&of_any);
        paths
    }

    fn add(&mut self, own: &[(usize, &Route)]) {
        for (index, route) in own {
            for form in forms(&route.path) {
                self.add_form(*index, route, &form);
            }
        }
        // "/orders/" means "/orders" too, unless another route claims it: else every request to such a path
        // would read in two ways.
        for (index, route) in own {
            for form in forms(&route.path) {
                if let Some(shorter) = form.strip_suffix(b"/").filter(|path| !path.is_empty()) {
                    self.add_form(*index, route, shorter);
                }
            }
        }
    }

    fn add_form(&mut self, index: usize, route: &Route, form: &[u8]) {
        let exact = match route.path_case {
            PathCase::Sensitive => Some(form.into()),
            PathCase::Insensitive => None,
        };
        let found = Found { route: index, exact, spared: spared_by(&route.path) };
        if self.has_insensitive {
            self.patterns.add(&folded(form), found);
        } else {
            self.patterns.add(form, found);
        }
    }

    fn find(&self, path: &[u8]) -> Option<&Found> {
        let upper;
        let path = if path.contains(&b'%') {
            upper = hex_in_upper_case(path);
            &upper
        } else {
            path
        };
        if self.has_insensitive {
            self.patterns.find(&folded(path), |found| found.takes_case_of(path))
        } else {
            self.patterns.find(path, |_| true)
        }
    }

    /// Whether readings of the path lead to different routes, and one of them guards.
    fn is_ambiguous(&self, path: &[u8], literal: Option<&Found>, guards: impl Fn(usize) -> bool) -> bool {
        let spared = literal.map(|found| found.spared).unwrap_or_default();
        let literal = literal.map(|found| found.route);
        let is_guarded = literal.is_some_and(&guards);
        let look = look(path, spared, |reading| {
            let found = self.find(reading).map(|found| found.route);
            found != literal && (is_guarded || found.is_some_and(&guards))
        });
        match look {
            Look::Enough | Look::Unknown => true,
            Look::Whole(_) => false,
        }
    }
}

impl Found {
    /// Whether the path is written as the pattern wants it, given that it matches when its case is left out.
    fn takes_case_of(&self, path: &[u8]) -> bool {
        let Some(pattern) = &self.exact else { return true };
        segments(pattern)
            .zip(segments(path))
            .all(|(wanted, given)| wanted.starts_with(b"{") || wanted == given)
    }
}

/// The ways to write a pattern in which nothing is left to read: as it stands, and decoded.
fn forms(pattern: &str) -> Vec<Vec<u8>> {
    let written = hex_in_upper_case(pattern.as_bytes());
    let decoded = decoded(&written);
    std::iter::once(written).chain(decoded).collect()
}

/// The rules that would change a pattern itself. It names a path that its upstream does not read so.
fn spared_by(pattern: &str) -> Rules {
    let segments: Vec<_> =
        pattern.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment }).collect();
    match look(segments.join("/").as_bytes(), Rules::default(), |_| false) {
        Look::Whole(taken) => taken,
        Look::Enough | Look::Unknown => Rules::default(),
    }
}

/// A path without regard to case, as servers compare that know Unicode: "ſ" is an "s" to them.
fn folded(path: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_ascii() => {
            let text = text.replace('\u{130}', "i");
            text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>().into()
        }
        Ok(_) | Err(_) => path.to_ascii_lowercase(),
    }
}

/// A host without its port and without the root's dot, in the one way to write it.
fn bare_host(host: &str) -> String {
    let host = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        Some(_) | None => host,
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match address.and_then(|address| address.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]"),
        None => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::policy::Policy;

    fn route(path: &str) -> Route {
        Route {
            path: path.into(),
            host: None,
            upstream: 0,
            path_case: PathCase::Sensitive,
            policy: Policy::default(),
        }
    }

    fn router(paths: &[&str]) -> Router {
        Router::new(&paths.iter().map(|path| route(path)).collect::<Vec<_>>())
    }

    fn find(router: &Router, path: &str) -> Routed {
        router.find(None, path, |_| true)
    }

    #[test]
    fn the_most_specific_path_wins_whatever_the_order() {
        for paths in
            [["/v1/{*rest}", "/v1/{id}", "/v1/payments"], ["/v1/payments", "/v1/{id}", "/v1/{*rest}"]]
        {
            let router = router(&paths);
            let at = |wanted: &str| Routed::Route(paths.iter().position(|path| *path == wanted).unwrap());
            assert_eq!(find(&router, "/v1/payments"), at("/v1/payments"));
            assert_eq!(find(&router, "/v1/other"), at("/v1/{id}"));
            assert_eq!(find(&router, "/v1/other/more"), at("/v1/{*rest}"));
            assert_eq!(find(&router, "/v1"), at("/v1/{*rest}"));
        }
    }

    #[test]
    fn a_catch_all_leaves_its_own_parent_to_a_route_that_names_it() {
        for paths in [["/v1/{*rest}", "/v1"], ["/v1", "/v1/{*rest}"]] {
            let router = router(&paths);
            let parent = paths.iter().position(|path| *path == "/v1").unwrap();
            assert_eq!(find(&router, "/v1"), Routed::Route(parent));
        }
    }

    #[test]
    fn a_route_may_end_in_a_slash() {
        let router = router(&["/orders/"]);
        assert_eq!(find(&router, "/orders/"), Routed::Route(0));
        assert_eq!(find(&router, "/orders"), Routed::Route(0));
    }

    #[test]
    fn parameters_of_other_names_share_a_place() {
        let router = router(&["/orders/{id}/refunds", "/orders/{order}/items"]);
        assert_eq!(find(&router, "/orders/1/refunds"), Routed::Route(0));
        assert_eq!(find(&router, "/orders/1/items"), Routed::Route(1));
        assert_eq!(find(&router, "/orders/1/2/items"), Routed::None);
    }

    #[test]
    fn a_spelling_that_some_upstream_reads_as_the_guarded_path_is_ambiguous() {
        let router = router(&["/payments"]);
        for spelling in ["/payments/", "//payments", "/%70ayments", "/x/../payments", "/payments;v=1"] {
            assert_eq!(find(&router, spelling), Routed::Ambiguous, "{spelling}");
            assert_eq!(router.find(None, spelling, |_| false), Routed::None, "{spelling}: not guarded");
        }
    }

    #[test]
    fn where_all_readings_lead_to_one_route_it_applies() {
        let router = router(&["/{*rest}"]);
        for spelling in ["/payments/", "//payments", "/%70ayments", "/x/../payments", "/"] {
            assert_eq!(find(&router, spelling), Routed::Route(0), "{spelling}");
        }
    }

    #[test]
    fn a_host_narrows_and_falls_back_to_routes_of_any_host() {
        let narrowed = Route { host: Some("api.example.com".into()), ..route("/payments") };
        let router = Router::new(&[route("/{*rest}"), narrowed]);
        assert_eq!(router.find(Some("API.example.com:8080"), "/payments", |_| true), Routed::Route(1));
        assert_eq!(router.find(Some("api.example.com."), "/orders", |_| true), Routed::Route(0));
        assert_eq!(router.find(Some("other.example.com"), "/payments", |_| true), Routed::Route(0));
    }

    #[test]
    fn an_insensitive_route_takes_every_case_of_its_path() {
        let insensitive = Route { path_case: PathCase::Insensitive, ..route("/Payments") };
        let router = Router::new(&[insensitive, route("/{*rest}")]);
        assert_eq!(find(&router, "/PAYMENTS"), Routed::Route(0));
        assert_eq!(find(&router, "/other"), Routed::Route(1));
    }
}
