//! Who may use what on the operators' listener.
//!
//! Probes and metrics are for whoever reaches the port. The console and the operations API show who paid whom and
//! when, if only as hashes and times, so they are for operators: people on this machine, and holders of a certificate
//! that was verified. Pure. Read `token.rs` for what changes need beside.
//!
//! Nothing here needs a defence against forged requests of a browser (CSRF) beside these two: a change needs a token,
//! which no page knows and no browser adds by itself; and a question with a body has to be `application/json`, which a
//! page of another origin may not send without being allowed to, and nobody here allows it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

use super::problem::Problem;

/// Fields by which proxies tell for whom they ask, or that they ask at all.
const OF_A_PROXY: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// Where from.
    pub(super) peer: SocketAddr,
    /// The subject of the certificate that was shown and verified.
    pub(super) certificate: Option<String>,
}

impl Who {
    /// Whether it is an operator.
    pub(super) fn is_operator(&self) -> bool {
        // An IPv4 address that came over IPv6 is an IPv4 address.
        self.certificate.is_some() || self.peer.ip().to_canonical().is_loopback()
    }
}

/// Whether whoever asks may see the console and the operations API.
///
/// The name under which the listener is called is looked at because of DNS rebinding: a web page may have its own name
/// lead to 127.0.0.1 and then read answers from here through its visitor's browser, as its own origin. The browser
/// still says that name. An address cannot be made to lead elsewhere, and `localhost` is no name of the network.
pub(super) fn admit(who: &Who, uri: &Uri, fields: &HeaderMap, names: &[String]) -> Result<(), Problem> {
    // A proxy on this machine makes everybody a peer on it; one that says so is believed.
    let is_brought_here =
        who.certificate.is_none() && OF_A_PROXY.iter().any(|name| fields.contains_key(*name));
    if !who.is_operator() || is_brought_here {
        return Err(Problem::OperatorsOnly);
    }
    let mut hosts = fields.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Problem::HostUnknown)?;
    // RFC 9112 §3.2.2: where the target names a host, that one counts; here both have to be known.
    let target = uri.authority().map(Authority::as_str);
    let is_known = hosts.next().is_none()
        && is_known_host(host, names)
        && target.is_none_or(|target| is_known_host(target, names));
    if is_known { Ok(()) } else { Err(Problem::HostUnknown) }
}

fn is_known_host(host: &str, names: &[String]) -> bool {
    let Some(name) = without_port(host) else { return false };
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok() || is_named(name, names);
    }
    name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4())
        || name.eq_ignore_ascii_case("localhost")
        || is_named(name, names)
}

fn is_named(name: &str, names: &[String]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A host without its port; `None` if what stands there as the port is none.
fn without_port(host: &str) -> Option<&str> {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
        }
        Some(_) | None => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn at(peer: &str) -> Who {
        Who { peer: peer.parse().unwrap(), certificate: None }
    }

    fn told(who: &Who, host: &str, names: &[&str]) -> Result<(), &'static str> {
        let mut fields = HeaderMap::new();
        fields.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        admit(who, &Uri::from_static("/v1/status"), &fields, &names).map_err(|problem| problem.code())
    }

    #[test]
    fn an_operator_is_on_this_machine_or_shows_a_certificate() {
        for peer in ["127.0.0.1:9", "127.0.0.2:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert!(at(peer).is_operator(), "{peer}");
        }
        for peer in ["10.0.0.1:9", "192.0.2.1:9", "[2001:db8::1]:9", "[::ffff:10.0.0.1]:9", "0.0.0.0:9"] {
            assert!(!at(peer).is_operator(), "{peer}");
            assert_eq!(told(&at(peer), "localhost", &[]), Err("operators-only"));
            let known = Who { certificate: Some("CN=ann".into()), ..at(peer) };
            assert_eq!(told(&known, "localhost", &[]), Ok(()));
        }
    }

    #[test]
    fn whoever_comes_through_a_proxy_is_not_here_unless_a_certificate_says_who_it_is() {
        let mut fields = HeaderMap::new();
        fields.insert(header::HOST, HeaderValue::from_static("localhost"));
        fields.insert(header::VIA, HeaderValue::from_static("1.1 edge"));
        let admitted =
            |who: &Who| admit(who, &Uri::from_static("/"), &fields, &[]).map_err(|told| told.code());
        let here = at("127.0.0.1:9");
        assert_eq!(admitted(&here), Err("operators-only"));
        assert_eq!(admitted(&Who { certificate: Some("CN=ann".into()), ..here }), Ok(()));
    }

    #[test]
    fn a_name_that_a_page_may_have_chosen_is_refused() {
        let here = at("127.0.0.1:9");
        for host in
            ["127.0.0.1:8081", "10.0.0.1", "[::1]:8081", "[::1]", "localhost", "LocalHost:1", "localhost."]
        {
            assert_eq!(told(&here, host, &[]), Ok(()), "{host}");
        }
        for host in
            ["evil.test", "evil.test:8081", "localhost.evil.test", "127.0.0.1.evil.test", "[::1", "", ":80"]
        {
            assert_eq!(told(&here, host, &[]), Err("host-unknown"), "{host}");
        }
        for host in ["localhost:80@evil.test", "127.0.0.1:x", "::1"] {
            assert_eq!(told(&here, host, &[]), Err("host-unknown"), "{host}");
        }
        assert_eq!(told(&here, "Onceway.internal:8081", &["onceway.internal"]), Ok(()));
        assert_eq!(told(&here, "other.internal", &["onceway.internal"]), Err("host-unknown"));
    }

    #[test]
    fn two_hosts_or_none_are_no_known_host() {
        let (here, localhost) = (at("127.0.0.1:9"), HeaderValue::from_static("localhost"));
        let mut fields = HeaderMap::new();
        let admitted = |uri: &'static str, fields: &HeaderMap| {
            admit(&here, &Uri::from_static(uri), fields, &[]).map_err(|problem| problem.code())
        };
        assert_eq!(admitted("/", &fields), Err("host-unknown"));
        fields.append(header::HOST, localhost.clone());
        assert_eq!(admitted("http://evil.test/", &fields), Err("host-unknown"));
        assert_eq!(admitted("http://localhost/", &fields), Ok(()));
        fields.append(header::HOST, localhost);
        assert_eq!(admitted("/", &fields), Err("host-unknown"));
    }
}
