//! How the story looks in a terminal: plain text in columns, coloured only where that is wanted.
//!
//! Owns layout and colours. Must not know what is told. Read `story.rs` next.

use std::fmt::Display;
use std::io::{self, Write};

use super::client::{Answer, NoAnswer};

/// Longest part of a body that is shown.
const EXCERPT_CHARS_MAX: usize = 100;
/// Fields of an answer that tell the story.
const TELLING_FIELDS: [&str; 3] = ["idempotency-status", "idempotent-replayed", "retry-after"];
/// Where the right column begins.
const DEED_WIDTH: usize = 36;

/// A terminal, or what stands in for one.
#[derive(Debug)]
pub(super) struct Stage<'a, W> {
    out: &'a mut W,
    is_coloured: bool,
}

/// What a number of charges means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Bad,
}

impl<'a, W: Write> Stage<'a, W> {
    /// A stage on `out`.
    pub(super) fn on(out: &'a mut W, is_coloured: bool) -> Self {
        Self { out, is_coloured }
    }

    /// Says a line.
    pub(super) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Opens a part of the story.
    pub(super) fn part(&mut self, title: &str, cast: &str) -> io::Result<()> {
        let title = self.tinted(Tone::Strong, title);
        writeln!(self.out, "\n{title}   {cast}")
    }

    /// Opens an act.
    pub(super) fn act(&mut self, title: &str) -> io::Result<()> {
        let title = self.tinted(Tone::Strong, title);
        writeln!(self.out, "\n  {title}")
    }

    /// Shows what the client did and what it saw of it.
    pub(super) fn client(&mut self, deed: &str, seen: &Result<Answer, NoAnswer>) -> io::Result<()> {
        let (tone, outcome) = match seen {
            Ok(answer) if answer.status.is_success() => (Tone::Plain, answer.status.to_string()),
            Ok(answer) => (Tone::Bad, answer.status.to_string()),
            Err(lost) => (Tone::Bad, loss(lost).into()),
        };
        let outcome = self.tinted(tone, &outcome);
        writeln!(self.out, "    client  {deed:<DEED_WIDTH$} -> {outcome}")?;
        let Ok(answer) = seen else { return Ok(()) };
        let fields = fields_of(answer);
        if !fields.is_empty() {
            self.aside(Tone::Strong, &fields)?;
        }
        self.aside(Tone::Faint, &excerpt(&answer.body))
    }

    /// Shows how often the API has charged the act's card by now.
    pub(super) fn api(&mut self, charges: usize) -> io::Result<()> {
        let tone = if charges > 1 { Tone::Bad } else { Tone::Good };
        let charges = self.tinted(tone, &times(charges));
        let deed = "has charged the card";
        writeln!(self.out, "    API     {deed:<DEED_WIDTH$} -> {charges}")
    }

    /// A line of the tally: the same act without the gateway and with it.
    pub(super) fn tally(&mut self, act: &str, without: usize, with: usize) -> io::Result<()> {
        let toned = |stage: &Self, charges: usize| {
            let tone = if charges > 1 { Tone::Bad } else { Tone::Good };
            stage.tinted(tone, &format!("{charges:>7}"))
        };
        let (without, with) = (toned(self, without), toned(self, with));
        writeln!(self.out, "  {act:<48} {without}   {with}")
    }

    /// Brings what was said before the eyes of whoever watches.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn aside(&mut self, tone: Tone, text: &str) -> io::Result<()> {
        let text = self.tinted(tone, text);
        writeln!(self.out, "            {text}")
    }

    fn tinted(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.into(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
        };
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

fn times(count: usize) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

fn loss(lost: &NoAnswer) -> &'static str {
    match lost {
        NoAnswer::Connect(_) => "no connection",
        NoAnswer::Broken(_) => "no answer: the connection broke",
        NoAnswer::Body(_) => "half an answer: it broke off",
        NoAnswer::TimedOut => "no answer: gave up waiting",
        NoAnswer::Request(_) => "not sent: not a valid request",
    }
}

/// The fields that tell the story, on one line.
fn fields_of(answer: &Answer) -> String {
    let field = |name: &&str| {
        let value = answer.headers.get(*name)?.to_str().ok()?;
        Some(format!("{}: {value}", spelled(name)))
    };
    TELLING_FIELDS.iter().filter_map(field).collect::<Vec<_>>().join("   ")
}

/// The field's name as people write it: `Retry-After`.
fn spelled(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect::<Vec<_>>().join("-")
}

/// What a body says: the sentence of a problem document (RFC 9457), else its beginning. On one line, and
/// without anything that moves a cursor.
fn excerpt(body: &str) -> String {
    let problem = serde_json::from_str::<Problem>(body).ok();
    let body = problem.map_or_else(|| body.into(), |Problem { code, title }| format!("{code}: {title}"));
    let mut shown: String =
        body.chars().take(EXCERPT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if body.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The members of a problem document that are shown.
#[derive(serde::Deserialize)]
struct Problem {
    code: String,
    title: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_stays_on_its_line() {
        assert_eq!(excerpt("a\nb\x1b[31m"), "a b [31m");
        assert_eq!(excerpt(&"x".repeat(500)).chars().count(), EXCERPT_CHARS_MAX + 1);
    }

    #[test]
    fn no_colour_means_no_escape_sequence() {
        let mut out = Vec::new();
        Stage::on(&mut out, false).tally("an act", 2, 1).unwrap();
        assert!(!out.contains(&0x1b));
        assert!(String::from_utf8(out).unwrap().ends_with("2         1\n"));
    }

    #[test]
    fn field_names_are_spelled_as_people_write_them() {
        assert_eq!(spelled("idempotent-replayed"), "Idempotent-Replayed");
    }
}
