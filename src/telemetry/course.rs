//! Where a request's time goes: in a queue, at the store, at the upstream, waiting for somebody else's answer.
//!
//! Whoever works on a request notes each stretch when it is over. Must not know what a stretch was for. Read
//! `access.rs` for what is told of it.

use std::time::{Duration, Instant};

use crate::clock;

/// A request's way so far, or the part of it that a task of its own goes.
#[derive(Clone, Debug, Default)]
pub struct Course {
    spent: Spent,
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
    /// For a task of its own: nothing spent yet.
    #[must_use]
    pub fn branch(&self) -> Self {
        Self { spent: Spent::default() }
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// What a task of its own spent is part of this way.
    pub fn join(&mut self, spent: Spent) {
        self.spent = self.spent.and(spent);
    }

    /// The store was asked since `began`.
    pub fn asked_store(&mut self, began: Instant) {
        self.spent.store = self.spent.store.saturating_add(since(began));
    }

    /// The caller's body was received since `began`.
    pub fn received(&mut self, began: Instant) {
        self.spent.body = self.spent.body.saturating_add(since(began));
    }

    /// Somebody else's answer was waited for since `began`.
    pub fn waited(&mut self, began: Instant) {
        self.spent.wait = self.spent.wait.saturating_add(since(began));
    }

    /// The upstream was asked since `began`, for the first part of it from its queue.
    pub fn asked_upstream(&mut self, began: Instant, queued: Duration) {
        self.spent.queue = self.spent.queue.saturating_add(queued);
        self.spent.upstream = self.spent.upstream.saturating_add(since(began).saturating_sub(queued));
    }
}

fn since(began: Instant) -> Duration {
    clock::monotonic().duration_since(began)
}
