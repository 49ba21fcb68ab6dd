//! A caller's body, and how long it is waited for: guarded or passing, in whatever version of HTTP.
//!
//! The time runs while the body is wanted and none of it is there, and not while nobody wants it: a caller is not to
//! blame for an upstream that is slow to take. Read `patience.rs` for how much time there is.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::patience::{Allowance, Timer};
use super::respond::Rejection;
use super::wellformed::is_beyond_guarding;
use crate::config::Server;
use crate::telemetry::metrics::{Limit, Metrics};

/// The most time that a caller can gain by having been fast: then it may rest so long.
const GAINED_MAX: Duration = Duration::from_mins(1);

/// A caller's body, which is waited for so long and no longer.
#[derive(Debug)]
pub(super) struct Paced {
    incoming: Incoming,
    pace: Option<Pace>,
    /// None where there is no body to find one in.
    fault: Option<Fault>,
}

/// What was wrong with a caller's body, if anything was: known to whoever passes it on, whatever its upstream makes of a
/// request that breaks off.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<OnceLock<Rejection>>);

/// The caller was waited for long enough.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("wait for the caller's body any longer")]
pub(super) struct TooSlow(pub(super) Duration);

#[derive(Debug)]
struct Pace {
    limit: Duration,
    allowance: Allowance,
    timer: Timer,
    /// The wait under way: since when, and when it was over.
    since: Option<Instant>,
    arrival: Option<Arc<Arrival>>,
    metrics: Arc<Metrics>,
}

/// Notes when something came, though it may be a while until somebody asks.
#[derive(Debug)]
struct Arrival(Mutex<(Option<Instant>, Waker)>);

/// A request whose body is waited for as the listener's settings say: calls of gRPC and changes of protocol without
/// end, because they rest as long as they like.
pub(super) fn paced(request: Request<Incoming>, settings: &Server, metrics: &Arc<Metrics>) -> Request<Paced> {
    let is_hurried =
        settings.body_rate_min > 0 && !request.body().is_end_stream() && !is_beyond_guarding(&request);
    let pace = is_hurried.then(|| Pace {
        limit: settings.body_timeout,
        allowance: Allowance::new(
            settings.body_timeout,
            settings.body_timeout.saturating_add(GAINED_MAX),
            settings.body_rate_min,
        ),
        timer: Timer::default(),
        since: None,
        arrival: None,
        metrics: Arc::clone(metrics),
    });
    let fault = (!request.body().is_end_stream()).then(Fault::default);
    request.map(|incoming| Paced { incoming, pace, fault })
}

impl Fault {
    /// The fault, if one has come to light.
    pub(super) fn found(&self) -> Option<Rejection> {
        self.0.get().cloned()
    }
}

impl Paced {
    /// Where a fault of this body will be found.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }

    fn is_faulty(&self, rejection: Rejection) {
        if let Some(Fault(found)) = &self.fault {
            found.get_or_init(|| rejection);
        }
    }

    fn passed(
        &self,
        frame: Result<Frame<Bytes>, hyper::Error>,
    ) -> Result<Frame<Bytes>, Box<dyn StdError + Send + Sync>> {
        frame.map_err(|error| {
            self.is_faulty(Rejection::Malformed("the body's framing is broken"));
            error.into()
        })
    }
}

impl Pace {
    /// Ends the wait under way when something came, and takes the time of it.
    fn arrived(&mut self) {
        let at = self.arrival.as_ref().and_then(|arrival| arrival.noted());
        if let Some(since) = self.since.take() {
            self.allowance.waited(at.unwrap_or_else(Instant::now).saturating_duration_since(since));
        }
    }

    /// Waits on; ready when that was long enough.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (Some(since), Some(at)) =
            (self.since, self.arrival.as_ref().and_then(|arrival| arrival.noted()))
        {
            // Something came that was nothing to pass on.
            self.allowance.waited(at.saturating_duration_since(since));
            self.since = None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.timer.poll(since + self.allowance.left(), cx)
    }

    /// A waker that notes when it was woken, and wakes whoever asks.
    fn waker(&mut self, asks: &Waker) -> Waker {
        let arrival = self.arrival.get_or_insert_with(|| Arc::new(Arrival(Mutex::new((None, asks.clone())))));
        let (_, waker) = &mut *arrival.0.lock().unwrap_or_else(PoisonError::into_inner);
        waker.clone_from(asks);
        Waker::from(Arc::clone(arrival))
    }
}

impl Arrival {
    fn noted(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waker = {
            let (at, waker) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            at.get_or_insert_with(Instant::now);
            waker.clone()
        };
        waker.wake();
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let incoming = Pin::new(&mut this.incoming);
        let Some(pace) = &mut this.pace else {
            let frame = ready!(incoming.poll_frame(cx));
            return Poll::Ready(frame.map(|frame| this.passed(frame)));
        };
        // Most bodies are there when they are asked for, and cost no waker of their own.
        let mut polled = if pace.arrival.is_none() { incoming.poll_frame(cx) } else { Poll::Pending };
        if polled.is_pending() {
            let waker = pace.waker(cx.waker());
            polled = Pin::new(&mut this.incoming).poll_frame(&mut Context::from_waker(&waker));
        }
        if let Poll::Ready(frame) = polled {
            pace.arrived();
            if let Some(Ok(frame)) = &frame {
                pace.allowance.moved(frame.data_ref().map_or(0, Bytes::len));
            }
            return Poll::Ready(frame.map(|frame| this.passed(frame)));
        }
        ready!(pace.wait(cx));
        let limit = pace.limit;
        pace.metrics.limits.hit(Limit::BodyTimeout);
        tracing::warn!(body_timeout = ?limit, "a caller was too slow to send its body");
        this.is_faulty(Rejection::BodyTooSlow(limit));
        Poll::Ready(Some(Err(TooSlow(limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
