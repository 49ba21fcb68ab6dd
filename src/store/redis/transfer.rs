//! Records out of Redis and into it as bytes, for a migration. Must not know what a record means.
//!
//! A walk through the records is a `SCAN`, whose cursor means something to the very process that gave it and
//! to no other: a restart or a failover changes the order. So each page names the process it was read from,
//! and where another one answers, its walk begins anew: a record may be told twice, and none is left out.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use tokio::task::JoinSet;

use super::super::codec::{self, Encoded, Stored};
use super::super::transfer::{Cursor, Moved, Page, Transfer};
use super::super::{Gate, StoreError};
use super::link::Link;
use super::{
    BODY_INLINE_MAX, KEEP_FOR_MAX, RedisStore, body_millis, joined, millis, optional_bytes, unexpected,
};
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

/// Names that one `SCAN` goes through, at least and at most. The server serves nobody else meanwhile.
const SCANNED_MIN: usize = 16;
const SCANNED_MAX: usize = 1000;

/// Records read in one round trip: each may be as large as an answer may be.
const READ_AT_ONCE: usize = 16;

/// Records written at the same time.
const WRITTEN_AT_ONCE: usize = 32;

#[async_trait]
impl Transfer for RedisStore {
    async fn page(&self, after: Option<Cursor>, most: usize) -> Result<Page, StoreError> {
        let mut at = after.and_then(|cursor| Place::read(&cursor)).unwrap_or_default();
        let pattern = format!("{}:r:*", literal(&self.namespace));
        let mut records = Vec::new();
        loop {
            let step = scan(&self.small, &pattern, at.cursor, most).await?;
            if at.cursor != 0 && at.server != step.server {
                at = Place::default();
                continue;
            }
            let keys: Vec<StorageKey> =
                step.names.iter().filter_map(|name| self.key_of_record(name)).collect();
            for some in keys.chunks(READ_AT_ONCE) {
                records.extend(self.read_for_moving(some).await?);
            }
            if step.next == 0 {
                return Ok(Page { records, next: None });
            }
            at = Place { server: step.server, cursor: step.next };
            if records.len() >= most {
                return Ok(Page { records, next: Some(at.cursor()) });
            }
        }
    }

    async fn put(&self, records: Vec<Moved>) -> Result<(), StoreError> {
        let mut writes: JoinSet<Result<(), StoreError>> = JoinSet::new();
        for moved in records {
            if writes.len() >= WRITTEN_AT_ONCE
                && let Some(written) = writes.join_next().await
            {
                finished(written)?;
            }
            let keys = [self.record_key(&moved.key), self.body_key(&moved.key)];
            let (link, scripts) = (self.bulk.clone(), self.scripts.clone());
            writes.spawn(async move {
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let (keep, keep_body) = (millis(moved.keep_for), body_millis(moved.keep_for));
                let Encoded { head, body } = &moved.encoded;
                if body.len() > BODY_INLINE_MAX {
                    let arguments = [&**head, keep.as_bytes(), &**body, keep_body.as_bytes()];
                    link.run(&scripts.put, &keys, &arguments).await.map(drop)
                } else {
                    let arguments = [&*joined(&moved.encoded), keep.as_bytes()];
                    link.run(&scripts.put, &keys, &arguments).await.map(drop)
                }
            });
        }
        while let Some(written) = writes.join_next().await {
            finished(written)?;
        }
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<(Session, Duration)>, StoreError> {
        let pattern = format!("{}:s:*", literal(&self.namespace));
        let mut sessions: Vec<(Session, Duration)> = Vec::new();
        let mut at = Place::default();
        loop {
            let step = scan(&self.small, &pattern, at.cursor, SCANNED_MAX).await?;
            if at.cursor != 0 && at.server != step.server {
                at = Place::default();
                continue;
            }
            for session in step.names.iter().filter_map(|name| self.session_of(name)) {
                let left = self.small.ask(Cmd::new().arg("PTTL").arg(self.session_key(session))).await?;
                if let Some(left) = time_left(&left)?
                    && !sessions.iter().any(|(known, _)| *known == session)
                {
                    sessions.push((session, left));
                }
            }
            if step.next == 0 {
                return Ok(sessions);
            }
            at = Place { server: step.server, cursor: step.next };
        }
    }

    async fn gate(&self) -> Result<Gate, StoreError> {
        let word = self.small.ask(Cmd::new().arg("GET").arg(self.gate_key())).await?;
        Ok(Gate::of_word(optional_bytes("GET", word)?.as_deref()))
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        match gate {
            Gate::Open => command.arg("DEL").arg(self.gate_key()),
            Gate::Closed(closure) => command.arg("SET").arg(self.gate_key()).arg(closure.word()),
        };
        self.small.ask(&command).await.map(drop)
    }
}

impl RedisStore {
    /// Reads records with their bodies and what is left of their time, each in one piece. One that has gone
    /// meanwhile is left out.
    async fn read_for_moving(&self, keys: &[StorageKey]) -> Result<Vec<Moved>, StoreError> {
        let mut reads = Pipeline::with_capacity(keys.len());
        for key in keys {
            let mut read = redis::cmd("EVAL");
            read.arg(&self.scripts.read.text).arg(2).arg(self.record_key(key)).arg(self.body_key(key));
            reads.add_command(read);
        }
        let answers = self.bulk.ask_all(&reads).await?;
        let mut records = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(answers) {
            if let Some((encoded, keep_for)) = read_answer(answer?)? {
                records.push(Moved { key: *key, encoded, keep_for });
            }
        }
        Ok(records)
    }

    fn key_of_record(&self, name: &[u8]) -> Option<StorageKey> {
        let rest = name.strip_prefix(self.namespace.as_bytes())?.strip_prefix(b":r:{")?;
        let digits = std::str::from_utf8(rest.strip_suffix(b"}")?).ok()?;
        let mut bytes = [0; 32];
        let (high, low) = bytes.split_at_mut(16);
        high.copy_from_slice(&token(digits.get(..32)?)?);
        low.copy_from_slice(&token(digits.get(32..)?)?);
        Some(StorageKey::from_bytes(bytes))
    }

    fn session_of(&self, name: &[u8]) -> Option<Session> {
        let digits = name.strip_prefix(self.namespace.as_bytes())?.strip_prefix(b":s:")?;
        token(std::str::from_utf8(digits).ok()?).map(Session)
    }
}

/// Where a walk has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// The process that gave the cursor.
    server: String,
    /// 0: at the beginning.
    cursor: u64,
}

impl Place {
    fn cursor(&self) -> Cursor {
        Cursor(format!("{} {}", self.server, self.cursor).into_bytes())
    }

    fn read(cursor: &Cursor) -> Option<Self> {
        let (server, cursor) = std::str::from_utf8(&cursor.0).ok()?.split_once(' ')?;
        Some(Self { server: server.to_owned(), cursor: cursor.parse().ok()? })
    }
}

/// A step of a walk.
struct Step {
    /// The process that took it.
    server: String,
    /// 0: it was the last.
    next: u64,
    names: Vec<Vec<u8>>,
}

async fn scan(link: &Link, pattern: &str, cursor: u64, most: usize) -> Result<Step, StoreError> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("INFO").arg("server");
    let count = most.clamp(SCANNED_MIN, SCANNED_MAX);
    commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
    let mut answers = link.ask_all(&commands).await?.into_iter();
    let (Some(info), Some(scanned)) = (answers.next(), answers.next()) else {
        return Err(unexpected("SCAN"));
    };
    let info: String = redis::from_redis_value(info?).map_err(|_error| unexpected("INFO"))?;
    let server = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
    let (next, names): (u64, Vec<Vec<u8>>) =
        redis::from_redis_value(scanned?).map_err(|_error| unexpected("SCAN"))?;
    Ok(Step { server: server.to_owned(), next, names })
}

/// The record, its time and its body, as the script tells them.
fn read_answer(answer: Value) -> Result<Option<(Encoded, Duration)>, StoreError> {
    if answer == Value::Nil {
        return Ok(None);
    }
    let Value::Array(parts) = answer else { return Err(unexpected("EVAL")) };
    let Ok([record, left, body]) = <[Value; 3]>::try_from(parts) else { return Err(unexpected("EVAL")) };
    let (Some(record), Some(left)) = (optional_bytes("EVAL", record)?, time_left(&left)?) else {
        return Ok(None);
    };
    let encoded = match codec::split(record.clone()) {
        Stored::Whole(encoded) => encoded,
        // Without its body it cannot be read here, and will not be there.
        Stored::BodyApart { head, .. } => {
            Encoded { head, body: optional_bytes("EVAL", body)?.unwrap_or_default() }
        }
        Stored::Unreadable => Encoded { head: record, body: Bytes::new() },
    };
    Ok(Some((encoded, left)))
}

/// What `PTTL` says; `None`: the name is gone.
fn time_left(answer: &Value) -> Result<Option<Duration>, StoreError> {
    let Value::Int(left) = *answer else { return Err(unexpected("PTTL")) };
    Ok(match left {
        -2 => None,
        // Somebody took its end away.
        -1 => Some(KEEP_FOR_MAX),
        left => Some(Duration::from_millis(u64::try_from(left).unwrap_or(1).max(1))),
    })
}

fn finished(written: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Result<(), StoreError> {
    written.unwrap_or_else(|error| Err(StoreError::Unreachable(Box::new(error))))
}

/// Sixteen bytes, read from as many pairs of digits.
fn token(digits: &str) -> Option<[u8; 16]> {
    let is_token =
        digits.len() == 32 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if is_token { u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes) } else { None }
}

/// `text` as a pattern that matches nothing else.
fn literal(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut pattern, letter| {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
        pattern
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_matches_itself_and_nothing_else() {
        assert_eq!(literal("on*ce[a-z]?\\"), r"on\*ce\[a\-z\]\?\\");
        assert_eq!(literal("onceway:1"), "onceway:1");
    }

    #[test]
    fn only_whole_tokens_are_read_from_names() {
        assert_eq!(
            token("000102030405060708090a0b0c0d0e0f"),
            Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
        );
        for digits in ["", "0", "+00102030405060708090a0b0c0d0e0f", "000102030405060708090A0B0C0D0E0F"] {
            assert_eq!(token(digits), None, "{digits}");
        }
    }

    #[test]
    fn a_place_is_found_again_by_its_cursor() {
        let place = Place { server: "3f1c".to_owned(), cursor: 17 };
        assert_eq!(Place::read(&place.cursor()), Some(place));
        assert_eq!(Place::read(&Cursor(b"nonsense".to_vec())), None);
    }
}
