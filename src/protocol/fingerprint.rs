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

fn optional(digest: &mut Digest, field: Option<&[u8]>) {
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
}
