//! The two texts that metrics are written as: `OpenMetrics` 1.0, and the older text of Prometheus that more tools read.
//!
//! The library writes the first; the second is made of it here. Must not know what is counted.
//!
//! Source: <https://prometheus.io/docs/specs/om/open_metrics_spec/>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt;

/// A text that metrics are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// What a scraper likes best, by its `Accept` field; Prometheus if it has none, or likes neither.
    pub(super) fn liked(accept: Option<&str>) -> Self {
        let ranges: Vec<_> = accept.unwrap_or_default().split(',').filter_map(Range::parse).collect();
        let best = |kind: &str, versions: &[&str]| {
            let fits = |range: &&Range<'_>| {
                range.kind.eq_ignore_ascii_case(kind)
                    && range.version.is_none_or(|version| versions.contains(&version))
            };
            ranges.iter().filter(fits).map(|range| range.thousandths).max()
        };
        let open_metrics = best("application/openmetrics-text", &["1.0.0"]).unwrap_or(0);
        // RFC 9110 §12.5.1: the most specific range decides. A wildcard alone asks for what all can read.
        let prometheus =
            best("text/plain", &["0.0.4"]).or_else(|| best("text/*", &[])).or_else(|| best("*/*", &[]));
        if open_metrics > 0 && open_metrics >= prometheus.unwrap_or(0) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// Its content type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// One range of an `Accept` field.
struct Range<'a> {
    kind: &'a str,
    version: Option<&'a str>,
    thousandths: u32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { kind: parts.next()?, version: None, thousandths: 1000 };
        for part in parts {
            match part.split_once('=') {
                Some(("q" | "Q", weight)) => range.thousandths = thousandths(weight)?,
                Some((name, version)) if name.eq_ignore_ascii_case("version") => {
                    range.version = Some(version.trim_matches('"'));
                }
                Some(_) | None => {}
            }
        }
        Some(range)
    }
}

/// RFC 9110 §12.4.2: a weight has up to three digits after the point.
fn thousandths(weight: &str) -> Option<u32> {
    let (whole, rest) = weight.split_once('.').unwrap_or((weight, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if rest.len() > 3 || !is_number(rest) {
        return None;
    }
    match whole {
        "0" => format!("{rest:0<3}").parse().ok(),
        "1" => Some(1000),
        _ => None,
    }
}

/// The text of Prometheus for one of `OpenMetrics`: a counter's family has the name of its series, there are no units,
/// exemplars and end.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        match line.strip_prefix("# ") {
            None => {
                text.push_str(without_exemplar(line));
                text.push('\n');
            }
            Some(told) => match told.split_once(' ') {
                Some(("HELP", named)) => help = Some(named),
                Some(("TYPE", named)) => describe(&mut text, help.take(), named),
                // UNIT and EOF.
                Some(_) | None => {}
            },
        }
    }
    text
}

/// Writes what a family is. `help`: its name and meaning. `named`: its name and type.
fn describe(text: &mut String, help: Option<&str>, named: &str) {
    let (name, kind) = named.split_once(' ').unwrap_or((named, "untyped"));
    let (suffix, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        _ => ("", kind),
    };
    let mut write = |line: fmt::Arguments<'_>| {
        text.push_str(&line.to_string());
        text.push('\n');
    };
    if let Some((_, meaning)) = help.and_then(|help| help.split_once(' ')) {
        write(format_args!("# HELP {name}{suffix} {meaning}"));
    }
    write(format_args!("# TYPE {name}{suffix} {kind}"));
}

/// A sample without its exemplar. What stands in quotes is a label's value, whatever it looks like.
fn without_exemplar(line: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let exemplar = line.char_indices().find(|(at, character)| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted => return line.get(..*at).is_some_and(|before| before.ends_with(' ')),
            _ => {}
        }
        false
    });
    let sample = exemplar.and_then(|(at, _)| line.get(..at));
    sample.map_or(line, str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_text_that_it_likes_best() {
        use Format::{OpenMetrics, Prometheus};
        let open = "application/openmetrics-text";
        let cases = [
            (None, Prometheus),
            (Some("*/*"), Prometheus),
            (Some("text/html, */*;q=0.1"), Prometheus),
            (Some(open), OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), OpenMetrics),
            (Some("application/openmetrics-text;version=0.0.1"), Prometheus),
            (Some("application/openmetrics-text;version=2.0.0, text/plain"), Prometheus),
            (Some("application/openmetrics-text;q=0.4,text/plain;version=0.0.4;q=0.5"), Prometheus),
            (Some("Application/OpenMetrics-Text;q=0.5,text/plain;q=0.5"), OpenMetrics),
            (Some("application/openmetrics-text;q=0"), Prometheus),
            (Some("application/openmetrics-text;q=none"), Prometheus),
            (Some("application/openmetrics-text;q=0.2,text/plain;q=0,*/*;q=1"), OpenMetrics),
            (
                // What Prometheus 3 sends.
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                     escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                ),
                OpenMetrics,
            ),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::liked(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_weight_is_read_to_the_third_digit() {
        let read = ["0", "1", "0.5", "0.05", "0.005", "1.000", "0.0005", "2", "", ".5", "x"].map(thousandths);
        let zero = Some(0);
        let expected =
            [zero, Some(1000), Some(500), Some(50), Some(5), Some(1000), None, None, None, None, None];
        assert_eq!(read, expected);
    }

    #[test]
    fn each_kind_of_family_is_told_as_prometheus_tells_it() {
        let open_metrics = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                            a_seconds_sum 1.5\na_seconds_count 2\na_seconds_bucket{le=\"+Inf\"} 2\n\
                            # HELP b How often.\n# TYPE b counter\nb_total{c=\"d\"} 3\n\
                            # HELP e What.\n# TYPE e info\ne_info{f=\"g\"} 1\n\
                            # TYPE h unknown\nh 4\n# EOF\n";
        let expected = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n\
                        a_seconds_sum 1.5\na_seconds_count 2\na_seconds_bucket{le=\"+Inf\"} 2\n\
                        # HELP b_total How often.\n# TYPE b_total counter\nb_total{c=\"d\"} 3\n\
                        # HELP e_info What.\n# TYPE e_info gauge\ne_info{f=\"g\"} 1\n\
                        # TYPE h untyped\nh 4\n";
        assert_eq!(prometheus(open_metrics), expected);
    }

    #[test]
    fn an_exemplar_goes_and_a_label_that_looks_like_one_stays() {
        let sample = r#"a_bucket{b="x # {c=\"d\"} 1",le="1"} 2"#;
        assert_eq!(without_exemplar(&format!("{sample} # {{trace_id=\"7\"}} 0.5 1.0")), sample);
        assert_eq!(without_exemplar(sample), sample);
        let escaped = r#"a_total{b="\\"} 2"#;
        assert_eq!(without_exemplar(&format!("{escaped} # {{}} 1")), escaped);
    }
}
