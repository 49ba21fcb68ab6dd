//! An authority made for one test, the files that a gateway reads, and callers who show what it signed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use super::PATIENCE;

/// An authority, and the files of a listener whose certificate it signed.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key.
pub(crate) struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// A caller over TLS.
#[derive(Clone)]
pub(crate) struct TlsCaller {
    roots: RootCertStore,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    protocols: Vec<Vec<u8>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, dir: TempDir::new().unwrap() };
        std::fs::write(authority.dir.path().join("ca.pem"), authority.issuer.pem()).unwrap();
        authority.renew("localhost");
        authority
    }

    /// Writes another certificate for this host into the files of the listener.
    pub(crate) fn renew(&self, host: &str) {
        let signed = self.sign(host, ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(self.dir.path().join("server.pem"), signed.certificate.pem()).unwrap();
        std::fs::write(self.dir.path().join("server-key.pem"), signed.key.serialize_pem()).unwrap();
    }

    /// A caller's certificate.
    pub(crate) fn caller(&self, name: &str) -> Signed {
        self.sign(name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// As [`Authority::caller`], in files: the certificate and its key.
    pub(crate) fn caller_files(&self, name: &str) -> (PathBuf, PathBuf) {
        let (signed, certificate, key) =
            (self.caller(name), self.file("caller.pem"), self.file("caller-key.pem"));
        std::fs::write(&certificate, signed.certificate.pem()).unwrap();
        std::fs::write(&key, signed.key.serialize_pem()).unwrap();
        (certificate, key)
    }

    /// One of its files: `ca.pem`, `server.pem` or `server-key.pem`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Signed {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Signed { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// The lines of `[server]` by which a listener speaks TLS.
    pub(crate) fn listener_lines(&self) -> String {
        let file = |name| shown(&self.dir.path().join(name));
        format!(
            "tls_certificate_file = \"{}\"\ntls_key_file = \"{}\"",
            file("server.pem"),
            file("server-key.pem")
        )
    }

    /// The line of `[server]` by which callers are asked for certificates.
    pub(crate) fn asking_line(&self) -> String {
        format!("tls_client_ca_file = \"{}\"", shown(&self.dir.path().join("ca.pem")))
    }

    /// A caller that trusts the listener and has nothing to show.
    pub(crate) fn stranger(&self) -> TlsCaller {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        TlsCaller { roots, identity: None, protocols: Vec::new(), versions: rustls::ALL_VERSIONS }
    }
}

impl Signed {
    /// The certificate as text.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }
}

impl TlsCaller {
    pub(crate) fn showing(mut self, signed: &Signed) -> Self {
        self.identity = Some((signed.certificate.der().to_vec(), signed.key.serialize_der()));
        self
    }

    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) fn of_version(mut self, version: &'static [&'static SupportedProtocolVersion]) -> Self {
        self.versions = version;
        self
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::Pkcs8(key.clone().into());
                builder.with_client_auth_cert(vec![certificate.clone().into()], key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.protocols);
        config
    }

    /// Does the handshake with whoever listens at `address` under the name of `localhost`.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        Self::connect_as(&Arc::new(self.config()), address, "localhost")
    }

    /// Does it with another configuration, under another name.
    pub(crate) fn connect_as(
        config: &Arc<ClientConfig>,
        address: SocketAddr,
        host: &str,
    ) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(session, over(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// Says bytes over TLS and reads until the end; what the end was, if it was not in order.
    pub(crate) fn say(&self, address: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
        let mut stream = self.connect(address)?;
        stream.write_all(bytes)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8(answer).unwrap())
    }
}

fn over(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
