//! The scripts that settle a record: compare the version in place, then write, then tell who watches.
//!
//! They know where the version stands in a record and nothing else of it. Every key is passed as a key and
//! all keys of a call share a hash tag, so that they run on a cluster too. Read `../codec.rs` before.

/// What a settling script answers.
pub(super) const DONE: i64 = 1;
/// Another version stands there.
pub(super) const CHANGED: i64 = 0;
/// Nothing stands there.
pub(super) const ABSENT: i64 = -1;

/// A script and the name the server gives it.
pub(super) struct Script {
    pub(super) text: String,
    pub(super) hash: String,
}

/// The scripts, hashed once.
pub(super) struct Scripts {
    /// Keys: record, body. Arguments: version, channel, record, its time to live, and for a body that is
    /// kept apart the body and its time to live.
    pub(super) swap: Script,
    /// Keys: record, body. Arguments: version, channel.
    pub(super) remove: Script,
    /// Keys: record, body. Arguments: record, its time to live, body, its time to live. Answers the
    /// record that stands there, or nil.
    pub(super) insert_apart: Script,
    /// Keys: record, body. Answers the record, its time to live and the body, or nil.
    pub(super) read: Script,
    /// Keys: record, body. Answers head and metadata of the record, its time to live and how many bytes stand beside
    /// these, or nil.
    pub(super) outline: Script,
    /// Keys: record, body. Arguments: record, its time to live, and for a body that is kept apart the body
    /// and its time to live.
    pub(super) put: Script,
}

/// The range is `codec::VERSION_AT`; a test below holds the two together.
///
/// Whoever finds another version, or nothing, may have met an earlier write of its own that replicas did not
/// acknowledge in time. From Redis 7.2 on, `WAIT` waits for nothing on a connection that has written nothing. So
/// something is written there too, which changes nothing: the record as it stands, or an empty body for a moment.
/// A server out of memory refuses that, and is to tell all the same what it found.
const COMPARE: &str = r"
local version = redis.call('GETRANGE', KEYS[1], 4, 23)
if version == '' and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.pcall('SET', KEYS[2], '', 'PX', 1)
  return -1
end
if version ~= ARGV[1] then
  redis.pcall('SET', KEYS[1], redis.call('GET', KEYS[1]), 'KEEPTTL')
  return 0
end
";

/// A server out of memory refuses a script's writes up to its first that needs no memory, and takes those
/// after it. So a claim is refused, a small settlement passes (its `DEL` comes first) and frees the claim
/// of its doubt, and a large body is refused before anything is written.
const SWAP: &str = r"
if ARGV[5] then
  redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
else
  redis.call('DEL', KEYS[2])
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
";

const REMOVE: &str = r"
redis.call('DEL', KEYS[1], KEYS[2])
";

/// A watcher that is not told asks by itself after a while, so an error here must not undo an answer.
const PUBLISH: &str = r"
redis.pcall('PUBLISH', ARGV[2], '')
return 1
";

const INSERT_APART: &str = r"
local stands = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', ARGV[2])
if not stands then redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4]) end
return stands
";

const READ: &str = r"
local record = redis.call('GET', KEYS[1])
if not record then return false end
return {record, redis.call('PTTL', KEYS[1]), redis.call('GET', KEYS[2])}
";

/// The length of the metadata stands at the same place in every format; a test below holds the two together. What is
/// no record stands all the same, were it something else than a string.
const OUTLINE: &str = r"
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return false end
local head = redis.pcall('GETRANGE', KEYS[1], 0, 89)
if type(head) ~= 'string' then return {'', left, 0} end
if #head == 90 and string.sub(head, 1, 2) == 'OW' then
  head = redis.call('GETRANGE', KEYS[1], 0, 89 + struct.unpack('>I4', head, 75))
end
local rest = redis.call('STRLEN', KEYS[1]) - #head
local body = redis.pcall('STRLEN', KEYS[2])
if type(body) == 'number' then rest = rest + body end
return {head, left, rest}
";

const PUT: &str = r"
if ARGV[3] then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
else
  redis.call('DEL', KEYS[2])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

impl Script {
    fn new(text: String) -> Self {
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            swap: Script::new([COMPARE, SWAP, PUBLISH].concat()),
            remove: Script::new([COMPARE, REMOVE, PUBLISH].concat()),
            insert_apart: Script::new(INSERT_APART.to_owned()),
            read: Script::new(READ.to_owned()),
            outline: Script::new(OUTLINE.to_owned()),
            put: Script::new(PUT.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::{HEAD_LEN, VERSION_AT, head_of};

    #[test]
    fn the_scripts_compare_where_the_version_stands() {
        let range = format!("KEYS[1], {}, {})", VERSION_AT.start, VERSION_AT.end - 1);
        assert!(COMPARE.contains(&range));
    }

    #[test]
    fn the_outline_is_cut_where_the_body_begins() {
        let mut value = [0; 200];
        value[..2].copy_from_slice(b"OW");
        value[74..78].copy_from_slice(&7_u32.to_be_bytes());
        assert_eq!(head_of(&value).len(), HEAD_LEN + 7);
        assert!(OUTLINE.contains(&format!("0, {})", HEAD_LEN - 1)));
        assert!(
            OUTLINE.contains("0, 89 + struct.unpack('>I4', head, 75))"),
            "the 75th byte is the one at 74"
        );
    }
}
