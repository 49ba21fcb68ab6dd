//! Which fields travel on, and which are made anew at each hop.
//!
//! Must not know keys or records beyond a saved head as plain data.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Version};

use crate::config::Forwarded;
use crate::protocol::saved::{FieldLines, SavedHead};

/// The name by which this gateway signs in `Via` and `Proxy-Status`.
pub(super) const PSEUDONYM: &str = "onceway";

/// Says what became of a request.
pub(super) const IDEMPOTENCY_STATUS: HeaderName = HeaderName::from_static("idempotency-status");

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who asked, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    pub(super) address: IpAddr,
    pub(super) host: Option<&'a HeaderValue>,
    pub(super) forwarded: Forwarded,
}

/// The fields of a request as they go to the upstream.
///
/// RFC 9110 §7.6.1: hop-by-hop fields and those that `Connection` names end here. §7.6.3: `Via` is added.
pub(super) fn to_upstream(fields: &HeaderMap, peer: &Peer<'_>, version: Version) -> HeaderMap {
    // The gateway has answered the expectation itself (RFC 9110 §10.1.1).
    let mut kept = end_to_end(fields, &[header::EXPECT]);
    if accepts_trailers(fields) {
        kept.insert(header::TE, HeaderValue::from_static("trailers"));
        kept.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    kept.append(header::VIA, via(version));
    if peer.forwarded == Forwarded::Replace {
        for name in [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, header::FORWARDED] {
            kept.remove(name);
        }
    }
    append_to_list(&mut kept, X_FORWARDED_FOR, &peer.address.to_canonical().to_string());
    kept.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(host) = peer.host {
        kept.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    kept
}

/// The fields of an answer as they go to the caller, streamed or not.
pub(super) fn to_caller(fields: &HeaderMap, version: Version) -> HeaderMap {
    let mut kept = end_to_end(fields, &[IDEMPOTENCY_STATUS]);
    kept.append(header::VIA, via(version));
    kept
}

/// The head of an answer as it is kept: end-to-end fields in order, without the framing, which is made
/// anew at every delivery.
///
/// RFC 9110 §6.6.1: an answer without `Date` gets the time of its receipt, so that the first answer and its
/// replays carry the same one.
pub(super) fn saved_head<B>(response: &Response<B>, received: std::time::SystemTime) -> SavedHead {
    let mut fields = end_to_end(response.headers(), &[IDEMPOTENCY_STATUS, header::CONTENT_LENGTH]);
    fields.append(header::VIA, via(response.version()));
    let mut headers = field_lines(&fields);
    if !fields.contains_key(header::DATE) {
        headers.push((header::DATE.as_str().to_owned(), httpdate::fmt_http_date(received).into()));
    }
    SavedHead { status: response.status().as_u16(), headers }
}

/// Fields as plain data.
pub(super) fn field_lines(fields: &HeaderMap) -> FieldLines {
    let owned = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), bytes::Bytes::copy_from_slice(value.as_bytes()))
    };
    fields.iter().map(owned).collect()
}

/// Plain data as fields. A line that is no field, from a damaged record say, is left out.
pub(super) fn fields(lines: &FieldLines) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(lines.len() + 8);
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_maybe_shared(value.clone()))
        {
            fields.append(name, value);
        }
    }
    fields
}

/// Trailers as they travel on: what must not stand in a trailer is dropped (RFC 9110 §6.5.1).
pub(super) fn trailers(fields: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(fields, &[]);
    for name in [
        header::CONTENT_LENGTH,
        header::HOST,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::TRAILER,
        IDEMPOTENCY_STATUS,
    ] {
        kept.remove(name);
    }
    kept
}

/// The last one asked when a request may go no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastHop {
    Options,
    Trace,
}

/// RFC 9110 §7.6.2: counts this hop of an OPTIONS or TRACE request that counts them, and answers whether it
/// is the last. A count that is none is left alone.
pub(super) fn count_hop<B>(request: &mut Request<B>) -> Option<LastHop> {
    let last = match *request.method() {
        Method::OPTIONS => LastHop::Options,
        Method::TRACE => LastHop::Trace,
        _ => return None,
    };
    let count = request.headers().get(header::MAX_FORWARDS)?.to_str().ok()?.parse::<u64>().ok()?;
    match count.checked_sub(1) {
        None => Some(last),
        Some(left) => {
            request.headers_mut().insert(header::MAX_FORWARDS, HeaderValue::from(left));
            None
        }
    }
}

/// Whether `Connection` names `field`.
pub(super) fn is_named_in_connection(fields: &HeaderMap, field: &str) -> bool {
    connection_options(fields).any(|option| option.eq_ignore_ascii_case(field))
}

/// The protocol asked for by an upgrade, if there is one.
pub(super) fn upgrade_of(fields: &HeaderMap) -> Option<&HeaderValue> {
    is_named_in_connection(fields, "upgrade").then(|| fields.get(header::UPGRADE)).flatten()
}

/// The fields that go on beyond this hop, in order, without those `dropped`.
fn end_to_end(fields: &HeaderMap, dropped: &[HeaderName]) -> HeaderMap {
    let named: Vec<&str> = connection_options(fields).collect();
    let mut kept = HeaderMap::with_capacity(fields.len() + 8);
    for (name, value) in fields {
        let is_named =
            || !is_framing(name) && named.iter().any(|option| option.eq_ignore_ascii_case(name.as_str()));
        if !is_hop_by_hop(name) && !dropped.contains(name) && !is_named() {
            kept.append(name, value.clone());
        }
    }
    kept
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields without which a message is another one, whatever `Connection` says of them.
fn is_framing(name: &HeaderName) -> bool {
    matches!(name, &header::HOST | &header::CONTENT_LENGTH)
}

/// The options of all `Connection` lines. `close` and `keep-alive` are among them and name no field that
/// matters.
fn connection_options(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = fields.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|option| !option.is_empty())
}

fn accepts_trailers(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

fn via(version: Version) -> HeaderValue {
    if version == Version::HTTP_10 {
        HeaderValue::from_static("1.0 onceway")
    } else {
        HeaderValue::from_static("1.1 onceway")
    }
}

fn append_to_list(fields: &mut HeaderMap, name: HeaderName, element: &str) {
    let mut list = Vec::new();
    for value in fields.get_all(&name) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(element.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&list) {
        fields.insert(name, value);
    }
}
