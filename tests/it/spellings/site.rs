//! Routes, and what is to become of a path: as the gateway says, and as a reader of the path sees it.
//!
//! The reader's side matches patterns by itself and shares no code with the gateway's.

use std::cmp::Reverse;

use onceway::config::{PathCase, Route};
use onceway::protocol::policy::{KeyMode, Policy};
use onceway::proxy::{Routed, Router};

use super::steps::{Step, read};

/// Routes as the gateway has them.
pub(crate) struct Site {
    routes: Vec<Route>,
    router: Router,
}

/// What the gateway does with a POST to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Guards it by the route of this index.
    Guarded(usize),
    /// Lets it pass.
    Open,
    Refused,
}

pub(crate) fn on(path: &str) -> Route {
    Route {
        path: path.into(),
        host: None,
        upstream: 0,
        path_case: PathCase::Sensitive,
        policy: Policy::default(),
    }
}

pub(crate) fn off(path: &str) -> Route {
    Route { policy: Policy { key: KeyMode::Off, ..Policy::default() }, ..on(path) }
}

pub(crate) fn insensitive(route: Route) -> Route {
    Route { path_case: PathCase::Insensitive, ..route }
}

pub(crate) fn on_host(host: &str, path: &str) -> Route {
    Route { host: Some(host.into()), ..on(path) }
}

impl Site {
    pub(crate) fn of<const N: usize>(routes: [Route; N]) -> Self {
        let routes = Vec::from(routes);
        Self { router: Router::new(&routes), routes }
    }

    /// What the gateway does with a POST to `path` on the host `api.test`.
    pub(crate) fn ask(&self, path: &str) -> Verdict {
        self.ask_host("api.test", path)
    }

    pub(crate) fn ask_host(&self, host: &str, path: &str) -> Verdict {
        match self.router.find(Some(host), path, |route| self.guards(route)) {
            Routed::Ambiguous => Verdict::Refused,
            Routed::Route(route) if self.guards(route) => Verdict::Guarded(route),
            Routed::Route(_) | Routed::None => Verdict::Open,
        }
    }

    /// Whether some route leaves the case of its path out.
    pub(crate) fn folds_case(&self) -> bool {
        self.routes.iter().any(|route| route.path_case == PathCase::Insensitive)
    }

    /// Whether an upstream that takes these steps finds what every pattern names. Another one is not the upstream
    /// that the routes were written for.
    pub(crate) fn may_be_served_by(&self, steps: &[Step]) -> bool {
        self.routes.iter().enumerate().all(|(at, route)| {
            let segments = route.path.split('/');
            let named = segments.map(|segment| if segment.starts_with('{') { "x" } else { segment });
            let path = named.collect::<Vec<_>>().join("/");
            let seen = self.seen(&path, steps);
            route.path.ends_with('/')
                || seen == if self.guards(at) { Seen::Protected(at) } else { Seen::Other }
        })
    }

    fn guards(&self, route: usize) -> bool {
        self.routes[route].policy.guards("POST")
    }

    /// The guarded route whose path an upstream sees that takes these steps; nothing if it sees another path,
    /// or refuses.
    pub(crate) fn seen(&self, path: &str, steps: &[Step]) -> Seen {
        let Some(segments) = read(path, steps) else { return Seen::Nothing };
        let matching = self.routes.iter().enumerate().filter(|(_, route)| matches(route, &segments));
        let best = matching.min_by_key(|(at, route)| (kinds(route), Reverse(route.host.is_some()), *at));
        match best {
            Some((at, _)) if self.guards(at) => Seen::Protected(at),
            Some(_) | None => Seen::Other,
        }
    }
}

/// What an upstream makes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Protected(usize),
    Other,
    /// It refuses it.
    Nothing,
}

impl Verdict {
    /// Whether no reader that takes these steps sees anything else than the gateway did.
    pub(crate) fn keeps(self, site: &Site, path: &str, steps: &[Step]) -> bool {
        match (self, site.seen(path, steps)) {
            (Self::Refused, _) | (_, Seen::Nothing) => true,
            (Self::Guarded(route), Seen::Protected(seen)) => route == seen,
            // A trailing slash of a pattern may be left out, so a strict upstream sees nothing there.
            (Self::Guarded(route), Seen::Other) => site.routes[route].path.ends_with('/'),
            (Self::Open, seen) => seen == Seen::Other,
        }
    }
}

/// How exact each segment of a pattern is; the smaller, the more so.
fn kinds(route: &Route) -> Vec<u8> {
    let kind = |segment: &str| match segment {
        rest if rest.starts_with("{*") => 2,
        one if one.starts_with('{') => 1,
        _ => 0,
    };
    route.path[1..].split('/').map(kind).collect()
}

fn matches(route: &Route, segments: &[Vec<u8>]) -> bool {
    let pattern: Vec<&str> = route.path[1..].split('/').collect();
    let has_rest = pattern.last().is_some_and(|last| last.starts_with("{*"));
    let fixed = if has_rest { &pattern[..pattern.len() - 1] } else { &pattern[..] };
    let is_long_enough = if has_rest { segments.len() >= fixed.len() } else { segments.len() == fixed.len() };
    is_long_enough
        && fixed.iter().zip(segments).all(|(wanted, given)| {
            match (wanted.starts_with('{'), route.path_case) {
                (true, _) => !given.is_empty(),
                (false, PathCase::Sensitive) => literal(wanted) == *given || is_written(wanted, given),
                (false, PathCase::Insensitive) => literal(wanted).eq_ignore_ascii_case(given),
            }
        })
}

/// Whether a handler of the escaped form would take it.
fn is_written(wanted: &str, given: &[u8]) -> bool {
    let in_upper_case = |escape: &str| {
        let (digits, rest) = escape.split_at_checked(2).unwrap_or((escape, ""));
        format!("{}{rest}", digits.to_ascii_uppercase())
    };
    let Some((before, after)) = std::str::from_utf8(given).ok().and_then(|given| given.split_once('%'))
    else {
        return false;
    };
    let escapes: Vec<_> = after.split('%').map(in_upper_case).collect();
    format!("{before}%{}", escapes.join("%")) == wanted
}

/// A segment of a pattern as a handler sees it.
fn literal(segment: &str) -> Vec<u8> {
    let mut parts = segment.split('%');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).unwrap());
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    out
}
