//! The road of a request.
//!
//! A request comes in ([`Proxy::handle`]). What is not well-formed is refused (`check`). Its host and path
//! lead to a route, in every reading of the path (`route.rs`, `readings.rs`). If no route guards it, it
//! passes through, streamed both ways (`pass.rs`). Otherwise its key and caller are read from the head
//! (`admit.rs`), its body is received within bounds (`body.rs`), its fingerprint is taken, and the ledger
//! is asked (`guard.rs`). The one that gets the claim is forwarded in a task that outlives its caller
//! (`execute.rs`); the others get the first answer, or are told why not (`respond.rs`).
//!
//! Must not know how stores work, nor where connections come from (`../server/`).

mod admit;
mod answer;
mod body;
mod canonical;
mod execute;
mod guard;
mod headers;
mod pass;
mod patterns;
mod readings;
mod respond;
mod route;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Route, Server};
use crate::ledger::Ledger;
use crate::protocol::policy::Mode;
use crate::protocol::scope::HashKey;
use crate::telemetry::access::AccessLine;
use crate::upstream::Upstream;

pub use answer::AnswerStream;
use respond::About;
pub use respond::{Rejection, Word};
pub use route::{Routed, Router};

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The listener's settings.
    pub server: Server,
    /// The routes.
    pub routes: Vec<Arc<Route>>,
    /// The routes, ready to be looked up.
    pub router: Router,
    /// Index of the upstream that takes whatever no route names.
    pub default_upstream: Option<usize>,
    /// Separates installations that share a store.
    pub namespace: String,
    /// Keys storage keys and fingerprints.
    pub hash_key: HashKey,
    /// Set when the gateway begins to stop.
    pub draining: AtomicBool,
    /// Every exchange under way: from the head of its request to the end of its answer and its record.
    pub exchanges: TaskTracker,
    /// Cancelled when the drain's time is up: forwards still under way become unknown outcomes.
    pub out_of_time: CancellationToken,
}

/// One worker's road: its own ledger handle and its own connections to the upstreams.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    ledger: Ledger,
    upstreams: Arc<[Upstream]>,
}

/// Where a request has to go.
enum Road<'a> {
    Guarded(&'a Arc<Route>),
    Open(&'a Upstream),
}

impl Proxy {
    /// Makes the road of one worker. `upstreams` in the order of the configuration.
    pub fn new(shared: Arc<Shared>, ledger: Ledger, upstreams: Vec<Upstream>) -> Self {
        Self { shared, ledger, upstreams: upstreams.into() }
    }

    /// Answers one request. `doubt`: what makes its framing doubtful, if anything does; nothing of such a
    /// request goes any further.
    ///
    /// Cancel safety: dropping the future means that the caller has gone. What was claimed goes on in a
    /// task of its own; what was not is not sent, or passes out of sight.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        doubt: Option<&'static str>,
    ) -> Response<AnswerStream> {
        let exchange = self.shared.exchanges.token();
        let mut line = AccessLine::begin(&request, peer);
        let answer = match doubt {
            Some(reason) => Err(self.what_is_wrong(request, reason, &mut line)),
            None => self.take(request, peer, &mut line).await,
        };
        let mut response = answer.unwrap_or_else(|rejection| {
            let about = About {
                problem_base: &self.shared.server.problem_base,
                request_id: line.request_id(),
                operation: line.operation(),
                policy: line
                    .route()
                    .and_then(|index| self.shared.routes.get(index))
                    .map(|route| &route.policy),
            };
            let response = respond::rejected(&rejection, &about);
            line.word(rejection.word().as_str());
            response
        });
        if self.is_draining() || doubt.is_some() {
            response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        }
        line.finish(response.status());
        response.map(|body| body.holding(exchange))
    }

    async fn take(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        if self.is_draining() {
            return Err(Rejection::Draining);
        }
        let mut request = check(request)?;
        if let Some(answer) = headers::count_hop(&mut request).map(respond::last_hop) {
            return Ok(answer);
        }
        match self.road(&request, line)? {
            Road::Open(upstream) => self.pass(upstream, request.map(pass::streamed), peer, line).await,
            Road::Guarded(route) => self.guard(route, request, peer, line).await,
        }
    }

    /// The rejection of a request whose framing is in doubt: that of its key, if that is what is wrong.
    fn what_is_wrong(
        &self,
        request: Request<Incoming>,
        reason: &'static str,
        line: &mut AccessLine,
    ) -> Rejection {
        if let Ok(request) = check(request)
            && let Ok(Road::Guarded(route)) = self.road(&request, line)
            && let Err(rejection @ Rejection::KeyInvalid(_)) = admit::admit(&route.policy, request.headers())
        {
            return rejection;
        }
        Rejection::Malformed(reason)
    }

    fn road<B>(&self, request: &Request<B>, line: &mut AccessLine) -> Result<Road<'_>, Rejection> {
        let method = request.method().as_str();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let routes = &self.shared.routes;
        // A route that only observes refuses nothing, ambiguous paths included.
        let guards = |index: usize| {
            routes
                .get(index)
                .is_some_and(|route| route.policy.guards(method) && route.policy.mode == Mode::Enforce)
        };
        let (route, upstream) = match self.shared.router.find(host, request.uri().path(), guards) {
            Routed::Ambiguous => return Err(Rejection::PathAmbiguous),
            Routed::None => (None, self.shared.default_upstream),
            Routed::Route(index) => {
                line.routed(index);
                let route = routes.get(index);
                (route, route.map(|route| route.upstream))
            }
        };
        match route {
            Some(route) if route.policy.guards(method) && !is_beyond_guarding(request) => {
                Ok(Road::Guarded(route))
            }
            Some(_) | None => {
                let upstream = upstream.and_then(|index| self.upstreams.get(index));
                upstream.map(Road::Open).ok_or(Rejection::NoRoute)
            }
        }
    }

    fn upstream_of(&self, route: &Route) -> Result<&Upstream, Rejection> {
        self.upstreams.get(route.upstream).ok_or(Rejection::NoRoute)
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }
}

/// Refuses what is not well-formed before anything is made of it.
fn check(mut request: Request<Incoming>) -> Result<Request<Incoming>, Rejection> {
    if request.method() == Method::CONNECT {
        return Err(Rejection::MethodNotSupported);
    }
    // Methods are case-sensitive (RFC 9110 §9.1), but some servers fold them, so a lower-case "post" could
    // slip past a route that guards POST.
    if request.method().as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Rejection::Malformed("the method is not in upper case"));
    }
    check_target(&request)?;
    // RFC 9112 §3.2.2: the authority of an absolute-form target takes the place of Host.
    if let Some(authority) = request.uri().authority() {
        let Ok(host) = http::HeaderValue::try_from(authority.as_str()) else {
            return Err(Rejection::Malformed("the target's authority is no host"));
        };
        request.headers_mut().insert(header::HOST, host);
    }
    check_host(request.headers(), request.version())?;
    Ok(request)
}

/// RFC 9112 §3.2: a path, an absolute address, or an asterisk with OPTIONS. Anything else is read by one server
/// as one path and by the next as another.
fn check_target(request: &Request<Incoming>) -> Result<(), Rejection> {
    let target = request.uri();
    let is_authority_alone = target.authority().is_some() && target.scheme().is_none();
    let is_asterisk = target.path() == "*" && request.method() == Method::OPTIONS;
    if is_authority_alone || !(target.path().starts_with('/') || is_asterisk) {
        return Err(Rejection::Malformed("the request target is neither a path nor an absolute address"));
    }
    Ok(())
}

/// RFC 9112 §3.2: exactly one `Host`, and a valid one.
fn check_host(fields: &HeaderMap, version: Version) -> Result<(), Rejection> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Rejection::Malformed("there is no Host field")),
        (Some(_), Some(_)) => Err(Rejection::Malformed("there is more than one Host field")),
        (Some(host), None) => match http::uri::Authority::try_from(host.as_bytes()) {
            Ok(authority) if !authority.as_str().contains('@') => Ok(()),
            Ok(_) | Err(_) => Err(Rejection::Malformed("the Host field is no host")),
        },
    }
}

/// Whether a request is of a kind that is never claimed: gRPC, and a change of protocol.
///
/// `Upgrade: h2c` is no such change: some clients offer it with every first request, this gateway never
/// takes it up, and RFC 9113 §3.1 has withdrawn it. A request is not left unguarded for it.
fn is_beyond_guarding<B>(request: &Request<B>) -> bool {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/grpc"));
    let upgrades = headers::upgrade_of(request.headers())
        .is_some_and(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"));
    is_grpc || upgrades
}
