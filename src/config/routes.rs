//! Turns `[policy]` and `[[routes]]` into routes, each with its whole policy.

use toml::Spanned;
use toml::de::DeValue;

use crate::protocol::policy::{Policy, ScopeSource};

use super::keys;
use super::pattern::{self, Taken};
use super::previous::{self, Previous};
use super::problem::{Unfit, Wrong};
use super::section::{Findings, Section, nearest};
use super::upstream::Named;
use super::{PathCase, Route, defaults, terms};

/// What routes inherit.
struct Base {
    policy: Policy,
    previous: Option<Previous>,
    /// Whether the listener asks callers for certificates.
    asks_callers: bool,
}

/// Resolves every route. The result is whole only if no problem was pushed.
pub(super) fn routes(
    find: &mut Findings<'_>,
    root: &Section<'_>,
    policy: Option<&Section<'_>>,
    upstreams: &[Named],
    asks_callers: bool,
) -> Vec<Route> {
    const NAME: &str = "routes";
    let base = Base {
        policy: policy.map_or_else(Policy::default, |section| overlay(find, section, Policy::default())),
        previous: policy.and_then(|section| previous::previous(find, section)),
        asks_callers,
    };
    if let Some(section) = policy {
        check_scope(find, section, &base.policy, asks_callers);
    }
    let Some(value) = root.value(NAME) else { return Vec::new() };
    let Some(array) = value.get_ref().as_array() else {
        root.refuse(find, NAME, Unfit::Expected("an array of tables: [[routes]]".to_owned()));
        return Vec::new();
    };
    let mut taken = Taken::default();
    let mut routes = Vec::with_capacity(array.len());
    for (at, value) in array.iter().enumerate() {
        routes.extend(route(find, value, format!("{NAME}[{at}]"), &base, upstreams, &mut taken));
    }
    routes
}

fn route<'t>(
    find: &mut Findings<'_>,
    value: &'t Spanned<DeValue<'t>>,
    path: String,
    base: &Base,
    upstreams: &[Named],
    taken: &mut Taken,
) -> Option<Route> {
    let section = Section::open(find, value, path, [&keys::ROUTE, &keys::POLICY])?;
    let mut policy = overlay(find, &section, base.policy.clone());
    check_scope(find, &section, &policy, base.asks_callers);
    let previous = previous::previous(find, &section).or_else(|| base.previous.clone());
    policy.previous = previous.and_then(|previous| previous.of(&policy));
    let host = section.text(find, "host", pattern::host);
    let is_host_sound = host.is_some() || section.value("host").is_none();
    let path_case = section.word(find, "path_case").unwrap_or(PathCase::Sensitive);
    let upstream = upstream_of(find, &section, upstreams);
    let path = section.text(find, "path", pattern::path);
    section.missing(find, "path");
    let path = path?;
    let place = section.place_of(find, "path");
    if is_host_sound && let Some(first) = taken.take(host.as_deref(), &path, path_case, place) {
        let wrong = Wrong::Repeated { found: format!("the path {path:?}"), first };
        find.push(place, section.path_of("path"), wrong);
    }
    Some(Route { path, host, upstream: upstream?, path_case, policy })
}

/// Where nobody is asked for a certificate, a scope of certificates would be one space for all.
fn check_scope(find: &mut Findings<'_>, section: &Section<'_>, policy: &Policy, asks_callers: bool) {
    const NAME: &str = "scope";
    let is_by_certificate = policy.scope.contains(&ScopeSource::ClientCertificate);
    if section.value(NAME).is_some() && is_by_certificate && !asks_callers {
        let reason = "\"client-cert\" needs callers that are asked for certificates".to_owned();
        let expected = "server.tls_client_ca_file beside it, or another scope".to_owned();
        section.refuse(find, NAME, Unfit::Refused { reason, expected });
    }
}

/// The upstream a route leads to, as its index.
fn upstream_of(find: &mut Findings<'_>, section: &Section<'_>, upstreams: &[Named]) -> Option<usize> {
    const NAME: &str = "upstream";
    let index_of = |name: &str| upstreams.iter().position(|known| known.name == name);
    if section.value(NAME).is_some() {
        return section.text(find, NAME, |name| {
            index_of(name).ok_or_else(|| {
                let hint = match nearest(name, upstreams.iter().map(|known| known.name.as_str())) {
                    Some(near) => format!(", did you mean \"{near}\"?"),
                    None => String::new(),
                };
                Unfit::Expected(format!("the name of an upstream of this file{hint}"))
            })
        });
    }
    let index = index_of(defaults::DEFAULT_UPSTREAM);
    // Without any upstream there is one problem to tell, not one per route.
    if index.is_none() && !upstreams.is_empty() {
        let wanted = "the name of an upstream, since there is no [upstreams.default]";
        find.push(section.place(), section.path_of(NAME), Wrong::Missing(wanted.to_owned()));
    }
    index
}

/// Puts what a table says over a policy. One key of the table is one line here.
fn overlay(find: &mut Findings<'_>, section: &Section<'_>, base: Policy) -> Policy {
    let methods = section.texts(find, "methods", terms::method);
    let key_from = section.texts(find, "key_from", terms::key_source);
    for (name, is_empty, wanted) in [
        (
            "methods",
            methods.as_ref().is_some_and(Vec::is_empty),
            "at least one method such as \"POST\", or key = \"off\"",
        ),
        (
            "key_from",
            key_from.as_ref().is_some_and(Vec::is_empty),
            "at least one source such as \"header:Idempotency-Key\", or key = \"off\"",
        ),
    ] {
        if is_empty {
            section.refuse(find, name, Unfit::Expected(wanted.to_owned()));
        }
    }
    let length = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    Policy {
        methods: methods.unwrap_or(base.methods),
        key: section.word(find, "key").unwrap_or(base.key),
        key_from: key_from.unwrap_or(base.key_from),
        key_format: section.word(find, "key_format").unwrap_or(base.key_format),
        key_max_length: section.count(find, "key_max_length").map_or(base.key_max_length, length),
        scope: section.texts(find, "scope", terms::scope_source).unwrap_or(base.scope),
        scope_missing: section.word(find, "scope_missing").unwrap_or(base.scope_missing),
        fingerprint_headers: section
            .texts(find, "fingerprint_headers", terms::fingerprint_header)
            .unwrap_or(base.fingerprint_headers),
        fingerprint_body: section.word(find, "fingerprint_body").unwrap_or(base.fingerprint_body),
        ttl: section.duration(find, "ttl").unwrap_or(base.ttl),
        unknown_ttl: section.duration(find, "unknown_ttl").unwrap_or(base.unknown_ttl),
        in_flight: section.word(find, "in_flight").unwrap_or(base.in_flight),
        wait_timeout: section.duration(find, "wait_timeout").unwrap_or(base.wait_timeout),
        on_unknown: section.word(find, "on_unknown").unwrap_or(base.on_unknown),
        on_store_error: section.word(find, "on_store_error").unwrap_or(base.on_store_error),
        on_5xx: section.word(find, "on_5xx").unwrap_or(base.on_5xx),
        release_statuses: section.error_statuses(find, "release_statuses").unwrap_or(base.release_statuses),
        request_body_max: section.size(find, "request_body_max").unwrap_or(base.request_body_max),
        response_body_max: section.size(find, "response_body_max").unwrap_or(base.response_body_max),
        replay_exclude_headers: section
            .texts(find, "replay_exclude_headers", terms::header)
            .unwrap_or(base.replay_exclude_headers),
        late_answer_window: section.duration(find, "late_answer_window").unwrap_or(base.late_answer_window),
        commit_timeout: section.duration(find, "commit_timeout").unwrap_or(base.commit_timeout),
        in_flight_per_scope_max: section
            .count(find, "in_flight_per_scope_max")
            .map_or(base.in_flight_per_scope_max, length),
        claims_per_scope_max: section
            .count(find, "claims_per_scope_max")
            .map_or(base.claims_per_scope_max, length),
        claims_window: section.duration(find, "claims_window").unwrap_or(base.claims_window),
        mode: section.word(find, "mode").unwrap_or(base.mode),
        mismatch_status: section.status(find, "mismatch_status").unwrap_or(base.mismatch_status),
        in_flight_status: section.status(find, "in_flight_status").unwrap_or(base.in_flight_status),
        replay_header: section
            .text(find, "replay_header", terms::replay_header)
            .unwrap_or(base.replay_header),
        previous: None,
    }
}
