//! Which trailers travel on, and how they are announced.
//!
//! Must not know bodies. Source: RFC 9110 §6.5 and §6.6.2. Read `headers.rs` before.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, Version};

use super::forwarded::tells_an_origin;
use super::headers::{self, IDEMPOTENCY_STATUS};
use crate::protocol::saved::SavedResponse;
use crate::upstream::Trailers;

/// Fields that are no trailers (RFC 9110 §6.5.1): they frame or route a message, say how it is to be treated or
/// who asks, or are needed before its content is. A recipient that merged one into the head would read another
/// message than this gateway did.
const HEAD_ONLY: [HeaderName; 40] = [
    header::ACCEPT_ENCODING,
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::ORIGIN,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("idempotency-key"),
    IDEMPOTENCY_STATUS,
];

/// The rule for the trailers of a message with this head: fields that its `Connection` names end here, also in
/// trailers (RFC 9110 §7.6.1).
pub(super) fn after(head: &HeaderMap) -> Trailers {
    Trailers { pick: travelling, ending: headers::named_in_connection(head) }
}

fn travelling(trailers: &HeaderMap, ending: &[HeaderName]) -> HeaderMap {
    // What a trailer names as `Connection` is no less of one hop.
    let named = headers::named_in_connection(trailers);
    let ends = |name: &HeaderName| !may_follow(name) || ending.contains(name) || named.contains(name);
    let mut kept = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers.iter().filter(|(name, _)| !ends(name)) {
        kept.append(name, value.clone());
    }
    kept
}

/// Whether a field of this name may follow a body.
pub(super) fn may_follow(name: &HeaderName) -> bool {
    !headers::is_hop_by_hop(name) && !HEAD_ONLY.contains(name) && !tells_an_origin(name)
}

/// Announces these trailers. hyper sends over HTTP/1.1 only what is announced.
pub(super) fn announcement(trailers: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    if names.is_empty() { None } else { HeaderValue::try_from(names.join(", ")).ok() }
}

/// Announces in the head of an answer the trailers that follow it.
pub(super) fn announce_in(saved: &mut SavedResponse, trailers: Option<&HeaderMap>) {
    let names = trailers.and_then(announcement);
    if names.is_none() && saved.head.header(header::TRAILER.as_str()).is_none() {
        return;
    }
    let announced = names
        .map(|names| (header::TRAILER.as_str().to_owned(), bytes::Bytes::copy_from_slice(names.as_bytes())));
    let others = saved.head.headers.iter().filter(|(name, _)| name != header::TRAILER.as_str());
    saved.head.headers = others.cloned().chain(announced).collect();
}

/// Whether whoever sent these fields takes trailers (RFC 9110 §10.1.4). In HTTP/2 they need no chunks, and every
/// recipient can read them.
pub(super) fn are_taken_by(fields: &HeaderMap, version: Version) -> bool {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => false,
        Version::HTTP_11 => headers::accepts_trailers(fields),
        _ => true,
    }
}

/// Takes the announcement away where no trailers follow.
pub(super) fn unannounced<B>(response: &mut Response<B>) {
    if response.headers().contains_key(header::TRAILER) {
        let fields = std::mem::take(response.headers_mut());
        for (name, value) in fields.iter().filter(|(name, _)| **name != header::TRAILER) {
            response.headers_mut().append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_connection_names_in_the_head_is_no_trailer_either() {
        let rule = after(&fields(&[("connection", "X-One, close")]));
        let kept = rule.of(&fields(&[("x-one", "1"), ("x-two", "2"), ("keep-alive", "3")]));
        assert_eq!(kept, fields(&[("x-two", "2")]));
    }

    #[test]
    fn what_would_change_the_meaning_of_a_head_is_no_trailer() {
        let smuggled = fields(&[
            ("transfer-encoding", "chunked"),
            ("authorization", "Basic x"),
            ("idempotency-key", "k"),
            ("x-forwarded-for", "192.0.2.1"),
            ("cookie", "a=b"),
            ("grpc-status", "0"),
        ]);
        assert_eq!(after(&HeaderMap::new()).of(&smuggled), fields(&[("grpc-status", "0")]));
    }
}
