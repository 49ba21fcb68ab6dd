//! Which route a request takes: by host and path, in every reading of the path.
//!
//! Must not know keys or bodies. Read `readings.rs` before, `admit.rs` after.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;

use crate::config::{PathCase, Route};

use super::patterns::{Owner, Patterns, segments};
use super::readings::{Look, Rules, decoded, has_choices, hex_in_upper_case, look};

/// The routes of a gateway, ready to be looked up.
#[derive(Clone, Debug)]
pub struct Router {
    trees: Trees,
    any_host: Host,
    by_host: HashMap<String, Host>,
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

/// What a request to one host may take, beside the routes of any host.
#[derive(Clone, Debug)]
struct Host {
    owner: Option<Owner>,
    /// Its own.
    routes: Vec<usize>,
    has_insensitive: bool,
    /// Whether there is but one route that a request may take, and it takes every path.
    takes_all: bool,
}

/// The patterns of all routes.
#[derive(Clone, Debug)]
struct Trees {
    as_written: Patterns<Found>,
    /// All of them again without regard to case, where that of some does not count.
    folded: Option<Patterns<Found>>,
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
        let mut of_hosts: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::from([(None, Vec::new())]);
        for (index, route) in routes.iter().enumerate() {
            of_hosts.entry(route.host.as_deref().map(bare_host)).or_default().push(index);
        }
        let of_any = of_hosts.remove(&None).unwrap_or_default();
        let any_host = Host::new(None, of_any, &[], routes);
        let by_host = of_hosts.into_iter().enumerate().filter_map(|(owner, (host, own))| {
            let own = Host::new(Some(owner), own, &any_host.routes, routes);
            Some((host?, own))
        });
        let by_host: HashMap<_, _> = by_host.collect();
        let trees = Trees::of(by_host.values().chain([&any_host]), routes);
        Self { trees, any_host, by_host }
    }

    /// Finds the route of a request. `guards` says whether a route guards this request's method: only
    /// then does it matter that readings disagree.
    pub fn find(&self, host: Option<&str>, path: &str, guards: impl Fn(usize) -> bool) -> Routed {
        let host = self.host(host);
        let found = self.trees.find(host, path.as_bytes());
        if has_choices(path.as_bytes())
            && !host.takes_all
            && host.routes.iter().chain(&self.any_host.routes).any(|route| guards(*route))
            && self.is_ambiguous(host, path.as_bytes(), found, guards)
        {
            return Routed::Ambiguous;
        }
        found.map_or(Routed::None, |found| Routed::Route(found.route))
    }

    fn host(&self, host: Option<&str>) -> &Host {
        if self.by_host.is_empty() {
            return &self.any_host;
        }
        host.and_then(|host| self.by_host.get(&bare_host(host))).unwrap_or(&self.any_host)
    }

    /// Whether readings of the path lead to different routes, and one of them guards.
    fn is_ambiguous(
        &self,
        host: &Host,
        path: &[u8],
        literal: Option<&Found>,
        guards: impl Fn(usize) -> bool,
    ) -> bool {
        let spared = literal.map(|found| found.spared).unwrap_or_default();
        let literal = literal.map(|found| found.route);
        let is_guarded = literal.is_some_and(&guards);
        let look = look(path, spared, |reading| {
            let found = self.trees.find(host, reading).map(|found| found.route);
            found != literal && (is_guarded || found.is_some_and(&guards))
        });
        match look {
            Look::Enough | Look::Unknown => true,
            Look::Whole(_) => false,
        }
    }
}

impl Trees {
    fn of<'h>(hosts: impl Iterator<Item = &'h Host>, routes: &[Route]) -> Self {
        let folds = routes.iter().any(|route| route.path_case == PathCase::Insensitive);
        let mut trees = Self { as_written: Patterns::new(), folded: folds.then(Patterns::new) };
        for host in hosts {
            let own = host.routes.iter().filter_map(|index| Some((*index, routes.get(*index)?)));
            let own: Vec<_> = own.map(|(index, route)| (index, route, forms(&route.path))).collect();
            for (index, route, forms) in &own {
                for form in forms {
                    trees.add(host, *index, route, form);
                }
            }
            // "/orders/" means "/orders" too, unless another route claims it: else every request to such a path
            // would read in two ways.
            for (index, route, forms) in &own {
                let shorter = forms.iter().filter_map(|form| form.strip_suffix(b"/"));
                for form in shorter.filter(|path| !path.is_empty()) {
                    trees.add(host, *index, route, form);
                }
            }
        }
        trees
    }

    fn add(&mut self, host: &Host, index: usize, route: &Route, form: &[u8]) {
        let exact = match route.path_case {
            PathCase::Sensitive => Some(form.into()),
            PathCase::Insensitive => None,
        };
        let found = Found { route: index, exact, spared: spared_by(&route.path) };
        if let Some(tree) = &mut self.folded {
            tree.add(&folded(form), host.owner, found.clone());
        }
        self.as_written.add(form, host.owner, found);
    }

    fn find(&self, host: &Host, path: &[u8]) -> Option<&Found> {
        let upper;
        let path = if path.contains(&b'%') {
            upper = hex_in_upper_case(path);
            &upper
        } else {
            path
        };
        match &self.folded {
            Some(tree) if host.has_insensitive => {
                tree.find(&folded(path), host.owner, |found| found.takes_case_of(path))
            }
            Some(_) | None => self.as_written.find(path, host.owner, |_| true),
        }
    }
}

impl Host {
    /// One of these routes, beside those of any host.
    fn new(owner: Option<Owner>, own: Vec<usize>, of_any: &[usize], routes: &[Route]) -> Self {
        let all = || own.iter().chain(of_any).filter_map(|index| routes.get(*index));
        Self {
            has_insensitive: all().any(|route| route.path_case == PathCase::Insensitive),
            takes_all: all().count() == 1 && all().all(|route| route.path.starts_with("/{*")),
            owner,
            routes: own,
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
    fn routes_of_other_hosts_change_nothing() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..2_000 {
            let routes: Vec<Route> = (0..random.usize(1..8)).map(|_| any_route(&mut random)).collect();
            let all = Router::new(&routes);
            for host in [None, Some("one"), Some("two"), Some("three")] {
                let its_own: Vec<usize> = (0..routes.len())
                    .filter(|index| routes[*index].host.is_none() || routes[*index].host.as_deref() == host)
                    .collect();
                let alone: Vec<Route> = its_own.iter().map(|index| routes[*index].clone()).collect();
                let alone = Router::new(&alone);
                let guards = |index: usize| index.is_multiple_of(2);
                for path in ["/", "/a", "/A", "/a/b", "/b/a/", "/a/x/b", "/%41", "/b/../a", "/x/a/b/a"] {
                    let found = all.find(host, path, guards);
                    let expected = match alone.find(host, path, |at| guards(its_own[at])) {
                        Routed::Route(at) => Routed::Route(its_own[at]),
                        other @ (Routed::None | Routed::Ambiguous) => other,
                    };
                    assert_eq!(found, expected, "seed {seed}: {host:?} {path} among {routes:?}");
                }
            }
        }
    }

    fn any_route(random: &mut fastrand::Rng) -> Route {
        let mut path = String::new();
        for _ in 0..random.usize(1..4) {
            path.push('/');
            path.push_str(random.choice(["a", "A", "b", "{x}", "%41", ""]).unwrap());
        }
        if random.u8(..) < 60 {
            path.push_str("/{*rest}");
        }
        let path_case = match random.u8(..4) {
            0 => PathCase::Insensitive,
            _ => PathCase::Sensitive,
        };
        let host = random.choice([None, Some("one"), Some("two")]).unwrap().map(Into::into);
        Route { host, path_case, ..route(&path) }
    }

    #[test]
    fn a_router_of_many_hosts_has_one_copy_of_what_they_share() {
        let of_any = (0..300).map(|number| route(&format!("/part{number}/{{id}}")));
        let of_hosts =
            (0..300).map(|number| Route { host: Some(format!("h{number}.example")), ..route("/payments") });
        let router = Router::new(&of_any.chain(of_hosts).collect::<Vec<_>>());
        assert_eq!(router.trees.as_written.len(), 600);
        assert_eq!(router.find(Some("h7.example"), "/payments", |_| true), Routed::Route(307));
        assert_eq!(router.find(Some("h7.example"), "/part9/1", |_| true), Routed::Route(9));
        assert_eq!(router.find(Some("other.example"), "/payments", |_| true), Routed::None);
    }

    #[test]
    fn an_insensitive_route_takes_every_case_of_its_path() {
        let insensitive = Route { path_case: PathCase::Insensitive, ..route("/Payments") };
        let router = Router::new(&[insensitive, route("/{*rest}")]);
        assert_eq!(find(&router, "/PAYMENTS"), Routed::Route(0));
        assert_eq!(find(&router, "/other"), Routed::Route(1));
    }
}
