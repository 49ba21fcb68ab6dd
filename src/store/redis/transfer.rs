//! Records out of Redis and into it as bytes, for a migration. Must not know what a record means. Read `walk.rs` before.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};
use tokio::task::JoinSet;

use super::super::Cursor;
use super::super::codec::{self, Encoded, Stored};
use super::super::transfer::{Moved, Page, Transfer};
use super::super::{Gate, StoreError};
use super::node::{Lane, Request};
use super::walk::{Kind, Place, SCANNED_MAX};
use super::{
    BODY_INLINE_MAX, KEEP_FOR_MAX, RedisStore, body_millis, joined, millis, optional_bytes, unexpected,
};
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

/// Records read in one round trip: each may be as large as an answer may be.
const READ_AT_ONCE: usize = 16;

/// Records written at the same time.
const WRITTEN_AT_ONCE: usize = 32;

#[async_trait]
impl Transfer for RedisStore {
    async fn page(&self, after: Option<Cursor>, most: usize) -> Result<Page, StoreError> {
        let mut at = after.as_ref().map_or_else(|| Ok(Place::default()), Place::read)?;
        let mut records = Vec::new();
        loop {
            let step = self.step(at, Kind::Record, most).await?;
            records.extend(self.read_for_moving(&self.keys_of(&step)).await?);
            match step.next {
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
        let mut sessions: Vec<(Session, Duration)> = Vec::new();
        let mut at = Place::default();
        loop {
            let step = self.step(at, Kind::Session, SCANNED_MAX).await?;
            for session in step.names.iter().filter_map(|name| self.session_of(name)) {
                let left = self.look(Lane::Small, "PTTL", &self.session_key(session)).await?;
                if let Some(left) = time_left(&left)?
                    && !sessions.iter().any(|(known, _)| *known == session)
                {
                    sessions.push((session, left));
                }
            }
            let Some(next) = step.next else { return Ok(sessions) };
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
pub(super) fn time_left(answer: &Value) -> Result<Option<Duration>, StoreError> {
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
