//! What a request says about itself before anything is claimed: its key, its caller, its fingerprint.
//!
//! Pure over fields and bytes. Must not know stores or upstreams. Read `route.rs` before, `guard.rs` after.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{self, HeaderName};
use http::request::Parts;

use super::body::WholeBody;
use super::caller::Caller;
use super::canonical::canonical_json;
use super::headers::{ends_here, is_named_in_connection};
use super::respond::Rejection;
use crate::protocol::fingerprint::{Covered, CoveredBody, Fingerprint};
use crate::protocol::key::{IdempotencyKey, InvalidKey, KeyRules};
use crate::protocol::policy::{FingerprintBody, KeyMode, KeySource, Policy, ScopeMissing, ScopeSource};
use crate::protocol::scope::{HashKey, ScopePart, ScopeTag, StorageKey};

/// What the head of a request says about its key.
#[derive(Debug)]
pub(super) enum Admission {
    /// There is none, and none is wanted.
    Unkeyed,
    /// This one, if the body does not disagree.
    Keyed(IdempotencyKey),
    /// Only the body can tell.
    InBody,
}

/// The same by the route as it is, and as it was before its keys were made in this way.
#[derive(Debug)]
pub(super) struct Admissions {
    now: Admission,
    earlier: Admission,
}

/// The key of a request, as it is found now, as it was found by a policy from before, or both.
#[derive(Debug)]
pub(super) enum Keys<'p> {
    Now(IdempotencyKey),
    Both(IdempotencyKey, &'p Policy, IdempotencyKey),
    Earlier(&'p Policy, IdempotencyKey),
}

impl Admissions {
    /// Whether there is no key, and none is wanted.
    pub(super) fn are_unkeyed(&self) -> bool {
        matches!((&self.now, &self.earlier), (Admission::Unkeyed, Admission::Unkeyed))
    }
}

/// Looks for the key and the caller in the head of a request, in both ways where there are two.
///
/// What would have been refused before has no record from then.
pub(super) fn admit_both(
    policy: &Policy,
    fields: &HeaderMap,
    caller: &Caller,
) -> Result<Admissions, Rejection> {
    let earlier = policy.previous.as_deref().and_then(|previous| admit(previous, fields, caller).ok());
    let earlier = earlier.unwrap_or(Admission::Unkeyed);
    let now = match admit(policy, fields, caller) {
        // The key may stand where it stood before.
        Err(Rejection::KeyMissing) if !matches!(earlier, Admission::Unkeyed) => Admission::Unkeyed,
        admitted => admitted?,
    };
    Ok(Admissions { now, earlier })
}

/// The keys of a request whose body is at hand; `None` when it carries none and none is wanted.
pub(super) fn keys_with_body<'p>(
    policy: &'p Policy,
    admissions: Admissions,
    body: &[u8],
) -> Result<Option<Keys<'p>>, Rejection> {
    let earlier = policy.previous.as_deref().and_then(|previous| {
        let key = key_with_body(previous, admissions.earlier, body).ok().flatten();
        key.map(|key| (previous, key))
    });
    match (key_with_body(policy, admissions.now, body), earlier) {
        (Ok(Some(now)), Some((previous, earlier))) => Ok(Some(Keys::Both(now, previous, earlier))),
        (Ok(Some(now)), None) => Ok(Some(Keys::Now(now))),
        (Ok(None) | Err(Rejection::KeyMissing), Some((previous, key))) => {
            Ok(Some(Keys::Earlier(previous, key)))
        }
        (Ok(None), None) => unkeyed(policy).map(|_| None),
        (Err(rejection), _) => Err(rejection),
    }
}

/// Looks for the key and the caller in the head of a request. The body has not been touched.
pub(super) fn admit(policy: &Policy, fields: &HeaderMap, caller: &Caller) -> Result<Admission, Rejection> {
    let admission = key_in_head(policy, fields)?;
    if !matches!(admission, Admission::Unkeyed) {
        identify(policy, fields, caller)?;
    }
    Ok(admission)
}

fn key_in_head(policy: &Policy, fields: &HeaderMap) -> Result<Admission, Rejection> {
    let mut found: Option<IdempotencyKey> = None;
    for source in &policy.key_from {
        let KeySource::Header(name) = source else { continue };
        if let Some(key) = key_in_header(policy, fields, name)? {
            found = Some(agreed(found, key)?);
        }
    }
    match found {
        Some(key) => Ok(Admission::Keyed(key)),
        None if pointers(policy).next().is_some() => Ok(Admission::InBody),
        None => unkeyed(policy),
    }
}

/// The key of a request whose body is at hand; `None` when it carries none and none is wanted.
pub(super) fn key_with_body(
    policy: &Policy,
    admission: Admission,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, Rejection> {
    let mut found = match admission {
        Admission::Unkeyed => return Ok(None),
        Admission::Keyed(key) => Some(key),
        Admission::InBody => None,
    };
    if pointers(policy).next().is_some()
        && let Ok(document) = serde_json::from_slice::<serde_json::Value>(body)
    {
        for pointer in pointers(policy) {
            let text = match document.pointer(pointer) {
                None | Some(serde_json::Value::Null) => continue,
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(serde_json::Value::Number(number)) => number.to_string(),
                Some(
                    serde_json::Value::Bool(_) | serde_json::Value::Array(_) | serde_json::Value::Object(_),
                ) => {
                    return Err(Rejection::KeyInvalid(format!(
                        "the key at {pointer} is no string or number"
                    )));
                }
            };
            let key = IdempotencyKey::from_text(&text, rules(policy)).map_err(|e| invalid(&e))?;
            found = Some(agreed(found, key)?);
        }
    }
    match found {
        Some(key) => Ok(Some(key)),
        None => unkeyed(policy).map(|_| None),
    }
}

/// Checks that the request says who is asking, where the route wants to know.
fn identify(policy: &Policy, fields: &HeaderMap, caller: &Caller) -> Result<(), Rejection> {
    let wants_all = policy.scope_missing == ScopeMissing::Reject;
    for source in &policy.scope {
        let missing = match source {
            // RFC 9110 §7.6.1: what Connection names ends here. The upstream would see another caller, or none.
            ScopeSource::Header(name) if ends_here(fields, name) => {
                format!("a {name} header that Connection does not name")
            }
            ScopeSource::Header(name) if wants_all && !fields.contains_key(name) => {
                format!("the {name} header")
            }
            ScopeSource::ClientCertificate if wants_all && caller.certificate.is_none() => {
                "the client certificate".to_owned()
            }
            ScopeSource::Header(_) | ScopeSource::ClientCertificate => continue,
        };
        return Err(Rejection::ScopeMissing(missing));
    }
    Ok(())
}

/// Where the record of this caller's key stands.
pub(super) fn storage_key(
    hash_key: &HashKey,
    namespace: &str,
    policy: &Policy,
    fields: &HeaderMap,
    caller: &Caller,
    key: &IdempotencyKey,
) -> StorageKey {
    let parts = scope_of(policy, fields, caller);
    hash_key.storage_key(namespace, &as_parts(&parts), key)
}

/// What stands for this caller alone, without a key.
pub(super) fn scope_tag(
    hash_key: &HashKey,
    namespace: &str,
    policy: &Policy,
    fields: &HeaderMap,
    caller: &Caller,
) -> ScopeTag {
    let parts = scope_of(policy, fields, caller);
    hash_key.scope_tag(namespace, &as_parts(&parts))
}

/// What tells this caller apart: each part of the scope by its source, with every value.
fn scope_of<'a>(policy: &Policy, fields: &'a HeaderMap, caller: &'a Caller) -> Vec<(String, Vec<&'a [u8]>)> {
    let values_of = |source: &ScopeSource| match source {
        ScopeSource::Header(name) => values(fields, name),
        ScopeSource::ClientCertificate => caller.certificate.iter().map(|name| &*name.0).collect(),
    };
    policy.scope.iter().map(|source| (source_of(source), values_of(source))).collect()
}

fn as_parts<'a>(parts: &'a [(String, Vec<&'a [u8]>)]) -> Vec<ScopePart<'a>> {
    parts.iter().map(|(source, values)| ScopePart { source, values }).collect()
}

/// A part of a scope as the configuration writes it. It stands in every storage key.
pub fn source_of(source: &ScopeSource) -> String {
    match source {
        ScopeSource::Header(name) => format!("header:{name}"),
        ScopeSource::ClientCertificate => "client-cert".to_owned(),
    }
}

/// The keys that a text could be on a request: as it is read in a field, where one is looked at, and as it is read in
/// a body. They differ where the text is quoted, say.
///
/// Errors: it could be none.
pub(super) fn told_keys(policy: &Policy, text: &str) -> Result<Vec<IdempotencyKey>, InvalidKey> {
    let reads = |source: &KeySource| match source {
        KeySource::Header(_) => IdempotencyKey::from_field(text.as_bytes(), rules(policy)),
        KeySource::Json(_) => IdempotencyKey::from_text(text, rules(policy)),
    };
    let (mut keys, mut refused): (Vec<IdempotencyKey>, _) = (Vec::new(), None);
    for read in policy.key_from.iter().map(reads) {
        match read {
            Ok(key) if !keys.contains(&key) => keys.push(key),
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if keys.is_empty() => Err(error),
        Some(_) | None => Ok(keys),
    }
}

/// The fingerprint of a request.
pub(super) fn fingerprint(
    hash_key: &HashKey,
    policy: &Policy,
    parts: &Parts,
    body: &WholeBody,
) -> Fingerprint {
    let chosen: Vec<(&str, Vec<&[u8]>)> =
        policy.fingerprint_headers.iter().map(|name| (name.as_str(), values(&parts.headers, name))).collect();
    let canonical = match policy.fingerprint_body {
        FingerprintBody::Json => canonical_json(&body.data),
        FingerprintBody::Bytes | FingerprintBody::Off => None,
    };
    let covered_body = match (policy.fingerprint_body, &canonical) {
        (FingerprintBody::Off, _) => CoveredBody::Off,
        (FingerprintBody::Json, Some(canonical)) => CoveredBody::CanonicalJson(canonical),
        (FingerprintBody::Json, None) | (FingerprintBody::Bytes, _) => CoveredBody::Bytes(&body.data),
    };
    Fingerprint::of(
        hash_key,
        &Covered {
            method: parts.method.as_str(),
            path: parts.uri.path().as_bytes(),
            query: parts.uri.query().map(str::as_bytes),
            content_type: content_type(&parts.headers).as_deref(),
            headers: &chosen,
            body: covered_body,
        },
    )
}

/// RFC 9110 §5.3: lines of one name are one list. Servers differ in which of several they go by.
fn content_type(fields: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut lines = fields.get_all(header::CONTENT_TYPE).iter().map(http::HeaderValue::as_bytes);
    let first = lines.next()?;
    let join = |all: Cow<'_, [u8]>, line: &[u8]| Cow::Owned([&all, &b", "[..], line].concat());
    Some(lines.fold(Cow::Borrowed(first), join))
}

fn key_in_header(
    policy: &Policy,
    fields: &HeaderMap,
    name: &str,
) -> Result<Option<IdempotencyKey>, Rejection> {
    let mut lines = fields.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(Rejection::KeyInvalid(format!("{name} stands in more than one field line")));
    }
    if is_named_in_connection(fields, name) {
        return Err(Rejection::KeyInvalid(format!("{name} is named in Connection, so it may not travel on")));
    }
    IdempotencyKey::from_field(line.as_bytes(), rules(policy)).map(Some).map_err(|e| invalid(&e))
}

fn agreed(found: Option<IdempotencyKey>, another: IdempotencyKey) -> Result<IdempotencyKey, Rejection> {
    match found {
        Some(found) if found != another => {
            Err(Rejection::KeyInvalid("the places where a key may stand hold different keys".into()))
        }
        Some(_) | None => Ok(another),
    }
}

fn unkeyed(policy: &Policy) -> Result<Admission, Rejection> {
    match policy.key {
        KeyMode::Required => Err(Rejection::KeyMissing),
        KeyMode::Optional | KeyMode::Off => Ok(Admission::Unkeyed),
    }
}

fn pointers(policy: &Policy) -> impl Iterator<Item = &str> {
    policy.key_from.iter().filter_map(|source| match source {
        KeySource::Json(pointer) => Some(pointer.as_str()),
        KeySource::Header(_) => None,
    })
}

fn rules(policy: &Policy) -> KeyRules {
    KeyRules { format: policy.key_format, max_length: policy.key_max_length }
}

fn invalid(error: &InvalidKey) -> Rejection {
    Rejection::KeyInvalid(error.to_string())
}

fn values<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => fields.get_all(name).iter().map(http::HeaderValue::as_bytes).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::caller::CallersName;
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        fields
    }

    fn two_sources() -> Policy {
        Policy {
            key_from: vec![
                KeySource::Header("idempotency-key".into()),
                KeySource::Header("x-delivery".into()),
                KeySource::Json("/event/id".into()),
            ],
            ..Policy::default()
        }
    }

    fn admit(policy: &Policy, fields: &HeaderMap) -> Result<Admission, Rejection> {
        super::admit(policy, fields, &Caller::at(([127, 0, 0, 1], 9).into()))
    }

    fn key(fields: &HeaderMap, policy: &Policy, body: &str) -> Result<Option<Vec<u8>>, Rejection> {
        let admission = admit(policy, fields)?;
        Ok(key_with_body(policy, admission, body.as_bytes())?.map(|key| key.as_bytes().to_vec()))
    }

    #[test]
    fn a_key_given_twice_or_named_in_connection_is_refused() {
        let policy = Policy::default();
        for lines in [
            fields(&[("idempotency-key", "a"), ("idempotency-key", "a")]),
            fields(&[("idempotency-key", "a"), ("connection", "close, Idempotency-Key")]),
        ] {
            assert!(matches!(admit(&policy, &lines), Err(Rejection::KeyInvalid(_))), "{lines:?}");
        }
    }

    #[test]
    fn sources_that_agree_are_one_key_and_others_are_refused() {
        let policy = two_sources();
        let both = fields(&[("idempotency-key", "\"e1\""), ("x-delivery", "e1")]);
        assert_eq!(key(&both, &policy, r#"{"event":{"id":"e1"}}"#), Ok(Some(b"e1".to_vec())));
        assert!(matches!(key(&both, &policy, r#"{"event":{"id":"e2"}}"#), Err(Rejection::KeyInvalid(_))));
        let disagreeing = fields(&[("idempotency-key", "a"), ("x-delivery", "b")]);
        assert!(matches!(admit(&policy, &disagreeing), Err(Rejection::KeyInvalid(_))));
    }

    #[test]
    fn a_key_in_the_body_may_be_a_string_or_a_number() {
        let policy = two_sources();
        let none = HeaderMap::new();
        assert_eq!(key(&none, &policy, r#"{"event":{"id":"e1"}}"#), Ok(Some(b"e1".to_vec())));
        let large = "123456789012345678901234567890";
        assert_eq!(
            key(&none, &policy, &format!(r#"{{"event":{{"id":{large}}}}}"#)),
            Ok(Some(large.as_bytes().to_vec()))
        );
        assert!(matches!(key(&none, &policy, r#"{"event":{"id":[]}}"#), Err(Rejection::KeyInvalid(_))));
        assert_eq!(key(&none, &policy, "not json"), Ok(None));
    }

    #[test]
    fn no_key_is_a_rejection_only_where_one_is_required() {
        let required = Policy { key: KeyMode::Required, ..Policy::default() };
        assert!(matches!(admit(&required, &HeaderMap::new()), Err(Rejection::KeyMissing)));
        assert!(matches!(admit(&Policy::default(), &HeaderMap::new()), Ok(Admission::Unkeyed)));
    }

    #[test]
    fn a_certificate_separates_callers_and_one_without_is_anonymous_or_refused() {
        let of = |name: Option<&[u8]>| Caller {
            certificate: name.map(|name| CallersName(name.into())),
            ..Caller::at(([127, 0, 0, 1], 9).into())
        };
        let policy = Policy { scope: vec![ScopeSource::ClientCertificate], ..Policy::default() };
        let strict = Policy { scope_missing: ScopeMissing::Reject, ..policy.clone() };
        let (hash_key, lines) = (HashKey::new(None), fields(&[("idempotency-key", "k")]));
        let key = IdempotencyKey::from_text("k", rules(&policy)).unwrap();
        let stands_at = |caller: &Caller| storage_key(&hash_key, "onceway", &policy, &lines, caller, &key);
        assert_eq!(stands_at(&of(Some(b"ann"))), stands_at(&of(Some(b"ann"))));
        assert_ne!(stands_at(&of(Some(b"ann"))), stands_at(&of(Some(b"bob"))));
        assert_ne!(stands_at(&of(Some(b""))), stands_at(&of(None)));
        assert!(super::admit(&strict, &lines, &of(Some(b"ann"))).is_ok());
        assert!(matches!(super::admit(&strict, &lines, &of(None)), Err(Rejection::ScopeMissing(_))));
    }

    fn fingerprint_of(fields: &HeaderMap) -> Fingerprint {
        let mut request = http::Request::new(());
        *request.headers_mut() = fields.clone();
        let body = WholeBody { data: bytes::Bytes::from_static(b"{}"), trailers: None, _room: None };
        fingerprint(&HashKey::new(None), &Policy::default(), &request.into_parts().0, &body)
    }

    #[test]
    fn every_line_of_content_type_is_in_the_fingerprint() {
        let one = fields(&[("content-type", "application/json")]);
        let two = |second| fields(&[("content-type", "application/json"), ("content-type", second)]);
        let fingerprints =
            [fingerprint_of(&one), fingerprint_of(&two("text/plain")), fingerprint_of(&two("text/xml"))];
        assert!(fingerprints[0] != fingerprints[1] && fingerprints[1] != fingerprints[2]);
    }

    proptest! {
        #[test]
        fn what_changes_between_two_tries_of_one_intent_leaves_the_fingerprint_as_it_is(
            name in prop::sample::select(vec![
                "authorization", "cookie", "date", "idempotency-key", "tracestate", "traceparent", "user-agent",
                "x-request-id",
            ]),
            value in "[ -~]{0,20}",
        ) {
            let mut lines = fields(&[("content-type", "application/json")]);
            let before = fingerprint_of(&lines);
            lines.append(name, value.parse().unwrap());
            prop_assert_eq!(fingerprint_of(&lines), before);
        }
    }
}
