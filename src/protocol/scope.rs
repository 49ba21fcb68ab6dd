//! Who is asking: what separates one caller's keys from another's, and the storage key made of both.
//!
//! Must not know how a scope part is read from a request (`proxy/admit.rs`).

use std::fmt;

use aws_lc_rs::hmac;

use super::key::IdempotencyKey;
use super::mistake::Mistake;

/// One part of a scope, as found on a request.
#[derive(Clone, Copy, Debug)]
pub struct ScopePart<'a> {
    /// The configured source, such as `header:authorization`.
    pub source: &'a str,
    /// Every value found there, in order. Empty: the part is missing and the caller is anonymous.
    pub values: &'a [&'a [u8]],
}

/// Where a record stands in the store.
///
/// Shape: 32 bytes, HMAC-SHA-256 over namespace, scope and key; shown as lower-case hex.
/// Neither the raw key nor a credential can be read back from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageKey([u8; 32]);

/// One caller, without any key: what is counted of it is counted under this.
///
/// Shape: 32 bytes, HMAC-SHA-256 over namespace and scope. Never stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScopeTag([u8; 32]);

/// The secret that keys storage keys and fingerprints. All gateways on one store must hold the same.
#[derive(Clone)]
pub struct HashKey(hmac::Key);

impl HashKey {
    /// Derives the hash key from a secret of any length.
    ///
    /// With no secret the key is the same for every installation: hashes then still separate callers,
    /// but whoever reads the store can test guesses of short keys and credentials.
    pub fn new(secret: Option<&[u8]>) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret.unwrap_or_default());
        let derived = hmac::sign(&root, b"onceway hash key v1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The storage key of one caller's idempotency key.
    pub fn storage_key(&self, namespace: &str, scope: &[ScopePart<'_>], key: &IdempotencyKey) -> StorageKey {
        let scope = if Mistake::ScopelessKey.is_made() { &[] } else { scope };
        let mut digest = Digest::new(self, b"storage key v1");
        digest.scope(namespace, scope);
        digest.field(key.as_bytes());
        StorageKey(digest.finish())
    }

    /// What stands for one caller.
    pub fn scope_tag(&self, namespace: &str, scope: &[ScopePart<'_>]) -> ScopeTag {
        let mut digest = Digest::new(self, b"scope tag v1");
        digest.scope(namespace, scope);
        ScopeTag(digest.finish())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(redacted)")
    }
}

impl StorageKey {
    /// Rebuilds a storage key from its bytes, as a store lists them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ScopeTag {
    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ScopeTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeTag")
    }
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand and without allocating: it is shown six times in the course of a first request.
        let mut digits = [0; 64];
        let (pairs, _) = digits.as_chunks_mut();
        for (pair, byte) in pairs.iter_mut().zip(self.0) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

/// A hexadecimal digit, lower-case.
const fn digit(value: u8) -> u8 {
    value + if value < 10 { b'0' } else { b'a' - 10 }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageKey({self})")
    }
}

/// Fields up to this length are gathered before they are digested: most have a few bytes, and each call into the
/// library costs as much as digesting some fifty.
const GATHERED_LEN_MAX: usize = 256;

/// A keyed digest over length-prefixed fields, so that no two field lists give the same bytes.
pub(super) struct Digest<'a> {
    key: &'a HashKey,
    /// Begun with the first field that is too long to be gathered. Boxed: it is large, and most digests need none.
    begun: Option<Box<hmac::Context>>,
    /// Not digested yet.
    gathered: Vec<u8>,
}

impl<'a> Digest<'a> {
    pub(super) fn new(key: &'a HashKey, purpose: &[u8]) -> Self {
        let mut digest = Self { key, begun: None, gathered: Vec::with_capacity(2 * GATHERED_LEN_MAX) };
        digest.field(purpose);
        digest
    }

    fn scope(&mut self, namespace: &str, scope: &[ScopePart<'_>]) {
        self.field(namespace.as_bytes());
        self.count(scope.len());
        for part in scope {
            self.field(part.source.as_bytes());
            self.count(part.values.len());
            for value in part.values {
                self.field(value);
            }
        }
    }

    pub(super) fn field(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        if bytes.len() <= GATHERED_LEN_MAX {
            self.gathered.extend_from_slice(bytes);
            return;
        }
        let key = &self.key.0;
        let context = self.begun.get_or_insert_with(|| Box::new(hmac::Context::with_key(key)));
        context.update(&self.gathered);
        self.gathered.clear();
        context.update(bytes);
    }

    pub(super) fn count(&mut self, count: usize) {
        // usize is at most 64 bits on every target Rust has today, so nothing is cut off.
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.gathered.extend_from_slice(&count.to_be_bytes());
    }

    pub(super) fn finish(self) -> [u8; 32] {
        let tag = match self.begun {
            None => hmac::sign(&self.key.0, &self.gathered),
            Some(mut context) => {
                context.update(&self.gathered);
                context.sign()
            }
        };
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::{KeyFormat, KeyRules};
    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey::from_text(text, KeyRules { format: KeyFormat::Any, max_length: 255 }).unwrap()
    }

    fn stored(secret: Option<&[u8]>, namespace: &str, parts: &[(&str, &[&[u8]])], text: &str) -> StorageKey {
        let parts: Vec<_> = parts.iter().map(|(source, values)| ScopePart { source, values }).collect();
        HashKey::new(secret).storage_key(namespace, &parts, &key(text))
    }

    #[test]
    fn namespace_scope_key_and_secret_each_separate() {
        let base = stored(None, "n", &[("header:authorization", &[b"alice"])], "k");
        let others = [
            stored(Some(b"s"), "n", &[("header:authorization", &[b"alice"])], "k"),
            stored(None, "m", &[("header:authorization", &[b"alice"])], "k"),
            stored(None, "n", &[("header:authorization", &[b"bob"])], "k"),
            stored(None, "n", &[("header:authorization", &[])], "k"),
            stored(None, "n", &[("header:x-account", &[b"alice"])], "k"),
            stored(None, "n", &[], "k"),
            stored(None, "n", &[("header:authorization", &[b"alice"])], "l"),
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(base, *other, "variation {at}");
        }
        assert_eq!(base, stored(None, "n", &[("header:authorization", &[b"alice"])], "k"));
    }

    #[test]
    fn moving_bytes_from_one_field_to_the_next_makes_another_key() {
        assert_ne!(stored(None, "n", &[("s", &[b"ab"])], "c"), stored(None, "n", &[("s", &[b"a"])], "bc"));
        assert_ne!(
            stored(None, "n", &[("s", &[b"ab"])], "c"),
            stored(None, "n", &[("s", &[b"a", b"b"])], "c")
        );
    }

    #[test]
    fn the_derivation_is_frozen() {
        // Records outlive releases: if this changes, every outstanding key looks new.
        assert_eq!(
            stored(None, "onceway", &[("header:authorization", &[b"Bearer a"])], "k").to_string(),
            FROZEN_STORAGE_KEY
        );
    }

    const FROZEN_STORAGE_KEY: &str = "e835dc1f2dbf619ff285a00cf8408366a5c788f6aa4bcfed31db8a5326039051";

    type Parts = Vec<(String, Vec<Vec<u8>>)>;

    /// A namespace, a scope and a key of so few letters that many of two would be alike if their parts ran together.
    fn asking() -> impl Strategy<Value = (String, Parts, String)> {
        let values =
            prop::collection::vec(prop::collection::vec(prop::sample::select(vec![0, b'a']), 0..3), 0..3);
        ("a{0,2}", prop::collection::vec(("a{0,2}", values), 0..3), "a{1,3}")
    }

    fn stands_at((namespace, parts, text): &(String, Parts, String)) -> StorageKey {
        let values: Vec<Vec<&[u8]>> =
            parts.iter().map(|(_, values)| values.iter().map(Vec::as_slice).collect()).collect();
        let parts: Vec<_> =
            parts.iter().zip(&values).map(|((source, _), values)| ScopePart { source, values }).collect();
        HashKey::new(None).storage_key(namespace, &parts, &key(text))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn two_callers_share_a_storage_key_exactly_if_namespace_scope_and_key_are_alike(
            one in asking(),
            other in asking(),
            part in 0..4,
        ) {
            let mut near = one.clone();
            match part {
                0 => near.0 = other.0,
                1 => near.1 = other.1,
                2 => near.2 = other.2,
                _ => near = other,
            }
            prop_assert_eq!(stands_at(&one) == stands_at(&near), one == near);
        }

        #[test]
        fn the_order_of_parts_and_values_counts_and_so_does_an_empty_value(one in asking(), at in 0..3_usize) {
            let mut reversed = one.clone();
            reversed.1.reverse();
            prop_assert_eq!(stands_at(&one) == stands_at(&reversed), one == reversed);
            let mut other = one.clone();
            if let Some((_, values)) = other.1.get_mut(at) {
                values.reverse();
                prop_assert_eq!(stands_at(&one) == stands_at(&other), one == other);
            }
            if let Some((_, values)) = other.1.get_mut(at) {
                values.push(Vec::new());
                prop_assert_ne!(stands_at(&one), stands_at(&other));
            }
        }

        #[test]
        fn a_storage_key_is_shown_by_its_digits(bytes in any::<[u8; 32]>()) {
            let number = |half: &[u8]| u128::from_be_bytes(half.try_into().unwrap());
            let digits = format!("{:032x}{:032x}", number(&bytes[..16]), number(&bytes[16..]));
            let key = StorageKey::from_bytes(bytes);
            prop_assert_eq!(format!("{key} {key:?}"), format!("{digits} StorageKey({digits})"));
            prop_assert_eq!(key.as_bytes(), &bytes);
        }
    }

    #[test]
    fn a_hash_key_shows_nothing_of_its_secret() {
        assert_eq!(format!("{:?}", HashKey::new(Some(b"hunter2"))), "HashKey(redacted)");
    }

    #[test]
    fn a_callers_tag_is_that_of_its_scope_alone_and_shows_nothing() {
        let tag = |namespace: &str, values: &[&[u8]]| {
            let scope = [ScopePart { source: "header:authorization", values }];
            HashKey::new(None).scope_tag(namespace, &scope)
        };
        assert_eq!(tag("n", &[b"alice"]), tag("n", &[b"alice"]));
        for other in [tag("m", &[b"alice"]), tag("n", &[b"bob"]), tag("n", &[])] {
            assert_ne!(tag("n", &[b"alice"]), other);
        }
        let bytes = *tag("n", &[b"alice"]).as_bytes();
        assert_eq!(ScopeTag::from_bytes(bytes), tag("n", &[b"alice"]));
        assert_eq!(format!("{:?}", ScopeTag::from_bytes(bytes)), "ScopeTag");
    }
}
