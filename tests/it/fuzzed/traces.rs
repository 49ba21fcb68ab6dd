//! The field that says which trace a request belongs to, read beside a reading of its own by W3C Trace Context §3.2.
//!
//! Each line of the input is a line of the field.

use http::{HeaderMap, HeaderValue};
use onceway::telemetry::trace::context::Told;

pub(crate) fn bear(bytes: &[u8]) {
    let mut fields = HeaderMap::new();
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').take(3).collect();
    for line in &lines {
        let Ok(line) = HeaderValue::from_bytes(line) else { return };
        fields.append("traceparent", line);
    }
    let expected = match lines.as_slice() {
        [line] => trace_in(line),
        _ => None,
    };
    match Told::by(&fields) {
        Told::Nothing => panic!("there is a field"),
        Told::Unreadable => assert_eq!(expected, None, "{}", bytes.escape_ascii()),
        Told::Context(context) => {
            assert_eq!(Some(context.trace().to_string()), expected, "{}", bytes.escape_ascii());
        }
    }
}

/// The trace that a line names.
fn trace_in(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_none = |text: &str| text.bytes().all(|byte| byte == b'0');
    let (known, more) = line.split_at_checked(55)?;
    let parts: Vec<&str> = known.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    if lengths != [2, 32, 16, 2] || !parts.iter().all(|part| is_hex(part)) {
        return None;
    }
    let is_of_its_version = match parts[0] {
        "00" => more.is_empty(),
        "ff" => false,
        _ => more.is_empty() || more.starts_with('-'),
    };
    (is_of_its_version && !is_none(parts[1]) && !is_none(parts[2])).then(|| parts[1].to_owned())
}

#[test]
fn what_was_tried_as_a_trace_is_read_by_the_letter() {
    super::try_each("traces", bear);
}
