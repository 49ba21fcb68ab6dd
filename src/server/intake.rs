//! How fast a worker takes connections in: no faster than it finds time for them.
//!
//! A worker is one thread that gives every task that is ready one turn after the other. Whoever accepts for as long as
//! somebody waits takes on more than the processor can do: rounds grow without end, everybody is answered too late, and
//! goodput is nothing. To refuse is no way out, since reading a request and refusing it costs a good part of what
//! answering it does. So the worker takes in a few connections and then gives everybody who is there a turn, and takes in
//! next to nobody while such a round takes long. Who waits costs nothing: the system keeps them in a line, and lets nobody
//! join one that is full, so that they know that nothing was sent. A line that never empties is kept short, or all of
//! them would wait for long. Another worker that has time takes from the same line.
//!
//! Nobody is refused for it, so a round that was long because another process had the processor does no harm. Who waits for
//! stores and upstreams has no turn and takes no part. Source: Nichols and Jacobson, `CoDel`, RFC 8289 (only a queue
//! that never empties is an overload). Must not know what the connections are for.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::reception::Reception;
use crate::clock;
use crate::net::{Listener, Stream};
use crate::telemetry::metrics::Limit;

/// So many connections are taken in, and then everybody who is there has a turn.
const AT_ONCE: usize = 16;

/// After a longer round only one is taken in: some hundreds of tasks were ready, and ten times as many requests may be under
/// way. Who asks on a connection that is open cannot be kept waiting, so there must not be too many of them. One for each
/// round is far less than are served in it, and more than none, for those who never rest would keep the others out.
const LONG: Duration = Duration::from_millis(2);

/// The line did not empty for so long: it is a line of those who come too many.
const PERSISTS: Duration = Duration::from_millis(250);

/// Connections that may wait to be taken in.
pub(super) const LINE: i32 = 1024;

/// While more come than can be taken in. Enough for the worker never to find nobody.
const LINE_OF_TOO_MANY: i32 = 64;

/// The line that all workers take from.
#[derive(Debug, Default)]
pub(super) struct Line {
    is_short: AtomicBool,
}

/// What one worker takes in.
#[derive(Debug)]
pub(super) struct Intake {
    reception: Arc<Reception>,
    /// How many may be taken in before the next round.
    left: usize,
    /// Since when there was always somebody left in the line.
    behind: Option<Instant>,
}

impl Intake {
    /// From the line that `reception` knows.
    pub(super) fn new(reception: Arc<Reception>) -> Self {
        Self { reception, left: AT_ONCE, behind: None }
    }

    /// The next connection, when there is time for it.
    ///
    /// Cancel safety: none is lost.
    pub(super) async fn next(&mut self, listener: &Listener) -> io::Result<(Stream, SocketAddr)> {
        if self.left == 0 {
            self.give_all_a_turn(listener).await;
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = ready(()) => {
                self.found_nobody(listener);
                listener.accept().await
            }
        };
        self.left -= 1;
        accepted
    }

    async fn give_all_a_turn(&mut self, listener: &Listener) {
        let began = clock::monotonic();
        // Goes to the end of the line: it comes back when all others had their turn.
        tokio::task::yield_now().await;
        let ended = clock::monotonic();
        self.left = if ended.duration_since(began) < LONG { AT_ONCE } else { 1 };
        let since = *self.behind.get_or_insert(began);
        if ended.duration_since(since) >= PERSISTS {
            self.shorten_the_line(listener);
        }
    }

    fn shorten_the_line(&self, listener: &Listener) {
        let reception = &self.reception;
        reception.metrics.limits.hit(Limit::WorkerTime);
        if reception.line.is_short.swap(true, Ordering::Relaxed) {
            return;
        }
        limit(listener, LINE_OF_TOO_MANY);
        if let Some(unlogged) = reception.alarms.too_many_come.rings() {
            tracing::warn!(
                unlogged,
                "more connections come than there is time for: few may wait to be taken in"
            );
        }
    }

    fn found_nobody(&mut self, listener: &Listener) {
        self.left = AT_ONCE;
        self.behind = None;
        let is_short = &self.reception.line.is_short;
        if is_short.load(Ordering::Relaxed) && is_short.swap(false, Ordering::Relaxed) {
            limit(listener, LINE);
        }
    }
}

fn limit(listener: &Listener, max: i32) {
    if let Err(error) = listener.limit_line(max) {
        tracing::debug!(%error, max, "how many may wait to be taken in stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use tokio::task::yield_now;

    use super::*;
    use crate::config::Server;

    /// A listener, one worker's intake from it, and whoever has connected.
    struct Door {
        listener: Listener,
        address: SocketAddr,
        intake: Intake,
        callers: Vec<TcpStream>,
    }

    impl Door {
        fn open() -> Self {
            let listener = super::super::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            let address = listener.local_addr().unwrap();
            let reception = Reception::of(&Server::default(), Arc::default()).unwrap();
            let intake = Intake::new(Arc::new(reception));
            Self { listener: Listener::from_std(listener).unwrap(), address, intake, callers: Vec::new() }
        }

        fn come(&mut self, callers: usize) {
            let connect = || TcpStream::connect(self.address).unwrap();
            self.callers.extend(std::iter::repeat_with(connect).take(callers));
        }

        async fn take_in(&mut self, callers: usize) {
            for _ in 0..callers {
                self.intake.next(&self.listener).await.unwrap();
            }
        }

        /// Takes in so many, while a round of all takes so long.
        async fn take_in_in_rounds_of(&mut self, round: Duration, callers: usize) {
            for _ in 0..callers {
                let mut next = Box::pin(self.intake.next(&self.listener));
                while now(&mut next).await.is_none() {
                    tokio::time::advance(round).await;
                }
            }
        }

        async fn find_nobody(&mut self) {
            let mut next = Box::pin(self.intake.next(&self.listener));
            // It may give all a turn before.
            for _ in 0..2 {
                assert!(now(&mut next).await.is_none());
            }
        }

        fn is_short(&self) -> bool {
            self.intake.reception.line.is_short.load(Ordering::Relaxed)
        }

        fn is_full(&self) -> bool {
            TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_err()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_has_a_turn_after_so_many_were_taken_in() {
        let mut door = Door::open();
        door.come(3 * AT_ONCE);
        let turns = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let mut others = tokio::task::JoinSet::new();
        others.spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        yield_now().await;
        let mut seen = Vec::new();
        for taken in [AT_ONCE, 1, AT_ONCE] {
            let before = turns.load(Ordering::Relaxed);
            door.take_in(taken).await;
            seen.push(turns.load(Ordering::Relaxed) > before);
        }
        assert_eq!(seen, [false, true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_round_one_is_taken_in() {
        for (round, taken) in [(LONG / 2, AT_ONCE), (LONG, 1)] {
            let mut door = Door::open();
            door.come(AT_ONCE + 1);
            door.take_in_in_rounds_of(round, AT_ONCE + 1).await;
            assert_eq!(door.intake.left, taken - 1, "{round:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_empty_is_kept_short_until_it_does() {
        let mut door = Door::open();
        door.come(2 * AT_ONCE);
        door.take_in_in_rounds_of(PERSISTS, AT_ONCE + 1).await;
        assert!(door.is_short());
        let limit = usize::try_from(LINE_OF_TOO_MANY).unwrap();
        door.come(limit + 1 - (AT_ONCE - 1));
        assert!(door.is_full());
        door.take_in(limit + 1).await;
        door.find_nobody().await;
        assert!(!door.is_short() && !door.is_full());
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_empties_now_and_then_is_as_long_as_ever() {
        let mut door = Door::open();
        for _ in 0..4 {
            door.come(AT_ONCE + 1);
            door.take_in_in_rounds_of(PERSISTS / 2, AT_ONCE + 1).await;
            door.find_nobody().await;
        }
        assert!(!door.is_short());
    }

    /// What a future has to say now.
    async fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! { biased; output = future => Some(output), () = ready(()) => None }
    }
}
