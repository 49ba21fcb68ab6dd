//! Where a request came from, as its upstream is told: `X-Forwarded-For`, `-Host`, `-Proto`, and `Forwarded`
//! (RFC 7239).
//!
//! Must not know what else is in a request. The word of a peer that is not believed goes first; then this hop is
//! added. A spelling that is not asked for, but came from a peer that is believed, is continued too: a list that
//! ends before the last hop would show its reader a caller of the caller's choice. Where only one spelling came,
//! the other is made from it, so that both tell the same. Read `headers.rs` before.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::caller::Caller;
use crate::config::{Forwarded, ForwardedFields, Server};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields in which this gateway tells an origin.
const SPELLINGS: [HeaderName; 4] = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, header::FORWARDED];

/// Fields that services are known to read for where a request came from, beside those that begin with
/// `X-Forwarded-`.
const OTHER_SPELLINGS: [&str; 5] =
    ["forwarded", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-real-ip"];

/// Stands for an address that is not told (RFC 7239 §6.2).
const UNKNOWN: &str = "unknown";

/// Where a request came from, and how its upstream is to be told.
#[derive(Clone, Debug)]
pub(super) struct Origin<'a> {
    caller: &'a Caller,
    host: Option<HeaderValue>,
    policy: Forwarded,
    spellings: ForwardedFields,
}

/// One hop, as an element of `Forwarded` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hop {
    node: Option<String>,
    host: Option<String>,
    proto: Option<String>,
    has_more: bool,
}

impl<'a> Origin<'a> {
    pub(super) fn new(caller: &'a Caller, fields: &HeaderMap, settings: &Server) -> Self {
        Self {
            caller,
            host: fields.get(header::HOST).cloned(),
            policy: settings.forwarded,
            spellings: settings.forwarded_fields,
        }
    }

    /// Whether a field is the caller's word about where the request came from, and does not travel on.
    pub(super) fn drops(&self, name: &HeaderName) -> bool {
        let is_believed = self.caller.is_trusted && self.policy != Forwarded::Replace;
        !is_believed && tells_an_origin(name)
    }

    /// Adds this hop to what is left of the fields that travel on.
    pub(super) fn tell(&self, fields: &mut HeaderMap) {
        match self.policy {
            Forwarded::Leave => return,
            Forwarded::Append | Forwarded::Replace => {}
        }
        if self.spellings == ForwardedFields::XForwarded
            && !SPELLINGS.iter().any(|name| fields.contains_key(name))
        {
            return self.tell_first(fields);
        }
        let told = Told::of(fields);
        let (has_x, has_forwarded) = (!told.x_for.is_empty(), fields.contains_key(header::FORWARDED));
        let (wants_x, wants_forwarded) = match self.spellings {
            ForwardedFields::XForwarded => (true, false),
            ForwardedFields::Forwarded => (false, true),
            ForwardedFields::Both => (true, true),
        };
        if wants_forwarded || has_forwarded {
            self.tell_forwarded(fields, &told);
        }
        if wants_x || has_x {
            let mut addresses = if has_x { told.x_for.clone() } else { told.addresses() };
            addresses.push(self.caller.ip().to_string());
            put(fields, X_FORWARDED_FOR, &addresses.join(", "));
        }
        if wants_x {
            let proto = told.first().and_then(|hop| hop.proto.clone());
            put_if_absent(fields, X_FORWARDED_PROTO, proto.as_deref().unwrap_or(self.scheme()));
            let host = told.first().and_then(|hop| hop.host.as_deref());
            if let Some(host) = host.or_else(|| self.host()) {
                put_if_absent(fields, X_FORWARDED_HOST, host);
            }
        }
    }

    /// Tells this hop as the first, where nothing was told before.
    fn tell_first(&self, fields: &mut HeaderMap) {
        fields.insert(X_FORWARDED_FOR, self.caller.ip_as_field.clone());
        fields.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme()));
        if let Some(host) = self.host.as_ref().filter(|host| host.to_str().is_ok()) {
            fields.insert(X_FORWARDED_HOST, host.clone());
        }
    }

    fn tell_forwarded(&self, fields: &mut HeaderMap, told: &Told) {
        let mut hop = Hop {
            node: Some(node_of(self.caller.ip())),
            host: self.host().map(str::to_owned),
            proto: Some(self.scheme().to_owned()),
            has_more: false,
        };
        let mut list = if let Some(list) = &told.forwarded {
            // As it came: parameters that nobody here knows stay.
            vec![list.text.clone()]
        } else {
            let mut hops = told.x_hops();
            // What is told of the first request belongs to the first hop that is told.
            let first = hops.first_mut().unwrap_or(&mut hop);
            first.host = told.x_host.clone().or(first.host.take());
            first.proto = told.x_proto.clone().or(first.proto.take());
            hops.iter().map(Hop::to_string).collect()
        };
        list.push(hop.to_string());
        put(fields, header::FORWARDED, &list.join(", "));
    }

    fn scheme(&self) -> &'static str {
        if self.caller.is_tls { "https" } else { "http" }
    }

    fn host(&self) -> Option<&str> {
        self.host.as_ref().and_then(|host| host.to_str().ok())
    }
}

/// What a peer that is believed told already.
#[derive(Debug)]
struct Told {
    x_for: Vec<String>,
    x_host: Option<String>,
    x_proto: Option<String>,
    /// `None` if there is none, and if it is malformed: nobody could read what is added to such a list.
    forwarded: Option<List>,
}

/// A well-formed `Forwarded`.
#[derive(Debug)]
struct List {
    text: String,
    hops: Vec<Hop>,
}

impl Told {
    fn of(fields: &HeaderMap) -> Self {
        let forwarded = joined(fields, &header::FORWARDED);
        let x_for = joined(fields, &X_FORWARDED_FOR).unwrap_or_default();
        Self {
            x_for: x_for
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
            x_host: single(fields, &X_FORWARDED_HOST),
            x_proto: single(fields, &X_FORWARDED_PROTO).filter(|proto| is_token(proto)),
            forwarded: forwarded.and_then(|text| hops(&text).map(|hops| List { text, hops })),
        }
    }

    fn first(&self) -> Option<&Hop> {
        self.forwarded.as_ref()?.hops.first()
    }

    /// The addresses of `Forwarded`, as `X-Forwarded-For` spells them.
    fn addresses(&self) -> Vec<String> {
        let hops = self.forwarded.iter().flat_map(|list| &list.hops);
        let spelled = |node: &str| address_in(node).map_or_else(|| UNKNOWN.to_owned(), |ip| ip.to_string());
        hops.map(|hop| hop.node.as_deref().map_or_else(|| UNKNOWN.to_owned(), spelled)).collect()
    }

    /// The hops of `X-Forwarded-For`, as `Forwarded` tells them (RFC 7239 §7.4).
    fn x_hops(&self) -> Vec<Hop> {
        let node = |spelled: &String| address_in(spelled).map_or_else(|| UNKNOWN.to_owned(), node_of);
        self.x_for.iter().map(|spelled| Hop { node: Some(node(spelled)), ..Hop::default() }).collect()
    }
}

/// Whether services read a field of this name for where a request came from. Some take an underscore for a
/// hyphen.
pub(super) fn tells_an_origin(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name.starts_with("x-forwarded-") || OTHER_SPELLINGS.contains(&name.as_str())
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = [("for", &self.node), ("host", &self.host), ("proto", &self.proto)];
        let mut between = "";
        for (name, value) in pairs.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            if is_token(value) {
                write!(f, "{between}{name}={value}")?;
            } else {
                let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "{between}{name}=\"{escaped}\"")?;
            }
            between = ";";
        }
        Ok(())
    }
}

/// RFC 7239 §6: an IPv6 address stands in brackets.
fn node_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The address that a node names, with or without brackets and port.
fn address_in(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(node);
    let ip = bare.parse().ok().or_else(|| node.parse().ok().map(|address: SocketAddr| address.ip()));
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// The hops of a list; `None` if it is malformed (RFC 7239 §4).
fn hops(mut rest: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    loop {
        let (hop, after) = hop(rest)?;
        // RFC 9110 §5.6.1: empty elements of a list are passed over.
        if hop != Hop::default() {
            hops.push(hop);
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return (!hops.is_empty()).then_some(hops),
            None => return None,
        }
    }
}

fn hop(mut rest: &str) -> Option<(Hop, &str)> {
    let mut hop = Hop::default();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            let (name, after) = rest.split_once('=').filter(|(name, _)| is_token(name))?;
            let (value, after) = value(after)?;
            hop.put(name, value)?;
            rest = after.trim_start_matches([' ', '\t']);
        }
        match rest.strip_prefix(';') {
            Some(after) => rest = after,
            None => return Some((hop, rest)),
        }
    }
}

impl Hop {
    /// RFC 7239 §4: no parameter stands twice in one element; names are case-insensitive.
    fn put(&mut self, name: &str, value: String) -> Option<()> {
        let place = match name.to_ascii_lowercase().as_str() {
            "for" => &mut self.node,
            "host" => &mut self.host,
            "proto" => &mut self.proto,
            _ => {
                self.has_more = true;
                return Some(());
            }
        };
        place.replace(value).is_none().then_some(())
    }
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|character| !is_token_character(character)).unwrap_or(text.len());
        let (token, after) = text.split_at_checked(end)?;
        return is_token(token).then(|| (token.to_owned(), after));
    };
    let (mut value, mut characters) = (String::new(), quoted.chars());
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_character)
}

/// RFC 9110 §5.6.2.
fn is_token_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

/// All lines of a field as one list; `None` if there are none, or they hold more than visible ASCII.
fn joined(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Result<Vec<&str>, _> = fields.get_all(name).iter().map(HeaderValue::to_str).collect();
    lines.ok().filter(|lines| !lines.is_empty()).map(|lines| lines.join(", "))
}

/// The value of a field that stands once and is no list.
fn single(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    joined(fields, name).filter(|value| !value.is_empty() && !value.contains(','))
}

fn put(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

fn put_if_absent(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if !fields.contains_key(&name) {
        put(fields, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an upstream is told of a request from `peer` that carried `fields`.
    fn told(peer: &str, spellings: ForwardedFields, fields: &[(&'static str, &str)]) -> HeaderMap {
        let caller = Caller::at(SocketAddr::new(peer.parse().unwrap(), 1));
        let mut map = HeaderMap::new();
        map.insert(header::HOST, HeaderValue::from_static("api.test:8080"));
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let settings = Server { forwarded_fields: spellings, ..Server::default() };
        let mut kept = map.clone();
        Origin::new(&caller, &map, &settings).tell(&mut kept);
        kept
    }

    fn value<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
        fields.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn an_ipv6_address_and_a_host_with_a_port_are_quoted() {
        let fields = told("2001:db8::1", ForwardedFields::Forwarded, &[]);
        let expected = "for=\"[2001:db8::1]\";host=\"api.test:8080\";proto=http";
        assert_eq!(value(&fields, "forwarded"), Some(expected));
        assert_eq!(value(&fields, "x-forwarded-for"), None);
    }

    #[test]
    fn an_ipv4_address_that_came_over_ipv6_is_told_as_what_it_is() {
        let fields = told("::ffff:192.0.2.7", ForwardedFields::Both, &[]);
        assert_eq!(value(&fields, "x-forwarded-for"), Some("192.0.2.7"));
        assert!(value(&fields, "forwarded").unwrap().starts_with("for=192.0.2.7;"));
    }

    #[test]
    fn a_well_formed_list_is_continued_as_it_came() {
        let came = "For=\"[2001:db8::17]:4711\";by=203.0.113.60;secret=\"a,\\\"b\" ,for=unknown";
        let fields = told("192.0.2.1", ForwardedFields::Forwarded, &[("forwarded", came)]);
        let expected = format!("{came}, for=192.0.2.1;host=\"api.test:8080\";proto=http");
        assert_eq!(value(&fields, "forwarded"), Some(expected.as_str()));
    }

    #[test]
    fn a_malformed_list_is_not_continued() {
        for came in ["for", "for=", "for=\"a", "for=a b", "for=a;for=b", "for=[::1]", "=a", ",", "for=a\\"] {
            let fields = told("192.0.2.1", ForwardedFields::Forwarded, &[("forwarded", came)]);
            let only = "for=192.0.2.1;host=\"api.test:8080\";proto=http";
            assert_eq!(value(&fields, "forwarded"), Some(only), "{came}");
        }
    }

    #[test]
    fn a_spelling_that_came_alone_is_told_in_the_other_too() {
        let came = [
            ("x-forwarded-for", "198.51.100.1, 2001:db8::2, what"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "shop.test"),
        ];
        let fields = told("192.0.2.1", ForwardedFields::Both, &came);
        let expected = "for=198.51.100.1;host=shop.test;proto=https, for=\"[2001:db8::2]\", for=unknown, \
                        for=192.0.2.1;host=\"api.test:8080\";proto=http";
        assert_eq!(value(&fields, "forwarded"), Some(expected));
        let came = [("forwarded", "for=\"[2001:db8::2]:99\";proto=https;host=shop.test, for=_hidden")];
        let fields = told("192.0.2.1", ForwardedFields::XForwarded, &came);
        assert_eq!(value(&fields, "x-forwarded-for"), Some("2001:db8::2, unknown, 192.0.2.1"));
        assert_eq!(value(&fields, "x-forwarded-proto"), Some("https"));
        assert_eq!(value(&fields, "x-forwarded-host"), Some("shop.test"));
    }

    #[test]
    fn a_spelling_that_is_not_asked_for_ends_with_this_hop_if_it_came() {
        let fields = told("192.0.2.1", ForwardedFields::XForwarded, &[("forwarded", "for=198.51.100.1")]);
        let expected = "for=198.51.100.1, for=192.0.2.1;host=\"api.test:8080\";proto=http";
        assert_eq!(value(&fields, "forwarded"), Some(expected));
        let fields = told("192.0.2.1", ForwardedFields::Forwarded, &[("x-forwarded-for", "198.51.100.1")]);
        assert_eq!(value(&fields, "x-forwarded-for"), Some("198.51.100.1, 192.0.2.1"));
    }

    #[test]
    fn a_peer_that_is_not_believed_is_not_quoted_in_any_spelling() {
        let stranger = Caller { is_trusted: false, ..Caller::at(([192, 0, 2, 1], 1).into()) };
        let (fields, settings) =
            (HeaderMap::new(), Server { forwarded: Forwarded::Leave, ..Server::default() });
        let origin = Origin::new(&stranger, &fields, &settings);
        for name in ["forwarded", "x-forwarded-for", "x_forwarded_for", "x-forwarded-port", "x-real-ip"] {
            assert!(origin.drops(&HeaderName::from_static(name)), "{name}");
        }
        assert!(!origin.drops(&HeaderName::from_static("x-request-id")));
        let known = Caller::at(([192, 0, 2, 1], 1).into());
        assert!(!Origin::new(&known, &fields, &settings).drops(&X_FORWARDED_FOR));
    }
}
