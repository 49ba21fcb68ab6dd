//! One server of an upstream: sending to it, and sending again what provably was not processed.
//!
//! Must not know that there are other servers (`mod.rs`). Read `pool.rs` for the connections, `failure.rs` for what a
//! failure means.

use std::sync::Arc;

use http::header;
use http::uri::{Authority, Scheme};
use http::{Request, Response};

use super::body::{AnswerBody, RequestBody};
use super::failure::{NotSent, SendError, Undelivered};
use super::fleet::Fleet;
use super::pool::{Channel, Lease, Pool};
use super::progress::Progress;
use super::spare;
use crate::config::Protocol;

/// How often a request goes to another connection because the one it was given had died while idle.
const STALE_RETRIES_MAX: usize = 8;

/// How often it is sent again because the server says that it did not process it.
const REFUSED_RETRIES_MAX: usize = 2;

/// One server, with this worker's connections to it.
#[derive(Debug)]
pub(super) struct Server {
    pool: Arc<Pool>,
    scheme: Scheme,
    authority: Authority,
    may_upgrade: bool,
}

impl Server {
    /// Makes the client of one worker for the server at `authority`.
    pub(super) fn new(fleet: &Fleet, authority: Authority) -> Result<Self, http::Error> {
        let config = fleet.config();
        Ok(Self {
            pool: Pool::new(config, &authority, fleet.trust(), fleet.names(), fleet.count(&authority))?,
            scheme: if config.tls { Scheme::HTTPS } else { Scheme::HTTP },
            authority,
            may_upgrade: config.protocol != Protocol::Http2,
        })
    }

    /// Sends a request whose target is a path, on another connection if the one that was kept had died.
    ///
    /// Cancel safety: dropping the future ends the exchange; the request may have left.
    pub(super) async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let spare = request.body().replayable().map(|body| spare::head_of(&request).map(|()| body));
        request.body_mut().be_watched_by(progress);
        let (mut stale, mut refused) = (0, 0);
        loop {
            let failed = match self.send_once(request, progress).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match failed.error {
                SendError::NotSent(NotSent::ConnectionDead, _) if stale < STALE_RETRIES_MAX => stale += 1,
                SendError::NotSent(NotSent::Refused, _) if refused < REFUSED_RETRIES_MAX => refused += 1,
                SendError::NotSent(..) | SendError::Unknown(..) => return Err(failed.error),
            }
            if !progress.may_send() {
                return Err(failed.error);
            }
            request = match (failed.request, &spare) {
                (Some(unsent), _) => unsent,
                (None, Some(spare)) => {
                    let mut again = Box::new(spare.clone().map(RequestBody::from));
                    again.body_mut().be_watched_by(progress);
                    again
                }
                (None, None) => return Err(failed.error),
            };
        }
    }

    async fn send_once(
        &self,
        request: Box<Request<RequestBody>>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, Undelivered> {
        // RFC 9113 §8.6: HTTP/2 has no upgrades.
        let http1_only = self.may_upgrade && request.headers().contains_key(header::UPGRADE);
        match self.pool.channel(http1_only).await? {
            Channel::Http1(connection) => {
                let (response, connection) = connection.send(request, &self.authority, progress).await?;
                let is_framed = response.headers().contains_key(header::CONTENT_LENGTH)
                    || response.headers().contains_key(header::TRANSFER_ENCODING);
                let lease = connection.map(|connection| Lease::new(connection, &self.pool));
                Ok(response.map(|body| AnswerBody::over_http1(body, lease, is_framed)))
            }
            Channel::Http2(ticket) => {
                let response = ticket.send(request, &self.scheme, &self.authority, progress).await?;
                Ok(response.map(AnswerBody::over_http2))
            }
        }
    }
}
