//! The audit log: each change that an operator asks for, put down and on the disk before it is made, and what came of
//! it after.
//!
//! A line is a JSON object. What people wrote stands in it as JSON strings, so that no text can end its line or begin
//! another. Never holds keys, credentials or bodies. The file is opened for each line: whoever rotates logs may move it
//! away at any time, and the next line begins a new one. Must not know how changes are made.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::access::Who;
use super::shown;
use crate::clock;

/// Who may read what is put down: whoever the gateway runs as.
const MODE: u32 = 0o600;

/// The audit log.
#[derive(Debug)]
pub struct Audit {
    file: PathBuf,
    /// One line after the other.
    turn: Mutex<()>,
}

/// The audit log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write the audit log {0:?}")]
pub struct CannotAudit(pub PathBuf, #[source] pub io::Error);

/// A change, as far as it is put down.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// By which its lines are known.
    id: String,
    /// What is common to them.
    members: Map<String, Value>,
}

/// Whether a change is yet to be made, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// It is about to be made.
    Intended,
    /// It is made.
    Done,
    /// It is not, or nobody knows, because of the problem of this code.
    Failed(&'static str),
}

impl Audit {
    /// The audit log in this file; its directory is made where there is none.
    ///
    /// Errors: it could not be written to.
    pub fn open(file: &Path) -> Result<Self, CannotAudit> {
        let cannot = |error| CannotAudit(file.to_owned(), error);
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).map_err(cannot)?;
        }
        open(file).map_err(cannot)?;
        Ok(Self { file: file.to_owned(), turn: Mutex::new(()) })
    }

    /// Where it is.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Puts down a line and waits until the disk has it. Blocks.
    ///
    /// Errors: it may stand there, in part or as a whole.
    pub(super) fn write(&self, change: &Change, event: Event) -> Result<(), CannotAudit> {
        let line = change.line(event);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let written = open(&self.file).and_then(|file| append(file, &line));
        written.map_err(|error| CannotAudit(self.file.clone(), error))
    }
}

impl Change {
    /// A change of what `members` say, which `who` asks for.
    pub(super) fn new(who: &Who, members: Map<String, Value>) -> Self {
        let mut all = members;
        let who = json!({ "peer": who.peer.to_string(), "certificate": who.certificate });
        all.insert("who".to_owned(), who);
        Self { id: uuid::Uuid::new_v4().to_string(), members: all }
    }

    fn line(&self, event: Event) -> String {
        let (word, code) = match event {
            Event::Intended => ("intended", None),
            Event::Done => ("done", None),
            Event::Failed(code) => ("failed", Some(code)),
        };
        let mut members = Map::new();
        members.insert("at".to_owned(), shown::moment(clock::unix_millis()).into());
        members.insert("event".to_owned(), word.into());
        members.insert("change".to_owned(), self.id.clone().into());
        members.extend(self.members.clone());
        if let Some(code) = code {
            members.insert("code".to_owned(), code.into());
        }
        format!("{}\n", Value::Object(members))
    }
}

impl Event {
    /// What came of it, in a word.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Done => "done",
            Self::Failed(code) => code,
        }
    }
}

/// Shown by its token, under which all else is in the audit log.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

fn open(file: &Path) -> io::Result<File> {
    let is_new = !file.exists();
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(file)?;
    if is_new && let Some(directory) = file.parent() {
        // The name of a new file is on the disk only when its directory is.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        File::open(directory)?.sync_all()?;
    }
    Ok(opened)
}

fn append(mut file: File, line: &str) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    // What a full disk or a crash left of a line ends here, so that this one begins a line.
    let begun = if last == [b'\n'] { "" } else { "\n" };
    // In one piece: another process may append to the same file.
    file.write_all(format!("{begun}{line}").as_bytes())?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn change(reason: &str) -> Change {
        let who = Who { peer: "127.0.0.1:9".parse().unwrap(), certificate: Some("CN=\"a\"\nb".to_owned()) };
        let mut members = Map::new();
        members.insert("reason".to_owned(), reason.into());
        Change::new(&who, members)
    }

    fn lines(file: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(file).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect()
    }

    #[test]
    fn whatever_people_write_stays_within_its_line() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("sub/audit.jsonl");
        let audit = Audit::open(&file).unwrap();
        let reason = "a\n{\"event\":\"done\"}\r\"\\";
        audit.write(&change(reason), Event::Intended).unwrap();
        audit.write(&change(reason), Event::Failed("in-flight")).unwrap();
        let lines = lines(&file);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line["reason"] == reason && line["who"]["peer"] == "127.0.0.1:9"));
        assert_eq!(
            [&lines[0]["event"], &lines[1]["event"], &lines[1]["code"]],
            ["intended", "failed", "in-flight"]
        );
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn half_a_line_does_not_swallow_the_next_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("audit.jsonl");
        let audit = Audit::open(&file).unwrap();
        std::fs::write(&file, "{\"event\":\"inten").unwrap();
        audit.write(&change("a"), Event::Done).unwrap();
        assert_eq!(lines(&file)[1]["event"], "done");
    }

    #[test]
    fn a_log_that_was_moved_away_begins_anew() {
        let dir = tempfile::TempDir::new().unwrap();
        let (file, moved) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
        let audit = Audit::open(&file).unwrap();
        audit.write(&change("a"), Event::Done).unwrap();
        std::fs::rename(&file, &moved).unwrap();
        audit.write(&change("b"), Event::Done).unwrap();
        assert_eq!([lines(&moved).len(), lines(&file).len()], [1, 1]);
    }
}
