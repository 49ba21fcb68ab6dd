//! The readings of a path: what upstreams are known to make of the same bytes.
//!
//! Pure. A path that reads in one way costs one look; only paths with something to read differently cost
//! more. Must not know routes. `readings/rules.rs` has the rules one by one, `docs/paths.md` the servers that
//! take them; read `route.rs` after.

mod escapes;
mod rules;

use std::collections::BTreeSet;

pub(super) use escapes::{decoded, hex_in_upper_case};

/// Readings of one path, and their bytes together. A path with more reads in too many ways to be told.
const READINGS_MAX: usize = 256;
const READINGS_BYTES_MAX: usize = 32 * 1024;

/// How a look at the readings of a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// All were seen. These rules made a difference.
    Whole(Rules),
    /// The one who looks has seen enough.
    Enough,
    /// There are others, of which nothing is known: there are too many, or one leads to where only the
    /// upstream knows what stands.
    Unknown,
}

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(u32);

/// Whether a path may have more than one reading. Most have not, and are told from others in one pass.
pub(super) fn has_choices(path: &[u8]) -> bool {
    rules::signs(path) != 0
}

/// Shows every reading of `path` to `is_enough`, the literal one first, until that says so. Rules `spared` are
/// left out where they may be.
///
/// An upstream may apply any of the rules, in any order, more than once where there are several servers in a
/// row. So the readings are the smallest set that holds the path and is closed under every rule.
pub(super) fn look(path: &[u8], spared: Rules, mut is_enough: impl FnMut(&[u8]) -> bool) -> Look {
    let mut taken = Rules::default();
    let mut bytes_left = READINGS_BYTES_MAX.saturating_sub(path.len());
    let mut known = BTreeSet::from([path.to_vec()]);
    let mut waiting = vec![path.to_vec()];
    while let Some(reading) = waiting.pop() {
        if is_enough(&reading) {
            return Look::Enough;
        }
        if rules::is_beyond_telling(&reading) {
            return Look::Unknown;
        }
        let signs = rules::signs(&reading);
        for (number, rule) in (0..).zip(&rules::ALL) {
            if rule.signs & signs == 0 || (rule.may_be_spared && spared.has(number)) {
                continue;
            }
            let Some(read) = (rule.apply)(&reading) else { continue };
            taken = taken.with(number);
            if known.contains(&read) {
                continue;
            }
            let Some(left) = bytes_left.checked_sub(read.len()).filter(|_| known.len() < READINGS_MAX) else {
                return Look::Unknown;
            };
            bytes_left = left;
            known.insert(read.clone());
            waiting.push(read);
        }
    }
    Look::Whole(taken)
}

impl Rules {
    fn with(self, number: u32) -> Self {
        Self(self.0 | 1 << number)
    }

    fn has(self, number: u32) -> bool {
        self.0 & 1 << number != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_as(path: &str, wanted: &str) -> bool {
        let is_wanted = |reading: &[u8]| reading == wanted.as_bytes();
        has_choices(path.as_bytes()) && look(path.as_bytes(), Rules::default(), is_wanted) == Look::Enough
    }

    fn readings(path: &[u8]) -> (usize, Look) {
        let mut seen = 0;
        let look = look(path, Rules::default(), |_| {
            seen += 1;
            false
        });
        (seen, look)
    }

    #[test]
    fn a_plain_path_has_one_reading() {
        for path in ["/", "/payments/42", "/a:b/@c/~d", "/orders/0d9c-77/refunds"] {
            assert!(!has_choices(path.as_bytes()), "{path}");
            assert_eq!(readings(path.as_bytes()).0, 1, "{path}");
        }
    }

    #[test]
    fn a_path_without_choices_is_one_that_no_rule_changes() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..20_000 {
            let mut path = vec![b'/'];
            path.extend((0..random.usize(..12)).map(|_| *random.choice(b"/ab.;%2fe\\+(S)\x7f\x01").unwrap()));
            let one = readings(&path).0 == 1;
            assert!(has_choices(&path) || one, "seed {seed}: {}", path.escape_ascii());
        }
    }

    #[test]
    fn every_spelling_of_a_path_is_read_as_it() {
        for spelling in [
            "/payments/",
            "//payments",
            "/%70ayments",
            "/./payments",
            "/x/../payments",
            "/x/%2e%2e/payments",
            "/x/..;a=b/payments",
            "/payments;v=1",
            "/%2fpayments",
            "/%2Fpayments",
            "/x%2f..%2fpayments",
            "/x%5c..%5cpayments",
            "\\payments",
            "/payments/.",
            "/payments/x/..",
            "/.//%70ayments/;p",
            "/%2570ayments",
            "/%25252570ayments",
            "/%%37%30ayments",
            "/payments%3fx",
            "/payments%23x",
            "/payments%00.png",
            "/payments%0a",
            "/payments%20",
            "/payments+",
            "/payments.",
            "/payments%3bx",
            "/payments;x/y",
            "/%u0070ayments",
            "/%c1%b0ayments",
            "/%e0%81%b0ayments",
            "/%ef%bd%90ayments",
            "/x%c0%af..%c0%afpayments",
            "//host/payments",
            "/\\host/payments",
            "/payments.json",
            "/payments.tar.gz",
            "/index.php/payments",
            "/(S(abc))/payments",
            "/pay/(S(abc))ments",
        ] {
            assert!(reads_as(spelling, "/payments"), "{spelling}");
        }
    }

    #[test]
    fn rules_apply_in_any_order() {
        assert!(reads_as("/b//a//../payments", "/b/a/payments"), "dots, then slashes");
        assert!(reads_as("/a//../payments", "/payments"), "slashes, then dots");
        assert!(reads_as("/payments%3bx%2fy", "/payments"), "%3b decoded, %2f not");
        assert!(reads_as("/x%2fy%5c..%5cpayments", "/payments"), "%5c decoded, %2f not");
        assert!(reads_as("/payments.php/x", "/payments.php"), "what follows a script is its own matter");
    }

    #[test]
    fn what_one_server_drops_as_blank_is_a_name_to_another() {
        assert!(reads_as("/a/%09/b%20", "/a/\t/b"), "Windows drops spaces, and no tabs");
        assert!(reads_as("/a/%01/b%09", "/a/\u{1}/b"), "PHP drops tabs, and not every control byte");
        assert!(reads_as("/a/%01/b%09", "/a//b"), "Java drops both");
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        for path in ["/a%", "/a%2", "/a%zz", "/a%+7"] {
            assert!(reads_as(path, path), "{path}");
        }
        assert!(!reads_as("/%+7", "/\u{7}"), "a sign is no digit");
    }

    #[test]
    fn what_climbs_above_the_root_or_reads_in_too_many_ways_is_unknown() {
        let climbing = ["/../a", "/a/../..", "/a/%2e%2e/..;/b", "/a%5c..%5c..%5cb", "//..", "/a%0a/b"];
        let manifold = format!("/%{}41", "25".repeat(READINGS_MAX));
        let long = format!("/{}/../b", "a".repeat(READINGS_BYTES_MAX));
        for path in climbing.into_iter().chain([manifold.as_str(), long.as_str()]) {
            assert_eq!(readings(path.as_bytes()).1, Look::Unknown, "{path}");
        }
        assert!(matches!(readings(b"/a/../b").1, Look::Whole(_)));
    }
}
