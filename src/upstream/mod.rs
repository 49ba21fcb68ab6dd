//! The services behind the gateway. Every failure first answers: did the request leave?
//!
//! Must not know keys, claims or routes. Read this file, then `fleet.rs` (what all workers know of an upstream),
//! `balance.rs` (which server a request goes to) and `admission.rs` (how many at once); `server.rs` (one server, and
//! this worker's connections to it), `connection.rs` (what is asked before a request's first byte is written),
//! `failure.rs`, `progress.rs`, `connect.rs`, `body.rs`.

mod admission;
mod attend;
mod balance;
mod body;
mod connect;
mod connection;
mod failure;
mod fleet;
mod health;
mod kind;
mod place;
mod progress;
mod queue;
mod resolve;
mod server;
#[cfg(test)]
mod simulation;
mod spare;

use std::sync::{Arc, Mutex, PoisonError};

use http::uri::{Authority, PathAndQuery, Uri};
use http::{Request, Response};

use crate::config;

use balance::Wish;
pub use body::{Buffered, RequestBody, Trailers, with_trailers};
pub use connect::{Connector, Trust, connect_once};
pub use failure::{Broken, NotSent, SendError};
pub use fleet::Fleet;
use kind::Kind;
pub use place::HeldBody as AnswerBody;
use place::Place;
pub use progress::{Licence, Progress};
use server::Server;
use spare::Spare;

/// One service, with this worker's connections to its servers.
#[derive(Clone, Debug)]
pub struct Upstream {
    fleet: Arc<Fleet>,
    connections: Arc<[Connections]>,
    base_path: String,
    timeouts: Timeouts,
}

/// How long an upstream is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the request is on its way or cannot be sent: to wait for a server's turn, resolve, connect and do the
    /// TLS handshake, with every server that is tried.
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

/// This worker's connections to one server. They are made anew when the server's name has lost an address: those
/// that are idle end then, and the others when their request has.
#[derive(Debug)]
struct Connections {
    authority: Authority,
    is_named: bool,
    trust: Trust,
    made: Mutex<(u64, Server)>,
}

impl Upstream {
    /// Makes the clients of one worker for the upstream that `fleet` is one of.
    pub fn new(fleet: &Arc<Fleet>, trust: &Trust) -> Result<Self, BadAddress> {
        let config = fleet.config();
        let made =
            authorities(config)?.into_iter().map(|authority| Connections::new(fleet, authority, trust));
        let servers_tried = u32::try_from(config.failovers_max.min(config.servers.len())).unwrap_or(u32::MAX);
        Ok(Self {
            fleet: Arc::clone(fleet),
            connections: made.collect(),
            base_path: config.base_path.clone(),
            timeouts: Timeouts {
                connect: config
                    .connect_timeout
                    .saturating_mul(servers_tried.saturating_add(1))
                    .saturating_add(config.queue_timeout),
                response: config.response_timeout,
            },
        })
    }

    /// How long it is waited for.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request to one of the servers, as soon as one has room, and answers the head of its answer, with the
    /// body still to come. The request's target is replaced by this upstream's; path and query travel as they are.
    /// `progress` is told when there is a connection and when the body moves. Where nothing of a request could be
    /// sent to one server, others are tried.
    ///
    /// Errors: [`SendError`] says whether the request left.
    /// Cancel safety: dropping the future closes the connection; the request may have left.
    pub async fn send(
        &self,
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let kind = Kind::of(request.method(), request.uri().path());
        if !self.base_path.is_empty() {
            *request.uri_mut() = self.below_base(request.uri().path_and_query())?;
        }
        let mut wish = Wish { is_guarded: progress.is_licensed(), tried: Vec::new() };
        let place = self.fleet.enter(kind, wish.clone()).await;
        let mut place = place.map_err(|error| SendError::NotSent(NotSent::Overloaded, error.into()))?;
        loop {
            wish.tried.push(place.server());
            let may_go_on = wish.tried.len() <= self.fleet.config().failovers_max
                && wish.tried.len() < self.connections.len();
            let (sending, spare) = if may_go_on { spare::kept(request) } else { (request, None) };
            let error = match self.send_to(place, sending, progress).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let again = match (&error, spare.and_then(Spare::request)) {
                (SendError::NotSent(..), Some(again)) if progress.may_send() => again,
                (SendError::NotSent(..) | SendError::Unknown(..), _) => return Err(error),
            };
            let Some(next) = self.fleet.enter_elsewhere(kind, &wish) else { return Err(error) };
            let cause: &dyn std::error::Error = &error;
            tracing::debug!(error = cause, "nothing was sent: another server is tried");
            (place, request) = (next, again);
        }
    }

    async fn send_to(
        &self,
        mut place: Place,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let Some(connections) = self.connections.get(place.server()) else {
            return Err(SendError::NotSent(NotSent::Connect, "the upstream has no server".into()));
        };
        place.follow(progress);
        match connections.server(&self.fleet).send(request, progress).await {
            Ok(response) => {
                // What a server refuses in a hurry says nothing of how it bears what it takes.
                place.answered(!response.status().is_server_error());
                Ok(response.map(|body| AnswerBody::new(body, place)))
            }
            Err(error) => {
                if is_of_server(&error) {
                    place.failed();
                } else {
                    place.ended();
                }
                Err(error)
            }
        }
    }

    fn below_base(&self, asked: Option<&PathAndQuery>) -> Result<Uri, SendError> {
        let asked = asked.map_or("/", PathAndQuery::as_str);
        let target = format!("{}{asked}", self.base_path);
        target
            .parse()
            .map_err(|error: http::uri::InvalidUri| SendError::NotSent(NotSent::Connect, error.into()))
    }
}

impl Connections {
    fn new(fleet: &Fleet, authority: Authority, trust: &Trust) -> Self {
        let server = Server::new(fleet.config(), authority.clone(), trust, fleet.names());
        let made = Mutex::new((fleet.names().generation(), server));
        let is_named = attend::name_in(&authority).is_some();
        Self { authority, is_named, trust: trust.clone(), made }
    }

    fn server(&self, fleet: &Fleet) -> Server {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_named && made.0 != fleet.names().generation() {
            let server = Server::new(fleet.config(), self.authority.clone(), &self.trust, fleet.names());
            *made = (fleet.names().generation(), server);
        }
        made.1.clone()
    }
}

fn authorities(config: &config::Upstream) -> Result<Vec<Authority>, BadAddress> {
    let parsed = |authority: &String| {
        authority.parse().map_err(|source| BadAddress {
            name: config.name.clone(),
            authority: authority.clone(),
            source,
        })
    };
    config.servers.iter().map(parsed).collect()
}

/// Whether a failure says something of the server, and not of the caller or of this gateway.
fn is_of_server(error: &SendError) -> bool {
    match error {
        SendError::NotSent(cause, _) => match cause {
            NotSent::Dns | NotSent::Connect | NotSent::ConnectTimeout | NotSent::Tls => true,
            NotSent::ConnectionDead | NotSent::Overloaded => false,
        },
        SendError::Unknown(broken, _) => match broken {
            Broken::ConnectionLost | Broken::Malformed => true,
            Broken::CallersBody => false,
        },
    }
}
