//! One harm after another: a gateway is started, harmed while it has a request, and succeeded by another, which is
//! asked for the same key.

use std::collections::HashMap;
use std::time::Duration;

use crate::harness::{Answer, Gateway, PATIENCE, now, until};

use super::caller;
use super::site::{Road, Site, held_request, request};
use super::strace::{Harm, Place, Tracer};
use super::verdict::{Asked, Report};

/// After the answer, for what a gateway does without being asked: its heartbeat comes five times a second.
const LINGER: Duration = Duration::from_millis(450);

/// After the answer, for what a worker does to end the connection.
const LINGER_OF_WORKER: Duration = Duration::from_millis(60);

/// A sweep under way.
pub(super) struct Sweep<'a> {
    site: &'a Site,
    report: Report,
    open: Vec<Asked>,
    closed: Vec<Asked>,
    keys: usize,
}

/// The calls that a request makes, in each thread and in order.
pub(super) fn places(site: &Site) -> Vec<Place> {
    let mut gateway = site.start();
    warm(site, &gateway, "warm-places");
    let names: HashMap<String, String> =
        threads(&gateway).into_iter().map(|(name, number)| (number.to_string(), name)).collect();
    let pid = gateway.pid();
    let (tracer, _) = play(site, &mut gateway, "places", || Tracer::watching(pid));
    linger(&mut gateway, LINGER);
    let mut places = tracer.places(|number| names.get(number).cloned());
    // One more of each: the next time a thread may be woken once more.
    let more: Vec<Place> =
        last_of_each(&places).map(|place| Place { nth: place.nth + 1, ..place.clone() }).collect();
    places.extend(more);
    places
}

fn last_of_each(places: &[Place]) -> impl Iterator<Item = &Place> {
    let is_last = |at: usize, place: &Place| {
        !places[at + 1..].iter().any(|later| later.thread == place.thread && later.call == place.call)
    };
    places.iter().enumerate().filter(move |(at, place)| is_last(*at, place)).map(|(_, place)| place)
}

impl<'a> Sweep<'a> {
    pub(super) fn over(site: &'a Site, places: usize) -> Self {
        let report = Report { places, ..Report::default() };
        Self { site, report, open: Vec::new(), closed: Vec::new(), keys: 0 }
    }

    /// Harms one gateway at one place.
    pub(super) fn strike(&mut self, place: &Place, harm: Harm) {
        let mut gateway = self.site.start();
        self.retry_all(&gateway);
        let key = self.key("harmed");
        warm(self.site, &gateway, &self.key("warm"));
        let thread = threads(&gateway).into_iter().find(|(name, _)| *name == place.thread);
        // A thread for work that blocks ends when there is none.
        let Some((_, thread)) = thread else { return };
        let (tracer, first) = play(self.site, &mut gateway, &key, || Tracer::harming(thread, place, harm));
        let is_worker = place.thread.starts_with("onceway-") && place.thread != "onceway-log";
        linger(&mut gateway, if is_worker { LINGER_OF_WORKER } else { LINGER });
        let is_harmed = tracer.has_struck();
        self.report.harmed += usize::from(is_harmed);
        let effect = if is_harmed { "harmed" } else { "not harmed" };
        let moment = format!("{effect} by {harm:?} at {} {} of {}", place.call, place.nth, place.thread);
        let mut asked = Asked::new(key, moment, first);
        if harm != Harm::Kill && self.site.road != Road::Drain {
            self.expect_to_live(&mut gateway, &mut asked);
        }
        gateway.kill();
        if let Some(witness) = &self.site.witness {
            asked.retry(witness, &mut self.report);
        }
        self.open.push(asked);
    }

    /// One failed call is no reason to end, nor to be unable to answer for ever.
    fn expect_to_live(&mut self, gateway: &mut Gateway, asked: &mut Asked) {
        let began = now();
        while !asked.retry(gateway, &mut self.report) && began.elapsed() < PATIENCE {
            if gateway.has_ended() {
                self.report.wrong.push(format!("{asked}: the gateway has ended:\n{}", gateway.log()));
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the last word about every key, and tells what came of all.
    pub(super) fn end(mut self) -> Report {
        let gateway = self.site.start();
        while !self.open.is_empty() {
            self.retry_all(&gateway);
            std::thread::sleep(Duration::from_millis(20));
        }
        let witness = self.site.witness.as_ref().unwrap_or(&gateway);
        for asked in self.closed {
            asked.close(witness, &self.site.upstream, &mut self.report);
        }
        self.report
    }

    fn retry_all(&mut self, gateway: &Gateway) {
        let gateways = [Some(gateway), self.site.witness.as_ref()];
        for gateway in gateways.into_iter().flatten() {
            let open = std::mem::take(&mut self.open);
            for mut asked in open {
                let has_ended = asked.retry(gateway, &mut self.report);
                if has_ended { &mut self.closed } else { &mut self.open }.push(asked);
            }
        }
    }

    fn key(&mut self, what: &str) -> String {
        self.keys += 1;
        format!("{what}-{}", self.keys)
    }
}

/// A key that nobody has asked for is answered at once, whatever came before.
fn warm(site: &Site, gateway: &Gateway, key: &str) {
    let through = match site.road {
        Road::Cold => site.witness.as_ref(),
        Road::Warm | Road::TwoKeys | Road::Large | Road::Drain => Some(gateway),
    };
    let Some(through) = through else { return };
    let mut answer = None;
    until("a fresh key is answered", || {
        answer = caller::ask(through.listen_addr(), &request(key));
        // A machine that stood still for a second has let the session lapse.
        answer.as_ref().is_some_and(|answer| answer.status != 503)
    });
    let answer = answer.expect("it was waited for");
    assert_eq!((answer.status, answer.word().as_deref()), (201, Some("executed")), "{}", answer.shown());
}

/// Lets `trace` attach, and asks. On [`Road::Drain`] the request is under way when it attaches.
fn play(
    site: &Site,
    gateway: &mut Gateway,
    key: &str,
    trace: impl FnOnce() -> Tracer,
) -> (Tracer, Option<Answer>) {
    match site.road {
        Road::Warm | Road::Cold | Road::TwoKeys | Road::Large => {
            let tracer = trace();
            (tracer, caller::ask(gateway.listen_addr(), &request(key)))
        }
        Road::Drain => {
            site.shut_gate();
            let sent = caller::send(gateway.listen_addr(), &held_request(key));
            until("the request is under way", || site.upstream.executions_of(key) == 1);
            let tracer = trace();
            gateway.signal("TERM");
            site.open_gate();
            (tracer, sent.answer())
        }
    }
}

fn linger(gateway: &mut Gateway, for_at_most: Duration) {
    let began = now();
    while !gateway.has_ended() && began.elapsed() < for_at_most {
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The threads of a process, by name.
fn threads(gateway: &Gateway) -> Vec<(String, u32)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let mut threads: Vec<(String, u32)> = tasks
        .filter_map(|task| {
            let name = std::fs::read_to_string(task.as_ref().unwrap().path().join("comm")).ok()?;
            let number = task.unwrap().file_name().to_string_lossy().parse().unwrap();
            Some((name.trim_end().to_owned(), number))
        })
        .collect();
    threads.sort();
    threads.dedup_by(|next, first| next.0 == first.0);
    threads
}
