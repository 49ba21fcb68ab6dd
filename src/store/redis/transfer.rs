//! Records out of Redis and into it as bytes, for a migration. Must not know what a record means.
//!
//! A walk through the records is a `SCAN` of every server that holds some. Its cursor means something to the
//! very process that gave it and to no other: a restart or a failover changes the order. So each page names the
//! process it was read from, and where another one answers, the walk through that part begins anew. Where the
//! slots of a cluster have moved since the last page, the whole walk does, and while one is on its way there is
//! no page at all. A record may be told twice, and none is left out.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use tokio::task::JoinSet;

use super::super::Cursor;
use super::super::codec::{self, Encoded, Stored};
use super::super::transfer::{Moved, Page, Transfer};
use super::super::{Gate, StoreError};
use super::node::{Lane, Request};
use super::servers::Part;
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
            let (names, next) = self.step(at, &pattern, most).await?;
            let keys: Vec<StorageKey> = names.iter().filter_map(|name| self.key_of_record(name)).collect();
            records.extend(self.read_for_moving(&keys).await?);
            match next {
                None => return Ok(Page { records, next: None }),
                Some(next) if records.len() >= most => {
                    return Ok(Page { records, next: Some(next.cursor()) });
                }
                Some(next) => at = next,
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
            let (servers, scripts) = (self.servers.clone(), self.scripts.clone());
            writes.spawn(async move {
                let [record, _] = &keys;
                let keys = keys.each_ref().map(String::as_str);
                let (keep, keep_body) = (millis(moved.keep_for), body_millis(moved.keep_for));
                let Encoded { head, body } = &moved.encoded;
                let whole = joined(&moved.encoded);
                let together = [&*whole, keep.as_bytes()];
                let apart = [&**head, keep.as_bytes(), &**body, keep_body.as_bytes()];
                let arguments = if body.len() > BODY_INLINE_MAX { &apart[..] } else { &together[..] };
                let request = Request::Script { script: &scripts.put, keys: &keys, arguments };
                servers.perform(record, Lane::Bulk, request).await?;
                Ok(())
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
            let (names, next) = self.step(at, &pattern, SCANNED_MAX).await?;
            for session in names.iter().filter_map(|name| self.session_of(name)) {
                let left = self.look(Lane::Small, "PTTL", &self.session_key(session)).await?;
                if let Some(left) = time_left(&left)?
                    && !sessions.iter().any(|(known, _)| *known == session)
                {
                    sessions.push((session, left));
                }
            }
            let Some(next) = next else { return Ok(sessions) };
            at = next;
        }
    }

    async fn gate(&self) -> Result<Gate, StoreError> {
        let word = self.look(Lane::Small, "GET", &self.gate_key()).await?;
        Ok(Gate::of_word(optional_bytes("GET", word)?.as_deref()))
    }

    async fn set_gate(&self, gate: Gate) -> Result<(), StoreError> {
        let (name, mut command) = (self.gate_key(), Cmd::new());
        match gate {
            Gate::Open => command.arg("DEL").arg(&name),
            Gate::Closed(closure) => command.arg("SET").arg(&name).arg(closure.word()),
        };
        Ok(self.servers.perform(&name, Lane::Small, Request::Write(&command)).await.map(drop)?)
    }
}

impl RedisStore {
    /// Goes on from `at`: some names, and where to go on; `None`: these were the last.
    async fn step(
        &self,
        mut at: Place,
        pattern: &str,
        most: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<Place>), StoreError> {
        let parts = self.servers.parts().await?;
        if !parts.is_complete {
            return Err(StoreError::Unreachable(Box::new(InMotion)));
        }
        if at.layout != parts.layout {
            at = Place { layout: parts.layout, ..Place::default() };
        }
        let Some(part) = parts.all.get(at.part) else { return Ok((Vec::new(), None)) };
        let mut step = scan(part, pattern, at.cursor, most).await?;
        if at.cursor != 0 && at.server != step.server {
            step = scan(part, pattern, 0, most).await?;
        }
        let next = if step.next != 0 {
            Some(Place { server: step.server, cursor: step.next, ..at })
        } else if at.part + 1 < parts.all.len() {
            Some(Place { part: at.part + 1, server: String::new(), cursor: 0, ..at })
        } else {
            None
        };
        Ok((step.names, next))
    }

    /// Reads records with their bodies and what is left of their time, each in one piece. One that has gone
    /// meanwhile is left out.
    async fn read_for_moving(&self, keys: &[StorageKey]) -> Result<Vec<Moved>, StoreError> {
        let mut records = Vec::with_capacity(keys.len());
        for some in keys.chunks(READ_AT_ONCE) {
            let mut reads: JoinSet<Result<Option<Moved>, StoreError>> = JoinSet::new();
            for key in some {
                let (key, names) = (*key, [self.record_key(key), self.body_key(key)]);
                let (servers, scripts) = (self.servers.clone(), self.scripts.clone());
                reads.spawn(async move {
                    let [record, _] = &names;
                    let mut read = redis::cmd("EVAL");
                    read.arg(&scripts.read.text).arg(names.len()).arg(&names);
                    let answer = servers.look(record, Lane::Bulk, &read).await?;
                    let read = read_answer(answer)?;
                    Ok(read.map(|(encoded, keep_for)| Moved { key, encoded, keep_for }))
                });
            }
            while let Some(read) = reads.join_next().await {
                records.extend(finished(read)?);
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
    /// How the keys lay among the servers.
    layout: u16,
    /// Which of them.
    part: usize,
    /// The process that gave the cursor.
    server: String,
    /// 0: at the beginning.
    cursor: u64,
}

impl Place {
    fn cursor(&self) -> Cursor {
        Cursor(format!("{} {} {} {}", self.layout, self.part, self.cursor, self.server).into_bytes())
    }

    fn read(cursor: &Cursor) -> Option<Self> {
        let mut words = std::str::from_utf8(&cursor.0).ok()?.splitn(4, ' ');
        Some(Self {
            layout: words.next()?.parse().ok()?,
            part: words.next()?.parse().ok()?,
            cursor: words.next()?.parse().ok()?,
            server: words.next()?.to_owned(),
        })
    }
}

/// Some slots have no server, or two.
#[derive(Debug, thiserror::Error)]
#[error("go through all records of a cluster whose slots are on the move, or not all held")]
struct InMotion;

/// A step of a walk.
struct Step {
    /// The process that took it.
    server: String,
    /// 0: it was the last.
    next: u64,
    names: Vec<Vec<u8>>,
}

async fn scan(part: &Part, pattern: &str, cursor: u64, most: usize) -> Result<Step, StoreError> {
    let mut commands = Pipeline::with_capacity(3);
    commands.cmd("INFO").arg("server");
    let count = most.clamp(SCANNED_MIN, SCANNED_MAX);
    commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
    if part.name.is_some() {
        commands.cmd("CLUSTER").arg("NODES");
    }
    let mut answers = part.node.link(Lane::Small).ask_all(&commands).await?.into_iter();
    let (Some(info), Some(scanned)) = (answers.next(), answers.next()) else {
        return Err(unexpected("SCAN"));
    };
    let info: String = redis::from_redis_value(info?).map_err(|_error| unexpected("INFO"))?;
    let server = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
    let (next, names): (u64, Vec<Vec<u8>>) =
        redis::from_redis_value(scanned?).map_err(|_error| unexpected("SCAN"))?;
    if let Some(nodes) = answers.next() {
        let nodes: String = redis::from_redis_value(nodes?).map_err(|_error| unexpected("CLUSTER NODES"))?;
        // The server's own line tells of slots on their way, in brackets behind the slots it holds.
        let own = nodes.lines().find(|line| line.contains("myself"));
        if own.is_some_and(|own| own.split(' ').skip(8).any(|slot| slot.starts_with('['))) {
            return Err(StoreError::Unreachable(Box::new(InMotion)));
        }
    }
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

fn finished<T>(task: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
    task.unwrap_or_else(|error| Err(StoreError::Unreachable(Box::new(error))))
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
        let place = Place { layout: 7, part: 2, server: "3f1c".to_owned(), cursor: 17 };
        assert_eq!(Place::read(&place.cursor()), Some(place));
        assert_eq!(Place::read(&Cursor(b"nonsense".to_vec())), None);
    }
}
