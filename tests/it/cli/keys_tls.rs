//! `onceway keys` over TLS: by whom the gateway must be vouched for, and what is shown to it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::{Ended, typed};
use crate::harness::PATIENCE;
use crate::harness::certificates::Authority;

const NOTHING: &str = r#"{"operations":[],"next":null,"looked_through":0}"#;

/// A listener that asks for a certificate and takes one connection. It ends with whether one was shown to it, or why
/// there was no TLS.
fn listener(authority: &Authority) -> (SocketAddr, JoinHandle<Result<bool, String>>) {
    let chain = CertificateDer::from_pem_file(authority.file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("server-key.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(asks.allow_unauthenticated().build().unwrap())
        .with_single_cert(vec![chain], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address, thread::spawn(move || serve(&listener, Arc::new(config))))
}

fn serve(listener: &TcpListener, config: Arc<ServerConfig>) -> Result<bool, String> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let (mut heard, mut byte) = (Vec::new(), [0]);
    while !heard.ends_with(b"\r\n\r\n") {
        tls.read_exact(&mut byte).map_err(|error| error.to_string())?;
        heard.push(byte[0]);
    }
    let status = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", NOTHING.len());
    tls.write_all(format!("{status}{NOTHING}").as_bytes()).unwrap();
    Ok(tls.conn.peer_certificates().is_some())
}

/// Types a list to the listener, by the name in its certificate.
fn list(address: SocketAddr, arguments: &[&str]) -> Ended {
    let url = format!("https://localhost:{}", address.port());
    typed(&[&["keys", "list", "--admin", &url], arguments].concat())
}

fn shown(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn whoever_is_vouched_for_is_asked_and_shown_the_certificate() {
    let authority = Authority::new("onceway test");
    let (certificate, key) = authority.caller_files("operator");
    let (address, served) = listener(&authority);
    let ca = authority.file("ca.pem");
    let ended =
        list(address, &["--ca", shown(&ca), "--cert", shown(&certificate), "--cert-key", shown(&key)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(served.join().unwrap(), Ok(true));
}

#[test]
fn whoever_is_not_vouched_for_is_told_nothing() {
    let (authority, other) = (Authority::new("onceway test"), Authority::new("somebody else"));
    let (address, served) = listener(&authority);
    let ended = list(address, &["--ca", shown(&other.file("ca.pem"))]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("agree on TLS") && ended.err.contains("--ca"), "{ended:?}");
    assert!(served.join().unwrap().is_err());
}

/// A gateway's file that has this listener as its operators' one.
fn file_of(authority: &Authority, address: SocketAddr) -> (TempDir, String) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("onceway.toml");
    let text = format!(
        "[upstreams.default]\nurl = \"http://127.0.0.1:9\"\n[admin]\nlisten = \"{address}\"\n{}\n",
        authority.listener_lines()
    );
    std::fs::write(&file, text).unwrap();
    let file = shown(&file).to_owned();
    (directory, file)
}

#[test]
fn with_the_gateways_file_its_own_certificate_is_trusted() {
    let authority = Authority::new("onceway test");
    let (address, served) = listener(&authority);
    let (_directory, file) = file_of(&authority, address);
    let ended = typed(&["keys", "list", "--config", &file]);
    assert_eq!((ended.code, served.join().unwrap()), (Some(0), Ok(false)), "{ended:?}");
}

#[test]
fn with_the_gateways_file_no_other_certificate_will_do() {
    let authority = Authority::new("onceway test");
    let (address, served) = listener(&authority);
    // Of the same authority and for the same name, and yet another.
    authority.renew("localhost");
    let (_directory, file) = file_of(&authority, address);
    let ended = typed(&["keys", "list", "--config", &file]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(served.join().unwrap().is_err());
}
