//! The bearer token that changes need.
//!
//! Source: RFC 6750 §2.1 for how it is shown. Must not know what a change is.

use aws_lc_rs::{constant_time, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::problem::Problem;
use crate::config::Secret;

/// The token, as a digest: what is compared has one length whatever was shown, and what stays in memory is not what
/// has to be kept secret.
#[derive(Clone)]
pub struct Token(digest::Digest);

impl Token {
    /// The token that this secret is.
    pub fn of(secret: &Secret) -> Self {
        Self(digest_of(secret.reveal().as_bytes()))
    }

    /// Whether a request shows it.
    pub(super) fn is_shown_in(&self, fields: &HeaderMap) -> Result<(), Problem> {
        let mut lines = fields.get_all(AUTHORIZATION).iter();
        let line = lines.next().ok_or(Problem::TokenMissing)?;
        let shown = bearer(line.as_bytes()).ok_or(Problem::TokenMissing)?;
        // Compared without regard to where the first difference is, so that nobody finds it out byte by byte.
        let is_same = constant_time::verify_slices_are_equal(digest_of(shown).as_ref(), self.0.as_ref());
        // Two lines: whoever put the second there may not have meant the first.
        if is_same.is_ok() && lines.next().is_none() { Ok(()) } else { Err(Problem::TokenWrong) }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"Bearer ".len())?;
    // RFC 9110 §11.1: a scheme's case does not count.
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| rest.trim_ascii())
}

/// The SHA-256 of a body, as hexadecimal digits: by it a person can tell which body was given, and nobody can read it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digits = digest_of(bytes).as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]).collect::<Vec<_>>();
    digits.into_iter().filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

fn digest_of(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_the_whole_token_in_one_line_of_the_bearer_scheme_is_taken() {
        let token = Token::of(&Secret::new("0123456789abcdef"));
        let shown = |lines: &[&'static str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(AUTHORIZATION, HeaderValue::from_static(line));
            }
            token.is_shown_in(&fields).map_err(|problem| problem.code())
        };
        assert_eq!(shown(&["Bearer 0123456789abcdef"]), Ok(()));
        assert_eq!(shown(&["bearer  0123456789abcdef "]), Ok(()));
        for missing in [&[][..], &["Basic 0123456789abcdef"], &["0123456789abcdef"], &["Bearer"]] {
            assert_eq!(shown(missing), Err("token-missing"), "{missing:?}");
        }
        for wrong in [
            &["Bearer 0123456789abcde"][..],
            &["Bearer 0123456789abcdefg"],
            &["Bearer 0123456789ABCDEF"],
            &["Bearer  "],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert_eq!(shown(wrong), Err("token-wrong"), "{wrong:?}");
        }
    }
}
