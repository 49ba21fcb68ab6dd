//! What the suites print: a row a case or a tool's figure, a column a proxy, and how often each was right.

use std::fmt::Write as _;

/// The columns, in order.
pub(super) const NAMES: [&str; 3] = ["onceway", "nginx", "haproxy"];

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: [Cell; 3],
    pub(super) kind: Kind,
}

/// How the cells of a row compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Right or wrong.
    Case,
    /// The smaller the better; a cell may say what is right.
    LowerIsBetter,
    /// The larger the better; a cell may say what is right.
    HigherIsBetter,
}

/// What one proxy did.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) shown: String,
    pub(super) is_right: Option<bool>,
    pub(super) figure: Option<f64>,
}

/// All rows of a run.
pub(super) struct Table {
    versions: String,
    /// Whether cases that everybody gets right are listed too.
    shows_all: bool,
    suites: Vec<(&'static str, Vec<Row>)>,
}

impl Cell {
    pub(super) fn right() -> Self {
        Self { shown: "right".to_owned(), is_right: Some(true), figure: None }
    }

    pub(super) fn wrong(what: impl Into<String>) -> Self {
        Self { shown: what.into(), is_right: Some(false), figure: None }
    }

    pub(super) fn of(is_right: bool, otherwise: impl Into<String>) -> Self {
        if is_right { Self::right() } else { Self::wrong(otherwise) }
    }

    /// A figure, right or wrong where there is a bound.
    pub(super) fn figure(value: f64, shown: impl Into<String>, is_right: Option<bool>) -> Self {
        Self { shown: shown.into(), is_right, figure: Some(value) }
    }

    /// Nothing can be said of it.
    pub(super) fn none(why: &str) -> Self {
        Self { shown: why.to_owned(), is_right: None, figure: None }
    }

    pub(super) fn no_answer() -> Self {
        Self::wrong("no answer")
    }
}

impl Row {
    pub(super) fn case(name: impl Into<String>, cells: [Cell; 3]) -> Self {
        Self { name: name.into(), cells, kind: Kind::Case }
    }

    /// Whether the gateway is wrong where another proxy is right.
    fn is_worse(&self) -> bool {
        let [own, others @ ..] = &self.cells;
        own.is_right == Some(false) && others.iter().any(|other| other.is_right == Some(true))
    }

    fn is_right_everywhere(&self) -> bool {
        self.cells.iter().all(|cell| cell.is_right == Some(true) && cell.figure.is_none())
    }

    /// Which of the cells holds the best figure; all that share it.
    fn is_best(&self) -> [bool; 3] {
        let best = |figures: &mut dyn Iterator<Item = f64>| match self.kind {
            Kind::LowerIsBetter => figures.reduce(f64::min),
            Kind::HigherIsBetter => figures.reduce(f64::max),
            Kind::Case => None,
        };
        let best = best(&mut self.cells.iter().filter_map(|cell| cell.figure));
        self.cells.each_ref().map(|cell| match (cell.figure, best) {
            (Some(figure), Some(best)) => (figure - best).abs() <= 0.03 * best.abs(),
            _ => false,
        })
    }
}

impl Table {
    pub(super) fn new(versions: String, shows_all: bool) -> Self {
        Self { versions, shows_all, suites: Vec::new() }
    }

    pub(super) fn add(&mut self, suite: &'static str, rows: Vec<Row>) {
        self.suites.push((suite, rows));
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.suites.iter().flat_map(|(_, rows)| rows)
    }

    pub(super) fn is_worse_somewhere(&self) -> bool {
        self.rows().any(Row::is_worse)
    }

    pub(super) fn rendered(&self) -> String {
        let mut text = format!("{}\n", self.versions);
        let width = self.rows().map(|row| row.name.chars().count()).max().unwrap_or_default().max(20);
        for (suite, rows) in &self.suites {
            let head = format!("{:<width$}  {:<28} {:<28} {}", suite, NAMES[0], NAMES[1], NAMES[2]);
            ignore(writeln!(text, "\n{head}\n{}", "-".repeat(width + 70)));
            let (same, told): (Vec<_>, Vec<_>) =
                rows.iter().partition(|row| !self.shows_all && row.is_right_everywhere());
            for row in told {
                let [own, nginx, haproxy] = row.cells.each_ref().map(|cell| cell.shown.as_str());
                let mark = if row.is_worse() { "  (worse)" } else { "" };
                ignore(writeln!(text, "{:<width$}  {own:<28} {nginx:<28} {haproxy}{mark}", row.name));
            }
            if !same.is_empty() {
                ignore(writeln!(text, "{} more that all three get right", same.len()));
            }
        }
        text + &self.summary()
    }

    fn summary(&self) -> String {
        let count = |holds: &dyn Fn(&Row, usize) -> bool| {
            [0, 1, 2].map(|column| self.rows().filter(|row| holds(row, column)).count())
        };
        let verdict = |row: &Row, column: usize| row.cells.get(column).and_then(|cell| cell.is_right);
        let right = count(&|row, column| verdict(row, column) == Some(true));
        let wrong = count(&|row, column| verdict(row, column) == Some(false));
        let best = count(&|row, column| row.is_best().get(column).copied().unwrap_or_default());
        let figures = self.rows().filter(|row| row.kind != Kind::Case).count();
        let worse: Vec<_> = self.rows().filter(|row| row.is_worse()).map(|row| row.name.as_str()).collect();
        let mut text = String::from("\n");
        for (column, name) in NAMES.iter().enumerate() {
            let of = |counts: &[usize; 3]| counts.get(column).copied().unwrap_or_default();
            ignore(writeln!(
                text,
                "{name:<8} right {:>4}, wrong {:>4}, best or equal within 3 % in {:>2} of {figures} figures",
                of(&right),
                of(&wrong),
                of(&best),
            ));
        }
        if worse.is_empty() {
            text.push_str("onceway is wrong in no row in which another is right\n");
        } else {
            ignore(writeln!(text, "onceway is wrong where another is right: {}", worse.join(", ")));
        }
        text
    }
}

/// Writing into a string does not fail.
fn ignore(_: std::fmt::Result) {}
