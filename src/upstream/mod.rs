//! The services behind the gateway. Every failure first answers: did the request leave?
//!
//! Must not know keys, claims or routes. Read this file, then `fleet.rs` (what all workers know of an upstream),
//! `balance.rs` (which server a request goes to) and `admission.rs` (how many at once). Then `server.rs` (sending to one
//! server), `pool.rs` (this worker's connections to it), `http1.rs` and `http2.rs` (one connection), `connection.rs`
//! (what is asked before a request's first byte is written), `failure.rs` (what proves that nothing was processed),
//! `connect.rs`, `tls.rs`, `progress.rs`, `body.rs`.

mod admission;
mod attend;
mod balance;
mod body;
mod connect;
mod connection;
mod failure;
mod fleet;
mod health;
mod http1;
mod http2;
mod kind;
mod place;
mod pool;
mod progress;
mod queue;
mod resolve;
mod server;
#[cfg(test)]
mod simulation;
mod spare;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};

use http::uri::{Authority, PathAndQuery, Uri};
use http::{Request, Response};
use tokio::time::Instant;

use balance::Wish;
pub use body::{AnswerBroken, Buffered, RequestBody, Trailers, with_trailers};
pub use connect::connect_once;
pub use failure::{Broken, NotSent, SendError};
pub use fleet::{Fleet, ServerState};
use kind::Kind;
pub use place::HeldBody as AnswerBody;
use place::Place;
pub use progress::{Licence, Progress};
use server::Server;
use spare::Spare;
pub use tls::{BadTrust, Trust};

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
    source: http::Error,
}

/// This worker's connections to one server. They are made anew when the server's name has lost an address: those
/// that are idle end then, and the others when their request has.
#[derive(Debug)]
struct Connections {
    authority: Authority,
    is_named: bool,
    made: Mutex<(u64, Arc<Server>)>,
}

impl Upstream {
    /// Makes the clients of one worker for the upstream that `fleet` is one of.
    pub fn new(fleet: &Arc<Fleet>) -> Result<Self, BadAddress> {
        let config = fleet.config();
        let connections = config.servers.iter().map(|server| Connections::new(fleet, server));
        let connections = connections.collect::<Result<_, _>>()?;
        let servers_tried = u32::try_from(config.failovers_max.min(config.servers.len())).unwrap_or(u32::MAX);
        Ok(Self {
            fleet: Arc::clone(fleet),
            connections,
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

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.fleet.config().name
    }

    /// How long it is waited for.
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Sends a request to one of the servers, as soon as one has room, and answers the head of its answer, with the
    /// body still to come. The request's target is replaced by this upstream's; path and query travel as they are.
    /// `progress` is told when there is a connection and when the body moves. Where nothing of a request could be
    /// sent to one server, others are tried. The request is boxed because it goes through many hands.
    ///
    /// Errors: [`SendError`] says whether the request left.
    /// Cancel safety: dropping the future closes the connection; the request may have left.
    pub async fn send(
        &self,
        request: Box<Request<RequestBody>>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let sent = self.send_uncounted(request, progress).await;
        // One that was given up is counted already.
        if let Err(error) = &sent
            && is_unanswered(error)
            && !progress.is_given_up()
        {
            self.fleet.metrics().failed(matches!(error, SendError::Unknown(..)));
        }
        sent
    }

    /// Counts that no answer came within `response_timeout`. The request may have left.
    pub fn timed_out(&self) {
        self.fleet.metrics().failed(true);
    }

    async fn send_uncounted(
        &self,
        mut request: Box<Request<RequestBody>>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let kind = Kind::of(request.method(), request.uri().path());
        // RFC 9112 §3.2.4: an asterisk is the server as a whole, below no path.
        if !self.base_path.is_empty() && request.uri().path() != "*" {
            *request.uri_mut() = self.below_base(request.uri().path_and_query())?;
        }
        let mut wish = Wish { is_guarded: progress.is_licensed(), tried: Vec::new() };
        let asked = Instant::now();
        let place = self.fleet.enter(kind, wish.clone()).await;
        let queued = asked.elapsed();
        progress.has_queued(queued);
        self.fleet.metrics().queued(queued);
        let mut place = place.map_err(|error| SendError::NotSent(NotSent::Overloaded, error.into()))?;
        loop {
            wish.tried.push(place.server());
            let may_go_on = wish.tried.len() <= self.fleet.config().failovers_max
                && wish.tried.len() < self.connections.len();
            let spare = may_go_on.then(|| Spare::of(&mut request));
            let error = match self.send_to(place, request, progress).await {
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
        request: Box<Request<RequestBody>>,
        progress: &Progress,
    ) -> Result<Response<AnswerBody>, SendError> {
        let Some(connections) = self.connections.get(place.server()) else {
            return Err(SendError::NotSent(NotSent::Connect, "the upstream has no server".into()));
        };
        place.follow(progress);
        // Boxed: it is most of what a task under a claim holds.
        let began = Instant::now();
        match Box::pin(connections.server(&self.fleet).send(request, progress)).await {
            Ok(response) => {
                self.fleet.metrics().answered(began.elapsed());
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
                Err(error.at(&self.fleet.config().name, connections.authority.as_str()))
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
    fn new(fleet: &Fleet, server: &str) -> Result<Self, BadAddress> {
        let bad =
            |source| BadAddress { name: fleet.config().name.clone(), authority: server.to_owned(), source };
        let authority: Authority = server.parse().map_err(|error| bad(http::Error::from(error)))?;
        let server = Server::new(fleet, authority.clone()).map_err(bad)?;
        let made = Mutex::new((fleet.names().generation(), Arc::new(server)));
        let is_named = attend::name_in(&authority).is_some();
        Ok(Self { authority, is_named, made })
    }

    fn server(&self, fleet: &Fleet) -> Arc<Server> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_named
            && made.0 != fleet.names().generation()
            && let Ok(server) = Server::new(fleet, self.authority.clone())
        {
            *made = (fleet.names().generation(), Arc::new(server));
        }
        Arc::clone(&made.1)
    }
}

/// Whether a failure is that an upstream that was asked did not answer: there was room, and the caller did its part.
fn is_unanswered(error: &SendError) -> bool {
    !matches!(error, SendError::NotSent(NotSent::Overloaded, _) | SendError::Unknown(Broken::CallersBody, _))
}

/// Whether a failure says something of the server, and not of the caller or of this gateway.
fn is_of_server(error: &SendError) -> bool {
    match error {
        SendError::NotSent(cause, _) => match cause {
            NotSent::Dns | NotSent::Connect | NotSent::ConnectTimeout | NotSent::Tls => true,
            NotSent::ConnectionDead | NotSent::Refused | NotSent::Overloaded => false,
        },
        SendError::Unknown(broken, _) => match broken {
            Broken::ConnectionLost | Broken::Malformed => true,
            Broken::CallersBody => false,
        },
    }
}
