//! An upstream over TLS: who is believed, under which name, how the gateway shows itself, and which HTTP is agreed on.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::harness::{FrameServer, Gateway, GatewayPlan, get, post};

/// The name in the server's certificate.
const NAME: &str = "api.internal";

/// An authority, a certificate of its making for the server and one for the gateway, each in a file.
struct Papers {
    dir: TempDir,
    authority: rcgen::Certificate,
    server: (rcgen::Certificate, KeyPair),
}

/// A server that answers every request in the same words, and then lets go of the connection.
struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Papers {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &issuer).unwrap(), key)
        };
        let (server, client) = (signed(NAME), signed("gateway.internal"));
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", authority.pem());
        write("client.pem", client.0.pem());
        write("client-key.pem", client.1.serialize_pem());
        Self { dir, authority, server }
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What a server with these papers offers; it asks callers for theirs if `asks`.
    fn settings(&self, protocols: &[&str], asks: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.server.1.serialize_der()));
        let mut settings = builder.with_single_cert(vec![self.server.0.der().clone()], key).unwrap();
        settings.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(settings)
    }

    /// A gateway that believes these papers' authority.
    fn before(&self, address: &str) -> GatewayPlan {
        GatewayPlan::before_url(&format!("https://{address}"))
            .upstream(&format!("ca_file = \"{}\"\nserver_name = \"{NAME}\"", self.file("ca.pem")))
            .server("threads = 1")
    }

    fn with_client_certificate(&self, plan: GatewayPlan) -> GatewayPlan {
        plan.upstream(&format!(
            "client_certificate_file = \"{}\"\nclient_key_file = \"{}\"",
            self.file("client.pem"),
            self.file("client-key.pem")
        ))
    }
}

impl Server {
    /// `says_goodbye`: ends each connection as TLS wants it ended, with `close_notify`.
    fn answering(answer: &'static str, says_goodbye: bool, settings: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self { address: listener.local_addr().unwrap(), is_over: Arc::default() };
        let is_over = Arc::clone(&server.is_over);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&settings)).unwrap(), stream);
                let mut read = [0; 4096];
                // A request of these tests comes in one piece or two; its body ends it.
                let is_asked = tls.read(&mut read).is_ok_and(|bytes| bytes > 0);
                if is_asked && tls.write_all(answer.as_bytes()).is_ok() && says_goodbye {
                    tls.conn.send_close_notify();
                }
                tls.flush().ok();
            }
        });
        server
    }

    fn authority(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        TcpStream::connect(self.address).ok();
    }
}

const PAID: &str = "HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\npaid";

fn expect_paid(gateway: &Gateway) {
    let answer = gateway.ask(&post("/payments").key("k"));
    assert_eq!((answer.status, answer.text()), (201, "paid".into()), "{}", answer.shown());
}

/// Nothing was sent: the handshake failed.
fn expect_no_handshake(gateway: &Gateway) {
    for _ in 0..2 {
        let answer = gateway.ask(&post("/payments").key("k"));
        assert_eq!(answer.problem(), (502, "upstream-unreachable".into()), "{}", answer.shown());
        assert_eq!(answer.word().as_deref(), Some("released"));
        assert_eq!(answer.header("proxy-status").as_deref(), Some("onceway; error=tls_protocol_error"));
    }
}

#[test]
fn a_server_whose_authority_is_given_is_believed_under_the_name_that_is_given() {
    let papers = Papers::new();
    let server = Server::answering(PAID, true, papers.settings(&[], false));
    expect_paid(&papers.before(&server.authority()).start());
}

#[test]
fn a_server_of_another_name_or_authority_gets_nothing() {
    let (papers, others) = (Papers::new(), Papers::new());
    let server = Server::answering(PAID, true, papers.settings(&[], false));
    expect_no_handshake(&others.before(&server.authority()).start());
    let nameless = GatewayPlan::before_url(&format!("https://{}", server.authority()));
    expect_no_handshake(&nameless.upstream(&format!("ca_file = \"{}\"", papers.file("ca.pem"))).start());
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_it() {
    let papers = Papers::new();
    let server = Server::answering(PAID, true, papers.settings(&[], true));
    let plan = papers.before(&server.authority());
    expect_paid(&papers.with_client_certificate(plan).start());
}

#[test]
fn a_server_that_misses_a_certificate_has_processed_nothing() {
    let papers = Papers::new();
    let server = Server::answering(PAID, true, papers.settings(&[], true));
    expect_no_handshake(&papers.before(&server.authority()).start());
}

#[test]
fn http_2_is_spoken_where_both_know_it_and_demanded_where_that_is_said() {
    let papers = Papers::new();
    let serve = |frames: &mut crate::harness::Frames| {
        while let Some(stream) = frames.whole_request() {
            frames.answer(stream, "201", "paid");
        }
    };
    let server = FrameServer::over_tls(papers.settings(&["h2", "http/1.1"], false), serve);
    for protocol in ["auto", "http2"] {
        let plan = papers.before(&server.authority()).upstream(&format!("protocol = \"{protocol}\""));
        expect_paid(&plan.start());
    }
    assert_eq!(server.requests(), 2);
    let old = Server::answering(PAID, true, papers.settings(&["http/1.1"], false));
    expect_paid(&papers.before(&old.authority()).start());
    expect_no_handshake(&papers.before(&old.authority()).upstream("protocol = \"http2\"").start());
    let silent = Server::answering(PAID, true, papers.settings(&[], false));
    expect_no_handshake(&papers.before(&silent.authority()).upstream("protocol = \"http2\"").start());
}

#[test]
fn http_1_1_is_spoken_where_that_is_said() {
    let papers = Papers::new();
    let server = Server::answering(PAID, true, papers.settings(&["h2", "http/1.1"], false));
    expect_paid(&papers.before(&server.authority()).upstream("protocol = \"http1\"").start());
}

#[test]
fn an_end_that_tls_does_not_vouch_for_cuts_an_answer_short() {
    const UNTIL_THE_END: &str = "HTTP/1.1 200 OK\r\n\r\nhalf of it, or all";
    let papers = Papers::new();
    for (says_goodbye, is_whole) in [(true, true), (false, false)] {
        let server = Server::answering(UNTIL_THE_END, says_goodbye, papers.settings(&[], false));
        let answer = papers.before(&server.authority()).start().ask(&get("/elsewhere"));
        assert_eq!((answer.status, answer.is_whole), (200, is_whole));
    }
}

#[test]
fn check_online_shakes_hands_as_the_gateway_would() {
    let papers = Papers::new();
    let server = Server::answering(PAID, true, papers.settings(&[], false));
    let (code, told) = papers.before(&server.authority()).check_online();
    assert_eq!(code, Some(0), "{told}");
    let (code, _) = Papers::new().before(&server.authority()).check_online();
    assert_eq!(code, Some(1));
}
