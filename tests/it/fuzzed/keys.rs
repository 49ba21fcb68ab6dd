//! A line of the key's field, read beside a reading of its own by the letter of the draft and of RFC 9651.
//!
//! The first byte chooses the rules of the route, the rest is the line.

use onceway::protocol::key::{IdempotencyKey, InvalidKey, KeyFormat, KeyRules};

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Quoted(Vec<u8>),
    Bare(Vec<u8>),
    /// Nothing that is a key in any form.
    Nothing,
}

pub(crate) fn bear(bytes: &[u8]) {
    let Some((choice, line)) = bytes.split_first() else { return };
    let format = match choice & 3 {
        0 => KeyFormat::Uuid,
        1 => KeyFormat::SfString,
        _ => KeyFormat::Any,
    };
    let rules = KeyRules { format, max_length: usize::from(choice >> 2) + 1 };
    let read = IdempotencyKey::from_field(line, rules);
    let expected = match said(line) {
        Said::Quoted(key) => is_taken(&key, rules).then_some(key),
        Said::Bare(key) => (format != KeyFormat::SfString && is_taken(&key, rules)).then_some(key),
        Said::Nothing => None,
    };
    let found = read.as_ref().ok().map(|key| key.as_bytes().to_vec());
    assert_eq!(found, expected, "{:?} by {rules:?}", line.escape_ascii().to_string());
    match read {
        Ok(key) => reads_alike_in_every_form(&key, rules),
        Err(refused) => shows_nothing(&refused),
    }
}

/// By RFC 9651 §4.2.5, less its parameters, which say nothing here.
fn said(line: &[u8]) -> Said {
    let line = line.trim_ascii();
    if line.is_empty() || !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Said::Nothing;
    }
    let Some(mut rest) = line.strip_prefix(b"\"") else {
        let is_bare = !line.iter().any(|byte| matches!(byte, b',' | b'"'));
        return if is_bare { Said::Bare(line.to_vec()) } else { Said::Nothing };
    };
    let mut key = Vec::new();
    loop {
        rest = match rest {
            [b'"', after @ ..] if are_parameters(after) => return Said::Quoted(key),
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                key.push(*escaped);
                after
            }
            [b'"' | b'\\', ..] | [] => return Said::Nothing,
            [plain, after @ ..] => {
                key.push(*plain);
                after
            }
        };
    }
}

/// RFC 9651 §4.2.3.2, as far as a parser that this is not may be asked.
fn are_parameters(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    text.is_empty() || sfv::Parser::new(&format!("1{text}")).parse::<sfv::Item>().is_ok()
}

fn is_taken(key: &[u8], rules: KeyRules) -> bool {
    let is_uuid = || {
        let parts: Vec<_> = key.split(|byte| *byte == b'-').map(<[u8]>::len).collect();
        let is_hex = |byte: &u8| *byte == b'-' || byte.is_ascii_hexdigit();
        parts == [8, 4, 4, 4, 12] && key.iter().all(is_hex)
    };
    (1..=rules.max_length).contains(&key.len()) && (rules.format != KeyFormat::Uuid || is_uuid())
}

/// A key is the same one however it is written.
fn reads_alike_in_every_form(key: &IdempotencyKey, rules: KeyRules) {
    let text = std::str::from_utf8(key.as_bytes()).unwrap();
    assert_eq!(IdempotencyKey::from_text(text, rules).as_ref(), Ok(key));
    let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    assert_eq!(IdempotencyKey::from_field(quoted.as_bytes(), rules).as_ref(), Ok(key));
    assert_eq!(format!("{key:?}"), "IdempotencyKey(redacted)");
}

/// What a caller is told of a key that is none, without numbers.
const TOLD: [&str; 7] = [
    "the key is empty",
    "the key holds a control or non-ASCII byte at position ",
    "the key has  characters, at most  are accepted",
    "the field holds a comma-separated list, one key is wanted",
    "the quoted key is not a well-formed structured-field string",
    "the key is not a UUID such as ee-d-dd-bc-af",
    "the key is not a quoted structured-field string such as \"ee\"",
];

/// Only numbers differ in what a caller is told of a key that is none.
fn shows_nothing(refused: &InvalidKey) {
    let text: String = refused.to_string().chars().filter(|char| !char.is_ascii_digit()).collect();
    assert!(TOLD.contains(&text.as_str()), "{text}");
}

#[test]
fn what_was_tried_on_the_keys_field_is_read_by_the_letter() {
    super::try_each("keys", bear);
}
