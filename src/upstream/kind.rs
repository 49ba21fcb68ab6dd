//! Kinds of requests that can be expected to take alike, and how long each takes by itself. Pure.
//!
//! A kind is a method and the words of a path; what looks like an identifier is left out of it. Must not know
//! routes. Read `admission.rs` for what it is for.

use http::Method;

/// Kinds that are kept at once; others take the places of those that are seldom seen.
const KINDS_MAX: usize = 256;

/// Segments of a path that tell kinds apart.
const SEGMENTS_MAX: usize = 4;

/// Longer segments are taken for identifiers.
const WORD_BYTES_MAX: usize = 24;

/// Requests after which a mean is believed.
const BELIEVED: u32 = 3;

/// A kind of request. Two kinds may be taken for one, at odds of one in 2⁶⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u64);

/// How long the requests of each kind take by themselves.
#[derive(Debug)]
pub(super) struct Means(Vec<Mean>);

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    kind: u64,
    seconds: f64,
    seen: u32,
}

impl Kind {
    /// The kind of a request.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let mut hash = Fnv::new();
        hash.add(method.as_str().as_bytes());
        for segment in path.split('/').skip(1).take(SEGMENTS_MAX) {
            hash.add(b"/");
            hash.add(if is_word(segment) { segment.as_bytes() } else { b"#" });
        }
        Self(hash.0)
    }
}

impl Means {
    /// The mean of a kind in seconds, if it is known.
    pub(super) fn of(&self, kind: Kind) -> Option<f64> {
        let mean = self.0.get(place_of(kind))?;
        (mean.kind == kind.0 && mean.seen >= BELIEVED).then_some(mean.seconds)
    }

    /// Learns from one request.
    pub(super) fn learn(&mut self, kind: Kind, seconds: f64) {
        self.learn_by(kind, seconds, 1.0 / 8.0);
    }

    /// Learns from one request that was let in to learn from it.
    pub(super) fn learn_fast(&mut self, kind: Kind, seconds: f64) {
        self.learn_by(kind, seconds, 1.0 / 4.0);
    }

    fn learn_by(&mut self, kind: Kind, seconds: f64, weight: f64) {
        let Some(mean) = self.0.get_mut(place_of(kind)) else { return };
        if mean.kind != kind.0 {
            *mean = Mean { kind: kind.0, seconds, seen: 0 };
        }
        mean.seen = mean.seen.saturating_add(1);
        // A plain mean at first, so that the first request has no more weight than the others.
        let weight = weight.max(1.0 / f64::from(mean.seen));
        mean.seconds += weight * (seconds - mean.seconds);
    }
}

impl Default for Means {
    fn default() -> Self {
        Self(vec![Mean::default(); KINDS_MAX])
    }
}

/// Whether a segment names something, rather than tells which: no digits, but for a version such as `v2`.
fn is_word(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    segment.len() <= WORD_BYTES_MAX && (digits == 0 || (segment.starts_with('v') && segment.len() <= 3))
}

fn place_of(kind: Kind) -> usize {
    usize::try_from(kind.0 >> 32).unwrap_or_default() % KINDS_MAX
}

/// The hash of Fowler, Noll and Vo, version 1a: short, and good enough for a table of a few hundred.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(path: &str) -> Kind {
        Kind::of(&Method::GET, path)
    }

    #[test]
    fn requests_that_differ_in_identifiers_are_of_one_kind() {
        assert_eq!(kind("/orders/1842/refunds"), kind("/orders/77310/refunds"));
        let (one, another) = ("0d5e9d1c-4f0e-4b0e-a8a4-1f0f6f7c3a55", "ab12cd34ef56ab12cd34ef56ab12");
        assert_eq!(kind(&format!("/files/{one}")), kind(&format!("/files/{another}")));
    }

    #[test]
    fn requests_that_differ_in_words_or_methods_are_not() {
        assert_ne!(kind("/orders"), kind("/reports"));
        assert_ne!(kind("/v1/orders"), kind("/v2/orders"));
        assert_ne!(kind("/orders"), Kind::of(&Method::POST, "/orders"));
    }

    #[test]
    fn a_mean_is_believed_after_a_few_and_follows_what_comes() {
        let mut means = Means::default();
        let orders = kind("/orders");
        means.learn(orders, 1.0);
        assert_eq!(means.of(orders), None);
        (0..99).for_each(|_| means.learn(orders, 2.0));
        assert!((means.of(orders).unwrap() - 2.0).abs() < 0.01);
        assert_eq!(means.of(kind("/reports")), None);
    }
}
