//! The services behind the gateway. Every failure first answers: did the request leave?
//!
//! Must not know keys, claims or routes. Read this file, then `server.rs` (sending to one server), `pool.rs` (this
//! worker's connections to it), `http1.rs` and `http2.rs` (one connection), `connection.rs` (what is asked before a
//! request's first byte is written), `failure.rs` (what proves that nothing was processed), `connect.rs`, `tls.rs`,
//! `progress.rs`, `body.rs`.

mod body;
mod connect;
mod connection;
mod failure;
mod http1;
mod http2;
mod pool;
mod progress;
mod server;
mod tls;

use std::sync::Arc;

use http::uri::{Authority, PathAndQuery, Uri};
use http::{Request, Response};

use crate::config;

pub use body::{AnswerBody, AnswerBroken, Buffered, RequestBody, Trailers, with_trailers};
pub use connect::connect_once;
pub use failure::{Broken, NotSent, SendError};
pub use progress::{Licence, Progress};
use server::Server;
pub use tls::{BadTrust, Trust};

/// One service, with this worker's connections to its servers.
#[derive(Clone, Debug)]
pub struct Upstream {
    servers: Arc<[Server]>,
    base_path: String,
    timeouts: Timeouts,
}

/// How long an upstream is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To resolve, connect and do the TLS handshake.
    pub connect: std::time::Duration,
    /// From the request to the end of a buffered answer, or between two reads of a streamed one.
    pub response: std::time::Duration,
}

/// An upstream's address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("use {authority:?} as the authority of upstream {name:?}")]
pub struct BadAddress {
    name: String,
    authority: String,
    #[source]
    source: http::Error,
}

impl Upstream {
    /// Makes the clients of one worker for one upstream.
    pub fn new(config: &config::Upstream, trust: &Trust) -> Result<Self, BadAddress> {
        let server = |authority: &String| {
            let parsed: Result<Authority, _> = authority.parse().map_err(http::Error::from);
            let server = parsed.and_then(|parsed| Server::new(config, parsed, trust));
            server.map_err(|source| BadAddress {
                name: config.name.clone(),
                authority: authority.clone(),
                source,
            })
        };
        Ok(Self {
            servers: config.servers.iter().map(server).collect::<Result<_, _>>()?,
            base_path: config.base_path.clone(),
            timeouts: Timeouts { connect: config.connect_timeout, response: config.response_timeout },
        })
    }

    /// How long it is waited for.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request and answers the head of its answer, with the body still to come. The request's
    /// target is replaced by this upstream's; path and query travel as they are. `progress` is told when
    /// there is a connection and when the body moves.
    ///
    /// Errors: [`SendError`] says whether the request left.
    /// Cancel safety: dropping the future closes the connection; the request may have left.
    pub async fn send(
        &self,
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        // RFC 9112 §3.2.4: an asterisk is the server as a whole, below no path.
        if !self.base_path.is_empty() && request.uri().path() != "*" {
            *request.uri_mut() = self.below_base(request.uri().path_and_query())?;
        }
        let Some(server) = self.servers.first() else {
            return Err(SendError::NotSent(NotSent::Connect, "the upstream has no server".into()));
        };
        server.send(request, progress).await
    }

    fn below_base(&self, asked: Option<&PathAndQuery>) -> Result<Uri, SendError> {
        let asked = asked.map_or("/", PathAndQuery::as_str);
        let target = format!("{}{asked}", self.base_path);
        target
            .parse()
            .map_err(|error: http::uri::InvalidUri| SendError::NotSent(NotSent::Connect, error.into()))
    }
}
