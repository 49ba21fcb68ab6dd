//! Going through the names of a kind in Redis, a step at a time.
//!
//! A walk is a `SCAN` of every server that holds some. Its cursor means something to the very process that gave it and
//! to no other: a restart or a failover changes the order. So each cursor names the process it was read from, and where
//! another one answers, the walk through that part begins anew. Where the slots of a cluster have moved since the last
//! step, the whole walk does, and while one is on its way there is no step at all. A name may be told twice, and none is
//! left out. Must not know what stands under a name.

use std::sync::Arc;

use redis::Pipeline;

use super::super::{Cursor, StoreError};
use super::node::{Lane, Node};
use super::servers::Part;
use super::{RedisStore, unexpected};
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

/// Names that one `SCAN` goes through, at least and at most. The server serves nobody else meanwhile.
const SCANNED_MIN: usize = 16;
pub(super) const SCANNED_MAX: usize = 1000;

/// What is walked through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Record,
    Session,
}

/// What a step of a walk found.
pub(super) struct Step {
    pub(super) names: Vec<Vec<u8>>,
    /// Where to go on; `None`: these were the last.
    pub(super) next: Option<Place>,
    /// Who holds these names.
    pub(super) node: Arc<Node>,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Record => 'r',
            Self::Session => 's',
        }
    }
}

impl RedisStore {
    /// Goes on from `at`, through `most` names or about as many.
    pub(super) async fn step(&self, mut at: Place, kind: Kind, most: usize) -> Result<Step, StoreError> {
        let parts = self.servers.parts().await?;
        if !parts.is_complete {
            return Err(StoreError::Unreachable(Box::new(InMotion)));
        }
        if at.layout != parts.layout {
            at = Place { layout: parts.layout, ..Place::default() };
        }
        // In this layout there is no such part, so nobody was ever told to go on there.
        let Some(part) = parts.all.get(at.part) else { return Err(StoreError::StrangeCursor) };
        let pattern = format!("{}:{}:*", literal(&self.namespace), kind.letter());
        let mut scanned = scan(part, &pattern, at.cursor, most).await?;
        if at.cursor != 0 && at.server != scanned.server {
            scanned = scan(part, &pattern, 0, most).await?;
        }
        let next = if scanned.next != 0 {
            Some(Place { server: scanned.server, cursor: scanned.next, ..at })
        } else if at.part + 1 < parts.all.len() {
            Some(Place { part: at.part + 1, server: String::new(), cursor: 0, ..at })
        } else {
            None
        };
        Ok(Step { names: scanned.names, next, node: Arc::clone(&part.node) })
    }

    /// The records among the names of a step.
    pub(super) fn keys_of(&self, step: &Step) -> Vec<StorageKey> {
        step.names.iter().filter_map(|name| self.key_of_record(name)).collect()
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

    pub(super) fn session_of(&self, name: &[u8]) -> Option<Session> {
        let digits = name.strip_prefix(self.namespace.as_bytes())?.strip_prefix(b":s:")?;
        token(std::str::from_utf8(digits).ok()?).map(Session)
    }
}

/// Where a walk has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
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
    pub(super) fn cursor(&self) -> Cursor {
        Cursor(format!("{} {} {} {}", self.layout, self.part, self.cursor, self.server).into_bytes())
    }

    pub(super) fn read(cursor: &Cursor) -> Result<Self, StoreError> {
        let read = || {
            let mut words = std::str::from_utf8(&cursor.0).ok()?.splitn(4, ' ');
            Some(Self {
                layout: words.next()?.parse().ok()?,
                part: words.next()?.parse().ok()?,
                cursor: words.next()?.parse().ok()?,
                server: words.next()?.to_owned(),
            })
        };
        read().ok_or(StoreError::StrangeCursor)
    }
}

/// Some slots have no server, or two.
#[derive(Debug, thiserror::Error)]
#[error("go through all records of a cluster whose slots are on the move, or not all held")]
struct InMotion;

/// What one `SCAN` told.
struct Scanned {
    /// The process that took it.
    server: String,
    /// 0: it was the last.
    next: u64,
    names: Vec<Vec<u8>>,
}

async fn scan(part: &Part, pattern: &str, cursor: u64, most: usize) -> Result<Scanned, StoreError> {
    let mut commands = Pipeline::with_capacity(3);
    commands.cmd("INFO").arg("server");
    let count = most.clamp(SCANNED_MIN, SCANNED_MAX);
    commands.cmd("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
    if part.name.is_some() {
        commands.cmd("CLUSTER").arg("NODES");
    }
    let mut answers = part.node.link(Lane::Bulk).ask_all(&commands).await?.into_iter();
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
    Ok(Scanned { server: server.to_owned(), next, names })
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
        assert_eq!(Place::read(&place.cursor()).unwrap(), place);
        for strange in [&b""[..], b"nonsense", b"1 2 3", b"65536 0 0 x", b"1 -2 3 x", b"\xff 0 0 x", &[0; 32]]
        {
            let read = Place::read(&Cursor(strange.to_vec()));
            assert!(matches!(read, Err(StoreError::StrangeCursor)), "{strange:?}");
        }
    }
}
