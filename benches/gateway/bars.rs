//! What was measured beside the bars that it is held to: the table that the benchmark ends with.

use std::fmt::{self, Write as _};

/// A bound.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// Something held against a bar.
pub(super) struct Held {
    /// What is done, and by whom.
    pub(super) work: String,
    /// What was measured, in its unit.
    pub(super) measured: String,
    /// What it is held against, in the same unit.
    pub(super) reference: String,
    /// What has to keep to the bar: a ratio, or a figure in `unit`.
    pub(super) value: f64,
    /// Empty for a ratio.
    pub(super) unit: &'static str,
    pub(super) bar: Bar,
}

impl Bar {
    /// Nothing that could not be measured holds.
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    fn text(self, digits: usize) -> String {
        match self {
            Self::AtMost(bound) => format!("<= {bound:.digits$}"),
            Self::AtLeast(bound) => format!(">= {bound:.digits$}"),
        }
    }
}

/// Renders the table.
pub(super) fn render(held: &[Held]) -> Result<String, fmt::Error> {
    let mut out = String::new();
    line(&mut out, ["work", "measured", "held against", "result", "bar", "unit", "holds"])?;
    for held in held {
        let digits = if held.unit.is_empty() { 2 } else { 1 };
        line(
            &mut out,
            [
                &held.work,
                &held.measured,
                &held.reference,
                &format!("{:.digits$}", held.value),
                &held.bar.text(digits),
                held.unit,
                if held.bar.holds(held.value) { "yes" } else { "NO" },
            ],
        )?;
    }
    Ok(out)
}

fn line(out: &mut String, [work, measured, reference, value, bar, unit, holds]: [&str; 7]) -> fmt::Result {
    writeln!(out, "{work:<48} {measured:>16} {reference:>26} {value:>7} {bar:>9} {unit:<4} {holds}")
}
