//! The services behind the gateway. Every failure first answers: did the request leave?
//!
//! Must not know keys, claims or routes. Read this file, then `connection.rs` (what is asked before a request's
//! first byte is written), `progress.rs`, `connect.rs`, `body.rs`.

mod body;
mod connect;
mod connection;
mod progress;

use std::error::Error as StdError;
use std::pin::pin;

use http::header::{self, HeaderMap};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config;

pub use body::{AnswerBody, Buffered, RequestBody, Trailers, with_trailers};
use connect::{ConnectTimedOut, ResolveFailed};
pub use connect::{Connector, Trust, connect_once};
use connection::Link;
pub use progress::{Licence, Progress};

/// How often a request goes to another connection because the one it was given had died while idle.
const STALE_RETRIES_MAX: usize = 8;

/// Idle connections kept for one upstream by one worker.
const IDLE_CONNECTIONS_MAX: usize = 1024;

/// One service, with this worker's connections to it.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client<Connector, RequestBody>,
    scheme: Scheme,
    authority: http::uri::Authority,
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
    source: http::uri::InvalidUri,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Not one byte of the request left: it may be sent again.
    #[error("reach the upstream ({0:?})")]
    NotSent(NotSent, #[source] Box<dyn StdError + Send + Sync>),
    /// A byte may have left: nobody knows what came of it.
    #[error("get the upstream's answer ({0:?})")]
    Unknown(Broken, #[source] Box<dyn StdError + Send + Sync>),
}

/// Why a request could not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The name does not resolve.
    Dns,
    /// The connection was refused or could not be made.
    Connect,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// Every connection tried was already dead.
    ConnectionDead,
}

/// How an exchange broke after a byte may have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Reset or closed.
    ConnectionLost,
    /// The answer is not HTTP.
    Malformed,
    /// The caller's own body broke off on its way through.
    CallersBody,
}

impl Upstream {
    /// Makes the client of one worker for one upstream.
    pub fn new(config: &config::Upstream, trust: &Trust) -> Result<Self, BadAddress> {
        let authority = config.authority.parse().map_err(|source| BadAddress {
            name: config.name.clone(),
            authority: config.authority.clone(),
            source,
        })?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            // Resends only what hyper gives back as never started.
            .retry_canceled_requests(true)
            .set_host(true)
            .build(Connector::new(config.connect_timeout, trust));
        Ok(Self {
            client,
            scheme: if config.tls { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
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
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let (parts, body) = request.into_parts();
        let target = self.target(parts.uri.path_and_query())?;
        let spare = body.replayable();
        let mut request = Request::from_parts(parts, body.watched_by(progress));
        *request.uri_mut() = target;
        let again = spare.as_ref().map(|_| Request::from_parts(head_of(&request), ()));
        let mut result = self.send_once(request, progress).await;
        let (Some(again), Some(spare)) = (again, spare) else { return result };
        for _ in 0..STALE_RETRIES_MAX {
            let is_dead = matches!(result, Err(SendError::NotSent(NotSent::ConnectionDead, _)));
            if !is_dead || !progress.may_send() {
                break;
            }
            let body = RequestBody::from(spare.clone()).watched_by(progress);
            let request = Request::from_parts(head_of(&again), body);
            result = self.send_once(request, progress).await;
        }
        result
    }

    async fn send_once(
        &self,
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let mut captured = capture_connection(&mut request);
        let mut travelling = CutOnDrop(None);
        let mut sending = pin!(self.client.request(request));
        let sent = tokio::select! {
            biased;
            sent = &mut sending => sent,
            link = connected(&mut captured) => {
                if let Some(link) = link {
                    link.request_begins(progress);
                    travelling.0 = Some(link);
                }
                progress.connected();
                sending.await
            }
        };
        travelling.0 = None;
        match sent {
            Ok(mut response) => {
                if response.extensions().get().is_some_and(Link::proves_not_sent) {
                    // What was read is a parting word of the dead connection, not the answer to a request
                    // that was never written.
                    return Err(SendError::NotSent(NotSent::ConnectionDead, "unsolicited answer".into()));
                }
                settle_framing(response.headers_mut())?;
                Ok(response)
            }
            Err(error) => {
                let link = captured.connection_metadata().as_ref().and_then(Link::of);
                Err(classify(error, link.as_ref()))
            }
        }
    }

    fn target(&self, asked: Option<&PathAndQuery>) -> Result<Uri, SendError> {
        let asked = asked.map_or("/", PathAndQuery::as_str);
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        let uri = if self.base_path.is_empty() {
            uri.path_and_query(asked)
        } else {
            uri.path_and_query(format!("{}{asked}", self.base_path))
        };
        uri.build().map_err(|error| SendError::NotSent(NotSent::Connect, error.into()))
    }
}

fn head_of<B>(request: &Request<B>) -> http::request::Parts {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.version_mut() = request.version();
    copy.into_parts().0
}

/// Ends the connection of a request that is given up before its answer: hyper alone would keep it for as long as
/// the peer neither reads nor closes.
struct CutOnDrop(Option<Link>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.cut();
        }
    }
}

/// Waits until a request is given its connection.
async fn connected(captured: &mut CaptureConnection) -> Option<Link> {
    captured.wait_for_connection_metadata().await.as_ref().and_then(Link::of)
}

/// RFC 9112 §6.3: a transfer coding takes the place of a length, which must not go any further. A coding
/// that nobody here undoes would be lost together with its field.
fn settle_framing(fields: &mut HeaderMap) -> Result<(), SendError> {
    let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return Err(SendError::Unknown(
            Broken::Malformed,
            "its transfer coding is not exactly \"chunked\"".into(),
        ));
    }
    fields.remove(header::CONTENT_LENGTH);
    Ok(())
}

fn classify(error: hyper_util::client::legacy::Error, link: Option<&Link>) -> SendError {
    if error.is_connect() {
        return SendError::NotSent(connect_cause(&error), error.into());
    }
    let hyper_error = causes(&error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    // hyper gives `canceled` only with a request it never began to write, and our own refusal comes before a
    // request's first byte.
    if hyper_error.is_some_and(hyper::Error::is_canceled) || link.is_some_and(Link::proves_not_sent) {
        return SendError::NotSent(NotSent::ConnectionDead, error.into());
    }
    let broken = match hyper_error {
        Some(error) if error.is_user() => Broken::CallersBody,
        Some(error) if error.is_parse() || error.is_parse_too_large() => Broken::Malformed,
        Some(_) | None => Broken::ConnectionLost,
    };
    SendError::Unknown(broken, error.into())
}

fn connect_cause(error: &(dyn StdError + 'static)) -> NotSent {
    causes(error)
        .find_map(|cause| {
            if cause.is::<ConnectTimedOut>() {
                Some(NotSent::ConnectTimeout)
            } else if cause.is::<ResolveFailed>() {
                Some(NotSent::Dns)
            } else {
                cause.is::<rustls::Error>().then_some(NotSent::Tls)
            }
        })
        .unwrap_or(NotSent::Connect)
}

/// An error and what caused it. An [`std::io::Error`] names the cause of what it wraps, and not what it wraps.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => (*error).source(),
        }
    })
}
