//! The fingerprint: a versioned, keyed digest of what a request asks for.
//!
//! Two requests with one key and different fingerprints are a reused key. Must not know how parts are
//! read from a request (`proxy/admit.rs`, `proxy/body.rs`).

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::scope::{Digest, HashKey};

/// The derivation in use; stored beside each digest.
pub const VERSION: u8 = 1;

/// A digest of the parts of a request that must not change between retries.
///
/// Shape: 32 bytes, HMAC-SHA-256. Equality takes the same time wherever the first difference stands.
#[derive(Clone, Copy)]
pub struct Fingerprint([u8; 32]);

/// What a fingerprint covers. `Date`, `User-Agent`, trace headers, `Cookie` and `Authorization` are
/// never among it: they change between retries of one intent.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    /// Method, as received.
    pub method: &'a str,
    /// Path, raw bytes as received.
    pub path: &'a [u8],
    /// Query without `?`, raw; `None` when there was no `?`.
    pub query: Option<&'a [u8]>,
    /// `Content-Type`, raw, if there was one.
    pub content_type: Option<&'a [u8]>,
    /// The chosen headers, lower-case name and every value, in the configured order.
    pub headers: &'a [(&'a str, Vec<&'a [u8]>)],
    /// The body in the form the route compares.
    pub body: CoveredBody<'a>,
}

/// The body in the form the route compares.
#[derive(Clone, Copy, Debug)]
pub enum CoveredBody<'a> {
    /// Every byte counts; also the form of a body that should be JSON and is not.
    Bytes(&'a [u8]),
    /// Canonical JSON: order of members and white space do not count.
    CanonicalJson(&'a [u8]),
    /// The body does not count.
    Off,
}

impl Fingerprint {
    /// Digests the covered parts.
    pub fn of(key: &HashKey, covered: &Covered<'_>) -> Self {
        let mut digest = Digest::new(key, b"fingerprint v1");
        digest.field(covered.method.as_bytes());
        digest.field(covered.path);
        optional(&mut digest, covered.query);
        optional(&mut digest, covered.content_type);
        digest.count(covered.headers.len());
        for (name, values) in covered.headers {
            digest.field(name.as_bytes());
            digest.count(values.len());
            for value in values {
                digest.field(value);
            }
        }
        match covered.body {
            CoveredBody::Bytes(bytes) => {
                digest.field(b"bytes");
                digest.field(bytes);
            }
            CoveredBody::CanonicalJson(bytes) => {
                digest.field(b"json");
                digest.field(bytes);
            }
            CoveredBody::Off => digest.field(b"off"),
        }
        Self(digest.finish())
    }

    /// Rebuilds a fingerprint from stored bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Fingerprint {}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(redacted)")
    }
}

fn optional(digest: &mut Digest<'_>, field: Option<&[u8]>) {
    match field {
        None => digest.count(0),
        Some(bytes) => {
            digest.count(1);
            digest.field(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const BASE: Covered<'_> = Covered {
        method: "POST",
        path: b"/payments",
        query: None,
        content_type: Some(b"application/json"),
        headers: &[],
        body: CoveredBody::Bytes(b"{\"amount\":1}"),
    };

    fn of(covered: &Covered<'_>) -> Fingerprint {
        Fingerprint::of(&HashKey::new(None), covered)
    }

    #[test]
    fn every_covered_part_counts() {
        let chosen = [("x-tenant", vec![&b"a"[..]])];
        let variations = [
            Covered { method: "PATCH", ..BASE },
            Covered { path: b"/payments/", ..BASE },
            Covered { query: Some(b""), ..BASE },
            Covered { content_type: None, ..BASE },
            Covered { headers: &chosen, ..BASE },
            Covered { body: CoveredBody::Bytes(b"{\"amount\":2}"), ..BASE },
            Covered { body: CoveredBody::CanonicalJson(b"{\"amount\":1}"), ..BASE },
            Covered { body: CoveredBody::Off, ..BASE },
        ];
        for (at, variation) in variations.iter().enumerate() {
            assert_ne!(of(&BASE), of(variation), "variation {at}");
        }
        assert_eq!(of(&BASE), of(&BASE));
    }

    #[test]
    fn the_secret_counts() {
        assert_ne!(of(&BASE), Fingerprint::of(&HashKey::new(Some(b"secret")), &BASE));
    }

    #[test]
    fn the_derivation_is_frozen() {
        // Records outlive releases: if this changes, every retry of an old key looks like a reused one.
        let mut hex = String::new();
        for byte in of(&BASE).as_bytes() {
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(hex, FROZEN_FINGERPRINT);
    }

    const FROZEN_FINGERPRINT: &str = "584dc3b75f4134d7084fc98a2aaf5fffa94f4ca44d1d920ba6fd165bbe5a6fd9";

    /// A request, owned, of so few letters that many of two are alike, or would be if their parts ran together.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Asked {
        method: String,
        path: Vec<u8>,
        query: Option<Vec<u8>>,
        content_type: Option<Vec<u8>>,
        headers: Vec<(String, Vec<Vec<u8>>)>,
        body: (u8, Vec<u8>),
    }

    impl Asked {
        fn fingerprint(&self) -> Fingerprint {
            let headers: Vec<(&str, Vec<&[u8]>)> = self
                .headers
                .iter()
                .map(|(name, values)| (name.as_str(), values.iter().map(Vec::as_slice).collect()))
                .collect();
            of(&Covered {
                method: &self.method,
                path: &self.path,
                query: self.query.as_deref(),
                content_type: self.content_type.as_deref(),
                headers: &headers,
                body: match self.body.0 {
                    0 => CoveredBody::Bytes(&self.body.1),
                    1 => CoveredBody::CanonicalJson(&self.body.1),
                    _ => CoveredBody::Off,
                },
            })
        }

        /// What counts of the body.
        fn counted(mut self) -> Self {
            if self.body.0 > 1 {
                self.body.1.clear();
            }
            self
        }
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let letters = || prop::collection::vec(prop::sample::select(vec![0, b'a']), 0..3);
        let values = prop::collection::vec(letters(), 0..3);
        let headers = prop::collection::vec(("[ab]{0,1}", values), 0..2);
        let optional = || prop::option::of(letters());
        ("a{0,2}", letters(), optional(), optional(), headers, (0..3_u8, letters())).prop_map(
            |(method, path, query, content_type, headers, body)| Asked {
                method,
                path,
                query,
                content_type,
                headers,
                body,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn two_requests_have_one_fingerprint_exactly_if_every_covered_part_is_alike(
            one in asked(),
            other in asked(),
            part in 0..7,
        ) {
            // All but one part of the other is as in this one: most of two drawn at random differ everywhere.
            let mut near = one.clone();
            match part {
                0 => near.method = other.method,
                1 => near.path = other.path,
                2 => near.query = other.query,
                3 => near.content_type = other.content_type,
                4 => near.headers = other.headers,
                5 => near.body = other.body,
                _ => near = other,
            }
            let are_alike = one.clone().counted() == near.clone().counted();
            prop_assert_eq!(one.fingerprint() == near.fingerprint(), are_alike);
        }

        #[test]
        fn bytes_that_move_to_the_next_part_make_another_fingerprint(one in asked(), from in 0..5) {
            let mut moved = one.clone();
            let last = match from {
                0 => moved.method.pop().map(|last| moved.path.insert(0, u8::try_from(last).unwrap())),
                1 => moved.path.pop().map(|last| moved.query.get_or_insert_default().insert(0, last)),
                2 => (moved.query.as_mut().and_then(Vec::pop))
                    .map(|last| moved.content_type.get_or_insert_default().insert(0, last)),
                3 => (moved.content_type.as_mut().and_then(Vec::pop)).map(|last| moved.body.1.insert(0, last)),
                _ => (moved.headers.pop()).map(|(name, _)| moved.body.1.extend(name.into_bytes())),
            };
            prop_assert_eq!(one.fingerprint() == moved.fingerprint(), last.is_none());
        }
    }

    #[test]
    fn a_fingerprint_keeps_its_bytes_and_shows_none() {
        let print = Fingerprint::from_bytes([7; 32]);
        assert_eq!((print.as_bytes(), format!("{print:?}").as_str()), (&[7; 32], "Fingerprint(redacted)"));
    }
}
