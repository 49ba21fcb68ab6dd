//! The idempotency key, parsed once at the edge into a type that cannot be wrong.
//!
//! Knows the field syntax of draft-ietf-httpapi-idempotency-key-header and its lenient reading; must
//! not know where on a request a key is looked for (`proxy/admit.rs`) nor how it is hashed (`scope.rs`).

use std::fmt;

/// An idempotency key as the caller meant it: quotes and escapes of the quoted form already removed.
///
/// Shape: 1 to `max_length` printable ASCII characters.
/// Its `Debug` never shows the key.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(Box<str>);

/// Which keys a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRules {
    /// The accepted form.
    pub format: KeyFormat,
    /// Longest accepted key, in characters, counted without quotes.
    pub max_length: usize,
}

/// The accepted form of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFormat {
    /// Any printable ASCII, bare or as a quoted string.
    Any,
    /// A hyphenated UUID, bare or quoted.
    Uuid,
    /// Only the draft's form: a Structured Field string, in quotes (RFC 9651 §3.3.3).
    SfString,
}

/// Why a key was refused. Never holds the key itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Nothing between the quotes, or nothing at all.
    #[error("the key is empty")]
    Empty,
    /// A byte outside printable ASCII.
    #[error("the key holds a control or non-ASCII byte at position {position}")]
    Unprintable {
        /// Zero-based offset of the byte in the field value.
        position: usize,
    },
    /// Longer than the route accepts.
    #[error("the key has {length} characters, at most {max} are accepted")]
    TooLong {
        /// Length found.
        length: usize,
        /// Length accepted.
        max: usize,
    },
    /// A list where one key is wanted.
    #[error("the field holds a comma-separated list, one key is wanted")]
    List,
    /// An opening quote that does not make a Structured Field string.
    #[error("the quoted key is not a well-formed structured-field string")]
    Malformed,
    /// Not a UUID although the route asks for one.
    #[error("the key is not a UUID such as 8e03978e-40d5-43dd-bc93-6894a57f9324")]
    NotUuid,
    /// Not quoted although the route asks for the strict form.
    #[error("the key is not a quoted structured-field string such as \"8e03978e\"")]
    NotQuoted,
}

impl IdempotencyKey {
    /// Reads a key from one field line, quoted or bare.
    ///
    /// Source: draft-ietf-httpapi-idempotency-key-header §2.1 for the quoted form; the bare form is the
    /// common practice before the draft.
    pub fn from_field(value: &[u8], rules: KeyRules) -> Result<Self, InvalidKey> {
        let text = printable(value.trim_ascii())?;
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.starts_with('"') {
            return Self::checked(&unquoted(text)?, rules);
        }
        if text.contains(',') {
            return Err(InvalidKey::List);
        }
        if text.contains('"') {
            return Err(InvalidKey::Malformed);
        }
        match rules.format {
            KeyFormat::SfString => Err(InvalidKey::NotQuoted),
            KeyFormat::Any | KeyFormat::Uuid => Self::checked(text, rules),
        }
    }

    /// Reads a key that stands as plain text inside a body: no quoting to undo.
    pub fn from_text(text: &str, rules: KeyRules) -> Result<Self, InvalidKey> {
        Self::checked(printable(text.as_bytes())?, rules)
    }

    /// The key's characters. For hashing only: never log, never store.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn checked(text: &str, rules: KeyRules) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > rules.max_length {
            return Err(InvalidKey::TooLong { length: text.len(), max: rules.max_length });
        }
        if rules.format == KeyFormat::Uuid && !is_uuid(text) {
            return Err(InvalidKey::NotUuid);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(redacted)")
    }
}

fn printable(bytes: &[u8]) -> Result<&str, InvalidKey> {
    match bytes.iter().position(|byte| !(b' '..=b'~').contains(byte)) {
        Some(position) => Err(InvalidKey::Unprintable { position }),
        // Printable ASCII is always UTF-8, so this arm cannot lose anything.
        None => std::str::from_utf8(bytes).map_err(|e| InvalidKey::Unprintable { position: e.valid_up_to() }),
    }
}

fn unquoted(text: &str) -> Result<String, InvalidKey> {
    let parser = sfv::Parser::new(text);
    if let Ok(item) = parser.parse::<sfv::Item>() {
        let string = item.bare_item.as_string().ok_or(InvalidKey::Malformed)?;
        return Ok(string.as_str().to_owned());
    }
    match sfv::Parser::new(text).parse::<sfv::List>() {
        Ok(_) => Err(InvalidKey::List),
        Err(_) => Err(InvalidKey::Malformed),
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: KeyRules = KeyRules { format: KeyFormat::Any, max_length: 255 };
    const UUID: KeyRules = KeyRules { format: KeyFormat::Uuid, max_length: 255 };
    const STRICT: KeyRules = KeyRules { format: KeyFormat::SfString, max_length: 255 };

    fn key(field: &str) -> Result<IdempotencyKey, InvalidKey> {
        IdempotencyKey::from_field(field.as_bytes(), ANY)
    }

    #[test]
    fn the_quoted_and_the_bare_form_are_the_same_key() {
        assert_eq!(key("\"abc\""), key("abc"));
        assert_eq!(key("  abc  "), key("abc"));
        assert_eq!(key(r#""a\"b\\c""#).map(|k| k.as_bytes().to_vec()), Ok(br#"a"b\c"#.to_vec()));
    }

    #[test]
    fn a_bare_uuid_that_begins_with_a_digit_is_a_key() {
        assert!(IdempotencyKey::from_field(b"8e03978e-40d5-43dd-bc93-6894a57f9324", UUID).is_ok());
        assert_eq!(IdempotencyKey::from_field(b"8e03978e-40d5", UUID), Err(InvalidKey::NotUuid));
    }

    #[test]
    fn an_empty_key_is_refused_in_both_forms() {
        for field in ["", "   ", "\"\""] {
            assert_eq!(key(field), Err(InvalidKey::Empty), "{field:?}");
        }
    }

    #[test]
    fn control_and_non_ascii_bytes_are_refused() {
        for field in [&b"a\x01b"[..], b"a\tb", b"a\x7fb", "k\u{e9}y".as_bytes()] {
            assert!(
                matches!(
                    IdempotencyKey::from_field(field, ANY),
                    Err(InvalidKey::Unprintable { position: 1 })
                ),
                "{field:?}"
            );
        }
    }

    #[test]
    fn the_length_counts_without_quotes_and_ends_at_the_maximum() {
        let longest = "k".repeat(255);
        assert!(key(&longest).is_ok());
        assert!(key(&format!("\"{longest}\"")).is_ok());
        assert_eq!(key(&format!("{longest}k")), Err(InvalidKey::TooLong { length: 256, max: 255 }));
    }

    #[test]
    fn a_comma_list_is_refused_bare_and_quoted() {
        assert_eq!(key("a, b"), Err(InvalidKey::List));
        assert_eq!(key("\"a\", \"b\""), Err(InvalidKey::List));
        assert!(key("\"a, b\"").is_ok(), "a comma inside quotes belongs to the key");
    }

    #[test]
    fn a_broken_quote_is_refused() {
        for field in ["\"abc", "abc\"", "\"abc\" x", "\"\\q\""] {
            assert_eq!(key(field), Err(InvalidKey::Malformed), "{field:?}");
        }
    }

    #[test]
    fn the_strict_form_wants_quotes() {
        assert_eq!(IdempotencyKey::from_field(b"abc", STRICT), Err(InvalidKey::NotQuoted));
        assert!(IdempotencyKey::from_field(b"\"abc\"", STRICT).is_ok());
    }

    #[test]
    fn debug_never_shows_the_key() {
        assert_eq!(format!("{:?}", key("secret-key").unwrap()), "IdempotencyKey(redacted)");
    }

    #[test]
    fn a_uuid_has_digits_and_hyphens_in_their_places_and_no_more() {
        for text in [
            "8e03978e-40d5-43dd-bc93-6894a57f932",
            "8e03978e-40d5-43dd-bc93-6894a57f93244",
            "8e03978eg40d5-43dd-bc93-6894a57f9324",
            "8e03978e-40d5-43dd-bc93-6894a57f932g",
            "8e03978e-40d543dd--bc93-6894a57f9324",
            "8e03978e040d5043dd0bc9306894a57f9324",
        ] {
            assert_eq!(IdempotencyKey::from_text(text, UUID), Err(InvalidKey::NotUuid), "{text}");
        }
        assert!(IdempotencyKey::from_text("8E03978E-40d5-43dd-bc93-6894a57f9324", UUID).is_ok());
    }

    #[test]
    fn a_text_of_a_body_is_taken_as_it_stands() {
        let from_text = |text| IdempotencyKey::from_text(text, ANY).map(|key| key.as_bytes().to_vec());
        assert_eq!(from_text("\"a\", b "), Ok(b"\"a\", b ".to_vec()));
        assert_eq!(from_text(""), Err(InvalidKey::Empty));
        assert_eq!(from_text("a\n"), Err(InvalidKey::Unprintable { position: 1 }));
    }
}
