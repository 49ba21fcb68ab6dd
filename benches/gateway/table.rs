//! From samples to the table that people read: medians, ratios, columns.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::cpu::Used;

/// One row in one round.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) requests: u32,
    pub(super) used: Used,
    pub(super) took: Duration,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// One row in all rounds.
pub(super) struct Row {
    pub(super) work: &'static str,
    pub(super) by: &'static str,
    /// The row that this one is held against, which may be itself.
    pub(super) reference: usize,
    pub(super) samples: Vec<Sample>,
}

impl Row {
    /// Processor time per request, round by round.
    fn cpu_micros(&self) -> Vec<f64> {
        self.samples.iter().map(Sample::cpu_micros).collect()
    }

    pub(super) fn median_micros(&self) -> f64 {
        median(self.cpu_micros())
    }

    /// The median of the ratios within each round.
    pub(super) fn ratio_to(&self, reference: &Self) -> f64 {
        ratio(&self.cpu_micros(), &reference.cpu_micros())
    }
}

impl Sample {
    /// Processor time per request.
    pub(super) fn cpu_micros(&self) -> f64 {
        self.used.total.as_secs_f64() * 1e6 / f64::from(self.requests)
    }

    fn requests_per_second(&self) -> f64 {
        f64::from(self.requests) / self.took.as_secs_f64()
    }
}

/// Renders the rows. Ratios are to the row of nginx that a row is held against: the median of those within each
/// round, and that of the least disturbed rounds of both.
pub(super) fn render(rows: &[Row]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    line(
        &mut out,
        &["work", "by", "CPU µs", "least", "/ nginx", "least", "user", "req/s", "p50 ms", "p99 ms"],
    )?;
    for row in rows.iter().filter(|row| !row.samples.is_empty()) {
        let cpu = row.cpu_micros();
        let nginx = rows.get(row.reference).map(Row::cpu_micros).unwrap_or_default();
        let column = |of: fn(&Sample) -> f64| median(row.samples.iter().map(of).collect());
        line(
            &mut out,
            &[
                row.work,
                row.by,
                &format!("{:.1}", median(cpu.clone())),
                &format!("{:.1}", least(&cpu)),
                &format!("{:.2}", ratio(&cpu, &nginx)),
                &format!("{:.2}", least(&cpu) / least(&nginx)),
                &format!("{} %", user_percent(&row.samples)),
                &format!("{:.0}", column(Sample::requests_per_second)),
                &format!("{:.1}", column(|sample| sample.p50.as_secs_f64() * 1e3)),
                &format!("{:.1}", column(|sample| sample.p99.as_secs_f64() * 1e3)),
            ],
        )?;
    }
    Ok(out)
}

/// The median of the ratios within each round.
pub(super) fn ratio(values: &[f64], references: &[f64]) -> f64 {
    median(values.iter().zip(references).map(|(value, reference)| value / reference).collect())
}

/// The value that so many percent of the latencies do not exceed.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_mul(percent) / 100;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn line(
    out: &mut String,
    [work, by, cpu, least, ratio, least_ratio, user, rate, p50, p99]: &[&str; 10],
) -> fmt::Result {
    write!(out, "{work:<26} {by:<16} {cpu:>7} {least:>7} {ratio:>8} {least_ratio:>6}")?;
    writeln!(out, " {user:>5} {rate:>7} {p50:>7} {p99:>7}")
}

fn user_percent(samples: &[Sample]) -> u64 {
    let user: u64 = samples.iter().map(|sample| sample.used.user_ticks).sum();
    let system: u64 = samples.iter().map(|sample| sample.used.system_ticks).sum();
    (user * 100).checked_div(user + system).unwrap_or_default()
}

/// In the middle of the sorted values; not a number where there are none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = values.get((values.len() / 2).saturating_sub(1)).copied().unwrap_or(f64::NAN);
    f64::midpoint(lower, upper)
}

/// Infinite where there are none.
pub(super) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
