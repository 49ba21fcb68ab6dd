//! Where the record of a key stands that somebody tells us, without a request: for operators.
//!
//! The key and what tells its caller apart are read by the same functions as those of a request (`admit.rs`), so that
//! both come to the same place. Must not know who asks, nor what is done with the answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::admit;
use super::caller::{Caller, CallersName};
use super::entrance::Settings;
use crate::config::Route;
use crate::protocol::key::InvalidKey;
use crate::protocol::policy::{KeyMode, Policy, ScopeMissing, ScopeSource};
use crate::protocol::scope::StorageKey;

/// A key that a caller has used, and what told the caller apart. Holds secrets.
pub struct KnownKey<'a> {
    /// As the caller sent it, in either form.
    pub key: &'a str,
    /// The route's path pattern; `None`: the only route that guards anything.
    pub route: Option<&'a str>,
    /// The host that the route is narrowed to.
    pub host: Option<&'a str>,
    /// Values by their source, such as `header:authorization`, in the order of the request.
    pub scope: &'a [(String, Vec<String>)],
    /// Reads a certificate as callers are told apart by it.
    pub read_certificate: fn(&str) -> Option<CallersName>,
}

/// Where a record would stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The storage key.
    pub key: StorageKey,
    /// Whether it is made as the route made keys before.
    pub is_previous: bool,
}

/// Why it cannot be told where. Holds neither key nor credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlocated {
    /// No route, or none of this path and host, guards anything.
    #[error("no route with it guards anything")]
    NoRoute,
    /// Several routes are meant.
    #[error("several routes could be meant: say which")]
    SeveralRoutes,
    /// No request with this key was ever taken.
    #[error("the route takes no such key: {0}")]
    Key(#[source] InvalidKey),
    /// The route does not look at this.
    #[error("the route does not tell callers apart by one of its members")]
    NotInScope,
    /// The route refuses requests without it.
    #[error("{0} is missing, and the route refuses requests without it")]
    ScopeMissing(String),
    /// No request carries this.
    #[error("{0} has a value that no request could carry")]
    Unreadable(String),
}

/// Tells where the record of a key stands, and where it stood before keys were made as they are now. A key that could
/// have stood on a request in two forms has a place for each.
pub fn locate(settings: &Settings, known: &KnownKey<'_>) -> Result<Vec<Located>, Unlocated> {
    let policy = &route(settings, known)?.policy;
    let (fields, caller) = as_on_a_request(known, policy)?;
    let mut located: Vec<Located> = Vec::new();
    let previous = policy.previous.as_deref();
    for (policy, is_previous) in [(Some(policy), false), (previous, true)] {
        let Some(policy) = policy else { continue };
        if let Some(missing) = missing_in(policy, &fields, &caller) {
            // What would have been refused before has no record from then.
            if is_previous {
                continue;
            }
            return Err(Unlocated::ScopeMissing(missing));
        }
        let keys = match admit::told_keys(policy, known.key) {
            Ok(keys) => keys,
            Err(_) if is_previous => continue,
            Err(error) => return Err(Unlocated::Key(error)),
        };
        for key in keys {
            let (hash_key, namespace) = (&settings.hash_key, &settings.namespace);
            let key = admit::storage_key(hash_key, namespace, policy, &fields, &caller, &key);
            if located.iter().all(|known| known.key != key) {
                located.push(Located { key, is_previous });
            }
        }
    }
    Ok(located)
}

fn route<'s>(settings: &'s Settings, known: &KnownKey<'_>) -> Result<&'s Route, Unlocated> {
    let routes = settings.routes.iter().map(|route| &**route).filter(|route| {
        route.policy.key != KeyMode::Off && known.route.is_none_or(|path| route.path == path)
    });
    let mut found: Vec<&Route> = routes.collect();
    if let Some(host) = known.host {
        let is_of_host =
            |route: &&Route| route.host.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(host));
        // As a request finds its route: where none is narrowed to the host, one of any host takes it.
        let wanted = found.iter().any(is_of_host);
        found.retain(|route| if wanted { is_of_host(route) } else { route.host.is_none() });
    }
    match found.as_slice() {
        [] => Err(Unlocated::NoRoute),
        [route] => Ok(route),
        [_, _, ..] => Err(Unlocated::SeveralRoutes),
    }
}

/// What told the caller apart, as it stood on its requests.
fn as_on_a_request(known: &KnownKey<'_>, policy: &Policy) -> Result<(HeaderMap, Caller), Unlocated> {
    let (mut fields, mut caller) = (HeaderMap::new(), Caller::at(([127, 0, 0, 1], 0).into()));
    for (source, values) in known.scope {
        let is_looked_at =
            |policy: &Policy| policy.scope.iter().any(|part| admit::source_of(part) == *source);
        if !is_looked_at(policy) && !policy.previous.as_deref().is_some_and(is_looked_at) {
            return Err(Unlocated::NotInScope);
        }
        let unreadable = || Unlocated::Unreadable(source.clone());
        match source.strip_prefix("header:") {
            Some(name) => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_not_one| unreadable())?;
                for value in values {
                    // RFC 9110 §5.5: white space around it is no part of it.
                    let value = value.trim_matches([' ', '\t']);
                    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_not_one| unreadable())?;
                    fields.append(name.clone(), value);
                }
            }
            None => match values.as_slice() {
                [] => {}
                [value] => {
                    caller.certificate = Some((known.read_certificate)(value).ok_or_else(unreadable)?);
                }
                [_, ..] => return Err(unreadable()),
            },
        }
    }
    Ok((fields, caller))
}

/// The part of the scope for want of which a request would have been refused.
fn missing_in(policy: &Policy, fields: &HeaderMap, caller: &Caller) -> Option<String> {
    let is_missing = |part: &&ScopeSource| match part {
        ScopeSource::Header(name) => !fields.contains_key(name),
        ScopeSource::ClientCertificate => caller.certificate.is_none(),
    };
    let missing = policy.scope.iter().find(is_missing)?;
    (policy.scope_missing == ScopeMissing::Reject).then(|| admit::source_of(missing))
}
