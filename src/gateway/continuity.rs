//! What outstanding keys would lose if one configuration took the place of another.
//!
//! A key is outstanding while its record lasts. If its retry takes another route, or the route makes keys in another
//! way, the record is not found and the request runs again. So every path that is guarded now is followed to the
//! route that it would take, and what makes keys and fingerprints there is compared. Paths are without end, but
//! which route takes one depends only on the literal segments that patterns name: so one path for each pair of
//! patterns and each length stands for all ([`witnesses`]). Pure. Must not know how a reload is done.
//!
//! A path that would lead to no route at all, or be ambiguous, counts too where it would be forwarded unguarded: an
//! ambiguous one is refused and so is safe.

mod witnesses;

use std::fmt;
use std::time::Duration;

use crate::config::{Config, PathCase, Route};
use crate::protocol::policy::{KeyMode, Mode, Policy, ScopeMissing};
use crate::proxy::{Routed, Router};

use witnesses::{Beyond, witnesses};

/// What the outstanding keys of one route and method would lose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Method, host and path, as far as they are told.
    pub(super) route: String,
    /// What would be lost.
    pub(super) what: Lost,
}

/// Why outstanding keys would look new, or their answers be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// A path would no longer be guarded.
    Guard,
    /// Keys or fingerprints would be made in another way: by these keys of the configuration.
    Derivation(Vec<&'static str>),
    /// `previous` would be dropped though records that only it finds may still last for so long.
    Previous(Duration),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.route)?;
        match &self.what {
            Lost::Guard => f.write_str(
                "outstanding keys would pass unguarded; store.accept_lost_keys = true takes it all the same",
            ),
            Lost::Derivation(keys) => {
                let keys = keys.join(" and ");
                write!(f, "{keys} would no longer find outstanding keys; give the old values as previous")
            }
            Lost::Previous(left) => {
                write!(
                    f,
                    "previous must stand for {}s more, until the last record from before it has ended",
                    left.as_secs()
                )
            }
        }
    }
}

/// What would be lost if `new` took the place of `old`, which has held for `stood`.
pub(super) fn losses(old: &Config, new: &Config, stood: Duration) -> Vec<Loss> {
    let (before, after) = (Router::new(&old.routes), Router::new(&new.routes));
    let beyond = Beyond::all(&old.routes.iter().chain(&new.routes).collect::<Vec<_>>());
    let mut found = Vec::new();
    for (index, route) in old.routes.iter().enumerate().filter(|(_, route)| is_guarded(&route.policy)) {
        // Its own pattern too: where it leads to nothing, no other pattern tells.
        for other in new.routes.iter().chain([route]) {
            if !share_a_host(route, other) {
                continue;
            }
            // None stands for every host that neither names.
            let host = route.host.as_deref().or(other.host.as_deref());
            for path in witnesses(route, other, &beyond) {
                for method in &route.policy.methods {
                    let was = before.find(host, &path, |at| guards(&old.routes, at, method));
                    if was != Routed::Route(index) {
                        continue;
                    }
                    let is = after.find(host, &path, |at| guards(&new.routes, at, method));
                    let lost = lost(route, is, new, method, stood);
                    let label = || format!("{method} {}{path}", host.unwrap_or_default());
                    found.extend(lost.map(|what| Loss { route: label(), what }));
                }
            }
        }
    }
    dedup(found)
}

/// Whether keys and fingerprints are made in one way by both, with the same `previous`.
pub(super) fn is_alike(old: &Config, new: &Config) -> bool {
    let made = |config: &Config| {
        let each = config.routes.iter().map(|route| {
            let Policy { key, key_from, scope, fingerprint_headers, fingerprint_body, .. } = &route.policy;
            let (guards, previous) = ((&route.policy.methods, route.policy.mode), &route.policy.previous);
            let parts = (key, key_from, scope, fingerprint_headers, fingerprint_body);
            format!("{:?}{:?}{:?}{guards:?}{parts:?}{previous:?}", route.path, route.host, route.path_case)
        });
        each.collect::<Vec<_>>()
    };
    made(old) == made(new)
}

/// Whether there is a host to which both may apply.
fn share_a_host(one: &Route, other: &Route) -> bool {
    one.host.is_none() || other.host.is_none() || one.host == other.host
}

fn is_guarded(policy: &Policy) -> bool {
    policy.key != KeyMode::Off && policy.mode == Mode::Enforce
}

fn guards(routes: &[Route], index: usize, method: &str) -> bool {
    routes.get(index).is_some_and(|route| is_guarded(&route.policy) && route.policy.guards(method))
}

fn lost(was: &Route, is: Routed, new: &Config, method: &str, stood: Duration) -> Option<Lost> {
    let index = match is {
        Routed::Ambiguous => return None,
        Routed::None => return Some(Lost::Guard),
        Routed::Route(index) => index,
    };
    if !guards(&new.routes, index, method) {
        return Some(Lost::Guard);
    }
    let next = &new.routes.get(index)?.policy;
    let finds = |made: &Policy| {
        differences(made, next).is_empty()
            || next.previous.as_deref().is_some_and(|previous| is_asked_for(made, previous))
    };
    if !finds(&was.policy) {
        return Some(Lost::Derivation(differences(&was.policy, next)));
    }
    let earlier = was.policy.previous.as_deref()?;
    let lasts = kept_for(&was.policy);
    (stood < lasts && !finds(earlier)).then(|| Lost::Previous(lasts.saturating_sub(stood)))
}

/// Whether whoever asks as before by `previous` finds all records that were made by `made`.
fn is_asked_for(made: &Policy, previous: &Policy) -> bool {
    // Where the anonymous are refused now, a new request of theirs does not run; an earlier one must still be found.
    let finds_anonymous = match (made.scope_missing, previous.scope_missing) {
        (ScopeMissing::Anonymous, ScopeMissing::Reject) => false,
        (ScopeMissing::Reject, _) | (ScopeMissing::Anonymous, ScopeMissing::Anonymous) => true,
    };
    differences(made, previous).is_empty() && finds_anonymous
}

/// For how long a record can last that was claimed in the last moment before the configuration came.
fn kept_for(policy: &Policy) -> Duration {
    // No forward goes on for longer than this without being extended.
    const FORWARD_MAX: Duration = Duration::from_hours(1);
    policy.claim_keep_for(FORWARD_MAX)
}

/// What keeps `next` from finding a record that was made by `made`.
fn differences(made: &Policy, next: &Policy) -> Vec<&'static str> {
    // A further place to look for a key changes no key that was found before. The form and the length of a key
    // only say which are refused.
    let is_found = made.key_from.iter().all(|source| next.key_from.contains(source));
    [
        ("key_from", is_found),
        ("scope", made.scope == next.scope),
        ("fingerprint_headers", made.fingerprint_headers == next.fingerprint_headers),
        ("fingerprint_body", made.fingerprint_body == next.fingerprint_body),
    ]
    .into_iter()
    .filter(|(_, is_same)| !is_same)
    .map(|(name, _)| name)
    .collect()
}

/// One of each: several paths tell the same.
fn dedup(found: Vec<Loss>) -> Vec<Loss> {
    let mut told: Vec<Loss> = Vec::new();
    for loss in found {
        if !told.contains(&loss) {
            told.push(loss);
        }
    }
    told
}

fn is_folded(route: &Route) -> bool {
    route.path_case == PathCase::Insensitive
}

#[cfg(test)]
mod tests;
