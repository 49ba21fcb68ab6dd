//! Those who wait for their turn, and whose turn it is. Pure: time is an argument.
//!
//! The oldest goes first while the queue comes and goes. Once it has stood for [`STANDS_AFTER`], more come than are
//! served, and whoever has waited longest is the least likely to be still waited for: then the newest goes first,
//! so that those who are served are served in time, and the others are refused when their patience ends. A queue
//! that always served the oldest would make everybody late. Source: Maurer, Fail at Scale, ACM Queue 13(8), 2015.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A queue that has not been empty for so long is a standing one.
const STANDS_AFTER: Duration = Duration::from_millis(250);

/// Where somebody stands in a queue.
pub(super) type Ticket = u64;

/// A queue.
#[derive(Debug)]
pub(super) struct Queue<W> {
    waiting: BTreeMap<Ticket, W>,
    next: Ticket,
    since: Option<Instant>,
}

impl<W> Queue<W> {
    pub(super) fn new() -> Self {
        Self { waiting: BTreeMap::new(), next: 0, since: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Joins the queue.
    pub(super) fn join(&mut self, waiter: W, now: Instant) -> Ticket {
        if self.is_empty() {
            self.since = Some(now);
        }
        self.next += 1;
        self.waiting.insert(self.next, waiter);
        self.next
    }

    /// Leaves it, if the turn has not come meanwhile.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.waiting.remove(&ticket)
    }

    /// Whose turn it is.
    pub(super) fn first(&self, now: Instant) -> Option<(Ticket, &W)> {
        let stands = self.since.is_some_and(|since| now.duration_since(since) >= STANDS_AFTER);
        let first = if stands { self.waiting.last_key_value() } else { self.waiting.first_key_value() };
        first.map(|(ticket, waiter)| (*ticket, waiter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(queue: &mut Queue<&'static str>, now: Instant) -> &'static str {
        let (ticket, _) = queue.first(now).unwrap();
        queue.leave(ticket).unwrap()
    }

    #[test]
    fn the_oldest_goes_first_until_the_queue_stands() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        for waiter in ["a", "b", "c", "d"] {
            queue.join(waiter, now);
        }
        assert_eq!(served(&mut queue, now), "a");
        assert_eq!(served(&mut queue, now + STANDS_AFTER), "d");
        assert_eq!(served(&mut queue, now + STANDS_AFTER), "c");
        assert_eq!(served(&mut queue, now + STANDS_AFTER), "b");
        queue.join("e", now + STANDS_AFTER);
        queue.join("f", now + STANDS_AFTER);
        assert_eq!(served(&mut queue, now + STANDS_AFTER), "e", "it was empty, and is new");
    }

    #[test]
    fn whoever_leaves_is_not_served() {
        let (mut queue, now) = (Queue::new(), Instant::now());
        let first = queue.join("a", now);
        queue.join("b", now);
        assert_eq!(queue.leave(first), Some("a"));
        assert_eq!(queue.leave(first), None);
        assert_eq!(served(&mut queue, now), "b");
    }
}
