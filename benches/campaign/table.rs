//! The results as people read them.

use std::fmt::Write as _;

use super::play::check::COLUMNS;
use super::play::{Outcome, Plan};

pub(crate) fn head() -> String {
    let mut text = "| store | seed | faults | requests | keys | effects".to_owned();
    for column in COLUMNS {
        write!(text, " | {column}").unwrap();
    }
    text.push_str(" | unknown at the end | longest wait after healing | store whole after | minutes |\n|---");
    text.push_str(&"|--:".repeat(COLUMNS.len() + 9));
    text.push_str("|\n");
    text
}

pub(crate) fn row(plan: &Plan, outcome: &Outcome) -> String {
    let counts = outcome.verdict.counts;
    let mut text = format!(
        "| {} | {} | {} | {} | {} | {}",
        plan.store, plan.seed, outcome.faults, counts.requests, counts.keys, counts.effects
    );
    for column in COLUMNS {
        write!(text, " | {}", outcome.verdict.count_of(column)).unwrap();
    }
    let seconds = |micros: u64| format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10);
    let minutes = outcome.took.as_secs().div_ceil(60);
    writeln!(
        text,
        " | {} | {} | {} | {minutes} |",
        counts.unknown,
        seconds(counts.longest_wait),
        seconds(outcome.store_whole_after)
    )
    .unwrap();
    text
}

/// Which faults there were, and what else is worth knowing.
pub(crate) fn faults(outcome: &Outcome) -> String {
    let mut text = String::new();
    for (name, count) in &outcome.counts {
        writeln!(text, "{count:>6} {name}").unwrap();
    }
    for (name, count) in &outcome.deaths {
        writeln!(text, "{count:>6} times {name} had ended by itself").unwrap();
    }
    let counts = outcome.verdict.counts;
    write!(text, "{counts:?}").unwrap();
    text
}
