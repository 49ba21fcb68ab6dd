//! All calls of all roads on one store or on all: what `scripts/kill-sweep` runs, and the table that it prints.

use super::site::{KINDS, Kind, ROADS, Road, Site};
use super::strace::{self, Harm};
use super::sweep::{Sweep, places};
use super::verdict::Report;
use super::{failures_at, say};

/// Which store, or `all`; without it there is nothing to do.
const WHICH: &str = "ONCEWAY_TEST_KILL_SWEEP";

/// Set where the gateway was built to make a mistake, which is to be found.
const MISTAKE: &str = "ONCEWAY_MISTAKE";

fn row(kind: Kind, road: Road, harm: &str, report: &Report) -> String {
    format!(
        "| {} | {road:?} | {harm} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} s |",
        kind.name(),
        report.places,
        report.harmed,
        report.answered,
        report.replayed,
        report.not_kept,
        report.executed,
        report.unknown,
        report.twice.len(),
        report.wrong.len(),
        report.unanswered.len(),
        report.longest.as_secs_f64()
    )
}

const HEAD: &str = "| store | road | harm | calls | harmed | first answered | retry: replayed | body not kept \
                    | executed | unknown | executed twice | wrong | unanswered | longest |\n\
                    |---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

fn kills(site: &Site) -> Report {
    let places = places(site);
    let mut sweep = Sweep::over(site, places.len());
    for place in &places {
        sweep.strike(place, Harm::Kill);
    }
    sweep.end()
}

fn failures(site: &Site) -> Report {
    let places = places(site);
    let count = places.iter().map(|place| failures_at(place).len()).sum();
    let mut sweep = Sweep::over(site, count);
    for place in &places {
        for harm in failures_at(place) {
            sweep.strike(place, harm);
        }
    }
    sweep.end()
}

/// Not a claim by itself in the short form: it does nothing unless a store is named.
#[test]
fn every_call_at_which_a_gateway_may_die_or_fail() {
    let Ok(which) = std::env::var(WHICH) else { return };
    assert_eq!(strace::is_missing(), None);
    let kinds: Vec<Kind> = KINDS.into_iter().filter(|kind| which == "all" || which == kind.name()).collect();
    assert!(!kinds.is_empty(), "{WHICH} is all, or one of {:?}", KINDS.map(Kind::name));
    say(HEAD);
    let mut reports = Vec::new();
    for kind in kinds {
        for road in ROADS {
            let report = kills(&Site::of(kind, road));
            say(&row(kind, road, "killed", &report));
            reports.push(report);
        }
        for road in [Road::Warm, Road::Cold] {
            let report = failures(&Site::of(kind, road));
            say(&row(kind, road, "failed", &report));
            reports.push(report);
        }
    }
    for what in reports.iter().flat_map(|report| [&report.twice, &report.unanswered, &report.wrong]).flatten()
    {
        say(what);
    }
    let twice: usize = reports.iter().map(|report| report.twice.len()).sum();
    match std::env::var(MISTAKE) {
        Ok(mistake) => assert!(twice > 0, "{mistake} was made, and not found"),
        Err(_) => reports.iter().for_each(Report::expect_nothing_wrong),
    }
}
