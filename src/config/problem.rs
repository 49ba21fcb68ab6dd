//! What is wrong with a configuration, and how it is shown: one line per problem.
//!
//! Must not hold a secret: the value of a secret key never gets here, and any other text that may hold a
//! credential is hidden by [`quoted`].

use std::fmt;

use super::place::Place;

/// Everything that is wrong with one configuration; never empty.
#[derive(Debug)]
pub struct ConfigProblems {
    /// The file; `None` for the command line.
    file: Option<String>,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// Where it stands; `None` when it is not in the text.
    pub place: Option<Place>,
    /// The key's path, such as `routes[2].ttl`; empty when no key is concerned.
    pub key: String,
    /// What is wrong.
    pub wrong: Wrong,
}

/// What is wrong with a key or a file.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// The text is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// No such key.
    #[error("found an unknown key, {0}")]
    UnknownKey(String),
    /// Not what is wanted.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What stands there, or its kind only.
        found: String,
        /// What would do.
        expected: String,
    },
    /// Well formed, and yet not taken.
    #[error("found {found}: {reason}; expected {expected}")]
    Refused {
        /// What stands there, or its kind only.
        found: String,
        /// Why it is not taken.
        reason: String,
        /// What would do.
        expected: String,
    },
    /// What must be there is not.
    #[error("found nothing, expected {0}")]
    Missing(String),
    /// The same again.
    #[error("found {found} a second time, expected it once; the first is at line {}", first.line)]
    Repeated {
        /// What stands there.
        found: String,
        /// Where the first stands.
        first: Place,
    },
    /// A key that stands twice in its table.
    #[error("found the key a second time, expected it once{}", first_at(*first))]
    Doubled {
        /// Where the first stands, if that can be told.
        first: Option<Place>,
    },
    /// A variable that the environment lacks.
    #[error(
        "found ${{{0}}}, which is not set in the environment, expected it to be set to UTF-8 text, or \"$${{\" where \
         it is meant as it stands"
    )]
    Unset(String),
    /// A file that cannot be read.
    #[error("failed to read {file}: {source}; expected {expected}")]
    Unreadable {
        /// The file as named.
        file: String,
        /// What would do.
        expected: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a text was not taken as a value. Holds nothing of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// What would do.
    #[error("expected {0}")]
    Expected(String),
    /// Well formed, and yet not taken.
    #[error("{reason}; expected {expected}")]
    Refused {
        /// Why it is not taken.
        reason: String,
        /// What would do.
        expected: String,
    },
}

impl Unfit {
    pub(super) fn expected<T>(wanted: impl Into<String>) -> Result<T, Self> {
        Err(Self::Expected(wanted.into()))
    }

    pub(super) fn refused<T>(reason: impl Into<String>, wanted: impl Into<String>) -> Result<T, Self> {
        Err(Self::Refused { reason: reason.into(), expected: wanted.into() })
    }

    /// Adds what was found.
    pub(super) fn found(self, found: String) -> Wrong {
        match self {
            Self::Expected(expected) => Wrong::Unexpected { found, expected },
            Self::Refused { reason, expected } => Wrong::Refused { found, reason, expected },
        }
    }
}

impl ConfigProblems {
    /// Gathers problems in the order of their places.
    pub(super) fn new(file: Option<&str>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        Self { file: file.map(str::to_owned), problems }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }
}

impl std::error::Error for ConfigProblems {}

/// One line per problem, then a line that counts them; no newline at the end.
impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            match (&self.file, problem.place) {
                (Some(file), Some(place)) => write!(f, "{file}:{}:{}  ", place.line, place.column)?,
                (Some(file), None) => write!(f, "{file}  ")?,
                (None, _) => {}
            }
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            writeln!(f, "{}", problem.wrong)?;
        }
        match self.problems.len() {
            1 => write!(f, "1 problem"),
            count => write!(f, "{count} problems"),
        }
    }
}

/// A text as it may be shown: in quotes, shortened, and hidden where it may hold a credential.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 60;
    if is_shown(text) {
        quoted_to(text, SHOWN_CHARACTERS_MAX)
    } else {
        "a string that is not shown, since it may hold a credential".to_owned()
    }
}

/// A path in quotes, shortened. Only for what holds no secret.
pub(super) fn shortened(path: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 512;
    quoted_to(path, SHOWN_CHARACTERS_MAX)
}

fn quoted_to(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

fn first_at(place: Option<Place>) -> String {
    place.map_or_else(String::new, |place| format!("; the first is at line {}", place.line))
}

/// A key's name as it may be shown: as typed where it is plain, else quoted.
pub(super) fn shown_name(name: &str) -> String {
    let is_plain = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_plain { name.to_owned() } else { quoted(name) }
}

/// Whether a text holds no credential. Addresses carry them before an `@` or in a query.
pub(super) fn is_shown(text: &str) -> bool {
    let is_bare = !text.contains(":/") || !text.contains(['?', '#']);
    is_bare && !text.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_place_key_found_and_wanted() {
        let wrong = Unfit::Expected("a duration such as \"90s\"".into()).found(quoted("90"));
        let place = Some(Place { line: 14, column: 7 });
        let problem = Problem { place, key: "routes[2].ttl".into(), wrong };
        assert_eq!(
            ConfigProblems::new(Some("onceway.toml"), vec![problem]).to_string(),
            "onceway.toml:14:7  routes[2].ttl: found \"90\", expected a duration such as \"90s\"\n1 problem"
        );
    }

    #[test]
    fn text_that_may_hold_a_credential_is_hidden() {
        for text in ["redis://:hunter2@h", "me:hunter2@h", "http://h/?token=hunter2"] {
            assert!(!quoted(text).contains("hunter2"), "{text}");
            assert!(!shown_name(text).contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn long_and_multiline_text_is_shown_short_and_on_one_line() {
        let shown = quoted(&"é\n".repeat(1000));
        assert!(!shown.contains('\n') && shown.chars().count() < 120, "{shown}");
    }
}
