//! A page of metrics, read line by line and strictly: whatever a scraper could stumble over fails the test.
//!
//! Shares no code with the gateway. Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series, by name.
type Labels = BTreeMap<String, String>;

/// Which text a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenMetrics,
    Prometheus,
}

/// A page: what its families are, and the number of each series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// Name as it stands on the page, and type.
    pub(crate) families: BTreeMap<String, String>,
    pub(crate) series: BTreeMap<(String, Labels), f64>,
}

/// The family whose lines are being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    has_help: bool,
}

impl Page {
    pub(crate) fn read(text: &str, dialect: Dialect) -> Self {
        assert!(text.ends_with('\n') && !text.contains('\r'), "a page is lines");
        let (mut page, mut family, mut is_over) = (Self::default(), Family::default(), false);
        for line in text.lines() {
            assert!(!is_over, "after the end: {line}");
            match line.strip_prefix("# ") {
                Some("EOF") if dialect == Dialect::OpenMetrics => is_over = true,
                Some(told) => page.describe(&mut family, told, dialect),
                None => page.take(&family, line, dialect),
            }
        }
        assert_eq!(is_over, dialect == Dialect::OpenMetrics, "the end is told");
        page.check_histograms();
        page
    }

    fn describe(&mut self, family: &mut Family, told: &str, dialect: Dialect) {
        let (word, rest) = told.split_once(' ').expect("a word and a name");
        let (name, value) = rest.split_once(' ').expect("a name and what is told of it");
        assert!(is_name(name), "{told}");
        match word {
            "HELP" => {
                assert!(!value.trim().is_empty() && !value.contains('\\'), "{told}");
                *family = Family { name: name.to_owned(), kind: String::new(), has_help: true };
            }
            "TYPE" => {
                assert!(family.has_help && family.name == name && family.kind.is_empty(), "{told}");
                assert!(["counter", "gauge", "histogram"].contains(&value), "{told}");
                let is_total = name.ends_with("_total");
                assert_eq!(is_total, value == "counter" && dialect == Dialect::Prometheus, "{told}");
                value.clone_into(&mut family.kind);
                let shown =
                    if value == "counter" && !is_total { format!("{name}_total") } else { name.to_owned() };
                assert!(self.families.insert(shown, value.to_owned()).is_none(), "told twice: {name}");
            }
            "UNIT" => {
                assert!(dialect == Dialect::OpenMetrics && family.name == name, "{told}");
                assert!(name.ends_with(&format!("_{value}")), "{told}");
            }
            _ => panic!("what is that: {told}"),
        }
    }

    fn take(&mut self, family: &Family, line: &str, dialect: Dialect) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a name and a number"));
        assert!(is_name(name), "{line}");
        let (labels, number) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest).unwrap_or_else(|| panic!("the labels of {line}")),
            None => (Labels::new(), rest),
        };
        let number =
            number.strip_prefix(' ').unwrap_or_else(|| panic!("a blank before the number of {line}"));
        let suffix = name.strip_prefix(&family.name).unwrap_or_else(|| panic!("of another family: {line}"));
        let suffixes: &[_] = match (family.kind.as_str(), dialect) {
            ("counter", Dialect::OpenMetrics) => &["_total"],
            ("counter" | "gauge", _) => &[""],
            ("histogram", _) => &["_bucket", "_sum", "_count"],
            _ => panic!("no type was told before {line}"),
        };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
        let number: f64 = number.parse().unwrap_or_else(|_| panic!("the number of {line}"));
        assert!(number >= 0.0, "{line}");
        assert!(self.series.insert((name.to_owned(), labels), number).is_none(), "twice: {line}");
    }

    fn check_histograms(&self) {
        for (name, _) in self.families.iter().filter(|(_, kind)| *kind == "histogram") {
            let of = |suffix| {
                let name = format!("{name}_{suffix}");
                self.series.iter().filter(move |((found, _), _)| *found == name)
            };
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((_, labels), count) in of("bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").unwrap().replace("+Inf", "inf").parse().unwrap();
                buckets.entry(labels).or_default().push((bound, *count));
            }
            let counts: BTreeSet<_> = of("count").map(|((_, labels), _)| labels.clone()).collect();
            assert_eq!(counts, buckets.keys().cloned().collect(), "{name}");
            for (labels, mut buckets) in buckets {
                buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
                assert!(
                    buckets.is_sorted_by(|one, other| one.1 <= other.1),
                    "{name} {labels:?}: {buckets:?}"
                );
                let (bound, all) = *buckets.last().unwrap();
                assert!(bound.is_infinite(), "{name} {labels:?}");
                let count = self.series[&(format!("{name}_count"), labels)];
                assert!((count - all).abs() < 0.5, "{name}: {count} of {all}");
            }
        }
    }

    /// The number of a series, which is whole; 0 if there is none.
    pub(crate) fn number(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.series.get(&(name.to_owned(), labels)).copied().map_or(0, whole)
    }

    /// Whether there is such a series.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.series.contains_key(&(name.to_owned(), labels))
    }

    /// All series of a family together.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.series.iter().filter(|((found, _), _)| found == name).map(|(_, number)| whole(*number)).sum()
    }

    /// The series of a family together of which `label` has a value that `fits`.
    pub(crate) fn sum_where(&self, name: &str, label: &str, fits: impl Fn(&str) -> bool) -> u64 {
        let is_meant = |(found, labels): &(String, Labels)| {
            found == name && labels.get(label).is_some_and(|value| fits(value))
        };
        self.series.iter().filter(|(series, _)| is_meant(series)).map(|(_, number)| whole(*number)).sum()
    }

    /// What only ever grows: counters, and the parts of histograms.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (&(String, Labels), f64)> {
        let is_counted =
            |name: &str| ["_total", "_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix));
        self.series
            .iter()
            .filter(move |((name, _), _)| is_counted(name))
            .map(|(series, number)| (series, *number))
    }
}

/// A number that counts things.
pub(crate) fn whole(number: f64) -> u64 {
    number.to_string().parse().unwrap_or_else(|_| panic!("{number} is no whole number"))
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && text.starts_with(|first: char| first.is_ascii_lowercase())
}

/// Labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Labels, &str)> {
    let (mut labels, mut rest) = (Labels::new(), text);
    loop {
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        if !is_name(name) || labels.insert(name.to_owned(), value).is_some() {
            return None;
        }
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Some((labels, after.strip_prefix('}')?)),
        }
    }
}

/// A value up to its closing quote, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    loop {
        match characters.next()? {
            (at, '"') => return Some((value, &text[at + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            (_, plain) => value.push(plain),
        }
    }
}
