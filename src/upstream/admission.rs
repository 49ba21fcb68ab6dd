//! How many requests at once a server bears, told from how long its answers take. Pure: time is an argument.
//!
//! A refused payment is worse than a slow one. So no limit holds but the configured one until there is proof that
//! answers take longer *because* more of them are asked for at once, and not because the requests are others, or
//! the service is slow by itself:
//!
//! * What is compared is an answer's time to its head with the mean time of the same kind of request (`kind.rs`)
//!   while few were under way ([`FEW`]). A request of a kind that was never seen alone proves nothing. What is
//!   slow with few under way is slow by itself: a service that takes 5 s for each answer is never limited.
//! * An answer is slow that takes [`SLOW`] times that mean, and [`GRACE`] longer than it. By Markov's inequality no
//!   more than two thirds of the answers of an unchanged service are, however they are distributed. What is looked
//!   for is that [`MOST`] of them are, among requests that were sent while more than [`FLOOR`] were under way; and
//!   that it goes on to grow: [`GROWS`] times as many under way, [`GROWS`] times as slow. An upstream that has
//!   become slower and bears it shows a step, and an overload a slope.
//! * Even then nobody is refused on old means. First it is measured: for a moment all but a few requests wait
//!   until it is known how long these take now. If what looked slow is as slow with few under way, the means were
//!   out of date, and the limit is lifted before those who waited run out of patience.
//!
//! The limit that is then set is the number of requests under way at which answers take [`TARGET`] times their mean,
//! or [`GRACE`] longer (by Little's law: as many as were under way, × that time ÷ the time seen), so that the server
//! always has work at hand and a short queue. It shrinks while most answers are slow, never below [`FLOOR`]; it grows while
//! they are not, until it is of no effect. It is measured anew every [`MEASURE_EVERY`], and when shrinking has not
//! helped, since a service whose answers came to take longer would otherwise be held to a limit that no longer fits. Long polls and streams count until their head; errors of the server
//! and kinds that vary by themselves prove nothing.
//!
//! Sources: Brakmo and Peterson, TCP Vegas, 1995 (compare with the time of an empty path); Nichols and Jacobson,
//! `CoDel`, RFC 8289 (only what persists is a queue); Netflix's `concurrency-limits`, whose long-term average drifts
//! into an overload; Envoy's adaptive concurrency, which measures with few under way whether or not there is
//! evidence. Read `fleet.rs` for who asks.

use std::time::Duration;

use tokio::time::Instant;

use super::kind::{Kind, Means};

/// With no more requests than these under way, answers show how long they take by themselves.
const FEW: usize = 8;

/// So many may always be under way, whatever is seen.
const FLOOR: usize = 16;

/// What makes an answer slow, in times of the mean of its kind,
const SLOW: f64 = 1.5;

/// and in seconds beyond it. A shorter queue troubles nobody.
const GRACE: f64 = 0.1;

/// Where answers are to take this many times their mean, the queue is as short as it can be without running dry.
const TARGET: f64 = 1.25;

/// By how much both the slowness and the number under way must grow from the first sign of an overload.
const GROWS: f64 = 1.25;

/// The share of slow answers that is proof.
const MOST: f64 = 0.75;

/// The share of slow answers below which the limit may grow.
const SOME: f64 = 0.5;

/// Answers that are judged together, at least.
const JUDGED_MIN: u32 = 8;

/// Time over which answers are judged together, at least.
const WINDOW: Duration = Duration::from_millis(100);

/// After this too few answers to be judged are no sign of trouble.
const QUIET: Duration = Duration::from_secs(1);

/// Answers that are measured with few under way.
const MEASURED: u32 = 8;

/// How long all but a few may be held for it,
const MEASURE_MAX: Duration = Duration::from_secs(2);

/// or, where a limit holds already, for so many times what answers take.
const MEASURE_TIMES_MAX: f64 = 3.0;

/// How long a limit stands before it is measured again.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// A limit that has shrunk to this share of what was measured is measured anew.
const SHRUNK: f64 = 0.6;

/// What one request tells of its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// What kind of request it was.
    pub(super) kind: Kind,
    /// Requests under way when it was let in, itself among them.
    pub(super) under_way: usize,
    /// When it was let in.
    pub(super) began: Instant,
    /// From its last byte to the head of its answer.
    pub(super) took: Duration,
}

/// The limit of one server.
#[derive(Debug, Default)]
pub(super) struct Admission {
    phase: Phase,
    means: Means,
    window: Window,
    /// The first sign of an overload that has not passed.
    first_sign: Option<Evidence>,
    /// No measuring before this: it was done for nothing a moment ago.
    rests_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    /// No limit.
    #[default]
    Open,
    /// Few are let in, to see how long they take.
    Measuring(Measuring),
    Limited(Limited),
}

#[derive(Clone, Copy, Debug)]
struct Limited {
    limit: f64,
    /// The limit when it was measured, and when.
    measured: f64,
    since: Instant,
    /// When it is due to be measured again.
    measure_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Measuring {
    since: Instant,
    evidence: Evidence,
    /// The limit that held before, if one did.
    held: Option<f64>,
    seen: u32,
    took: f64,
    expected: f64,
}

/// What was seen of a window.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// Requests under way.
    under_way: f64,
    /// Seconds that answers took,
    took: f64,
    /// and that they take by themselves.
    expected: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Option<Instant>,
    judged: u32,
    slow: u32,
    took: f64,
    expected: f64,
    under_way: f64,
    under_way_max: f64,
}

impl Admission {
    /// Whether one more may be sent while `under_way` are.
    pub(super) fn allows(&self, under_way: usize) -> bool {
        match self.phase {
            Phase::Open => true,
            Phase::Measuring(_) => under_way < FEW,
            Phase::Limited(limited) => number(under_way) < limited.limit,
        }
    }

    /// The limit that refuses requests at the moment, if one does.
    pub(super) fn limit(&self) -> Option<f64> {
        match self.phase {
            Phase::Open => None,
            Phase::Measuring(measuring) => measuring.held,
            Phase::Limited(limited) => Some(limited.limit),
        }
    }

    /// One more was sent, so that `under_way` are.
    pub(super) fn sent(&mut self, under_way: usize) {
        self.window.under_way_max = self.window.under_way_max.max(number(under_way));
    }

    /// The head of an answer has come.
    pub(super) fn answered(&mut self, sample: &Sample, now: Instant) {
        let (took, mean) = (sample.took.as_secs_f64(), self.means.of(sample.kind));
        let is_alone = sample.under_way <= FEW;
        match &mut self.phase {
            Phase::Measuring(measuring) if is_alone && sample.began >= measuring.since => {
                measuring.seen += 1;
                if let Some(mean) = mean {
                    measuring.took += took;
                    measuring.expected += mean;
                }
                self.means.learn_fast(sample.kind, took);
            }
            Phase::Open | Phase::Measuring(_) | Phase::Limited(_) if is_alone => {
                self.means.learn(sample.kind, took);
            }
            Phase::Open | Phase::Measuring(_) | Phase::Limited(_) => {
                if let Some(mean) = mean {
                    self.judge(sample.under_way, took, mean);
                }
            }
        }
        self.turn(now);
    }

    /// A request was given up after `took` without an answer. Only that it was slow can be told from that.
    pub(super) fn given_up(&mut self, sample: &Sample, now: Instant) {
        let took = sample.took.as_secs_f64();
        if let Some(mean) = self.means.of(sample.kind)
            && is_slow(took, mean)
            && sample.under_way > FEW
        {
            self.judge(sample.under_way, took, mean);
        }
        self.turn(now);
    }

    /// Ends a measuring that takes too long, also where none of those who are measured is ever answered.
    pub(super) fn keep_time(&mut self, now: Instant) {
        if let Phase::Measuring(measuring) = self.phase
            && now.duration_since(measuring.since) >= measuring.time_max()
        {
            self.turn(now);
        }
    }

    /// Lets time have its effect.
    pub(super) fn turn(&mut self, now: Instant) {
        if let Phase::Measuring(measuring) = self.phase {
            if measuring.seen >= MEASURED {
                self.conclude(&measuring, now);
            } else if now.duration_since(measuring.since) >= measuring.time_max() {
                self.give_up_measuring(&measuring, now);
            }
            self.window = Window { since: Some(now), ..Window::default() };
            return;
        }
        let since = *self.window.since.get_or_insert(now);
        let passed = now.duration_since(since);
        let is_judged = self.window.judged >= JUDGED_MIN && passed >= WINDOW;
        if is_judged || passed >= QUIET {
            let window =
                std::mem::replace(&mut self.window, Window { since: Some(now), ..Window::default() });
            let share = if is_judged { f64::from(window.slow) / f64::from(window.judged) } else { 0.0 };
            self.judge_window(&window, share, now);
        }
    }

    fn judge(&mut self, under_way: usize, took: f64, mean: f64) {
        let above = match self.phase {
            Phase::Open => FLOOR,
            Phase::Measuring(_) | Phase::Limited(_) => FEW,
        };
        if under_way <= above {
            return;
        }
        let window = &mut self.window;
        window.judged += 1;
        window.slow += u32::from(is_slow(took, mean));
        window.took += took;
        window.expected += mean;
        window.under_way += number(under_way);
    }

    fn judge_window(&mut self, window: &Window, share: f64, now: Instant) {
        match self.phase {
            Phase::Open if share < MOST => self.first_sign = None,
            Phase::Open => {
                let evidence = window.evidence();
                let first = *self.first_sign.get_or_insert(evidence);
                let rests = self.rests_until.is_some_and(|until| now < until);
                if evidence.has_grown_from(&first) && !rests {
                    self.measure(evidence, None, now);
                }
            }
            Phase::Limited(limited) if share >= SOME && now >= limited.measure_at => {
                self.measure(window.evidence(), Some(limited.limit), now);
            }
            Phase::Limited(limited) if share >= MOST => {
                let fitting = window.evidence().fitting();
                let limit = fitting.clamp(limited.limit / 2.0, limited.limit).max(number(FLOOR));
                // If slowness stays while less is under way, it does not come from that.
                let is_vain = limit < SHRUNK * limited.measured;
                let again = limited.since + QUIET;
                let measure_at = if is_vain { again } else { limited.measure_at };
                self.phase = Phase::Limited(Limited { limit, measure_at, ..limited });
            }
            Phase::Limited(limited) if share < SOME && window.evidence().is_below_target() => {
                let limit = limited.limit * 1.1 + 1.0;
                let is_of_effect = limit < 4.0 * window.under_way_max.max(number(FLOOR));
                self.phase =
                    if is_of_effect { Phase::Limited(Limited { limit, ..limited }) } else { Phase::Open };
            }
            Phase::Limited(_) | Phase::Measuring(_) => {}
        }
    }

    fn measure(&mut self, evidence: Evidence, held: Option<f64>, now: Instant) {
        self.first_sign = None;
        let measuring = Measuring { since: now, evidence, held, seen: 0, took: 0.0, expected: 0.0 };
        self.phase = Phase::Measuring(measuring);
    }

    fn conclude(&mut self, measuring: &Measuring, now: Instant) {
        // How much longer the same kinds take with few under way than they were known to.
        let outdated = if measuring.expected > 0.0 { measuring.took / measuring.expected } else { 1.0 };
        let seen = measuring.evidence;
        let evidence = Evidence { expected: seen.expected * outdated, ..seen };
        self.phase = match measuring.held {
            Some(held) => limited(evidence.fitting().min(2.0 * held), now, MEASURE_EVERY),
            None if is_slow(evidence.took, evidence.expected) => {
                limited(evidence.fitting(), now, MEASURE_EVERY)
            }
            None => {
                self.rests_until = Some(now + (now.duration_since(measuring.since) * 10).max(QUIET));
                Phase::Open
            }
        };
    }

    /// It could not be measured in time. What was seen is proof enough for a limit, but it is looked at again soon.
    fn give_up_measuring(&mut self, measuring: &Measuring, now: Instant) {
        self.phase = match measuring.held {
            Some(held) => limited(held, now, MEASURE_EVERY),
            None => limited(measuring.evidence.fitting(), now, QUIET),
        };
    }
}

impl Measuring {
    fn time_max(&self) -> Duration {
        let seen = Duration::try_from_secs_f64(MEASURE_TIMES_MAX * self.evidence.took).unwrap_or_default();
        if self.held.is_some() { MEASURE_MAX.max(seen) } else { MEASURE_MAX }
    }
}

impl Window {
    fn evidence(&self) -> Evidence {
        let judged = f64::from(self.judged.max(1));
        Evidence {
            under_way: self.under_way / judged,
            took: self.took / judged,
            expected: self.expected / judged,
        }
    }
}

impl Evidence {
    /// The limit that fits what was seen.
    fn fitting(&self) -> f64 {
        self.under_way * target(self.expected) / self.took.max(self.expected).max(f64::MIN_POSITIVE)
    }

    fn is_below_target(&self) -> bool {
        self.took <= target(self.expected)
    }

    fn has_grown_from(&self, first: &Self) -> bool {
        self.took * first.expected >= GROWS * first.took * self.expected
            && self.under_way >= GROWS * first.under_way
    }
}

fn limited(limit: f64, now: Instant, measure_after: Duration) -> Phase {
    let limit = limit.max(number(FLOOR));
    Phase::Limited(Limited { limit, measured: limit, since: now, measure_at: now + measure_after })
}

/// From how many seconds on an answer is slow that takes `mean` by itself.
fn slow_from(mean: f64) -> f64 {
    (SLOW * mean).max(mean + GRACE)
}

/// How many seconds answers are let take that take `mean` by themselves.
fn target(mean: f64) -> f64 {
    (TARGET * mean).max(mean + GRACE)
}

fn is_slow(took: f64, mean: f64) -> bool {
    took >= slow_from(mean)
}

/// A count as a number to reckon with.
fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_measuring_ends_though_none_of_those_who_are_measured_is_answered() {
        let (mut admission, began) = (Admission::default(), Instant::now());
        let mut now = began;
        let mut answer = |admission: &mut Admission, under_way: usize, millis: u64| {
            now += Duration::from_millis(20);
            let (kind, took) = (Kind::of(&Method::POST, "/"), Duration::from_millis(millis));
            admission.answered(&Sample { kind, under_way, began: now, took }, now);
            now
        };
        for (under_way, millis) in [(1, 10), (40, 300), (80, 900)] {
            for _ in 0..16 {
                answer(&mut admission, under_way, millis);
            }
        }
        assert!(!admission.allows(FEW), "all but a few are held");
        let now = answer(&mut admission, 80, 900);
        admission.keep_time(now);
        assert!(!admission.allows(FEW));
        admission.keep_time(now + MEASURE_MAX);
        assert!(admission.allows(FEW));
    }
}
