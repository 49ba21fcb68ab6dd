//! Holds a history against what was promised, and says everything that is wrong.
//!
//! The service's ledger is the judge of what ran, the callers' history of what was said. Pure: the same history gives the
//! same findings. Must not know how the history came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::history::{Arrival, Call, Deed, History, Moment, Name, Path, Problem, Told, Word};

/// A waiter hears of an answer within this, even where it has to look for itself.
const WOKEN_WITHIN: Moment = 1_500_000;

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Finding {
    /// The effect of a key happened more than once.
    ExecutedTwice { name: Name, times: usize },
    /// A key was sent to the service again after it might have been processed.
    SentAgain { name: Name },
    /// Two answers to one key.
    WrongAnswer { name: Name, first: u64, other: u64 },
    /// An answer that the service did not give, or not so.
    MadeUp { name: Name, execution: u64 },
    /// The answer to somebody else's request.
    Anothers { name: Name, execution: u64 },
    /// The answer to another body under the same key.
    OfAnotherBody { name: Name, execution: u64 },
    /// A key is said to be used for another body, but nobody had sent another.
    NoMismatch { name: Name },
    /// A caller had the answer, and at the end it was not to be had.
    Lost { name: Name, execution: u64 },
    /// A result is said to be too large to be kept, but none was.
    NotTooLarge { name: Name },
    /// Something that no contract allows.
    Unexpected { name: Name, told: Told },
    /// Asked at the end, with everything healed, a gateway did not say anything final.
    Unanswered { name: Name, gateway: u8 },
    /// Somebody waited for an answer that was there, and was not told.
    NotWoken { name: Name },
    /// Between two storms a caller got nothing final for longer than was promised.
    Late { name: Name, waited: Moment },
}

/// What was found, and how much was looked at.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) findings: BTreeSet<Finding>,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: usize,
    pub(crate) keys: usize,
    pub(crate) arrivals: usize,
    pub(crate) effects: usize,
    /// Keys of the path that runs unknown outcomes again, that ran more than once, as they may.
    pub(crate) retried: usize,
    pub(crate) replays: usize,
    pub(crate) mismatches: usize,
    /// Keys whose outcome nobody knew at the end.
    pub(crate) unknown: usize,
    /// Tries that got neither an answer nor a problem document.
    pub(crate) silent: usize,
    /// The longest time that a caller waited for something final while nothing was done to the servers.
    pub(crate) longest_wait: Moment,
    /// Keys that said "unknown" or "in flight" to one caller after another had the answer.
    pub(crate) stale: usize,
}

/// Everything about one key.
#[derive(Default)]
struct Life<'a> {
    arrivals: Vec<&'a Arrival>,
    calls: Vec<&'a Call>,
}

/// Looks at everything. `patience` is how long a caller may wait while nothing is done to the servers.
pub(crate) fn check(history: &History, patience: Moment) -> Verdict {
    let mut lives: BTreeMap<Name, Life<'_>> = BTreeMap::new();
    for arrival in &history.arrivals {
        lives.entry(arrival.name).or_default().arrivals.push(arrival);
    }
    for call in &history.calls {
        lives.entry(call.name).or_default().calls.push(call);
    }
    let mut verdict = Verdict::default();
    for (name, life) in &lives {
        life.count(*name, &mut verdict.counts);
        verdict.findings.extend(life.executions(*name));
        verdict.findings.extend(life.answers(*name, &history.arrivals));
        verdict.findings.extend(life.refusals(*name));
        verdict.findings.extend(life.final_reads(*name));
        verdict.findings.extend(life.not_woken(*name, &history.quiet));
    }
    waits(history, patience, &mut verdict);
    verdict.counts.requests = history.calls.len();
    verdict.counts.arrivals = history.arrivals.len();
    verdict
}

impl Life<'_> {
    fn effects(&self) -> usize {
        self.arrivals.iter().filter(|arrival| arrival.deed.is_effect()).count()
    }

    fn executions(&self, name: Name) -> Option<Finding> {
        if Path::of(name.key) == Path::Retried {
            return None;
        }
        let times = self.effects();
        if times > 1 {
            return Some(Finding::ExecutedTwice { name, times });
        }
        let may_be_processed = |arrival: &&&Arrival| arrival.deed != Deed::Refused;
        let (last, before) = self.arrivals.split_last()?;
        let is_again = before.iter().any(|arrival| may_be_processed(&arrival));
        debug_assert!(before.iter().all(|arrival| arrival.number < last.number));
        is_again.then_some(Finding::SentAgain { name })
    }

    fn answers(&self, name: Name, ledger: &[Arrival]) -> BTreeSet<Finding> {
        let mut found = BTreeSet::new();
        let mut first = None;
        for call in &self.calls {
            let Told::Answer { execution, is_sound, word } = call.told else { continue };
            let arrival = usize::try_from(execution).ok().and_then(|number| ledger.get(number));
            match arrival {
                Some(arrival) if arrival.name != name => {
                    found.insert(Finding::Anothers { name, execution });
                }
                Some(arrival) if !arrival.deed.is_effect() || !is_sound || word == Word::Other => {
                    found.insert(Finding::MadeUp { name, execution });
                }
                Some(arrival) if arrival.variant != call.variant => {
                    found.insert(Finding::OfAnotherBody { name, execution });
                }
                Some(_) => {}
                None => {
                    found.insert(Finding::MadeUp { name, execution });
                }
            }
            if self.is_kept(call) {
                let first = *first.get_or_insert(execution);
                if first != execution {
                    found.insert(Finding::WrongAnswer { name, first, other: execution });
                }
            }
        }
        found
    }

    /// Problem documents that must have their reason.
    fn refusals(&self, name: Name) -> BTreeSet<Finding> {
        let mut found = BTreeSet::new();
        let is_large = self.arrivals.iter().any(|arrival| arrival.deed == Deed::AnsweredLarge);
        for call in &self.calls {
            match call.told {
                Told::Problem(Problem::KeyReused) => {
                    let is_other = |other: &&Call| other.variant != call.variant && other.began <= call.ended;
                    if !self.calls.iter().any(is_other) {
                        found.insert(Finding::NoMismatch { name });
                    }
                }
                Told::Problem(Problem::ResultUnavailable) if !is_large => {
                    found.insert(Finding::NotTooLarge { name });
                }
                Told::Problem(Problem::Unexpected(_)) | Told::Nonsense(_) => {
                    found.insert(Finding::Unexpected { name, told: call.told });
                }
                Told::Answer { .. } | Told::Refused { .. } | Told::Problem(_) | Told::Nothing => {}
            }
        }
        found
    }

    /// Whether the call was told an answer that every retry gets. One that was told as not stored may be followed by an
    /// unknown outcome, and so may one that is too large: its caller sees it before it has come to its end.
    fn is_kept(&self, call: &Call) -> bool {
        let Told::Answer { execution, word: Word::Executed | Word::Replayed, .. } = call.told else {
            return false;
        };
        let is_large =
            |arrival: &&&Arrival| arrival.number == execution && arrival.deed == Deed::AnsweredLarge;
        !self.arrivals.iter().any(|arrival| is_large(&arrival))
    }

    /// The answer that every retry gets, once somebody got it.
    fn kept(&self) -> Option<u64> {
        self.calls.iter().filter(|call| self.is_kept(call)).find_map(|call| call.told.execution())
    }

    /// Somebody who waited for the answer was sent away without it, long after somebody else had it.
    fn not_woken(&self, name: Name, quiet: &[(Moment, Moment)]) -> Option<Finding> {
        if Path::of(name.key) != Path::Orders {
            return None;
        }
        let kept_at = self.calls.iter().filter(|call| self.is_kept(call)).map(|call| call.ended).min()?;
        let is_sent_away = |call: &&&Call| {
            call.told == Told::Problem(Problem::InFlight)
                && call.ended > kept_at + WOKEN_WITHIN
                && quiet.iter().any(|(from, to)| *from <= kept_at && call.ended <= *to)
        };
        self.calls.iter().find(|call| is_sent_away(call)).map(|_| Finding::NotWoken { name })
    }

    /// What every gateway says at the end, after everything was healed.
    fn final_reads(&self, name: Name) -> BTreeSet<Finding> {
        let mut found = BTreeSet::new();
        let mut last: BTreeMap<u8, &Call> = BTreeMap::new();
        for call in self.calls.iter().filter(|call| call.is_final_read) {
            last.insert(call.gateway, call);
        }
        for (gateway, call) in last {
            if !call.told.is_final() {
                found.insert(Finding::Unanswered { name, gateway });
                continue;
            }
            let Some(execution) = self.kept() else { continue };
            let is_kept = matches!(call.told, Told::Answer { execution: told, .. } if told == execution);
            let is_of_another_body = call.told == Told::Problem(Problem::KeyReused);
            if !is_kept && !is_of_another_body {
                found.insert(Finding::Lost { name, execution });
            }
        }
        found
    }

    fn count(&self, name: Name, counts: &mut Counts) {
        counts.keys += 1;
        counts.effects += self.effects();
        if Path::of(name.key) == Path::Retried && self.effects() > 1 {
            counts.retried += 1;
        }
        let kept_at = self.calls.iter().filter(|call| self.is_kept(call)).map(|call| call.ended).min();
        let (mut is_unknown, mut is_stale) = (false, false);
        for call in &self.calls {
            match call.told {
                Told::Answer { word, .. } => {
                    counts.replays += usize::from(word == Word::Replayed);
                    is_unknown = false;
                }
                Told::Problem(problem @ (Problem::OutcomeUnknown | Problem::InFlight)) => {
                    is_stale |= kept_at.is_some_and(|kept_at| kept_at < call.began);
                    is_unknown = problem == Problem::OutcomeUnknown;
                }
                Told::Problem(Problem::KeyReused) => counts.mismatches += 1,
                Told::Nothing => counts.silent += 1,
                Told::Refused { .. } | Told::Problem(_) | Told::Nonsense(_) => {}
            }
        }
        counts.unknown += usize::from(is_unknown);
        counts.stale += usize::from(is_stale);
    }
}

/// How long callers waited while nothing was done to the servers.
fn waits(history: &History, patience: Moment, verdict: &mut Verdict) {
    let mut operations: BTreeMap<u64, (&Call, &Call)> = BTreeMap::new();
    for call in history.calls.iter().filter(|call| !call.is_final_read) {
        let of = operations.entry(call.operation).or_insert((call, call));
        if call.ended > of.1.ended {
            of.1 = call;
        }
    }
    for (first, last) in operations.values() {
        for (from, to) in &history.quiet {
            let end = if last.told.is_final() { last.ended.min(*to) } else { *to };
            let waited = end.saturating_sub(first.began.max(*from));
            // A caller that was stopped in its tries was not left without an answer.
            if last.ended < *from || first.began > *to || !last.told.is_final() && last.ended < *to {
                continue;
            }
            verdict.counts.longest_wait = verdict.counts.longest_wait.max(waited);
            if waited > patience {
                verdict.findings.insert(Finding::Late { name: first.name, waited });
            }
        }
    }
}

impl Finding {
    /// The column of the table to which it belongs.
    pub(crate) fn column(&self) -> Column {
        match self {
            Self::ExecutedTwice { .. } => Column::ExecutedTwice,
            Self::SentAgain { .. } => Column::SentAgain,
            Self::WrongAnswer { .. } | Self::OfAnotherBody { .. } | Self::NoMismatch { .. } => Column::Wrong,
            Self::MadeUp { .. } | Self::NotTooLarge { .. } | Self::Unexpected { .. } => Column::MadeUp,
            Self::Anothers { .. } => Column::Anothers,
            Self::Lost { .. } => Column::Lost,
            Self::Unanswered { .. } | Self::NotWoken { .. } | Self::Late { .. } => Column::Unanswered,
        }
    }
}

/// Kinds of findings, as the table tells them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Column {
    ExecutedTwice,
    SentAgain,
    Wrong,
    MadeUp,
    Anothers,
    Lost,
    Unanswered,
}

pub(crate) const COLUMNS: [Column; 7] = [
    Column::ExecutedTwice,
    Column::SentAgain,
    Column::Wrong,
    Column::MadeUp,
    Column::Anothers,
    Column::Lost,
    Column::Unanswered,
];

impl Verdict {
    pub(crate) fn count_of(&self, column: Column) -> usize {
        self.findings.iter().filter(|finding| finding.column() == column).count()
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExecutedTwice => "executed twice",
            Self::SentAgain => "sent again",
            Self::Wrong => "wrong answers",
            Self::MadeUp => "answers that no execution gave",
            Self::Anothers => "another caller's answers",
            Self::Lost => "lost answers",
            Self::Unanswered => "unanswered retries",
        })
    }
}
