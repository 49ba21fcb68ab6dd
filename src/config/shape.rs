//! What a key of a file may look like, and the words in which errors ask for it.
//!
//! Must not know which keys there are: that is `keys.rs`.

use std::time::Duration;

use super::units::{show_duration, show_size};

/// A key that may stand in a file.
#[derive(Debug)]
pub struct Key {
    /// Its name within its table.
    pub name: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// The value it has when it is left out, as a file would write it; empty when there is none.
    pub default: &'static str,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

/// What a value looks like.
#[derive(Debug)]
pub enum Shape {
    /// A table.
    Table,
    /// An array of tables.
    Tables,
    /// A string; the phrase says what is in it.
    Text(&'static str),
    /// A string that is never shown; the phrase says what is in it.
    SecretText(&'static str),
    /// An array of strings; the phrase says what is in each.
    Texts(&'static str),
    /// One of a few words.
    Word(fn() -> Vec<&'static str>),
    /// A duration with its bounds, both included.
    Duration(Duration, Duration),
    /// A size in bytes with its bounds, both included.
    Size(u64, u64),
    /// A whole number with its bounds, both included.
    Count(u64, u64),
    /// `true` or `false`.
    Flag,
    /// One of a few status codes.
    Status(&'static [u16]),
    /// An array of status codes of errors.
    ErrorStatuses,
}

impl Shape {
    /// What is wanted, in words that fit after "expected".
    pub fn wanted(&self) -> String {
        match self {
            Self::Table => "a table".to_owned(),
            Self::Tables => "an array of tables".to_owned(),
            Self::Text(phrase) | Self::SecretText(phrase) => (*phrase).to_owned(),
            Self::Texts(phrase) => format!("an array, each {phrase}"),
            Self::Word(words) => one_of(words().into_iter().map(|word| format!("\"{word}\""))),
            Self::Duration(..) => "a duration such as \"90s\"".to_owned(),
            Self::Size(..) => "a size such as \"64KiB\"".to_owned(),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::Status(statuses) => one_of(statuses.iter().map(u16::to_string)),
            Self::ErrorStatuses => "an array of status codes from 400 to 599".to_owned(),
        }
    }

    /// What is wanted of a value that is well formed and out of bounds.
    pub(super) fn bounds(&self) -> String {
        match self {
            Self::Duration(min, max) => {
                format!("a duration from \"{}\" to \"{}\"", show_duration(*min), show_duration(*max))
            }
            Self::Size(min, max) => format!("a size from \"{}\" to \"{}\"", show_size(*min), show_size(*max)),
            Self::Table
            | Self::Tables
            | Self::Text(_)
            | Self::SecretText(_)
            | Self::Texts(_)
            | Self::Word(_)
            | Self::Count(..)
            | Self::Flag
            | Self::Status(_)
            | Self::ErrorStatuses => self.wanted(),
        }
    }

    /// Whether its value is never shown.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::SecretText(_))
    }
}

/// `a, b or c`.
pub(super) fn one_of(words: impl IntoIterator<Item = String>) -> String {
    let words: Vec<_> = words.into_iter().collect();
    match words.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
