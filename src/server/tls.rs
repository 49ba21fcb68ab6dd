//! TLS towards callers: which certificate they see, which of theirs is believed, and which protocol comes of it.
//!
//! Must not know requests. Built where errors can be told, at the start and at a reload. Read `docs/tls.md` for what
//! operators are told, `connection.rs` for where a connection goes from here.

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

use super::socket::Socket;
use crate::config::{CallersCertificate, Server, ServerTls};
use crate::proxy::CallersName;

/// RFC 7301 §6: what callers are offered, the better first.
const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// Offered by clients that are told to speak no later version (`curl --http1.0`).
const HTTP_1_0: &[u8] = b"http/1.0";

/// Makes TLS of accepted connections.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    /// What it was made of.
    asked: (ServerTls, bool),
    /// Cancelled when other authorities vouch for callers, or none.
    withdrawn: CancellationToken,
}

/// Why TLS cannot be spoken as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    /// The certificate or its key.
    #[error("use the certificate")]
    Identity(#[source] rustls::Error),
    /// The certificates of those who vouch for callers.
    #[error("use tls_client_ca_file")]
    Authorities(#[source] rustls::Error),
    /// The same, as a whole.
    #[error("use tls_client_ca_file")]
    Verifier(#[from] VerifierBuilderError),
}

/// A connection under TLS.
pub(super) type TlsStream = tokio_rustls::server::TlsStream<Socket>;

/// A connection whose handshake is done.
pub(super) struct Secured {
    pub(super) stream: TlsStream,
    /// Whether HTTP/2 was agreed upon.
    pub(super) is_http2: bool,
    pub(super) certificate: Option<CallersName>,
}

impl Acceptor {
    /// Speaks TLS by these settings; `None` if they ask for none.
    ///
    /// Errors: the certificates cannot be used.
    pub fn of(settings: &Server) -> Result<Option<Self>, BadTls> {
        settings.tls.as_ref().map(|tls| Self::by(tls, settings.http2)).transpose()
    }

    /// Speaks TLS in this way. `http2`: whether that is offered beside HTTP/1.
    ///
    /// Errors: the certificates cannot be used.
    pub fn by(asked: &ServerTls, http2: bool) -> Result<Self, BadTls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(BadTls::Identity)?;
        let builder = match &asked.callers {
            None => builder.with_no_client_auth(),
            Some((authorities, certificate)) => {
                let mut roots = RootCertStore::empty();
                for authority in &authorities.0 {
                    roots.add(authority.clone()).map_err(BadTls::Authorities)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(match certificate {
                    CallersCertificate::Required => verifier.build()?,
                    CallersCertificate::Optional => verifier.allow_unauthenticated().build()?,
                })
            }
        };
        let mut config = builder
            .with_single_cert(asked.identity.chain(), asked.identity.reveal_key())
            .map_err(BadTls::Identity)?;
        if asked.callers.is_some() {
            // A resumed session brings its certificate along unchecked, though it may have expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(BadTls::Identity)?;
        }
        // No early data (RFC 8446 §8): whoever records it can send it again.
        config.max_early_data_size = 0;
        let offered = http2.then_some(HTTP_2).into_iter().chain([HTTP_1_1, HTTP_1_0]);
        config.alpn_protocols = offered.map(<[u8]>::to_vec).collect();
        let (tls, asked) = (TlsAcceptor::from(Arc::new(config)), (asked.clone(), http2));
        Ok(Self { tls, asked, withdrawn: CancellationToken::new() })
    }

    /// Goes on as `next`. Connections whose callers were vouched for by others than vouch for callers now come to their
    /// end: a certificate is looked at when a connection is made, and what it was worth then it need not be any more.
    pub fn succeeded_by(before: Option<&Self>, next: Option<Self>) -> Option<Self> {
        match (before, next) {
            (Some(before), Some(next)) if before.asked.0.callers == next.asked.0.callers => {
                Some(Self { withdrawn: before.withdrawn.clone(), ..next })
            }
            (Some(before), next) => {
                before.withdrawn.cancel();
                next
            }
            (None, next) => next,
        }
    }

    /// Cancelled when those who vouch for callers now no longer do.
    pub fn withdrawn(&self) -> CancellationToken {
        self.withdrawn.clone()
    }

    /// Does the handshake. Where it fails the caller has been told why, as far as TLS has a word for it.
    pub(super) async fn accept(&self, socket: Socket) -> io::Result<Secured> {
        let stream = self.tls.accept(socket).await?;
        let (_, session) = stream.get_ref();
        let is_http2 = session.alpn_protocol() == Some(HTTP_2);
        let certificate = shown_in(session, name_of)?;
        Ok(Secured { stream, is_http2, certificate })
    }

    /// Does the handshake on any stream, and answers beside it the subject of the certificate that the peer has shown
    /// and that was verified, if it was asked for one and has.
    pub async fn admit<S>(
        &self,
        stream: S,
    ) -> io::Result<(impl AsyncRead + AsyncWrite + Unpin + Send + use<S>, Option<String>)>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let stream = self.tls.accept(stream).await?;
        let subject = shown_in(stream.get_ref().1, subject_of)?;
        Ok((stream, subject))
    }
}

/// What `read` makes of the certificate that the peer has shown, if it has.
fn shown_in<T>(
    session: &ServerConnection,
    read: impl Fn(&CertificateDer<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    let leaf = session.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the peer's certificate cannot be read");
    leaf.map(|leaf| read(leaf).ok_or_else(unreadable)).transpose()
}

impl PartialEq for Acceptor {
    fn eq(&self, other: &Self) -> bool {
        self.asked == other.asked
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// Whom the first certificate of a PEM text was made for, as callers are told apart by it; `None` if there is none that
/// can be read.
pub fn name_in_pem(text: &str) -> Option<CallersName> {
    name_of(&CertificateDer::from_pem_slice(text.as_bytes()).ok()?)
}

/// Whom a verified certificate was made for, for people.
fn subject_of(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    Some(certificate.subject().to_string())
}

/// Who a verified certificate was made for, and by whom: issuer, subject and alternative names, each with its length
/// before it, so that no two lists read alike.
///
/// The serial number, the dates and the key are left out: they change when a certificate is renewed. So do the type of
/// string in which an authority writes a name, and the order of alternative names, which count for nothing here
/// (RFC 5280 §7.1).
fn name_of(leaf: &CertificateDer<'_>) -> Option<CallersName> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let mut parts = Parts::default();
    parts.name(certificate.issuer());
    parts.name(certificate.subject());
    let mut alternatives: Vec<Vec<u8>> = Vec::new();
    if let Some(names) = certificate.subject_alternative_name().ok()? {
        alternatives.extend(names.value.general_names.iter().map(alternative));
    }
    alternatives.sort_unstable();
    alternatives.dedup();
    parts.count(alternatives.len());
    for alternative in &alternatives {
        parts.part(alternative);
    }
    Some(CallersName(parts.0.into()))
}

/// An alternative name with its kind before it.
fn alternative(name: &GeneralName<'_>) -> Vec<u8> {
    match name {
        GeneralName::RFC822Name(text) => [b"1", text.as_bytes()].concat(),
        // RFC 4343: the case of a DNS name means nothing.
        GeneralName::DNSName(text) => [b"2", text.to_ascii_lowercase().as_bytes()].concat(),
        GeneralName::DirectoryName(name) => {
            let mut parts = Parts(vec![b'4']);
            parts.name(name);
            parts.0
        }
        GeneralName::URI(text) => [b"6", text.as_bytes()].concat(),
        GeneralName::IPAddress(bytes) => [b"7", *bytes].concat(),
        // Whatever stands beyond a name's type is taken as it was encoded.
        GeneralName::OtherName(kind, value) => with_kind(b'0', kind.as_bytes(), value),
        GeneralName::X400Address(value) => [b"3", value.data].concat(),
        GeneralName::EDIPartyName(value) => [b"5", value.data].concat(),
        GeneralName::RegisteredID(kind) => [b"8", kind.as_bytes()].concat(),
        GeneralName::Invalid(tag, value) => with_kind(b'9', &tag.0.to_be_bytes(), value),
    }
}

fn with_kind(first: u8, kind: &[u8], value: &[u8]) -> Vec<u8> {
    let mut parts = Parts(vec![first]);
    parts.part(kind);
    parts.part(value);
    parts.0
}

#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&u64::try_from(count).unwrap_or(u64::MAX).to_be_bytes());
    }

    fn part(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn name(&mut self, name: &X509Name<'_>) {
        self.count(name.iter_rdn().count());
        for relative in name.iter_rdn() {
            self.count(relative.iter().count());
            for attribute in relative.iter() {
                self.part(attribute.attr_type().as_bytes());
                match attribute.as_str() {
                    Ok(text) => self.part(&[b"s", text.as_bytes()].concat()),
                    Err(_) => self.part(&[b"b", attribute.as_slice()].concat()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::PrintableString;
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, DnValue, IsCa, KeyPair, SanType,
    };

    fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn issued(by: &CertifiedIssuer<'_, KeyPair>, change: impl FnOnce(&mut CertificateParams)) -> CallersName {
        let mut params = CertificateParams::new(vec!["a.test".to_owned(), "b.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "caller");
        change(&mut params);
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), by).unwrap();
        name_of(certificate.der()).unwrap()
    }

    #[test]
    fn a_caller_keeps_its_name_when_its_certificate_is_renewed() {
        let ca = issuer("ca");
        let first = issued(&ca, |_| {});
        for renewed in [
            issued(&ca, |params| params.serial_number = Some(7.into())),
            issued(&ca, |params| params.not_after = rcgen::date_time_ymd(2090, 1, 1)),
            issued(&ca, |params| params.subject_alt_names.reverse()),
            issued(&ca, |params| {
                let text = PrintableString::try_from("caller").unwrap();
                params.distinguished_name.push(DnType::CommonName, DnValue::PrintableString(text));
            }),
        ] {
            assert_eq!(renewed, first);
        }
    }

    #[test]
    fn callers_who_differ_in_issuer_subject_or_alternative_names_are_not_one() {
        let (ca, other) = (issuer("ca"), issuer("other"));
        let names = [
            issued(&ca, |_| {}),
            issued(&other, |_| {}),
            issued(&ca, |params| params.distinguished_name.push(DnType::CommonName, "callers")),
            issued(&ca, |params| params.distinguished_name.push(DnType::OrganizationName, "caller")),
            issued(&ca, |params| params.subject_alt_names.truncate(1)),
            issued(&ca, |params| {
                let name = "a.testb.test".try_into().unwrap();
                params.subject_alt_names = vec![SanType::DnsName(name)];
            }),
            issued(&ca, |params| {
                let name = "a.test".try_into().unwrap();
                params.subject_alt_names.push(SanType::Rfc822Name(name));
            }),
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(names[at + 1..].iter().all(|other| other != name), "{at}");
        }
    }
}
