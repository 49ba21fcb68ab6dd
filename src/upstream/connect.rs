//! How a connection is made: resolve, connect, TLS, all within one deadline, and the link put under watch.
//!
//! Must not know requests. Read `connection.rs` for the watch, `tls.rs` for whom TLS believes.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{AlertDescription, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::connection::{Count, Link, Watched};
use super::failure::{NotSent, SendError};
use super::resolve::Names;
use super::tls::{Terms, Trust};
use crate::config::{self, Protocol};
use crate::net::{self, Stream};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection on which nothing comes is asked whether it lives after so long, so often, and so many times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_ASKS: u32 = 3;

/// Makes connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector<Names>,
    target: Uri,
    terms: Option<Terms>,
    protocol: Protocol,
    count: Count,
}

/// A new connection, and which HTTP is spoken on it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) transport: Transport,
    pub(super) is_http2: bool,
}

/// A connection under watch, in the clear or not.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Watched),
    Tls { stream: Box<TlsStream<Watched>>, has_heard: bool },
}

/// The name of an upstream does not resolve.
#[derive(Debug, thiserror::Error)]
#[error("resolve the upstream's name")]
pub(super) struct ResolveFailed(#[source] pub(super) io::Error);

/// No connection in time.
#[derive(Debug, thiserror::Error)]
#[error("connect within {0:?}")]
pub(super) struct ConnectTimedOut(pub(super) Duration);

/// The TLS handshake failed.
#[derive(Debug, thiserror::Error)]
#[error("do the TLS handshake")]
struct HandshakeFailed(#[source] io::Error);

/// HTTP/2 is demanded, and the server does not choose it.
#[derive(Debug, thiserror::Error)]
#[error("agree on HTTP/2: the server does not choose it (ALPN)")]
struct NoHttp2;

impl Connector {
    /// Errors: the authority cannot stand in an address.
    pub(super) fn new(
        config: &config::Upstream,
        authority: &Authority,
        trust: &Trust,
        names: &Names,
        count: Count,
    ) -> Result<Self, http::Error> {
        let mut http = HttpConnector::new_with_resolver(names.clone());
        // Shared among the addresses of a name, so that each is tried.
        http.set_connect_timeout(Some(config.connect_timeout));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE_AFTER));
        http.set_keepalive_interval(Some(KEEPALIVE_EVERY));
        http.set_keepalive_retries(Some(KEEPALIVE_ASKS));
        let scheme = if config.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let target =
            Uri::builder().scheme(scheme).authority(authority.clone()).path_and_query("/").build()?;
        Ok(Self { http, target, terms: trust.terms().cloned(), protocol: config.protocol, count })
    }

    /// Connects. With `http1_only`, HTTP/2 is not offered.
    ///
    /// Errors: the request for which this is has not been sent.
    pub(super) async fn connect(&self, http1_only: bool) -> Result<Connected, SendError> {
        let connecting = async {
            let mut stream = Watched::new(self.dial().await?, self.count.one());
            let Some(terms) = &self.terms else {
                let is_http2 = self.protocol == Protocol::Http2 && !http1_only;
                if is_http2 {
                    stream.let_speak_first();
                }
                return Ok(Connected { transport: Transport::Plain(stream), is_http2 });
            };
            let settings = if http1_only { &terms.http1 } else { &terms.any };
            let connecting = TlsConnector::from(settings.clone()).connect(terms.name.clone(), stream);
            let mut stream = connecting.await.map_err(HandshakeFailed)?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if is_http2 {
                stream.get_mut().0.let_speak_first();
            }
            if self.protocol == Protocol::Http2 && !is_http2 && !http1_only {
                return Err(NoHttp2.into());
            }
            let transport = Transport::Tls { stream: Box::new(stream), has_heard: false };
            Ok(Connected { transport, is_http2 })
        };
        connecting.await.map_err(|error: BoxError| SendError::NotSent(cause_of(&*error), error))
    }

    async fn dial(&self) -> Result<Stream, BoxError> {
        #[cfg(test)]
        if let Some(connecting) = net::simulated::connect() {
            return Ok(connecting.await?);
        }
        let mut http = self.http.clone();
        poll_fn(|cx| http.poll_ready(cx)).await?;
        Ok(net::of_tcp(http.call(self.target.clone()).await?.into_inner()))
    }
}

fn cause_of(error: &(dyn std::error::Error + 'static)) -> NotSent {
    let mut causes = super::failure::causes(error);
    let told = causes.find_map(|cause| {
        let is_late =
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if cause.is::<ConnectTimedOut>() || is_late {
            Some(NotSent::ConnectTimeout)
        } else if cause.is::<ResolveFailed>() {
            Some(NotSent::Dns)
        } else {
            (cause.is::<HandshakeFailed>() || cause.is::<NoHttp2>()).then_some(NotSent::Tls)
        }
    });
    told.unwrap_or(NotSent::Connect)
}

/// Makes one connection to each server of an upstream, TLS included, and closes it: whether they are there at all.
pub async fn connect_once(config: &config::Upstream, trust: &Trust) -> Result<(), BoxError> {
    let names = Names::known_for(config.resolve_every);
    for server in &config.servers {
        let connector = Connector::new(config, &server.parse()?, trust, &names, Count::default())?;
        let connected = tokio::time::timeout(config.connect_timeout, connector.connect(false)).await;
        let connected = connected.unwrap_or_else(|_| {
            Err(SendError::NotSent(NotSent::ConnectTimeout, ConnectTimedOut(config.connect_timeout).into()))
        });
        drop(connected.map_err(|error| error.at(&config.name, server))?);
    }
    Ok(())
}

impl Transport {
    /// What requests on this connection know of it.
    pub(super) fn link(&self) -> &Link {
        match self {
            Self::Plain(stream) => stream.link(),
            Self::Tls { stream, .. } => stream.get_ref().0.link(),
        }
    }

    /// Tells the link whether what was written is with the kernel, and not in a TLS buffer.
    fn note_drained(&self) {
        match self {
            Self::Plain(stream) => stream.link().drained(),
            Self::Tls { stream, .. } if stream.get_ref().1.wants_write() => {}
            Self::Tls { stream, .. } => stream.get_ref().0.link().drained(),
        }
    }
}

/// Whether the server says by this that it does not take the handshake. In TLS 1.3 a client may write before it
/// learns what the server makes of its certificate (RFC 8446 §4.4.2.4 and §6.2); a server reads nothing of it then.
fn ends_handshake(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::AlertReceived(alert)) = cause else { return false };
    matches!(
        alert,
        AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
    )
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls { stream, has_heard } => {
                let before = buf.filled().len();
                let read = Pin::new(&mut **stream).poll_read(cx, buf);
                *has_heard |= buf.filled().len() > before;
                if let Poll::Ready(Err(error)) = &read
                    && !*has_heard
                    // Before, the server's word on the handshake came before anything was written.
                    && stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3)
                    && ends_handshake(error)
                {
                    stream.get_ref().0.link().turn_away();
                }
                read
            }
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match this {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        };
        this.note_drained();
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match this {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.note_drained();
        written
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match this {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        };
        this.note_drained();
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("target", &self.target).finish_non_exhaustive()
    }
}
