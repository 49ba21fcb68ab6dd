//! One server of an upstream, with this worker's connections to it.
//!
//! Must not know that there are others (`mod.rs`). Read `connection.rs` for what is asked before a request's first byte
//! is written, `failure.rs` for what a failure means.

use std::pin::pin;

use http::header::{self, HeaderMap};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::body::{AnswerBody, RequestBody};
use super::connect::{Connector, Trust};
use super::connection::Link;
use super::failure::{Broken, NotSent, SendError, classify};
use super::progress::Progress;
use super::resolve::Names;
use crate::config;

/// How often a request goes to another connection because the one it was given had died while idle.
const STALE_RETRIES_MAX: usize = 8;

/// One server, with this worker's connections to it.
#[derive(Clone, Debug)]
pub(super) struct Server {
    client: Client<Connector, RequestBody>,
    scheme: Scheme,
    authority: Authority,
}

impl Server {
    /// Makes the client of one worker for the server at `authority`.
    pub(super) fn new(config: &config::Upstream, authority: Authority, trust: &Trust, names: &Names) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.idle_connections_max)
            // Resends only what hyper gives back as never started.
            .retry_canceled_requests(true)
            .set_host(true)
            .build(Connector::new(config.connect_timeout, trust, names));
        Self { client, scheme: if config.tls { Scheme::HTTPS } else { Scheme::HTTP }, authority }
    }

    /// Sends a request whose target is a path, on a fresh connection if the one that was kept had died.
    ///
    /// Cancel safety: dropping the future closes the connection; the request may have left.
    pub(super) async fn send(
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
        let uri = uri.path_and_query(asked);
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
