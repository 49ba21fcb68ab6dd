//! Answers that replicas have: where they are waited for, nobody is shown one that stands on the master alone.
//!
//! A retry that gets an answer relies on it. If the write of that answer was not acknowledged, the master's loss takes
//! it, and the claim below it reads as an unknown outcome, after somebody had the answer. Claims and unknown outcomes
//! promise nothing, and are shown as they stand. Must not know how records are written. Read `acknowledged.rs` before.

use bytes::Bytes;
use redis::{Cmd, Value};

use super::node::{Lane, Request};
use super::{READ_TRIES, RedisStore, Restless, optional_bytes, unexpected};
use crate::protocol::record::{Phase, Seen};
use crate::protocol::scope::StorageKey;
use crate::store::StoreError;

/// Tells what stands, and writes it once more without a change, in one piece, on one server. Replicas get writes in
/// their order, so those that have the second have the first. It names no other key, or it could not run while the slot
/// moves. The answer is an array, because `WAIT` does not hold up an answer that is a mere value.
const TOUCH: &str = "local stands = redis.call('GET', KEYS[1]) \
                     if stands then redis.call('APPEND', KEYS[1], '') end \
                     return {stands}";

impl RedisStore {
    /// Reads a stored value, and answers once replicas have it, if it is one that a retry relies on.
    pub(super) async fn read_kept(&self, key: &StorageKey, mut stands: Bytes) -> Result<Seen, StoreError> {
        for _ in 0..READ_TRIES {
            let seen = self.read(key, stands.clone()).await?;
            if self.min_replicas == 0 || !is_relied_on(&seen) {
                return Ok(seen);
            }
            // Another server may lead by now, to which this answer never came.
            match self.acknowledged(key).await? {
                None => return Ok(Seen::Nothing),
                Some(again) if again == stands => return Ok(seen),
                Some(again) => stands = again,
            }
        }
        Err(StoreError::Refused(Box::new(Restless)))
    }

    /// What stands under the key, and replicas have.
    async fn acknowledged(&self, key: &StorageKey) -> Result<Option<Bytes>, StoreError> {
        let (name, mut command) = (self.record_key(key), Cmd::new());
        command.arg("EVAL").arg(TOUCH).arg(1).arg(&name);
        let answer = self.servers.perform(&name, Lane::Small, Request::Write(&command)).await?;
        let Value::Array(mut found) = answer else { return Err(unexpected("EVAL")) };
        optional_bytes("EVAL", found.pop().unwrap_or(Value::Nil))
    }
}

/// Whether a retry that sees it is told something for good.
fn is_relied_on(seen: &Seen) -> bool {
    match seen {
        Seen::Record(record) => match record.phase {
            Phase::Done { .. } | Phase::DoneWithoutBody { .. } => true,
            Phase::InFlight | Phase::Unknown { .. } => false,
        },
        Seen::Nothing | Seen::Unreadable => false,
    }
}
