//! Reads one table key by key. Whatever is wrong is pushed to [`Findings`] with its place, and reading
//! goes on, so that all problems of a file are told at once.
//!
//! A reader answers `None` both when the key is absent and when its value is wrong: the default then
//! stands in, and the problem keeps the whole from being used. Must not know what the keys mean.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::choices::Choice;
use super::keys::Known;
use super::place::{Place, Places};
use super::problem::{Problem, Unfit, Wrong, quoted, shown_name};
use super::shape::{Key, Shape, one_of};
use super::units;

/// What has been found wrong so far, and what is needed to say so.
pub(super) struct Findings<'t> {
    pub(super) places: Places<'t>,
    pub(super) env: &'t dyn Fn(&str) -> Option<String>,
    pub(super) problems: Vec<Problem>,
}

impl Findings<'_> {
    pub(super) fn push(&mut self, place: Place, key: impl Into<String>, wrong: Wrong) {
        self.problems.push(Problem { place: Some(place), key: key.into(), wrong });
    }

    /// Replaces `${NAME}` from the environment and `$${` by `${`.
    pub(super) fn expand(&self, text: &str) -> Result<String, Wrong> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let Some((name, after)) = after.split_once('}').filter(|(name, _)| is_variable(name)) else {
                return Err(Wrong::Unexpected {
                    found: "\"${\" that begins no variable".to_owned(),
                    expected: "\"${NAME}\", or \"$${\" where it is meant as it stands".to_owned(),
                });
            };
            out.push_str(&(self.env)(name).ok_or_else(|| Wrong::Unset(name.to_owned()))?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn is_variable(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// One table of the file.
pub(super) struct Section<'t> {
    path: String,
    place: Place,
    table: &'t DeTable<'t>,
    known: Known,
}

impl<'t> Section<'t> {
    /// Opens the table in `value`; tells every key in it that is not known.
    pub(super) fn open(
        find: &mut Findings<'_>,
        value: &'t Spanned<DeValue<'t>>,
        path: String,
        known: Known,
    ) -> Option<Self> {
        let place = find.places.start_of(Some(value.span()));
        let Some(table) = value.get_ref().as_table() else {
            // What stands in the place of a whole table may well be a secret of it.
            let found = shown_value(value.get_ref(), false);
            find.push(place, path, Wrong::Unexpected { found, expected: Shape::Table.wanted() });
            return None;
        };
        Some(Self::of(find, table, place, path, known))
    }

    /// Opens a table whose place is known.
    pub(super) fn of(
        find: &mut Findings<'_>,
        table: &'t DeTable<'t>,
        place: Place,
        path: String,
        known: Known,
    ) -> Self {
        let section = Self { path, place, table, known };
        for name in table.keys() {
            if section.key(name.get_ref()).is_none() {
                let place = find.places.start_of(Some(name.span()));
                let hint = section.hint(name.get_ref());
                find.push(place, section.path_of(name.get_ref()), Wrong::UnknownKey(hint));
            }
        }
        section
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The place of a key's value, or of the table where the key is absent.
    pub(super) fn place_of(&self, find: &Findings<'_>, name: &str) -> Place {
        self.value(name).map_or(self.place, |value| find.places.start_of(Some(value.span())))
    }

    /// The value of a key.
    pub(super) fn value(&self, name: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.get(name)
    }

    /// A key's path from the top of the file.
    pub(super) fn path_of(&self, name: &str) -> String {
        let name = shown_name(name);
        if self.path.is_empty() { name } else { format!("{}.{name}", self.path) }
    }

    /// Tells that a key that must be there is not.
    pub(super) fn missing(&self, find: &mut Findings<'_>, name: &str) {
        if self.value(name).is_none() {
            find.push(self.place, self.path_of(name), Wrong::Missing(self.wanted(name)));
        }
    }

    /// Tells that a key's value does not do.
    pub(super) fn refuse(&self, find: &mut Findings<'_>, name: &str, unfit: Unfit) {
        let found = self.value(name).map(|value| shown_value(value.get_ref(), !self.is_secret(name)));
        let found = found.unwrap_or_else(|| "nothing".to_owned());
        find.push(self.place_of(find, name), self.path_of(name), unfit.found(found));
    }

    /// Reads a string.
    pub(super) fn text<T>(
        &self,
        find: &mut Findings<'_>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Unfit>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let shape = self.shape(name)?;
        read_text(find, value, self.path_of(name), &shape.wanted(), shape.is_secret(), parse)
    }

    /// Reads the path of a file or a directory.
    pub(super) fn path(&self, find: &mut Findings<'_>, name: &str) -> Option<PathBuf> {
        self.text(find, name, |text| {
            let is_path = !text.is_empty() && !text.contains('\0');
            if is_path { Ok(PathBuf::from(text)) } else { Unfit::expected(self.wanted(name)) }
        })
    }

    /// Reads an array of strings, none of them twice.
    pub(super) fn texts<T: PartialEq>(
        &self,
        find: &mut Findings<'_>,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Unfit>,
    ) -> Option<Vec<T>> {
        let Some(Shape::Texts(wanted)) = self.shape(name) else { return None };
        self.list(find, name, |find, value, path| read_text(find, value, path, wanted, false, &parse))
    }

    /// Reads one of a few words.
    pub(super) fn word<T: Choice>(&self, find: &mut Findings<'_>, name: &str) -> Option<T> {
        let shape = self.shape(name)?;
        self.text(find, name, |text| {
            let choice = T::WORDS.iter().find(|(word, _)| *word == text);
            choice.map(|(_, choice)| *choice).ok_or_else(|| Unfit::Expected(shape.wanted()))
        })
    }

    /// Reads a duration within its bounds.
    pub(super) fn duration(&self, find: &mut Findings<'_>, name: &str) -> Option<Duration> {
        let shape @ Shape::Duration(min, max) = self.shape(name)? else { return None };
        self.text(find, name, |text| match units::duration(text) {
            Some(duration) if duration < *min || duration > *max => Unfit::expected(shape.bounds()),
            Some(duration) => Ok(duration),
            None => Unfit::expected(shape.wanted()),
        })
    }

    /// Reads a size in bytes within its bounds.
    pub(super) fn size(&self, find: &mut Findings<'_>, name: &str) -> Option<u64> {
        let shape @ Shape::Size(min, max) = self.shape(name)? else { return None };
        self.text(find, name, |text| match units::size(text) {
            Some(bytes) if bytes < *min || bytes > *max => Unfit::expected(shape.bounds()),
            Some(bytes) => Ok(bytes),
            None => Unfit::expected(shape.wanted()),
        })
    }

    /// Reads a whole number within its bounds.
    pub(super) fn count(&self, find: &mut Findings<'_>, name: &str) -> Option<u64> {
        let shape @ Shape::Count(min, max) = self.shape(name)? else { return None };
        let value = self.value(name)?;
        read_number(find, value, self.path_of(name), &shape.wanted(), |number| {
            (*min..=*max).contains(&number).then_some(number)
        })
    }

    /// Reads `true` or `false`.
    pub(super) fn flag(&self, find: &mut Findings<'_>, name: &str) -> Option<bool> {
        let DeValue::Boolean(flag) = self.value(name)?.get_ref() else {
            self.refuse(find, name, Unfit::Expected(self.wanted(name)));
            return None;
        };
        Some(*flag)
    }

    /// Reads one of a few status codes.
    pub(super) fn status(&self, find: &mut Findings<'_>, name: &str) -> Option<u16> {
        let shape @ Shape::Status(statuses) = self.shape(name)? else { return None };
        let value = self.value(name)?;
        read_number(find, value, self.path_of(name), &shape.wanted(), |number| {
            u16::try_from(number).ok().filter(|status| statuses.contains(status))
        })
    }

    /// Reads an array of status codes of errors, none of them twice.
    pub(super) fn error_statuses(&self, find: &mut Findings<'_>, name: &str) -> Option<Vec<u16>> {
        self.list(find, name, |find, value, path| {
            read_number(find, value, path, "a status code from 400 to 599", |number| {
                u16::try_from(number).ok().filter(|status| (400..=599).contains(status))
            })
        })
    }

    /// Reads an array, element by element. `None` unless every element was read.
    fn list<T: PartialEq>(
        &self,
        find: &mut Findings<'_>,
        name: &str,
        read: impl Fn(&mut Findings<'_>, &Spanned<DeValue<'_>>, String) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.value(name)?;
        let Some(array) = value.get_ref().as_array() else {
            self.refuse(find, name, Unfit::Expected(self.wanted(name)));
            return None;
        };
        let mut items: Vec<(T, Place)> = Vec::with_capacity(array.len());
        let mut is_whole = true;
        for (at, element) in array.iter().enumerate() {
            let path = format!("{}[{at}]", self.path_of(name));
            let place = find.places.start_of(Some(element.span()));
            let Some(item) = read(find, element, path.clone()) else {
                is_whole = false;
                continue;
            };
            match items.iter().find(|(earlier, _)| *earlier == item) {
                Some((_, first)) => {
                    let wrong =
                        Wrong::Repeated { found: shown_value(element.get_ref(), true), first: *first };
                    find.push(place, path, wrong);
                }
                None => items.push((item, place)),
            }
        }
        is_whole.then(|| items.into_iter().map(|(item, _)| item).collect())
    }

    /// The text of a key as it stands in the file; empty where it is none.
    pub(super) fn typed(&self, name: &str) -> &'t str {
        self.value(name).and_then(|value| value.get_ref().as_str()).unwrap_or_default()
    }

    /// What is wanted of a key.
    pub(super) fn wanted(&self, name: &str) -> String {
        self.shape(name).map(Shape::wanted).unwrap_or_default()
    }

    /// Whether the value of a key is never shown.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.shape(name).is_some_and(Shape::is_secret)
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        self.known.into_iter().flatten().find(|key| key.name == name)
    }

    fn shape(&self, name: &str) -> Option<&'static Shape> {
        let key = self.key(name);
        debug_assert!(key.is_some(), "{name} is read and not in the table of keys");
        key.map(|key| &key.shape)
    }

    /// The nearest known key, or all where none is near.
    fn hint(&self, name: &str) -> String {
        let names = || self.known.into_iter().flatten().map(|key| key.name);
        match nearest(name, names()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("expected {}", one_of(names().map(str::to_owned))),
        }
    }
}

/// The name that was probably meant.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Names are short: a longer text is not a slip, and comparing it would take long.
    if name.len() > 64 {
        return None;
    }
    let near = (name.chars().count() / 3).max(1);
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn read_text<T>(
    find: &mut Findings<'_>,
    value: &Spanned<DeValue<'_>>,
    path: String,
    wanted: &str,
    is_secret: bool,
    parse: impl Fn(&str) -> Result<T, Unfit>,
) -> Option<T> {
    let read = match value.get_ref().as_str() {
        // Errors show the text as typed, never what a variable holds.
        Some(text) => find.expand(text).and_then(|text| {
            parse(&text).map_err(|unfit| unfit.found(shown_value(value.get_ref(), !is_secret)))
        }),
        None => Err(Unfit::Expected(wanted.to_owned()).found(shown_value(value.get_ref(), !is_secret))),
    };
    read.map_err(|wrong| find.push(find.places.start_of(Some(value.span())), path, wrong)).ok()
}

fn read_number<T>(
    find: &mut Findings<'_>,
    value: &Spanned<DeValue<'_>>,
    path: String,
    wanted: &str,
    accept: impl Fn(u64) -> Option<T>,
) -> Option<T> {
    let number = value.get_ref().as_integer().and_then(|integer| {
        let digits = integer.as_str();
        u64::from_str_radix(digits, integer.radix()).ok()
    });
    let read = number.and_then(accept);
    if read.is_none() {
        let wrong = Unfit::Expected(wanted.to_owned()).found(shown_value(value.get_ref(), true));
        find.push(find.places.start_of(Some(value.span())), path, wrong);
    }
    read
}

/// A value as it may be shown; with `shown` unset only its kind.
fn shown_value(value: &DeValue<'_>, shown: bool) -> String {
    match value {
        DeValue::String(text) if !shown && !text.is_empty() => "a string (not shown)".to_owned(),
        DeValue::String(text) if text.contains("${") => {
            format!("{} with its variables filled in", quoted(text))
        }
        DeValue::String(text) => quoted(text),
        DeValue::Integer(_) | DeValue::Float(_) if !shown => "a number".to_owned(),
        DeValue::Integer(number) => shorten(number.to_string()),
        DeValue::Float(number) => shorten(number.to_string()),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(array) if array.is_empty() => "an empty array".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(table) if table.is_empty() => "an empty table".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn shorten(mut number: String) -> String {
    const SHOWN_DIGITS_MAX: usize = 40;
    // Numbers are ASCII, so any byte is a boundary.
    if number.len() > SHOWN_DIGITS_MAX {
        number.truncate(SHOWN_DIGITS_MAX);
        number.push('…');
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let env = |name: &str| (name == "A").then(|| "${B}".to_owned());
        let find = Findings { places: Places::of(b""), env: &env, problems: Vec::new() };
        find.expand(text).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn variables_are_filled_in_once_and_escapes_stay() {
        for (text, filled) in [
            ("", ""),
            ("a$b", "a$b"),
            ("x${A}y", "x${B}y"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$$", "$$"),
        ] {
            assert_eq!(expand(text), Ok(filled.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_begins_no_variable_is_refused() {
        for text in ["${", "${}", "${A", "${A B}", "${1A}", "${A-B}", "${ä}"] {
            assert!(expand(text).is_err_and(|wrong| wrong.contains("begins no variable")), "{text}");
        }
        assert!(expand("${NONE}").is_err_and(|wrong| wrong.starts_with("found ${NONE}, which is not set")));
    }

    #[test]
    fn a_slip_finds_the_key_that_was_meant_and_a_stranger_none() {
        let known = ["ttl", "unknown_ttl", "listen", "methods"];
        for (typed, meant) in [
            ("tll", Some("ttl")),
            ("unknown-ttl", Some("unknown_ttl")),
            ("method", Some("methods")),
            ("Listen", Some("listen")),
            ("retention", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known.into_iter()), meant, "{typed}");
        }
        assert_eq!(nearest(&"ttl".repeat(100), known.into_iter()), None);
    }
}
