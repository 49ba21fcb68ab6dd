//! From samples to the tables that people read. Rows of one work stand together, and the first step is what the others
//! are held against.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) requests: u32,
    pub(super) used: Duration,
    pub(super) p99: Duration,
    /// The most memory that the gateway held meanwhile.
    pub(super) peak_bytes: u64,
}

/// One work at one step.
pub(super) struct Row {
    pub(super) work: String,
    pub(super) step: String,
    pub(super) samples: Vec<Sample>,
    /// What the table's own columns hold.
    pub(super) facts: Vec<String>,
}

impl Row {
    pub(super) fn new(work: &str, step: String) -> Self {
        Self { work: work.to_owned(), step, samples: Vec::new(), facts: Vec::new() }
    }

    fn micros(&self) -> Vec<f64> {
        let per_request = |sample: &Sample| sample.used.as_secs_f64() * 1e6 / f64::from(sample.requests);
        self.samples.iter().map(per_request).collect()
    }

    /// The median processor time of a request.
    pub(super) fn cpu_micros(&self) -> f64 {
        median(self.micros())
    }

    /// The most memory that the gateway held while it was measured.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.samples.iter().map(|sample| sample.peak_bytes).max().unwrap_or_default()
    }
}

/// Renders the rows, each work in the order in which it came first. Ratios are to its first step: the median of those
/// within each round, and that of the least disturbed rounds of both.
pub(super) fn render(title: &str, step: &str, own: &[&str], rows: &[Row]) -> Result<String, fmt::Error> {
    let mut out = format!("{title}\n\n");
    let columns = [step, "CPU µs", "least", "/ first", "least", "p99 ms"];
    line(&mut out, "work", &columns, own.iter().copied())?;
    let mut works: Vec<&str> = Vec::new();
    for row in rows {
        if !works.contains(&row.work.as_str()) {
            works.push(&row.work);
        }
    }
    for work in works {
        let steps = || rows.iter().filter(|row| row.work == work);
        let first = steps().next().map(Row::micros).unwrap_or_default();
        for row in steps() {
            let micros = row.micros();
            let ratios = micros.iter().zip(&first).map(|(own, first)| own / first);
            let p99 = median(row.samples.iter().map(|sample| sample.p99.as_secs_f64() * 1e3).collect());
            let cells = [
                row.step.clone(),
                format!("{:.1}", median(micros.clone())),
                format!("{:.1}", least(&micros)),
                format!("{:.2}", median(ratios.collect())),
                format!("{:.2}", least(&micros) / least(&first)),
                format!("{p99:.1}"),
            ];
            let cells = cells.each_ref().map(String::as_str);
            line(&mut out, work, &cells, row.facts.iter().map(String::as_str))?;
        }
    }
    Ok(out)
}

fn line<'a>(
    out: &mut String,
    work: &str,
    [step, cpu, least, ratio, least_ratio, p99]: &[&str; 6],
    own: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    write!(out, "{work:<34} {step:>10} {cpu:>9} {least:>9} {ratio:>7} {least_ratio:>6} {p99:>8}")?;
    for cell in own {
        write!(out, " {cell:>10}")?;
    }
    writeln!(out)
}

/// The value that so many percent of the latencies do not exceed.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = sorted.len().saturating_mul(percent) / 100;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
