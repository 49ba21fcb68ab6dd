//! Names a key that stands twice: the parser tells only where.
//!
//! Gives each second key a name of its own, has the text parsed once more, and sees where these names have come
//! to stand. Must not know what keys mean.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{Place, Places};
use super::problem::shown_name;

/// A key that stands a second time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doubled {
    /// Its path from the top of the file.
    pub(super) key: String,
    /// Where it stands first, if that can be told.
    pub(super) first: Option<Place>,
}

/// The keys at `spans`, in this order. `is_sound`: nothing else is wrong with the text, so that its tables can be
/// relied upon.
pub(super) fn doubled(text: &str, spans: &[Range<usize>], is_sound: bool) -> Vec<Doubled> {
    let alone = |span: &Range<usize>| Doubled { key: shown_name(name_at(text, span)), first: None };
    if spans.is_empty() || !is_sound {
        return spans.iter().map(alone).collect();
    }
    let (renamed, mark) = renamed(text, spans);
    let (document, _errors) = DeTable::parse_recoverable(&renamed);
    let mut seen = Seen { text, spans, mark, first: HashMap::new(), marked: HashMap::new() };
    seen.table("", document.get_ref());
    let places = Places::of(renamed.as_bytes());
    let named = |(number, span)| match seen.marked.remove(&number) {
        Some(key) => Doubled { first: seen.first.get(&key).map(|at| places.at(*at)), key },
        None => alone(span),
    };
    spans.iter().enumerate().map(named).collect()
}

/// The text in which each of these keys has a name that no other has, and how these names begin. No line is added.
fn renamed(text: &str, spans: &[Range<usize>]) -> (String, String) {
    let mut mark = "doubled-".to_owned();
    while text.contains(&mark) {
        mark.push('-');
    }
    let mut order: Vec<_> = spans.iter().enumerate().collect();
    order.sort_by_key(|(_, span)| span.start);
    let (mut out, mut end) = (String::with_capacity(text.len()), 0);
    for (number, span) in order {
        out.push_str(text.get(end..span.start).unwrap_or_default());
        out.push_str(&mark);
        out.push_str(&number.to_string());
        end = span.end;
    }
    out.push_str(text.get(end..).unwrap_or_default());
    (out, mark)
}

/// The name that stands at `span`, without quotes.
fn name_at<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    text.get(span.clone()).unwrap_or_default().trim_matches(['"', '\''])
}

/// The keys of the renamed text, each by its path in the text as it was.
struct Seen<'t> {
    text: &'t str,
    spans: &'t [Range<usize>],
    mark: String,
    /// Where a path stands that is not one of the second ones.
    first: HashMap<String, usize>,
    /// The paths of the second ones, by their numbers.
    marked: HashMap<usize, String>,
}

impl Seen<'_> {
    // The parser bounds how deep tables and arrays may nest.
    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let number =
                name.get_ref().strip_prefix(&self.mark).and_then(|number| number.parse::<usize>().ok());
            let second = number.and_then(|number| Some((number, self.spans.get(number)?)));
            let own = match second {
                Some((_, span)) => shown_name(name_at(self.text, span)),
                None => shown_name(name.get_ref()),
            };
            let path = if path.is_empty() { own } else { format!("{path}.{own}") };
            match second {
                Some((number, _)) => drop(self.marked.insert(number, path.clone())),
                None => drop(self.first.insert(path.clone(), name.span().start)),
            }
            self.value(&path, value);
        }
    }

    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(path, table),
            DeValue::Array(array) => {
                for (at, element) in array.iter().enumerate() {
                    self.value(&format!("{path}[{at}]"), element);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}
