//! Which route a request takes: by host and path, in every reading of the path.
//!
//! Must not know keys or bodies. Read `readings.rs` before, `admit.rs` after.

use std::collections::HashMap;

use crate::config::{PathCase, Route};

use super::patterns::Patterns;
use super::readings::readings;

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

#[derive(Clone, Debug)]
struct Paths {
    patterns: Patterns<Found>,
    has_insensitive: bool,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    route: usize,
    path_case: PathCase,
}

impl Router {
    /// Prepares the routes. Those of a host take precedence over the same pattern without a host.
    pub fn new(routes: &[Route]) -> Self {
        let hosts = routes.iter().filter_map(|route| route.host.as_deref());
        let by_host = hosts.map(|host| (host.to_owned(), Paths::of(routes, Some(host)))).collect();
        Self { any_host: Paths::of(routes, None), by_host }
    }

    /// Finds the route of a request. `guards` says whether a route guards this request's method: only
    /// then does it matter that readings disagree.
    pub fn find(&self, host: Option<&str>, path: &str, guards: impl Fn(usize) -> bool) -> Routed {
        let paths = self.paths_of(host);
        let literal = paths.find(path);
        let mut is_ambiguous = false;
        let mut guarded = literal.is_some_and(&guards);
        for reading in readings(path) {
            let found = paths.find(&reading);
            is_ambiguous |= found != literal;
            guarded |= found.is_some_and(&guards);
        }
        match (is_ambiguous && guarded, literal) {
            (true, _) => Routed::Ambiguous,
            (false, Some(route)) => Routed::Route(route),
            (false, None) => Routed::None,
        }
    }

    fn paths_of(&self, host: Option<&str>) -> &Paths {
        if self.by_host.is_empty() {
            return &self.any_host;
        }
        let host = host.map(|host| bare_host(host).to_ascii_lowercase());
        host.and_then(|host| self.by_host.get(&host)).unwrap_or(&self.any_host)
    }
}

impl Paths {
    /// The routes that a request to `host` may take.
    fn of(routes: &[Route], host: Option<&str>) -> Self {
        let mut paths = Self { patterns: Patterns::new(), has_insensitive: false };
        if host.is_some() {
            paths.add(routes, host);
        }
        paths.add(routes, None);
        paths
    }

    fn add(&mut self, routes: &[Route], host: Option<&str>) {
        let own = || routes.iter().enumerate().filter(|(_, route)| route.host.as_deref() == host);
        self.has_insensitive |= own().any(|(_, route)| route.path_case == PathCase::Insensitive);
        let pattern = |route: &Route| match route.path_case {
            PathCase::Sensitive => route.path.clone(),
            PathCase::Insensitive => route.path.to_ascii_lowercase(),
        };
        for (index, route) in own() {
            self.patterns.add(&pattern(route), Found { route: index, path_case: route.path_case });
        }
        // "/orders/" means "/orders" too, unless another route claims it: else every request to such a path
        // would read in two ways.
        for (index, route) in own() {
            if let Some(shorter) = pattern(route).strip_suffix('/').filter(|path| !path.is_empty()) {
                self.patterns.add(shorter, Found { route: index, path_case: route.path_case });
            }
        }
    }

    fn find(&self, path: &str) -> Option<usize> {
        if self.has_insensitive
            && let Some(folded) = self.patterns.find(&path.to_ascii_lowercase())
            && folded.path_case == PathCase::Insensitive
        {
            return Some(folded.route);
        }
        self.patterns.find(path).map(|found| found.route)
    }
}

/// A host without its port and without the root's dot.
fn bare_host(host: &str) -> &str {
    let host = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        Some(_) | None => host,
    };
    host.strip_suffix('.').unwrap_or(host)
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
