//! The limits that stand in the repository, and what is said of counts beside them.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use super::Failure;

/// What a limit leaves above the count that it was made of, in percent: a few times what counts differ by
/// from run to run, and less than what is worth knowing.
const ROOM_PERCENT: u64 = 5;

/// What is left for system calls, in hundredths a request: less than one call more.
const ROOM_FOR_CALLS: u64 = 40;

/// A count that is below its limit by more than this is a limit to be lowered.
const SLACK_PERCENT: u64 = 10;

/// What a request costs, or may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) instructions: u64,
    pub(super) calls_hundredths: u64,
}

/// Of a row, by its work and its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) work: String,
    pub(super) store: String,
    pub(super) at_most: Cost,
}

pub(super) struct Limits {
    /// What they were measured with.
    pub(super) by: String,
    pub(super) rows: Vec<Limit>,
}

/// What is to be said of a row.
pub(super) enum Verdict {
    Within,
    /// Fine, but its limit would let a regression pass.
    Slack(String),
    Exceeded(String),
}

const BY: &str = "# Measured with ";

impl Limits {
    pub(super) fn path() -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "benches", "instructions", "limits.txt"].iter().collect()
    }

    pub(super) fn read() -> Result<Self, Failure> {
        let path = Self::path();
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let by = text.lines().find_map(|line| line.strip_prefix(BY)).unwrap_or("an unknown compiler");
        let by = by.trim_end_matches('.').to_owned();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("work "));
        let rows = lines
            .map(|line| limit(line).ok_or_else(|| format!("limits.txt: found {line:?}, expected a row")));
        Ok(Self { by, rows: rows.collect::<Result<_, _>>()? })
    }

    /// Puts a limit a little above `cost`.
    pub(super) fn set(&mut self, work: &str, store: &str, cost: Cost) {
        let room = (cost.instructions * ROOM_PERCENT).div_ceil(100);
        let at_most = Cost {
            instructions: (cost.instructions + room).next_multiple_of(100),
            calls_hundredths: (cost.calls_hundredths + ROOM_FOR_CALLS).next_multiple_of(10),
        };
        match self.rows.iter_mut().find(|row| row.work == work && row.store == store) {
            Some(row) => row.at_most = at_most,
            None => self.rows.push(Limit { work: work.to_owned(), store: store.to_owned(), at_most }),
        }
    }

    pub(super) fn write(&self) -> Result<(), Failure> {
        let mut text = format!(
            "# What a request may cost at most, as `scripts/instructions --write` found it and with {ROOM_PERCENT} % of room \
             above.\n{BY}{}.\n",
            self.by
        );
        writeln!(text, "{:<26}  {:<8}  {:>12}  {:>12}", "work", "store", "instructions", "system calls")?;
        for Limit { work, store, at_most } in &self.rows {
            let calls = decimal(at_most.calls_hundredths);
            writeln!(text, "{work:<26}  {store:<8}  {:>12}  {calls:>12}", at_most.instructions)?;
        }
        Ok(fs::write(Self::path(), text)?)
    }

    pub(super) fn of(&self, work: &str, store: &str) -> Option<Cost> {
        self.rows.iter().find(|row| row.work == work && row.store == store).map(|row| row.at_most)
    }
}

/// Reads `first request  file:  512300  31.4`.
fn limit(line: &str) -> Option<Limit> {
    let mut columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
    let (work, store) = (columns.next()?.to_owned(), columns.next()?.to_owned());
    let instructions = columns.next()?.parse().ok()?;
    let (whole, part) = columns.next()?.split_once('.')?;
    let hundredths = format!("{part:0<2}").parse::<u64>().ok().filter(|part| *part < 100)?;
    let calls_hundredths = whole.parse::<u64>().ok()? * 100 + hundredths;
    Some(Limit { work, store, at_most: Cost { instructions, calls_hundredths } })
}

pub(super) fn decimal(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Holds what was found against what is wanted.
pub(super) fn verdict(found: Cost, limit: Option<Cost>) -> Verdict {
    let Some(limit) = limit else {
        return Verdict::Exceeded("no limit stands in limits.txt; --write puts one there".to_owned());
    };
    let both = [
        ("instructions", found.instructions, limit.instructions, false),
        ("system calls", found.calls_hundredths, limit.calls_hundredths, true),
    ];
    let shown = |count: u64, is_hundredths| if is_hundredths { decimal(count) } else { count.to_string() };
    let (mut exceeded, mut slack) = (Vec::new(), Vec::new());
    for (what, found, limit, is_hundredths) in both {
        let words = |how| {
            let (found, limit) = (shown(found, is_hundredths), shown(limit, is_hundredths));
            format!("found {found} {what} a request, {how} {limit}")
        };
        if found > limit {
            exceeded.push(words("wanted at most"));
        } else if found * 100 < limit * (100 - SLACK_PERCENT) {
            slack.push(words("well below the limit of"));
        }
    }
    match (exceeded.is_empty(), slack.is_empty()) {
        (false, _) => Verdict::Exceeded(exceeded.join("; ")),
        (true, false) => Verdict::Slack(slack.join("; ")),
        (true, true) => Verdict::Within,
    }
}
