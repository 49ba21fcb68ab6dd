//! TLS towards the operators' listener: by whom it must be vouched for, and the certificate that is shown to it.
//!
//! Verification cannot be switched off. With the gateway's own configuration file at hand its certificate is known,
//! and no other will do, whoever vouches for it. Must not know what is said over the connection.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Largest file of certificates that is read.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How the gateway is met over TLS.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) settings: Arc<ClientConfig>,
    /// What its certificate must be for.
    pub(super) name: ServerName<'static>,
}

/// Who vouches for the gateway.
#[derive(Debug)]
pub(super) enum Vouched {
    /// Whoever the operating system trusts.
    BySystem,
    /// The certificates in this PEM text.
    By(Vec<u8>),
    /// Nobody: it shows the first of these and no other.
    Exactly(Vec<CertificateDer<'static>>),
}

/// TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum BadTrust {
    /// The host of the address.
    #[error("{0:?} is no name that a certificate can hold")]
    Name(String, #[source] InvalidDnsNameError),
    /// Nothing to go by.
    #[error(
        "no certificate is found that the operating system trusts; name those who vouch for the gateway with --ca"
    )]
    NobodyTrusted,
    /// A file.
    #[error("{0}: expected a PEM file that holds {1}")]
    Pem(&'static str, &'static str),
    /// A certificate and a key that do not belong together, or the like.
    #[error("--cert and --cert-key: {0}")]
    Shown(#[source] rustls::Error),
    /// A certificate that cannot vouch for others.
    #[error("--ca: {0}")]
    Authority(#[source] rustls::Error),
    /// The library.
    #[error("TLS cannot be set up")]
    Settings(#[source] rustls::Error),
}

impl Trust {
    /// `shown`: a certificate with its chain, and its key, each as PEM text.
    pub(super) fn new(
        authority: &str,
        vouched: Vouched,
        shown: Option<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Self, BadTrust> {
        let host = host_of(authority);
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| BadTrust::Name(host.to_owned(), error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(BadTrust::Settings)?;
        let builder = match vouched {
            Vouched::BySystem => builder.with_root_certificates(of_system()?),
            Vouched::By(pem) => builder.with_root_certificates(of_file(&pem)?),
            Vouched::Exactly(chain) => {
                let only = Arc::new(Only { certificate: chain.into_iter().next(), provider });
                builder.dangerous().with_custom_certificate_verifier(only)
            }
        };
        let settings = match shown {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("--cert", &certificate)?;
                let key = PrivateKeyDer::from_pem_slice(&key);
                let key = key.ok().ok_or(BadTrust::Pem("--cert-key", "a private key"))?;
                builder.with_client_auth_cert(chain, key).map_err(BadTrust::Shown)?
            }
        };
        Ok(Self { settings: Arc::new(settings), name })
    }
}

fn of_system() -> Result<RootCertStore, BadTrust> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(BadTrust::NobodyTrusted) } else { Ok(roots) }
}

fn of_file(pem: &[u8]) -> Result<RootCertStore, BadTrust> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--ca", pem)? {
        roots.add(certificate).map_err(BadTrust::Authority)?;
    }
    Ok(roots)
}

fn certificates(argument: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BadTrust> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or(BadTrust::Pem(argument, "certificates"))
}

/// The host of `host` or `host:port`, an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Takes one certificate and no other. That its key is there too is still checked.
#[derive(Debug)]
struct Only {
    certificate: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificate.as_ref() == Some(end_entity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
