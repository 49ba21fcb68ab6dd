//! The canonical form of JSON, in which bodies are compared.
//!
//! Pure. Must not know what is compared with what.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// How deep canonical JSON may nest; deeper bodies are compared byte by byte.
const JSON_DEPTH_MAX: usize = 32;

/// JSON with members in order and without white space, or `None` if the text is not JSON, nests too deep,
/// or names a member twice (readers disagree on which one counts, so only the bytes can be compared).
///
/// Numbers stay as they are written: `1.0` and `1` are two requests.
pub(super) fn canonical_json(text: &[u8]) -> Option<Vec<u8>> {
    let root: &RawValue = serde_json::from_slice(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    write_canonical(root, JSON_DEPTH_MAX, &mut out)?;
    Some(out)
}

fn write_canonical(value: &RawValue, depth_left: usize, out: &mut Vec<u8>) -> Option<()> {
    let depth_left = depth_left.checked_sub(1)?;
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let Members(members) = serde_json::from_str(text).ok()?;
            out.push(b'{');
            for (number, (name, member)) in members.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, name).ok()?;
                out.push(b':');
                write_canonical(member, depth_left, out)?;
            }
            out.push(b'}');
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push(b'[');
            for (number, element) in elements.iter().enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                write_canonical(element, depth_left, out)?;
            }
            out.push(b']');
        }
        b'"' => {
            let string: String = serde_json::from_str(text).ok()?;
            serde_json::to_writer(&mut *out, &string).ok()?;
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Some(())
}

/// The members of an object, in order; refuses a name that stands twice.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object without repeated names")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("repeated name"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Option<String> {
        canonical_json(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn order_of_members_white_space_and_escapes_do_not_count() {
        let plain = canonical(r#"{"a":1,"b":[true,null,"\u00e9"]}"#);
        assert!(plain.is_some());
        assert_eq!(canonical("{ \"b\" : [ true , null , \"é\" ] ,\n \"a\" : 1 }"), plain);
    }

    #[test]
    fn numbers_stay_as_written() {
        assert_ne!(canonical("[1]"), canonical("[1.0]"));
        assert_ne!(canonical("[12345678901234567890123]"), canonical("[12345678901234567890124]"));
    }

    #[test]
    fn a_repeated_member_broken_text_or_deep_nesting_has_no_canonical_form() {
        assert_eq!(canonical(r#"{"amount":1,"amount":2}"#), None);
        assert_eq!(canonical(r#"{"x":{"amount":1,"\u0061mount":2}}"#), None);
        assert_eq!(canonical("{"), None);
        assert_eq!(canonical(&format!("{}{}", "[".repeat(100), "]".repeat(100))), None);
    }
}
