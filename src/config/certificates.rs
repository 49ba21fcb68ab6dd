//! Certificates and private keys, read from PEM files.
//!
//! A problem names the key of the file, never what stands in it. Must not know who shows or checks them.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files;
use super::problem::Unfit;
use super::section::{Findings, Section};
use super::{CallersCertificate, ServerTls};

/// Largest file of certificates: a system's whole bundle is a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Certificates that vouch for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(pub Vec<CertificateDer<'static>>);

/// A certificate with its chain, and its private key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// The certificate itself first, then those that vouch for it.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The private key, for the one who needs it.
    pub fn reveal_key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key.secret_der() == other.key.secret_der()
    }
}

impl Eq for Identity {}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Reads an identity from the files that two keys name; both or neither must be there.
pub(super) fn identity(
    find: &mut Findings<'_>,
    section: &Section<'_>,
    certificate_name: &str,
    key_name: &str,
) -> Option<Identity> {
    let certificates = files::bytes(find, section, certificate_name, FILE_BYTES_MAX);
    let key = files::bytes(find, section, key_name, FILE_BYTES_MAX);
    match (section.value(certificate_name), section.value(key_name)) {
        (Some(_), None) => section.missing(find, key_name),
        (None, Some(_)) => section.missing(find, certificate_name),
        (Some(_), Some(_)) | (None, None) => {}
    }
    let chain = certificates.and_then(|bytes| chain(find, section, certificate_name, &bytes));
    let key = key.and_then(|bytes| {
        let key = PrivateKeyDer::from_pem_slice(&bytes).ok();
        if key.is_none() {
            files::refuse(
                find,
                section,
                key_name,
                Unfit::Expected("a PEM file that holds a private key".to_owned()),
            );
        }
        key
    });
    let identity = Identity { chain: chain?, key: Arc::new(key?) };
    if belongs_together(&identity) {
        return Some(identity);
    }
    let wanted = format!("the private key that belongs to the first certificate of {certificate_name}");
    files::refuse(find, section, key_name, Unfit::Expected(wanted));
    None
}

/// Reads certificates that vouch for others from the file that a key names.
pub(super) fn authorities(find: &mut Findings<'_>, section: &Section<'_>, name: &str) -> Option<Authorities> {
    let bytes = files::bytes(find, section, name, FILE_BYTES_MAX)?;
    let found = chain(find, section, name, &bytes)?;
    let mut roots = rustls::RootCertStore::empty();
    if found.iter().any(|certificate| roots.add(certificate.clone()).is_err()) {
        let wanted = "a PEM file all of whose certificates can vouch for others".to_owned();
        files::refuse(find, section, name, Unfit::Expected(wanted));
        return None;
    }
    Some(Authorities(found))
}

/// Reads what a listener shows and asks for: `tls_certificate_file`, `tls_key_file` and `tls_client_ca_file`.
/// `certificate`: whether those who show none are refused.
pub(super) fn server_tls(
    find: &mut Findings<'_>,
    section: &Section<'_>,
    certificate: CallersCertificate,
) -> Option<ServerTls> {
    let identity = identity(find, section, "tls_certificate_file", "tls_key_file");
    let authorities = authorities(find, section, "tls_client_ca_file");
    let is_asked = section.value("tls_client_ca_file").is_some();
    if is_asked && section.value("tls_certificate_file").is_none() {
        section.missing(find, "tls_certificate_file");
    }
    Some(ServerTls {
        identity: identity?,
        callers: authorities.map(|authorities| (authorities, certificate)),
    })
}

fn chain(
    find: &mut Findings<'_>,
    section: &Section<'_>,
    name: &str,
    bytes: &[u8],
) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Some(found),
        Ok(_) | Err(_) => {
            files::refuse(
                find,
                section,
                name,
                Unfit::Expected("a PEM file that holds certificates".to_owned()),
            );
            None
        }
    }
}

fn belongs_together(identity: &Identity) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(identity.chain(), identity.reveal_key(), &provider).is_ok()
}
