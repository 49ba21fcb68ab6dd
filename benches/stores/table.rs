//! From samples to one Markdown table: medians over the rounds.

use std::fmt::{self, Write as _};
use std::time::Duration;

const NONE: &str = "–";

/// One row in one round.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) calls: u32,
    pub(super) took: Duration,
    pub(super) ours: Duration,
    pub(super) servers: Option<Duration>,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// One row in all rounds.
pub(super) struct Row {
    pub(super) store: &'static str,
    pub(super) call: &'static str,
    pub(super) callers: usize,
    /// Per call, where there is a server.
    pub(super) round_trips: Option<f64>,
    pub(super) samples: Vec<Sample>,
}

impl Row {
    /// Calls per second, round by round.
    fn rates(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| f64::from(sample.calls) / sample.took.as_secs_f64()).collect()
    }

    /// Processor time of a call: the median, and the least disturbed round.
    fn micros(&self, of: impl Fn(&Sample) -> Duration) -> String {
        let per_call = |sample: &Sample| of(sample).as_secs_f64() * 1e6 / f64::from(sample.calls);
        let micros: Vec<f64> = self.samples.iter().map(per_call).collect();
        let least = micros.iter().copied().fold(f64::INFINITY, f64::min);
        format!("{:.1} ({least:.1})", median(micros))
    }

    fn millis(&self, of: impl Fn(&Sample) -> Duration) -> String {
        let millis = self.samples.iter().map(|sample| of(sample).as_secs_f64() * 1e3);
        format!("{:.3}", median(millis.collect()))
    }
}

/// Renders the rows. The plain write is a row among them, and the others of its store and callers are held against
/// it, round by round.
pub(super) fn render(rows: &[Row], plain: &str) -> Result<String, fmt::Error> {
    let mut out =
        "| store | call | callers | round trips | calls/s | of plain | CPU µs, ours | server's | p50 ms | p99 ms |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
            .to_owned();
    for row in rows.iter().filter(|row| !row.samples.is_empty()) {
        let beside = rows
            .iter()
            .filter(|_| row.call != plain)
            .find(|other| other.call == plain && (other.store, other.callers) == (row.store, row.callers));
        let ratios: Vec<f64> = beside
            .into_iter()
            .flat_map(|plain| row.rates().into_iter().zip(plain.rates()))
            .map(|(own, plain)| own / plain)
            .collect();
        let of_plain = if ratios.is_empty() { NONE.to_owned() } else { format!("{:.2}", median(ratios)) };
        let has_server = row.samples.iter().all(|sample| sample.servers.is_some());
        let servers = || row.micros(|sample| sample.servers.unwrap_or_default());
        writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} | {of_plain} | {} | {} | {} | {} |",
            row.store,
            row.call,
            row.callers,
            row.round_trips.map_or_else(|| NONE.to_owned(), |count| format!("{count:.2}")),
            median(row.rates()),
            row.micros(|sample| sample.ours),
            if has_server { servers() } else { NONE.to_owned() },
            row.millis(|sample| sample.p50),
            row.millis(|sample| sample.p99),
        )?;
    }
    Ok(out)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The value that so many percent of the latencies do not exceed.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_mul(percent) / 100;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
