//! TLS to one upstream: whom it must be vouched for by, under which name, and how the gateway shows itself.
//!
//! Verification cannot be switched off. Session tickets are kept in memory; early data (RFC 8446 §2.3), which
//! could be replayed, is never sent. Must not know connections. Read `connect.rs` after.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{self, Protocol};

/// Whom one upstream is trusted by, and what it is offered.
#[derive(Clone, Debug)]
pub struct Trust(Option<Terms>);

/// How one upstream is met over TLS.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// The name that its certificate must hold, and that it is told (SNI).
    pub(super) name: ServerName<'static>,
    /// What the upstream's `protocol` allows is offered.
    pub(super) any: Arc<ClientConfig>,
    /// HTTP/1.1 alone is offered, for requests that may end in another protocol.
    pub(super) http1: Arc<ClientConfig>,
}

/// An upstream cannot be met over TLS.
#[derive(Debug, thiserror::Error)]
#[error("prepare TLS for upstream {upstream:?}")]
pub struct BadTrust {
    upstream: String,
    #[source]
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("take {0:?} as the name of its certificate")]
    Name(String, #[source] rustls::pki_types::InvalidDnsNameError),
    #[error("find a certificate that the operating system trusts: name a file of trusted ones in ca_file")]
    NobodyTrusted,
    #[error("use its settings")]
    Settings(#[source] rustls::Error),
}

impl Trust {
    /// Reads what is needed to meet this upstream; nothing where it speaks in the clear.
    pub fn of(config: &config::Upstream) -> Result<Self, BadTrust> {
        if !config.tls {
            return Ok(Self(None));
        }
        let terms = terms(config).map_err(|cause| BadTrust { upstream: config.name.clone(), cause })?;
        Ok(Self(Some(terms)))
    }

    pub(super) fn terms(&self) -> Option<&Terms> {
        self.0.as_ref()
    }
}

fn terms(config: &config::Upstream) -> Result<Terms, Cause> {
    let name = config.server_name.clone().unwrap_or_else(|| host_of(&config.authority).to_owned());
    let name = ServerName::try_from(name.clone()).map_err(|error| Cause::Name(name, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Cause::Settings)?
        .with_root_certificates(roots(config)?);
    let settings = match &config.identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain(), identity.reveal_key()),
        None => Ok(builder.with_no_client_auth()),
    };
    let settings = settings.map_err(Cause::Settings)?;
    let offering = |protocols: &[&[u8]]| {
        let mut settings = settings.clone();
        settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(settings)
    };
    let http1 = offering(&[b"http/1.1"]);
    let any = match config.protocol {
        Protocol::Auto => offering(&[b"h2", b"http/1.1"]),
        Protocol::Http1 => Arc::clone(&http1),
        Protocol::Http2 => offering(&[b"h2"]),
    };
    Ok(Terms { name, any, http1 })
}

fn roots(config: &config::Upstream) -> Result<RootCertStore, Cause> {
    let mut roots = RootCertStore::empty();
    if let Some(authorities) = &config.authorities {
        for certificate in &authorities.0 {
            roots.add(certificate.clone()).map_err(Cause::Settings)?;
        }
        return Ok(roots);
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Cause::NobodyTrusted) } else { Ok(roots) }
}

/// The host of `host` or `host:port`, an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_authority_is_found_with_and_without_a_port() {
        for (authority, host) in [
            ("api.internal", "api.internal"),
            ("api.internal:8443", "api.internal"),
            ("10.0.0.1:443", "10.0.0.1"),
            ("[::1]:443", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }
}
