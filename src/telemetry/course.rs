//! Where a request's time goes: in a queue, at the store, at the upstream, waiting for somebody else's answer.
//!
//! Whoever works on a request notes each stretch when it is over; where the request is traced, a stretch is a span too.
//! Must not know what a stretch was for. Read `access.rs` for what is told of it in the log, `trace.rs` for spans.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::trace::context::Context;
use super::trace::{Facts, Kind, Trace};
use crate::clock;

/// A request's way so far, or the part of it that a task of its own goes.
#[derive(Clone, Debug, Default)]
pub struct Course {
    spent: Spent,
    trace: Option<Arc<Trace>>,
}

/// What took how long. What did not happen took no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the queue for a place at the upstream.
    pub queue: Duration,
    /// Asking the store.
    pub store: Duration,
    /// From sending to the head of the answer, or, where it is kept, to its end.
    pub upstream: Duration,
    /// Until the caller had sent its body.
    pub body: Duration,
    /// As a duplicate, until the first request was answered.
    pub wait: Duration,
}

/// For what the store was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// To say what a request may do, and to claim its key.
    Claim,
    /// To keep what came of it.
    Settle,
}

/// A request that is about to be sent to its upstream.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    began: Instant,
    stretch: Option<Context>,
}

/// How a request fared at its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fared {
    /// It was answered with this status.
    Answered(u16),
    /// It was not, for this reason.
    Failed(&'static str),
}

impl Spent {
    /// These times, and those of another part of the way.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            queue: self.queue.saturating_add(other.queue),
            store: self.store.saturating_add(other.store),
            upstream: self.upstream.saturating_add(other.upstream),
            body: self.body.saturating_add(other.body),
            wait: self.wait.saturating_add(other.wait),
        }
    }
}

impl Course {
    /// A way that is recorded as `trace`, if it is.
    pub(super) fn traced(trace: Option<Arc<Trace>>) -> Self {
        Self { spent: Spent::default(), trace }
    }

    /// For a task of its own: nothing spent yet.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self { spent: Spent::default(), trace: self.trace.clone() }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// What a task of its own spent is part of this way.
    pub fn join(&mut self, spent: Spent) {
        self.spent = self.spent.and(spent);
    }

    pub(super) fn trace(&self) -> Option<&Trace> {
        self.trace.as_deref()
    }

    /// The store was asked since `began`, and this came of it, in a word.
    pub fn asked_store(&mut self, errand: Errand, began: Instant, word: &'static str) {
        self.spent.store = self.spent.store.saturating_add(since(began));
        let name = match errand {
            Errand::Claim => "claim",
            Errand::Settle => "settle",
        };
        self.is_over(name, began, word);
    }

    /// The caller's body was received since `began`.
    pub fn received(&mut self, began: Instant) {
        self.spent.body = self.spent.body.saturating_add(since(began));
    }

    /// Somebody else's answer was waited for since `began`, and this came of it, in a word.
    pub fn waited(&mut self, began: Instant, word: &'static str) {
        self.spent.wait = self.spent.wait.saturating_add(since(began));
        self.is_over("wait", began, word);
    }

    /// An answer was found in memory, since `began`, and nobody had to be asked.
    pub fn recalled(&self, began: Instant) {
        self.is_over("replay", began, "from-memory");
    }

    /// The request is about to be sent: its time at the upstream begins.
    pub fn leg(&self) -> Leg {
        Leg { began: clock::monotonic(), stretch: self.trace().map(Trace::child) }
    }

    /// Says in the fields of the request that is sent which trace it belongs to.
    pub fn mark(&self, leg: &Leg, fields: &mut HeaderMap) {
        if let (Some(trace), Some(stretch)) = (self.trace(), leg.stretch) {
            trace.mark(fields, stretch);
        }
    }

    /// A request that was sent to the upstream of this name has fared like this. It was `queued` so long before it was
    /// its turn. `more`: what else is told where it is recorded.
    pub fn forwarded(
        &mut self,
        leg: &Leg,
        queued: Duration,
        upstream: &str,
        fared: Fared,
        more: impl FnOnce(&mut Facts),
    ) {
        let took = since(leg.began);
        self.spent.queue = self.spent.queue.saturating_add(queued);
        self.spent.upstream = self.spent.upstream.saturating_add(took.saturating_sub(queued));
        let Some(trace) = self.trace() else { return };
        trace.over("forward", Kind::Client, leg.stretch, leg.began, |facts| {
            facts.text("onceway.upstream", upstream);
            facts.micros("onceway.queue_us", queued);
            more(facts);
            match fared {
                Fared::Answered(status) => facts.count("http.response.status_code", status),
                Fared::Failed(why) => facts.word("error.type", why),
            }
            matches!(fared, Fared::Failed(_) | Fared::Answered(400..))
        });
    }

    fn is_over(&self, name: &'static str, began: Instant, word: &'static str) {
        let Some(trace) = self.trace() else { return };
        trace.over(name, Kind::Internal, None, began, |facts| {
            facts.word("onceway.outcome", word);
            false
        });
    }
}

fn since(began: Instant) -> Duration {
    clock::monotonic().saturating_duration_since(began)
}
