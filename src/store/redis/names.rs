//! The names under which things stand in Redis. They are frozen, as stored bytes are.
//!
//! ```text
//! {namespace}:r:{key}      a record as in codec.rs; its body too if that is small
//! {namespace}:b:{key}      the body, if it is larger; written and removed with its record
//! {namespace}:s:session    a session that lives
//! {namespace}:gate         why no new claims are taken, or nothing
//! {namespace}:forgettings  how often an operator took a record away, or nothing
//! {namespace}:w:{key}      the channel on which changes of a record are told
//! ```
//!
//! The braces around the key (not those around `namespace`) are really there: they make the names of one
//! record fall into one slot of a cluster.

use std::fmt::Write as _;

use super::RedisStore;
use crate::protocol::record::Session;
use crate::protocol::scope::StorageKey;

impl RedisStore {
    pub(super) fn record_key(&self, key: &StorageKey) -> String {
        self.name_of(key, ":r:{")
    }

    pub(super) fn body_key(&self, key: &StorageKey) -> String {
        self.name_of(key, ":b:{")
    }

    pub(super) fn channel(&self, key: &StorageKey) -> String {
        self.name_of(key, ":w:{")
    }

    fn name_of(&self, key: &StorageKey, kind: &str) -> String {
        let mut name =
            String::with_capacity(self.namespace.len() + kind.len() + 2 * size_of::<StorageKey>() + 1);
        name.push_str(&self.namespace);
        name.push_str(kind);
        // A `String` takes whatever it is given.
        write!(name, "{key}").ok();
        name.push('}');
        name
    }

    pub(super) fn gate_key(&self) -> String {
        format!("{}:gate", self.namespace)
    }

    pub(super) fn session_key(&self, session: Session) -> String {
        format!("{}:s:{:032x}", self.namespace, u128::from_be_bytes(session.0))
    }
}
