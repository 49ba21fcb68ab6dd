//! Which fields travel on, and which are made anew at each hop.
//!
//! Must not know keys or records beyond a saved head as plain data. Read `forwarded.rs` for where a request came
//! from, `trailers.rs` for what follows a body, `upgrade.rs` for a change of protocol.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};

use super::forwarded::{Origin, tells_an_origin};
use super::trailers;
use crate::protocol::saved::{FieldLines, SavedHead};

/// The name by which this gateway signs in `Via` and `Proxy-Status`.
pub(super) const PSEUDONYM: &str = "onceway";

/// Says what became of a request.
pub(super) const IDEMPOTENCY_STATUS: HeaderName = HeaderName::from_static("idempotency-status");

/// Gateways of this name that a request may have come through: a chain of them is no loop.
const HOPS_MAX: usize = 8;

/// The fields of a request as they go to the upstream.
///
/// RFC 9110 §7.6.1: hop-by-hop fields and those that `Connection` names end here. §7.6.3: `Via` is added.
pub(super) fn to_upstream(fields: HeaderMap, origin: &Origin<'_>, version: Version) -> HeaderMap {
    let takes_trailers = accepts_trailers(&fields);
    // The gateway has answered the expectation itself (RFC 9110 §10.1.1).
    let mut kept = end_to_end(fields, |name| *name == header::EXPECT || origin.drops(name));
    if version == Version::HTTP_2 {
        join_cookies(&mut kept);
    }
    if takes_trailers {
        // RFC 9110 §10.1.4: whoever sends TE names it in Connection.
        kept.insert(header::TE, HeaderValue::from_static("trailers"));
        add_connection_option(&mut kept, "te");
    }
    kept.append(header::VIA, via(version));
    origin.tell(&mut kept);
    kept
}

/// The fields of an answer as they go to the caller, streamed or not.
pub(super) fn to_caller(fields: HeaderMap, status: StatusCode, version: Version) -> HeaderMap {
    // RFC 9110 §15.5.22: without the protocols that it wants, a 426 says nothing.
    let wanted = fields.get(header::UPGRADE).filter(|_| status == StatusCode::UPGRADE_REQUIRED).cloned();
    let mut kept = end_to_end(fields, |name| *name == IDEMPOTENCY_STATUS);
    kept.append(header::VIA, via(version));
    if let Some(protocols) = wanted {
        kept.insert(header::UPGRADE, protocols);
        add_connection_option(&mut kept, "upgrade");
    }
    kept
}

/// The fields of an interim answer as they go to the caller.
pub(super) fn of_interim(fields: &HeaderMap, version: Version) -> HeaderMap {
    let is_for_the_answer =
        |name: &HeaderName| [IDEMPOTENCY_STATUS, header::CONTENT_LENGTH, header::TRAILER].contains(name);
    let mut kept = end_to_end(fields.clone(), is_for_the_answer);
    kept.append(header::VIA, via(version));
    kept
}

/// The head of an answer as it is kept: end-to-end fields in order, without the framing, which is made
/// anew at every delivery.
///
/// RFC 9110 §6.6.1: an answer without `Date` gets the time of its receipt, so that the first answer and its
/// replays carry the same one.
pub(super) fn saved_head<B>(response: &Response<B>, received: std::time::SystemTime) -> SavedHead {
    let fields = response.headers();
    let is_made_anew = |name: &HeaderName| [IDEMPOTENCY_STATUS, header::CONTENT_LENGTH].contains(name);
    let ending = ending(fields, is_made_anew);
    let kept = fields.iter().filter(|(name, _)| !ending.contains(name));
    let (announced, signed) = (announced(fields), via(response.version()));
    let announced = announced.as_ref().map(|names| (&header::TRAILER, names));
    let mut headers = lines(kept.chain(announced).chain([(&header::VIA, &signed)]));
    if !fields.contains_key(header::DATE) {
        headers.push((header::DATE.as_str().to_owned(), httpdate::fmt_http_date(received).into()));
    }
    SavedHead { status: response.status().as_u16(), headers: headers.into() }
}

/// Fields as plain data.
pub(super) fn field_lines(fields: &HeaderMap) -> FieldLines {
    lines(fields.iter()).into()
}

/// The values share one piece of memory, which is no larger than they are.
fn lines<'a>(fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Vec<(String, Bytes)> {
    let (mut values, mut lines) = (Vec::with_capacity(VALUES_LEN), Vec::new());
    for (name, value) in fields {
        let begin = values.len();
        values.extend_from_slice(value.as_bytes());
        lines.push((name, begin..values.len()));
    }
    values.shrink_to_fit();
    let values = Bytes::from(values);
    lines.into_iter().map(|(name, range)| (name.as_str().to_owned(), values.slice(range))).collect()
}

/// Plain data as fields. A line that is no field, from a damaged record say, is left out.
pub(super) fn fields(lines: &FieldLines) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(lines.len() + 8);
    for (name, value) in lines.iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_maybe_shared(value.clone()))
        {
            fields.append(name, value);
        }
    }
    fields
}

/// Most answers have no more than this in all their fields' values.
const VALUES_LEN: usize = 512;

/// Why a request goes no further than here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It may not: its count of hops has run out.
    LastHop,
    /// Its count of hops is none.
    BadCount,
    /// It comes round and round.
    Loop,
    /// It expects what nobody here knows.
    Expectation,
}

/// Counts this hop of an OPTIONS request that counts them, and tells if the request goes no further.
///
/// RFC 9110 §7.6.2: a count of nought ends here; other methods may be passed on whatever they say. §7.6.3: `Via`
/// tells a loop. §10.1.1: an expectation that is not known cannot be met, nor forwarded unseen; in HTTP/1.0 there
/// is none.
pub(super) fn count_hop<B>(request: &mut Request<B>) -> Result<(), Stopped> {
    if hops_here(request.headers()) > HOPS_MAX {
        return Err(Stopped::Loop);
    }
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if request.version() > Version::HTTP_10 && !request.headers().get_all(header::EXPECT).iter().all(is_known)
    {
        return Err(Stopped::Expectation);
    }
    if request.method() != Method::OPTIONS {
        return Ok(());
    }
    let mut counts = request.headers().get_all(header::MAX_FORWARDS).iter();
    let Some(count) = counts.next() else { return Ok(()) };
    let digits = count.to_str().ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let (Some(digits), None) = (digits.filter(|digits| !digits.is_empty()), counts.next()) else {
        return Err(Stopped::BadCount);
    };
    // A number that is too large to be held is too large to run out.
    let left = digits.parse::<u64>().unwrap_or(u64::MAX).checked_sub(1).ok_or(Stopped::LastHop)?;
    request.headers_mut().insert(header::MAX_FORWARDS, HeaderValue::from(left));
    Ok(())
}

/// How often a gateway of this name has signed.
fn hops_here(fields: &HeaderMap) -> usize {
    let lines = fields.get_all(header::VIA).iter().filter_map(|line| line.to_str().ok());
    let signers = lines.flat_map(|line| line.split(',')).map(|hop| hop.split_ascii_whitespace().nth(1));
    signers.filter(|signer| *signer == Some(PSEUDONYM)).count()
}

/// Whether `Connection` names `field`.
pub(super) fn is_named_in_connection(fields: &HeaderMap, field: &str) -> bool {
    connection_options(fields).any(|option| option.eq_ignore_ascii_case(field.as_bytes()))
}

/// Whether a field ends here that this name names.
pub(super) fn ends_here(fields: &HeaderMap, name: &str) -> bool {
    fields.contains_key(name)
        && (named_in_connection(fields).iter().any(|named| named.as_str() == name)
            || HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| is_hop_by_hop(&name)))
}

/// The fields that `Connection` names and that end here.
pub(super) fn named_in_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    // The usual option, of which nobody need be told that its field ends here.
    let options = connection_options(fields).filter(|option| !option.eq_ignore_ascii_case(b"keep-alive"));
    let named = options.filter_map(|option| HeaderName::from_bytes(option).ok());
    named.filter(|name| !is_for_all(name)).collect()
}

/// Adds an option to those of this hop.
pub(super) fn add_connection_option(fields: &mut HeaderMap, option: &'static str) {
    let listed = fields.get(header::CONNECTION).and_then(|options| options.to_str().ok());
    let options = listed.map_or_else(|| option.to_owned(), |listed| format!("{listed}, {option}"));
    if let Ok(options) = HeaderValue::try_from(options) {
        fields.insert(header::CONNECTION, options);
    }
}

/// The fields that go on beyond this hop, in order, without those that `ends` says.
fn end_to_end(mut fields: HeaderMap, ends: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let ending = ending(&fields, ends);
    if ending.is_empty() {
        return fields;
    }
    let announced = announced(&fields);
    // Those behind all others, as `Connection` often is, go without the others' being moved.
    if fields.keys().skip(fields.keys_len() - ending.len()).eq(&ending) {
        for name in ending.iter().rev() {
            fields.remove(name);
        }
        fields.extend(announced.map(|names| (header::TRAILER, names)));
        return fields;
    }
    let mut kept = HeaderMap::with_capacity(fields.len() + 8);
    let mut line_of = None;
    // Only the first of several lines of one name comes with it.
    for (name, value) in fields {
        if let Some(name) = name {
            line_of = (!ending.contains(&name)).then_some(name);
        }
        if let Some(name) = &line_of {
            kept.append(name.clone(), value);
        }
    }
    if let Some(names) = announced {
        kept.insert(header::TRAILER, names);
    }
    kept
}

/// The names of fields that do not go on as they are: those that end here, those that `ends` says, and the
/// announcement of trailers, which is made anew.
fn ending(fields: &HeaderMap, ends: impl Fn(&HeaderName) -> bool) -> Vec<HeaderName> {
    let named = named_in_connection(fields);
    let is_ending = |name: &&HeaderName| {
        is_hop_by_hop(name)
            || **name == header::TRAILER
            || ends(name)
            || named.contains(name)
            || is_disguised(name, fields)
    };
    fields.keys().filter(is_ending).cloned().collect()
}

/// The announcement of trailers (RFC 9110 §6.6.2), less those that end here.
fn announced(fields: &HeaderMap) -> Option<HeaderValue> {
    if !fields.contains_key(header::TRAILER) {
        return None;
    }
    let lines = fields.get_all(header::TRAILER).iter().filter_map(|line| line.to_str().ok());
    let names = lines.flat_map(|line| line.split(','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    let listed: HeaderMap = names.map(|name| (name, HeaderValue::from_static(""))).collect();
    trailers::announcement(&trailers::after(fields).of(&listed))
}

/// Fields of one hop. RFC 9110 §11.7 has proxies that log their callers in, one hop at a time; this gateway is none,
/// and passes nobody's proxy credentials on.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Whether a field is another one to a server that takes an underscore for a hyphen, as those do that hand fields on
/// as variables (RFC 3875 §4.1.18): one that is made anew or ends here, or one that stands beside it.
fn is_disguised(name: &HeaderName, fields: &HeaderMap) -> bool {
    if !name.as_str().contains('_') {
        return false;
    }
    let read_as = name.as_str().replace('_', "-");
    let Ok(read_as) = HeaderName::from_bytes(read_as.as_bytes()) else { return false };
    is_hop_by_hop(&read_as) || is_for_all(&read_as) || is_ours(&read_as) || fields.contains_key(&read_as)
}

/// Fields that this gateway reads or writes by itself.
fn is_ours(name: &HeaderName) -> bool {
    matches!(name.as_str(), "idempotency-key" | "idempotency-status" | "max-forwards" | "trailer" | "expect")
}

/// Fields that are meant for all recipients, whatever `Connection` says of them. RFC 9110 §7.6.1 forbids to name
/// such a field there; a caller that does would have the upstream see another request than was looked at here,
/// or take away what a load balancer before this gateway put there.
fn is_for_all(name: &HeaderName) -> bool {
    tells_an_origin(name)
        || matches!(
            name,
            &header::HOST
                | &header::CONTENT_LENGTH
                | &header::CONTENT_TYPE
                | &header::CONTENT_ENCODING
                | &header::CONTENT_RANGE
                | &header::AUTHORIZATION
                | &header::COOKIE
                | &header::SET_COOKIE
                | &header::CACHE_CONTROL
                | &header::DATE
                | &header::LOCATION
                | &header::ORIGIN
                | &header::VIA
        )
}

/// The options of all `Connection` lines, whatever bytes stand beside them. `close` and `keep-alive` are among them
/// and name no field that matters.
fn connection_options(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = fields.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
    lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Whether `TE` takes trailers.
pub(super) fn accepts_trailers(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// RFC 9113 §8.2.3: HTTP/2 may split cookies over several lines; for everybody else they are one.
fn join_cookies(fields: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        fields.insert(header::COOKIE, cookie);
    }
}

/// RFC 9110 §7.6.3: the version in which the message was received, and who received it.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 onceway",
        Version::HTTP_11 => "1.1 onceway",
        _ => "2 onceway",
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Server;
    use crate::proxy::Caller;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn forwarded(lines: &[(&'static str, &'static str)], version: Version) -> HeaderMap {
        let (given, caller) = (fields(lines), Caller::at(([192, 0, 2, 1], 1).into()));
        let origin = Origin::new(&caller, &given, &Server::default());
        to_upstream(given, &origin, version)
    }

    fn request(method: Method, lines: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.headers_mut() = fields(lines);
        request
    }

    #[test]
    fn cookies_that_http_2_split_are_one_again() {
        let split = [("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2")];
        let kept = forwarded(&split, Version::HTTP_2);
        assert_eq!(kept.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn via_tells_the_version_in_which_a_message_came() {
        for (version, signed) in [
            (Version::HTTP_10, "1.0 onceway"),
            (Version::HTTP_11, "1.1 onceway"),
            (Version::HTTP_2, "2 onceway"),
        ] {
            assert_eq!(forwarded(&[], version)[header::VIA], signed);
            let mut answer = Response::new(());
            *answer.version_mut() = version;
            let told = to_caller(answer.headers().clone(), answer.status(), answer.version());
            assert_eq!(told[header::VIA], signed);
        }
    }

    #[test]
    fn fields_keep_their_order_when_others_end_here() {
        let lines =
            [("x-a", "1"), ("connection", "x-b"), ("x-b", "2"), ("te", "gzip"), ("x-c", "3"), ("x-d", "4")];
        let kept = forwarded(&lines, Version::HTTP_11);
        let names: Vec<_> = kept.keys().map(HeaderName::as_str).take(4).collect();
        assert_eq!(names, ["x-a", "x-c", "x-d", "via"]);
    }

    #[test]
    fn fields_keep_their_order_and_lines_when_the_last_ones_end_here() {
        let lines = [("x-a", "1"), ("x-b", "2"), ("x-a", "3"), ("x-c", "4"), ("connection", "x-c, close")];
        let kept = end_to_end(fields(&lines), |_| false);
        let kept: Vec<_> = kept.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(kept, [("x-a", &b"1"[..]), ("x-a", b"3"), ("x-b", b"2")]);
        let lines = [("x-a", "1"), ("trailer", "x-sum, te"), ("connection", "close"), ("connection", "te")];
        let kept = end_to_end(fields(&lines), |_| false);
        assert_eq!(kept, fields(&[("x-a", "1"), ("trailer", "x-sum")]));
    }

    #[test]
    fn a_field_for_all_recipients_stays_though_connection_names_it() {
        let lines = [
            ("connection", "authorization, X-Forwarded-For, cookie, x-real-ip, x-own"),
            ("authorization", "Basic x"),
            ("x-forwarded-for", "198.51.100.1"),
            ("cookie", "a=1"),
            ("x-real-ip", "198.51.100.1"),
            ("x-own", "1"),
        ];
        let kept = forwarded(&lines, Version::HTTP_11);
        for name in ["authorization", "cookie", "x-real-ip"] {
            assert!(kept.contains_key(name), "{name}");
        }
        assert_eq!(kept["x-forwarded-for"], "198.51.100.1, 192.0.2.1");
        assert!(!kept.contains_key("x-own"));
    }

    #[test]
    fn a_field_that_reads_as_another_where_underscores_are_hyphens_ends_here() {
        let lines = [
            ("x_forwarded_for", "198.51.100.1"),
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
            ("x_account", "eve"),
            ("x-account", "alice"),
            ("api_key", "1"),
        ];
        let kept = forwarded(&lines, Version::HTTP_11);
        let names: Vec<_> = kept.keys().map(HeaderName::as_str).take(2).collect();
        assert_eq!(names, ["x-account", "api_key"]);
    }

    #[test]
    fn options_are_read_whatever_bytes_stand_beside_them() {
        let mut given = fields(&[("x-own", "1")]);
        given.insert(header::CONNECTION, HeaderValue::from_bytes(b"\xc3\xa9, X-Own").unwrap());
        assert!(end_to_end(given, |_| false).is_empty());
    }

    #[test]
    fn only_trailers_that_travel_are_announced() {
        let lines = [("trailer", "X-Sum, Host"), ("trailer", "x-own, X-Two"), ("connection", "x-own")];
        assert_eq!(forwarded(&lines, Version::HTTP_11)[header::TRAILER], "x-sum, x-two");
        assert!(!forwarded(&[("trailer", "Host")], Version::HTTP_11).contains_key(header::TRAILER));
    }

    #[test]
    fn a_count_of_hops_is_digits_and_runs_out_at_nought() {
        for (count, verdict) in [
            ("0", Err(Stopped::LastHop)),
            ("+1", Err(Stopped::BadCount)),
            ("-1", Err(Stopped::BadCount)),
            ("", Err(Stopped::BadCount)),
            ("1", Ok(())),
            ("99999999999999999999999", Ok(())),
        ] {
            assert_eq!(
                count_hop(&mut request(Method::OPTIONS, &[("max-forwards", count)])),
                verdict,
                "{count}"
            );
        }
        let twice = [("max-forwards", "1"), ("max-forwards", "2")];
        assert_eq!(count_hop(&mut request(Method::OPTIONS, &twice)), Err(Stopped::BadCount));
        assert_eq!(count_hop(&mut request(Method::GET, &[("max-forwards", "0")])), Ok(()));
    }

    #[test]
    fn a_chain_of_gateways_is_no_loop_until_it_is_longer_than_anybody_builds() {
        let chain = [("via", "1.1 onceway, 2 other"), ("via", "1.1 onceway")];
        assert_eq!(count_hop(&mut request(Method::GET, &chain)), Ok(()));
        let hops = [("via", "1.1 onceway, 1.1 onceway, 2 onceway"); 3];
        assert_eq!(count_hop(&mut request(Method::GET, &hops)), Err(Stopped::Loop));
    }

    /// Field lines of which many end here, by their own names or by what others say of them.
    fn any_lines() -> impl Strategy<Value = HeaderMap> {
        const NAMES: [&str; 16] = [
            "accept",
            "connection",
            "content-type",
            "host",
            "keep-alive",
            "proxy-authorization",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "transfer_encoding",
            "upgrade",
            "via",
            "x-a",
            "x-b",
            "x_a",
        ];
        const VALUES: [&str; 6] = ["", "close", "x-a", "X-B, host", "trailers, x-a", "keep-alive,te"];
        let line = (prop::sample::select(NAMES.as_slice()), prop::sample::select(VALUES.as_slice()));
        let collected = |lines: Vec<(&'static str, &'static str)>| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            fields
        };
        prop::collection::vec(line, 0..12).prop_map(collected)
    }

    proptest! {
        #[test]
        fn fields_of_one_hop_end_here_and_the_others_travel_in_order_with_their_repeats(given in any_lines()) {
            let kept = end_to_end(given.clone(), |_| false);
            let named = named_in_connection(&given);
            let ends = |name: &HeaderName| {
                is_hop_by_hop(name) || named.contains(name) || name == "transfer_encoding"
                    || (name == "x_a" && given.contains_key("x-a"))
            };
            prop_assert!(!kept.keys().any(ends), "{:?}", kept);
            // The announcement of trailers is made anew.
            let travels = |name: &&HeaderName| !ends(name) && **name != header::TRAILER;
            let names: Vec<_> = kept.keys().filter(travels).collect();
            prop_assert_eq!(&names, &given.keys().filter(travels).collect::<Vec<_>>());
            for name in names {
                prop_assert!(kept.get_all(name).iter().eq(given.get_all(name)), "{}", name);
            }
        }

        #[test]
        fn what_has_travelled_one_hop_loses_nothing_at_the_next(given in any_lines()) {
            let once = end_to_end(given.clone(), |_| false);
            prop_assert_eq!(field_lines(&end_to_end(once.clone(), |_| false)), field_lines(&once));
        }
    }
}
