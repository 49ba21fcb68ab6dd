//! Which route a request takes: by host and path, in every reading of the path.
//!
//! Must not know keys or bodies. Read `readings.rs` before, `admit.rs` after.

use std::collections::HashMap;

use crate::config::{PathCase, Route};

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

/// A route that cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[error("add route {path:?}")]
pub struct BadRoute {
    path: String,
    #[source]
    source: matchit::InsertError,
}

#[derive(Clone, Debug, Default)]
struct Paths {
    patterns: matchit::Router<Found>,
    has_insensitive: bool,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    route: usize,
    path_case: PathCase,
}

impl Router {
    /// Prepares the routes. Those of a host take precedence over the same pattern without a host.
    pub fn new(routes: &[Route]) -> Result<Self, BadRoute> {
        let mut any_host = Paths::default();
        let mut by_host: HashMap<String, Paths> = HashMap::new();
        for host in routes.iter().filter_map(|route| route.host.as_ref()) {
            by_host.entry(host.clone()).or_default();
        }
        let indexed = || routes.iter().enumerate();
        for (index, route) in indexed().filter(|(_, route)| route.host.is_none()) {
            any_host.insert(index, route)?;
        }
        for (host, paths) in &mut by_host {
            let own: Vec<_> = indexed().filter(|(_, route)| route.host.as_ref() == Some(host)).collect();
            let shapes: Vec<_> = own.iter().map(|(_, route)| shape(&route.path, route.path_case)).collect();
            for (index, route) in own {
                paths.insert(index, route)?;
            }
            for (index, route) in indexed().filter(|(_, route)| route.host.is_none()) {
                if !shapes.contains(&shape(&route.path, route.path_case)) {
                    paths.insert(index, route)?;
                }
            }
        }
        Ok(Self { any_host, by_host })
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
    fn insert(&mut self, route: usize, config: &Route) -> Result<(), BadRoute> {
        let found = Found { route, path_case: config.path_case };
        self.has_insensitive |= config.path_case == PathCase::Insensitive;
        let shape = shape(&config.path, config.path_case);
        let bad = |source| BadRoute { path: config.path.clone(), source };
        // "/v1/{*rest}" means /v1 and /v1/ too, unless another route claims them.
        if let Some(parent) = shape.strip_suffix("/{*rest}") {
            for also in [parent.to_owned(), format!("{parent}/")] {
                if !also.is_empty() {
                    // A conflict means that another route stands there, which is the more specific one.
                    drop(self.patterns.insert(also, found));
                }
            }
            return self.patterns.insert(shape, found).map_err(bad);
        }
        if let Err(source) = self.patterns.insert(shape.clone(), found) {
            // A catch-all may have taken its own parent's place before this route came.
            let _replaced = self.patterns.remove(shape.clone()).ok_or_else(|| bad(source))?;
            return self.patterns.insert(shape, found).map_err(bad);
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<usize> {
        if self.has_insensitive
            && let Ok(folded) = self.patterns.at(&path.to_ascii_lowercase())
            && folded.value.path_case == PathCase::Insensitive
        {
            return Some(folded.value.route);
        }
        self.patterns.at(path).ok().map(|found| found.value.route)
    }
}

/// A pattern with its parameter names made uniform, so that two patterns conflict by shape only.
fn shape(pattern: &str, path_case: PathCase) -> String {
    let mut shape = String::with_capacity(pattern.len());
    for (number, segment) in pattern.split('/').enumerate() {
        if number > 0 {
            shape.push('/');
        }
        match segment {
            parameter if parameter.starts_with("{*") => shape.push_str("{*rest}"),
            parameter if parameter.starts_with('{') && parameter.ends_with('}') => {
                shape.push_str("{p}");
            }
            text if path_case == PathCase::Insensitive => shape.push_str(&text.to_ascii_lowercase()),
            text => shape.push_str(text),
        }
    }
    shape
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
        Router::new(&paths.iter().map(|path| route(path)).collect::<Vec<_>>()).unwrap()
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
        let router = Router::new(&[route("/{*rest}"), narrowed]).unwrap();
        assert_eq!(router.find(Some("API.example.com:8080"), "/payments", |_| true), Routed::Route(1));
        assert_eq!(router.find(Some("api.example.com."), "/orders", |_| true), Routed::Route(0));
        assert_eq!(router.find(Some("other.example.com"), "/payments", |_| true), Routed::Route(0));
    }

    #[test]
    fn an_insensitive_route_takes_every_case_of_its_path() {
        let insensitive = Route { path_case: PathCase::Insensitive, ..route("/Payments") };
        let router = Router::new(&[insensitive, route("/{*rest}")]).unwrap();
        assert_eq!(find(&router, "/PAYMENTS"), Routed::Route(0));
        assert_eq!(find(&router, "/other"), Routed::Route(1));
    }
}
