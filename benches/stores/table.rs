//! From samples to one Markdown table: medians over the rounds.

use std::fmt::{self, Write as _};
use std::time::Duration;

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
    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    fn rate(&self) -> f64 {
        self.median(|sample| f64::from(sample.calls) / sample.took.as_secs_f64())
    }

    fn micros(&self, of: impl Fn(&Sample) -> Duration) -> f64 {
        self.median(|sample| of(sample).as_secs_f64() * 1e6 / f64::from(sample.calls))
    }
}

/// Renders the rows. The plain write is a row among them, its rate is what the others are divided by.
pub(super) fn render(rows: &[Row], plain: &str) -> Result<String, fmt::Error> {
    let mut out = "| store | call | callers | round trips | calls/s | of plain | CPU µs, ours | server's | p50 ms | p99 ms |\n\
                   |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for row in rows.iter().filter(|row| !row.samples.is_empty()) {
        let beside = rows
            .iter()
            .find(|other| other.store == row.store && other.callers == row.callers && other.call == plain);
        let of_plain = beside.filter(|_| row.call != plain).map(|plain| row.rate() / plain.rate() * 100.0);
        let is_server = row.samples.iter().all(|sample| sample.servers.is_some());
        let servers = is_server.then(|| row.micros(|sample| sample.servers.unwrap_or_default()));
        writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} | {} | {:.1} | {} | {:.2} | {:.2} |",
            row.store,
            row.call,
            row.callers,
            shown(row.round_trips, 2, ""),
            row.rate(),
            shown(of_plain, 0, " %"),
            row.micros(|sample| sample.ours),
            shown(servers, 1, ""),
            row.median(|sample| sample.p50.as_secs_f64() * 1e3),
            row.median(|sample| sample.p99.as_secs_f64() * 1e3),
        )?;
    }
    Ok(out)
}

fn shown(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}{unit}"))
}

/// The value that so many percent of the latencies do not exceed.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_mul(percent) / 100;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
