//! What operators see of Redis: records without their answers.
//!
//! A walk finds the names, and a script reads head, metadata and the time that is left, in one piece; bodies stay where
//! they are. All of it goes over the connection of large bodies, some records at a time, so that no claim waits for
//! more than these. Must not know what a record means. Read `walk.rs` and `scripts.rs` before.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};

use super::super::{Cursor, Listed, Listing, StoreError};
use super::node::{Lane, Node, Request};
use super::transfer::time_left;
use super::walk::{Kind, Place};
use super::{RedisStore, optional_bytes, unexpected};
use crate::clock;
use crate::protocol::scope::StorageKey;

/// Names that one `SCAN` goes through, and records read in one round trip: about as long, some tenths of a
/// millisecond. The server serves nobody else meanwhile.
const SCANNED_AT_ONCE: usize = 200;
const READ_AT_ONCE: usize = 32;

/// After this long a page ends with what it has: few of a server's names may be records of this namespace.
const LOOKED_FOR: Duration = Duration::from_millis(250);

impl RedisStore {
    pub(super) async fn listing(&self, after: Option<Cursor>, most: usize) -> Result<Listing, StoreError> {
        let mut at = after.as_ref().map_or_else(|| Ok(Place::default()), Place::read)?;
        let (mut records, mut width) = (Vec::new(), most.min(SCANNED_AT_ONCE));
        let began = clock::monotonic();
        loop {
            let step = self.step(at, Kind::Record, width).await?;
            for some in self.keys_of(&step).chunks(READ_AT_ONCE) {
                records.extend(self.outlines(&step.node, some).await?);
            }
            let is_enough =
                records.len() >= most || clock::monotonic().saturating_duration_since(began) >= LOOKED_FOR;
            match step.next {
                Some(next) if !is_enough => at = next,
                next => return Ok(Listing { records, next: next.as_ref().map(Place::cursor) }),
            }
            // Records are rare among the names here.
            width = width.saturating_mul(2).min(SCANNED_AT_ONCE);
        }
    }

    pub(super) async fn listed(&self, key: StorageKey) -> Result<Option<Listed>, StoreError> {
        let names = [self.record_key(&key), self.body_key(&key)];
        let answer = self.servers.look(&names[0], Lane::Bulk, &self.outline_by_text(&names)).await?;
        self.told(key, answer)
    }

    /// Counts one more forgetting. It waits for replicas as the removal before it did.
    pub(super) async fn one_more_forgetting(&self) -> Result<(), StoreError> {
        let (name, mut command) = (self.forgettings_key(), Cmd::new());
        command.arg("INCR").arg(&name);
        self.servers.perform(&name, Lane::Small, Request::Write(&command)).await?;
        Ok(())
    }

    pub(super) async fn counted_forgettings(&self) -> Result<u64, StoreError> {
        let count = optional_bytes("GET", self.look(Lane::Small, "GET", &self.forgettings_key()).await?)?;
        let Some(count) = count else { return Ok(0) };
        let digits = std::str::from_utf8(&count).ok();
        digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| unexpected("GET"))
    }

    /// Outlines of records that a server holds. One that has gone meanwhile is left out.
    async fn outlines(&self, node: &Node, keys: &[StorageKey]) -> Result<Vec<Listed>, StoreError> {
        let names: Vec<[String; 2]> =
            keys.iter().map(|key| [self.record_key(key), self.body_key(key)]).collect();
        let mut commands = Pipeline::with_capacity(keys.len());
        // With the first the server learns the script, so that the others need only its name.
        for (at, names) in names.iter().enumerate() {
            commands.add_command(match at {
                0 => self.outline_by_text(names),
                _ => outline("EVALSHA", &self.scripts.outline.hash, names),
            });
        }
        let answers = node.link(Lane::Bulk).ask_all(&commands).await?;
        let mut records = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(answers) {
            records.extend(match answer {
                Ok(answer) => self.told(*key, answer)?,
                // Its slot has moved, or the script was forgotten: whoever has it now is asked, by the text.
                Err(failed) if failed.redirected().is_some() || failed.is_unknown_script() => {
                    self.listed(*key).await?
                }
                Err(failed) => return Err(failed.into()),
            });
        }
        Ok(records)
    }

    fn outline_by_text(&self, names: &[String; 2]) -> Cmd {
        outline("EVAL", &self.scripts.outline.text, names)
    }

    /// What the script says: head with metadata, time left, and the bytes that stand beside these.
    fn told(&self, key: StorageKey, answer: Value) -> Result<Option<Listed>, StoreError> {
        if answer == Value::Nil {
            return Ok(None);
        }
        let Value::Array(parts) = answer else { return Err(unexpected("EVAL")) };
        let Ok([head, left, rest]) = <[Value; 3]>::try_from(parts) else { return Err(unexpected("EVAL")) };
        let (Some(head), Value::Int(rest)) = (optional_bytes("EVAL", head)?, rest) else {
            return Err(unexpected("EVAL"));
        };
        let Some(keep_for) = time_left(&left)? else { return Ok(None) };
        let outline = u64::try_from(rest).ok().and_then(|rest| self.codec.outline(&key, &head, rest));
        Ok(Some(Listed { key, outline, keep_for }))
    }

    fn forgettings_key(&self) -> String {
        format!("{}:forgettings", self.namespace)
    }
}

fn outline(verb: &str, script: &str, names: &[String; 2]) -> Cmd {
    let mut command = redis::cmd(verb);
    command.arg(script).arg(names.len()).arg(names);
    command
}
