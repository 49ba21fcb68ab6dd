//! How a connection is made: resolve, connect, TLS, all within one deadline, and the link put under watch.
//!
//! Must not know requests. Read `connection.rs` for the watch.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

use super::connection::Watched;
use super::resolve::Names;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Which certificates of upstreams are trusted.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// Makes connections to upstreams.
#[derive(Clone)]
pub struct Connector {
    inner: HttpsConnector<Watching>,
    deadline: Duration,
}

/// The name of an upstream does not resolve.
#[derive(Debug, thiserror::Error)]
#[error("resolve the upstream's name")]
pub(super) struct ResolveFailed(#[source] pub(super) std::io::Error);

/// No connection in time.
#[derive(Debug, thiserror::Error)]
#[error("connect within {0:?}")]
pub(super) struct ConnectTimedOut(Duration);

impl Trust {
    /// Trusts what the operating system trusts. Pass `false` when no upstream uses TLS, to skip reading
    /// the certificates.
    ///
    /// Errors: the system's certificates cannot be read.
    pub fn of_system(needed: bool) -> std::io::Result<Self> {
        use hyper_rustls::ConfigBuilderExt as _;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?;
        let config = if needed {
            builder.with_native_roots()?.with_no_client_auth()
        } else {
            builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        };
        Ok(Self(Arc::new(config)))
    }
}

impl Connector {
    pub(super) fn new(deadline: Duration, trust: &Trust, names: &Names) -> Self {
        let mut http = HttpConnector::new_with_resolver(names.clone());
        // Shared among the addresses of a name, so that each is tried.
        http.set_connect_timeout(Some(deadline));
        http.enforce_http(false);
        http.set_nodelay(true);
        let config = ClientConfig::clone(&trust.0);
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(Watching(http));
        Self { inner, deadline }
    }
}

/// Makes one connection to an upstream, TLS included, and closes it: whether the upstream is there at all.
pub async fn connect_once(config: &crate::config::Upstream, trust: &Trust) -> Result<(), BoxError> {
    let scheme = if config.tls { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(&*config.authority).path_and_query("/").build()?;
    let mut connector =
        Connector::new(config.connect_timeout, trust, &Names::known_for(config.resolve_every));
    poll_fn(|cx| connector.poll_ready(cx)).await?;
    connector.call(uri).await.map(drop)
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Watched>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, deadline) = (self.inner.call(target), self.deadline);
        Box::pin(async move {
            tokio::time::timeout(deadline, connecting)
                .await
                .unwrap_or_else(|_| Err(ConnectTimedOut(deadline).into()))
        })
    }
}

/// Puts a plain connection under watch; TLS, if any, goes on top.
#[derive(Clone)]
struct Watching(HttpConnector<Names>);

impl Service<Uri> for Watching {
    type Response = Watched;
    type Error = BoxError;
    type Future = BoxFuture<Watched, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let is_tls = target.scheme() == Some(&http::uri::Scheme::HTTPS);
        let mut connector = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            let stream: TokioIo<TcpStream> = connector.call(target).await?;
            Ok(Watched::new(stream, is_tls))
        })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
