//! Whether a server is well, told by what comes of requests and of checks. Pure: time is an argument.
//!
//! Two signs, either of which leaves a server out: checks that failed, until enough of them succeed; and requests
//! in a row that it could not be reached for or that it cut off, for a time, after which one request is its trial.
//! Whether a server may be left out at all is settled in `balance.rs`, which sees the others.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// What came of a request, as far as its server's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// It answered, whatever the answer was.
    Answered,
    /// It could not be reached, or cut the request off.
    Failed,
    /// Neither: the request was given up.
    None,
}

/// Whether a server gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It does.
    Well,
    /// One, to see whether it is well again.
    TrialDue,
    /// None while another is well.
    Out,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Left out because of failed requests.
    Ejected,
    /// Left out because of failed checks.
    FoundIll,
    /// Gets requests again.
    Back,
}

/// By what a server is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Failed requests in a row; 0: never.
    pub(super) eject_failures: u32,
    /// For how long.
    pub(super) eject_for: Duration,
    /// Failed checks in a row.
    pub(super) check_failures: u32,
    /// Good checks in a row after which it is back.
    pub(super) check_successes: u32,
}

/// The health of one server.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    failures: u32,
    ejected_until: Option<Instant>,
    is_on_trial: bool,
    is_ill: bool,
    /// Checks in a row that say the opposite of `is_ill`.
    against: u32,
}

impl Terms {
    pub(super) fn of(config: &config::Upstream) -> Self {
        let checks = config.health.as_ref();
        Self {
            eject_failures: config.eject_failures,
            eject_for: config.eject_for,
            check_failures: checks.map_or(1, |health| health.failures),
            check_successes: checks.map_or(1, |health| health.successes),
        }
    }
}

impl Health {
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.ejected_until {
            _ if self.is_ill => Standing::Out,
            None => Standing::Well,
            Some(until) if now >= until && !self.is_on_trial => Standing::TrialDue,
            Some(_) => Standing::Out,
        }
    }

    /// Whether its trial has been due for as long as it was left out, and nobody has stood it.
    pub(super) fn is_trial_overdue(&self, terms: &Terms, now: Instant) -> bool {
        self.standing(now) == Standing::TrialDue
            && self.ejected_until.is_some_and(|until| now >= until + terms.eject_for)
    }

    /// The next request is its trial.
    pub(super) fn begin_trial(&mut self) {
        self.is_on_trial = true;
    }

    /// A request came to this. `may_leave`: whether it may be left out.
    pub(super) fn request(
        &mut self,
        sign: Sign,
        terms: &Terms,
        may_leave: bool,
        now: Instant,
    ) -> Option<Change> {
        match sign {
            Sign::Answered => {
                self.failures = 0;
                self.is_on_trial = false;
                self.ejected_until.take().map(|_| Change::Back)
            }
            Sign::Failed => {
                self.failures = self.failures.saturating_add(1);
                let was_out = self.ejected_until.is_some();
                let is_due = terms.eject_failures > 0 && self.failures >= terms.eject_failures;
                if (is_due && may_leave) || was_out {
                    // Requests that were under way when it was left out do not make it longer.
                    if !was_out || self.is_on_trial {
                        self.ejected_until = Some(now + terms.eject_for);
                    }
                    self.is_on_trial = false;
                    return (!was_out).then_some(Change::Ejected);
                }
                None
            }
            Sign::None => {
                self.is_on_trial = false;
                None
            }
        }
    }

    /// A check came to this.
    pub(super) fn checked(&mut self, is_well: bool, terms: &Terms) -> Option<Change> {
        if is_well != self.is_ill {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < if self.is_ill { terms.check_successes } else { terms.check_failures } {
            return None;
        }
        self.against = 0;
        self.is_ill = !is_well;
        if is_well {
            // Whoever answers its checks need not stand trial.
            self.ejected_until = None;
            self.failures = 0;
            return Some(Change::Back);
        }
        Some(Change::FoundIll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        eject_failures: 2,
        eject_for: Duration::from_secs(10),
        check_failures: 3,
        check_successes: 2,
    };

    fn fail(health: &mut Health, now: Instant) -> Option<Change> {
        health.request(Sign::Failed, &TERMS, true, now)
    }

    #[test]
    fn failures_in_a_row_leave_it_out_and_one_trial_decides() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert_eq!(fail(&mut health, now), None);
        assert_eq!(health.request(Sign::Answered, &TERMS, true, now), None);
        assert_eq!(fail(&mut health, now), None);
        assert_eq!(fail(&mut health, now), Some(Change::Ejected));
        assert_eq!(health.standing(now), Standing::Out);
        let later = now + TERMS.eject_for;
        assert_eq!(health.standing(later), Standing::TrialDue);
        health.begin_trial();
        assert_eq!(health.standing(later), Standing::Out, "one trial at a time");
        assert_eq!(fail(&mut health, later), None);
        assert_eq!(health.standing(later), Standing::Out);
        health.begin_trial();
        let again = later + TERMS.eject_for;
        assert_eq!(health.request(Sign::Answered, &TERMS, true, again), Some(Change::Back));
        assert_eq!(health.standing(again), Standing::Well);
    }

    #[test]
    fn a_trial_that_was_given_up_is_due_again() {
        let (mut health, now) = (Health::default(), Instant::now());
        fail(&mut health, now);
        fail(&mut health, now);
        health.begin_trial();
        health.request(Sign::None, &TERMS, true, now + TERMS.eject_for);
        assert_eq!(health.standing(now + TERMS.eject_for), Standing::TrialDue);
    }

    #[test]
    fn requests_that_fail_after_it_was_left_out_do_not_make_it_longer() {
        let (mut health, now) = (Health::default(), Instant::now());
        fail(&mut health, now);
        fail(&mut health, now);
        fail(&mut health, now + TERMS.eject_for / 2);
        assert_eq!(health.standing(now + TERMS.eject_for), Standing::TrialDue);
    }

    #[test]
    fn it_stays_if_it_may_not_leave() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..9 {
            assert_eq!(health.request(Sign::Failed, &TERMS, false, now), None);
        }
        assert_eq!(health.standing(now), Standing::Well);
    }

    #[test]
    fn checks_in_a_row_leave_it_out_and_bring_it_back() {
        let mut health = Health::default();
        let mut checks = |well: bool| health.checked(well, &TERMS);
        assert_eq!([checks(false), checks(false), checks(true)], [None; 3]);
        assert_eq!([checks(false), checks(false), checks(false)], [None, None, Some(Change::FoundIll)]);
        assert_eq!([checks(true), checks(false), checks(true)], [None; 3]);
        assert_eq!(checks(true), Some(Change::Back));
    }
}
