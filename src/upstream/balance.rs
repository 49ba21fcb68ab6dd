//! Which server a request goes to, and whether it has to wait. Pure: time is an argument.
//!
//! A request goes to the server with the fewest requests under way among those that are well and have room; of
//! equals, each in turn. Where none has room it waits (`queue.rs`). Servers that are not well (`health.rs`) get
//! requests only if no server is well: then all of them are tried, because the sign may be wrong, and a service
//! that answers some requests is better than one that answers none. A server that was left out gets one request to
//! see whether it is well again; a request under a claim is not risked for that while another server is well, unless no
//! other request has come for as long as the server was left out.
//!
//! Must not know connections. Read `admission.rs` for the limit of each server, `fleet.rs` for who asks.

use tokio::time::Instant;

use super::admission::{Admission, Sample};
use super::health::{Change, Health, Sign, Standing, Terms};
use super::queue::{Queue, Ticket};
use crate::config;

/// The servers of one upstream and those who wait for them.
#[derive(Debug)]
pub(super) struct Balance<W> {
    servers: Vec<Load>,
    queue: Queue<(W, Wish)>,
    /// Where the search for the next server begins.
    turn: usize,
    connections_max: usize,
    terms: Terms,
}

/// What a request asks of its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// It is forwarded under a claim.
    pub(super) is_guarded: bool,
    /// Servers that it could not be sent to.
    pub(super) tried: Vec<usize>,
}

/// A request's place at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// Which server.
    pub(super) server: usize,
    /// Requests under way there that wait for the head of their answer, this one among them.
    pub(super) under_way: usize,
}

/// What a server is working on.
#[derive(Debug)]
struct Load {
    /// Requests whose answer has not ended.
    open: usize,
    /// Requests whose answer has not begun.
    under_way: usize,
    admission: Option<Admission>,
    health: Health,
}

/// What came of a request that was sent, or was to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// The head of an answer came, and tells how the server bears its load.
    Answered(Sample),
    /// The head of an answer came, and tells nothing of that.
    Refused,
    /// The server could not be reached, or cut the request off.
    Failed,
    /// The request was given up after it was sent.
    GivenUp(Sample),
    /// Nothing is to be learnt from it.
    Nothing,
}

impl<W> Balance<W> {
    pub(super) fn new(config: &config::Upstream) -> Self {
        let load = || Load {
            open: 0,
            under_way: 0,
            admission: (config.admission == config::Admission::Adaptive).then(Admission::default),
            health: Health::default(),
        };
        Self {
            servers: config.servers.iter().map(|_| load()).collect(),
            queue: Queue::new(),
            turn: 0,
            connections_max: config.connections_max,
            terms: Terms::of(config),
        }
    }

    /// A place at a server, if one has room.
    pub(super) fn enter(&mut self, wish: &Wish, now: Instant) -> Option<Granted> {
        for admission in self.servers.iter_mut().filter_map(|load| load.admission.as_mut()) {
            admission.keep_time(now);
        }
        let server = self.choose(wish, now)?;
        self.turn = self.turn.wrapping_add(1);
        let load = self.servers.get_mut(server)?;
        if load.health.standing(now) == Standing::TrialDue {
            load.health.begin_trial();
        }
        load.open += 1;
        load.under_way += 1;
        if let Some(admission) = &mut load.admission {
            admission.sent(load.under_way);
        }
        Some(Granted { server, under_way: load.under_way })
    }

    /// Whether anybody waits for a place.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Waits for a place.
    pub(super) fn wait(&mut self, waiter: W, wish: Wish, now: Instant) -> Ticket {
        self.queue.join((waiter, wish), now)
    }

    /// Waits no longer.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        self.queue.leave(ticket);
    }

    /// Whoever's turn has come. To be asked again until it is nobody's.
    pub(super) fn next(&mut self, now: Instant) -> Option<(W, Granted)> {
        let (ticket, (_, wish)) = self.queue.first(now)?;
        let wish = wish.clone();
        let granted = self.enter(&wish, now)?;
        let (waiter, _) = self.queue.leave(ticket)?;
        Some((waiter, granted))
    }

    /// A request need not be waited for any more: its answer has begun, or will not.
    pub(super) fn heard(&mut self, server: usize, outcome: &Outcome, now: Instant) -> Option<Change> {
        let may_leave = (0..self.servers.len())
            .any(|other| other != server && self.standing(other, now) == Standing::Well);
        let load = self.servers.get_mut(server)?;
        load.under_way = load.under_way.saturating_sub(1);
        if let Some(admission) = &mut load.admission {
            match outcome {
                Outcome::Answered(sample) => admission.answered(sample, now),
                Outcome::GivenUp(sample) => admission.given_up(sample, now),
                Outcome::Refused | Outcome::Failed | Outcome::Nothing => admission.turn(now),
            }
        }
        let sign = match outcome {
            Outcome::Answered(_) | Outcome::Refused => Sign::Answered,
            Outcome::Failed => Sign::Failed,
            Outcome::GivenUp(_) | Outcome::Nothing => Sign::None,
        };
        load.health.request(sign, &self.terms, may_leave, now)
    }

    /// An answer has ended, or will not come.
    pub(super) fn left(&mut self, server: usize) {
        if let Some(load) = self.servers.get_mut(server) {
            load.open = load.open.saturating_sub(1);
        }
    }

    /// A check came to this.
    pub(super) fn checked(&mut self, server: usize, is_well: bool) -> Option<Change> {
        self.servers.get_mut(server)?.health.checked(is_well, &self.terms)
    }

    /// The limit by which a server's requests are refused at the moment, if there is one.
    pub(super) fn limit(&self, server: usize) -> Option<f64> {
        self.servers.get(server)?.admission.as_ref()?.limit()
    }

    /// Whether a server is well.
    pub(super) fn is_well(&self, server: usize, now: Instant) -> bool {
        self.standing(server, now) == Standing::Well
    }

    /// Requests to a server whose answer has not ended.
    pub(super) fn open(&self, server: usize) -> usize {
        self.servers.get(server).map_or(0, |load| load.open)
    }

    /// Whether any server is well.
    pub(super) fn is_any_well(&self, now: Instant) -> bool {
        (0..self.servers.len()).any(|server| self.is_well(server, now))
    }

    fn choose(&self, wish: &Wish, now: Instant) -> Option<usize> {
        let is_any_well = self.is_any_well(now);
        let open = |server: &usize| !wish.tried.contains(server) && self.has_room(*server);
        let of = |standing: Standing| move |server: &usize| self.standing(*server, now) == standing;
        let trial = (0..self.servers.len()).filter(open).find(of(Standing::TrialDue));
        match (is_any_well, trial) {
            (true, Some(trial)) if wish.tried.is_empty() && self.may_stand_trial(wish, trial, now) => {
                Some(trial)
            }
            (true, _) => self.least_loaded(|server| open(server) && of(Standing::Well)(server)),
            (false, Some(trial)) => Some(trial),
            (false, None) => self.least_loaded(open),
        }
    }

    /// Where all requests are under claims, a server that was left out would otherwise never come back.
    fn may_stand_trial(&self, wish: &Wish, server: usize, now: Instant) -> bool {
        let is_overdue = |load: &Load| load.health.is_trial_overdue(&self.terms, now);
        !wish.is_guarded || self.servers.get(server).is_some_and(is_overdue)
    }

    fn least_loaded(&self, may_take: impl Fn(&usize) -> bool) -> Option<usize> {
        let servers = self.servers.len();
        // Of equals the first that is met is taken; the search begins elsewhere each time.
        let in_turn = (0..servers).map(|step| self.turn.wrapping_add(step) % servers);
        in_turn.filter(may_take).min_by_key(|server| self.servers.get(*server).map(|load| load.open))
    }

    fn has_room(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|load| {
            let is_borne = load.admission.as_ref().is_none_or(|admission| admission.allows(load.under_way));
            is_borne && load.open < self.connections_max
        })
    }

    fn standing(&self, server: usize, now: Instant) -> Standing {
        self.servers.get(server).map_or(Standing::Out, |load| load.health.standing(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_left_out_comes_back_where_all_requests_are_under_claims() {
        let mut config =
            config::for_upstream("http://127.0.0.1:9000", None, None).unwrap().upstreams.remove(0);
        config.servers = vec!["127.0.0.1:9000".into(), "127.0.0.1:9001".into()];
        let (mut balance, now) = (Balance::<()>::new(&config), Instant::now());
        let guarded = Wish { is_guarded: true, tried: Vec::new() };
        for _ in 0..config.eject_failures {
            balance.heard(0, &Outcome::Failed, now);
        }
        let goes_to = |balance: &mut Balance<()>, now| balance.enter(&guarded, now).unwrap().server;
        let due = now + config.eject_for;
        assert!((0..4).all(|_| goes_to(&mut balance, due) == 1), "it is not risked at once");
        let overdue = due + config.eject_for;
        assert_eq!(goes_to(&mut balance, overdue), 0);
        assert_eq!(goes_to(&mut balance, overdue), 1, "one trial at a time");
    }
}
