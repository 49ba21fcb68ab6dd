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
mod aside;
mod body;
mod budget;
mod caller;
mod canonical;
mod doubt;
mod entrance;
mod execute;
mod forwarded;
mod guard;
mod headers;
mod kept;
mod lookup;
mod pace;
mod pass;
mod patience;
mod patterns;
mod quota;
mod readings;
mod received;
mod respond;
mod route;
mod stream;
mod told;
mod trailers;
mod turned_away;
mod upgrade;
mod wellformed;
mod word;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::header;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};

use crate::config::Route;
use crate::ledger::Ledger;
use crate::protocol::policy::Mode;
use crate::telemetry::access::AccessLine;
use crate::telemetry::metrics::Limit;
use crate::upstream::Upstream;

pub use admit::source_of;
pub use answer::AnswerStream;
pub use aside::{Aside, Unforeseen};
pub use caller::{Caller, CallersName, Newcomer};
pub use doubt::Doubt;
pub use entrance::{Entrance, Settings, Shared};
use headers::Stopped;
pub use lookup::{KnownKey, Located, Unlocated, locate};
pub use patience::{Allowance, Timer};
pub use quota::Quota;
use respond::About;
pub use respond::Rejection;
pub use route::{Routed, Router};
pub use turned_away::TurnedAway;
use wellformed::{check, is_beyond_guarding};
pub use word::Word;

/// One worker's road by one configuration: its own ledger handle and its own connections to the upstreams.
#[derive(Clone, Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    ledger: Ledger,
    upstreams: Arc<[Upstream]>,
}

/// Where a request has to go.
enum Road<'a> {
    Guarded(&'a Arc<Route>),
    Open(&'a Upstream),
}

impl Proxy {
    /// Makes the road of one worker by one configuration. `upstreams` in the order of the configuration.
    pub fn new(
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        ledger: Ledger,
        upstreams: Vec<Upstream>,
    ) -> Self {
        Self { shared, settings, ledger, upstreams: upstreams.into() }
    }

    /// For a connection that has just been accepted.
    pub fn newcomer(&self) -> Newcomer {
        Newcomer::among(&self.shared.newcomers)
    }

    /// What the configuration asks for by which it works.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same road by another configuration.
    #[must_use]
    pub fn by(&self, settings: Arc<Settings>, upstreams: Vec<Upstream>) -> Self {
        Self { settings, upstreams: upstreams.into(), ..self.clone() }
    }

    /// This worker's connections to the upstreams, in the order of the configuration.
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Answers one request. `doubt`: what the listener found wrong with it, if anything; nothing of such a request
    /// goes any further.
    ///
    /// Cancel safety: dropping the future means that the caller has gone. What was claimed goes on in a
    /// task of its own; what was not is not sent, or passes out of sight.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        caller: &Arc<Caller>,
        doubt: Option<Doubt>,
    ) -> Response<AnswerStream> {
        let exchange = self.shared.exchanges.token();
        let (settings, shared) = (&self.settings, &self.shared);
        let counts = Arc::clone(&settings.counts);
        let mut line =
            AccessLine::begin(&request, caller.address, settings.names, shared.tracer.as_ref(), counts);
        let takes_trailers = trailers::are_taken_by(request.headers(), request.version());
        let has_body = !request.body().is_end_stream();
        let aside = request.extensions().get::<Aside>().cloned();
        if let Some(aside) = &aside {
            aside.begin(&request);
        }
        let max = self.settings.server.in_flight_max;
        let mut in_flight = self.shared.in_flight.share();
        let has_room = in_flight.grow_to(1, max).is_ok();
        let answer = match doubt {
            _ if !has_room => {
                self.shared.metrics.limits.hit(Limit::RequestsInFlight);
                self.shared.in_flight.tell_refusal("requests at once", max);
                Err(Rejection::Overloaded)
            }
            Some(doubt) => {
                if let Some(limit) = doubt.limit() {
                    self.shared.metrics.limits.hit(limit);
                }
                Err(self.what_is_wrong(request, doubt, caller, &mut line))
            }
            None => self.take(request, caller, &mut line).await,
        };
        // Where the key is known, the body was received whole.
        if has_body && answer.is_err() && line.operation().is_none() {
            body::left_unread().await;
        }
        let mut response = answer.unwrap_or_else(|rejection| {
            let about = About {
                problem_base: &self.settings.server.problem_base,
                request_id: line.request_id(),
                operation: line.operation(),
                policy: line
                    .route()
                    .and_then(|index| self.settings.routes.get(index))
                    .map(|route| &route.policy),
            };
            let response = respond::rejected(&rejection, &about);
            line.word(rejection.word().as_str());
            line.problem(rejection.code());
            response
        });
        if self.shared.leaving.load(Ordering::Acquire) || doubt.is_some() {
            respond::tell_to_leave(&mut response);
        }
        if let Some(aside) = &aside {
            aside.answered(&response);
        }
        if !takes_trailers {
            trailers::unannounced(&mut response);
        }
        line.finish(response.status());
        // A body of a length that was told has no chunks, and so no trailers.
        let is_chunked = !response.headers().contains_key(header::CONTENT_LENGTH);
        let beside = aside.filter(|_| takes_trailers && is_chunked);
        let mut held = self.shared.buffered.share();
        held.grow_anyway(response.body().held_bytes());
        response.map(|body| body.holding(exchange, [in_flight, held]).ending_with_trailers(beside))
    }

    async fn take(
        &self,
        request: Request<Incoming>,
        caller: &Arc<Caller>,
        line: &mut AccessLine,
    ) -> Result<Response<AnswerStream>, Rejection> {
        // One that was let in is served once. HTTP/2 tells by GOAWAY which requests are the last (RFC 9113 §6.8).
        let is_expected = caller.newcomer.asks() || request.version() == http::Version::HTTP_2;
        if self.is_draining() && !is_expected {
            return Err(Rejection::Draining);
        }
        let mut request = check(request)?;
        match headers::count_hop(&mut request) {
            Ok(()) => {}
            Err(Stopped::LastHop) => {
                drop(request);
                body::left_unread().await;
                return Ok(respond::last_hop());
            }
            Err(Stopped::BadCount) => {
                return Err(Rejection::Malformed("Max-Forwards is no number"));
            }
            Err(Stopped::Loop) => return Err(Rejection::Loop),
            Err(Stopped::Expectation) => return Err(Rejection::ExpectationUnknown),
        }
        let request = pace::paced(request, &self.settings.server, &self.shared.metrics);
        match self.road(&request, line)? {
            // Boxed, here and below, where a road is long or seldom taken: a connection has room for the future of one
            // request at all times, and most connections are idle.
            Road::Open(upstream) => {
                Box::pin(self.pass(upstream, pass::streamed(request), caller, line)).await
            }
            Road::Guarded(route) => Box::pin(self.guard(route, request, caller, line)).await,
        }
    }

    /// The rejection of a request that is in doubt: that of its key, if that is what is wrong.
    fn what_is_wrong(
        &self,
        request: Request<Incoming>,
        doubt: Doubt,
        caller: &Caller,
        line: &mut AccessLine,
    ) -> Rejection {
        if matches!(doubt, Doubt::Malformed(_))
            && let Ok(request) = check(request)
            && let Ok(Road::Guarded(route)) = self.road(&request, line)
            && let Err(rejection @ Rejection::KeyInvalid(_)) =
                admit::admit(&route.policy, request.headers(), caller)
        {
            return rejection;
        }
        doubt.into()
    }

    fn road<B>(&self, request: &Request<B>, line: &mut AccessLine) -> Result<Road<'_>, Rejection> {
        let method = request.method().as_str();
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let routes = &self.settings.routes;
        // A route that only observes refuses nothing, ambiguous paths included.
        let guards = |index: usize| {
            routes
                .get(index)
                .is_some_and(|route| route.policy.guards(method) && route.policy.mode == Mode::Enforce)
        };
        let (route, upstream) = match self.settings.router.find(host, request.uri().path(), guards) {
            Routed::Ambiguous => return Err(Rejection::PathAmbiguous),
            Routed::None => (None, self.settings.default_upstream),
            Routed::Route(index) => {
                let route = routes.get(index);
                if let Some(route) = route {
                    line.routed(index, route);
                }
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
