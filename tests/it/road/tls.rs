//! TLS with callers: what is agreed upon, who is believed, and how it ends.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use crate::harness::certificates::{Authority, TlsCaller};
use crate::harness::{Gate, Gateway, GatewayPlan, Reply, Upstream, get, until};

const GET: &[u8] = b"GET /elsewhere HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";

static TLS_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
static TLS_1_3: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn secured(upstream: &Upstream, authority: &Authority) -> GatewayPlan {
    GatewayPlan::before(upstream).server(&authority.listener_lines())
}

/// Pays under the key `k` for 100, and answers the status and the word.
fn pay(caller: &TlsCaller, gateway: &Gateway) -> (String, Option<String>) {
    let request = b"POST /payments HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nConnection: close\r\n\
                    Content-Length: 10\r\n\r\namount=100";
    let answer = caller.say(gateway.listen_addr(), request).unwrap();
    let word = answer.lines().find_map(|line| line.strip_prefix("idempotency-status: ")).map(str::to_owned);
    (answer[9..12].to_owned(), word)
}

#[test]
fn a_request_over_either_version_of_tls_is_served_and_told_to_be_https() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let gateway = secured(&upstream, &authority).start();
    for (number, version) in (1..).zip([TLS_1_2, TLS_1_3]) {
        let caller = authority.stranger().of_version(version);
        let answer = caller.say(gateway.listen_addr(), GET).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{version:?}: {answer}");
        assert_eq!(upstream.request(number).header("x-forwarded-proto").as_deref(), Some("https"));
    }
}

#[test]
fn the_protocol_is_agreed_upon_and_nothing_in_common_is_told() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let (both, one) = (
        secured(&upstream, &authority).start(),
        secured(&upstream, &authority).server("http2 = false").start(),
    );
    let agreed = |gateway: &Gateway, offered: &[&str]| {
        let stream = authority.stranger().offering(offered).connect(gateway.listen_addr()).unwrap();
        stream.conn.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap())
    };
    assert_eq!(agreed(&both, &["http/1.1", "h2"]).as_deref(), Some("h2"));
    assert_eq!(agreed(&both, &["http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&both, &[]), None);
    assert_eq!(agreed(&one, &["h2", "http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&both, &["http/1.0"]).as_deref(), Some("http/1.0"));
    // RFC 7301 §3.2.
    let refused = authority.stranger().offering(&["spdy/3"]).connect(both.listen_addr()).unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn a_caller_without_a_certificate_or_with_a_strangers_is_refused_where_one_is_required() {
    let (upstream, authority, other) =
        (Upstream::of_payments(), Authority::new("ca"), Authority::new("other"));
    let gateway = secured(&upstream, &authority).server(&authority.asking_line()).start();
    let known = authority.stranger().showing(&authority.caller("ann"));
    let unknown = authority.stranger().showing(&other.caller("ann"));
    assert!(known.say(gateway.listen_addr(), GET).unwrap().starts_with("HTTP/1.1 201"));
    for caller in [authority.stranger(), unknown] {
        let said = caller.say(gateway.listen_addr(), GET);
        assert!(said.as_ref().is_err() || said.as_ref().is_ok_and(String::is_empty), "{said:?}");
    }
    until("the log tells it", || gateway.log().contains("a TLS handshake failed"));
    assert_eq!(upstream.executions(), 1);
}

#[test]
fn callers_told_apart_by_certificate_never_meet_and_one_that_renews_its_certificate_is_the_same() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let gateway = secured(&upstream, &authority)
        .server(&authority.asking_line())
        .policy("scope = [\"client-cert\"]")
        .start();
    let as_of = |name| pay(&authority.stranger().showing(&authority.caller(name)), &gateway);
    let (executed, replayed) = (Some("executed".to_owned()), Some("replayed".to_owned()));
    assert_eq!(as_of("ann"), ("201".to_owned(), executed.clone()));
    assert_eq!(as_of("bob"), ("201".to_owned(), executed));
    assert_eq!(as_of("ann"), ("201".to_owned(), replayed));
    assert_eq!(upstream.executions(), 2);
}

#[test]
fn a_caller_without_a_certificate_lacks_its_scope() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let gateway = secured(&upstream, &authority)
        .server(&authority.asking_line())
        .server("tls_client_certificate = \"optional\"")
        .policy("scope = [\"client-cert\"]\nscope_missing = \"reject\"")
        .start();
    assert_eq!(pay(&authority.stranger(), &gateway).0, "400");
    assert_eq!(pay(&authority.stranger().showing(&authority.caller("ann")), &gateway).0, "201");
}

#[test]
fn http_in_the_clear_on_a_tls_port_is_told_so_and_a_silent_handshake_is_closed() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let gateway = secured(&upstream, &authority).server("header_timeout = \"300ms\"").start();
    let mut clear = gateway.send(&get("/elsewhere"));
    assert_eq!(clear.read().status, 400);
    assert!(clear.wire().is_at_end());
    let mut silent = gateway.client();
    silent.say(&[22, 3, 1]);
    assert!(silent.wire().is_at_end());
}

#[test]
fn a_session_can_be_resumed() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let gateway = secured(&upstream, &authority).start();
    let config = Arc::new(authority.stranger().config());
    let kinds = [1, 2].map(|_| {
        let mut stream = TlsCaller::connect_as(&config, gateway.listen_addr(), "localhost").unwrap();
        stream.write_all(GET).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream.conn.handshake_kind().unwrap()
    });
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[test]
fn a_body_that_the_upstream_cuts_short_never_ends_well_over_tls() {
    let gate = Gate::shut();
    let upstream = Upstream::always(Reply::answer(200).begin_chunked().chunk("half").wait(&gate).close());
    let authority = Authority::new("ca");
    let gateway = secured(&upstream, &authority).start();
    let mut stream = authority.stranger().connect(gateway.listen_addr()).unwrap();
    stream.write_all(GET).unwrap();
    let mut answer = vec![0; 1];
    stream.read_exact(&mut answer).unwrap();
    gate.open();
    let ended = stream.read_to_end(&mut answer);
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::UnexpectedEof));
    assert!(!String::from_utf8_lossy(&answer).ends_with("0\r\n\r\n"));
}

#[test]
fn a_renewed_certificate_is_shown_after_a_reload_and_open_connections_go_on() {
    let (upstream, authority) = (Upstream::of_payments(), Authority::new("ca"));
    let gateway = secured(&upstream, &authority).start();
    let (caller, config) = (authority.stranger(), Arc::new(authority.stranger().config()));
    let mut open = caller.connect(gateway.listen_addr()).unwrap();
    authority.renew("other.test");
    gateway.signal("HUP");
    until("the new certificate is shown", || {
        TlsCaller::connect_as(&config, gateway.listen_addr(), "other.test").is_ok()
    });
    open.write_all(GET).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}
