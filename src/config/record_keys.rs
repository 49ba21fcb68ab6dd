//! The file of the keys that seal records: one a line, each 64 hexadecimal digits.
//!
//! Problems name lines, never what stands on them. Must not know what the keys are for.

use zeroize::Zeroizing;

use super::problem::Unfit;

/// The line before all keys by which they only open.
const OPEN_ONLY: &str = "open-only";

/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 64;

/// How many lines a problem names: a file of another kind may have thousands.
const LINES_TOLD_MAX: usize = 5;

/// A key that seals records and opens them. Never shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionKey(Zeroizing<[u8; 32]>);

impl EncryptionKey {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        if text.len() != KEY_DIGITS {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? * 16 + low?).ok()?;
        }
        Some(Self(bytes))
    }

    /// Whether it can be a random key. One that repeats a few bytes stands in for a key that nobody made yet.
    fn looks_random(&self) -> bool {
        const DISTINCT_MIN: usize = 8;
        let distinct =
            self.0.iter().enumerate().filter(|(at, byte)| !self.0.iter().take(*at).any(|it| it == *byte));
        distinct.count() >= DISTINCT_MIN
    }

    /// Shows it to the one who needs it.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// What such a file holds.
#[derive(Debug, Default)]
pub(super) struct RecordKeys {
    pub(super) keys: Vec<EncryptionKey>,
    /// Whether the keys only open.
    pub(super) open_only: bool,
}

/// Reads the text of such a file. Empty lines and those that begin with `#` hold nothing.
pub(super) fn read(text: &str) -> Result<RecordKeys, Vec<Unfit>> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).peekable();
    let open_only = lines.next_if(|(_, line)| *line == OPEN_ONLY).is_some();
    let (mut found, mut strange, mut problems) =
        (Vec::<(usize, EncryptionKey)>::new(), Vec::new(), Vec::new());
    for (number, line) in lines {
        let Some(key) = EncryptionKey::from_hex(line) else {
            strange.push(number);
            continue;
        };
        if !key.looks_random() {
            problems.push(Unfit::Refused {
                reason: format!("line {number} of the file it names holds no random key"),
                expected: "one such as openssl rand -hex 32 makes".to_owned(),
            });
        }
        if let Some((first, _)) = found.iter().find(|(_, earlier)| *earlier == key) {
            problems.push(Unfit::Refused {
                reason: format!("line {number} of the file it names holds the key of line {first} again"),
                expected: "each key once".to_owned(),
            });
        }
        found.push((number, key));
    }
    let missing = match strange.as_slice() {
        [] if found.is_empty() => Some("it holds none".to_owned()),
        [] => None,
        [line] => Some(format!("line {line} is none")),
        lines => Some(format!("lines {} are none", told(lines))),
    };
    if let Some(missing) = missing {
        let wanted = format!("a file with a key of {KEY_DIGITS} hexadecimal digits on each line; {missing}");
        problems.push(Unfit::Expected(wanted));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(RecordKeys { keys: found.into_iter().map(|(_, key)| key).collect(), open_only })
}

/// Numbers of lines, the first few of them.
fn told(lines: &[usize]) -> String {
    let numbers: Vec<String> = lines.iter().take(LINES_TOLD_MAX).map(usize::to_string).collect();
    let more = if lines.len() > LINES_TOLD_MAX { " and others" } else { "" };
    format!("{}{more}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
    const B: &str = "f00f1fe2d3c4b5a69788796a5b4c3d2e1ff00f1fe2d3c4b5a69788796a5b4c3d";

    fn problems(text: &str) -> Vec<String> {
        read(text).unwrap_err().iter().map(Unfit::to_string).collect()
    }

    #[test]
    fn keys_are_read_in_their_order_around_comments_and_empty_lines() {
        let found = read(&format!("# of November\r\n {A} \r\n\n#{B}\n{B}")).unwrap();
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(
            found.keys.iter().map(EncryptionKey::reveal).collect::<Vec<_>>(),
            [&bytes, EncryptionKey::from_hex(B).unwrap().reveal()]
        );
        assert!(!found.open_only);
    }

    #[test]
    fn a_first_line_says_that_the_keys_only_open() {
        assert!(read(&format!("# soon\nopen-only\n{A}\n")).unwrap().open_only);
        assert!(problems(&format!("{A}\nopen-only\n"))[0].ends_with("line 2 is none"));
        assert_eq!(problems("open-only\n").len(), 1);
    }

    #[test]
    fn lines_that_are_no_keys_are_named_and_not_shown() {
        let text = format!("{A}\nhunter2\n{}\n{}\n{A}0\n", &B[1..], B.replacen('f', "g", 1));
        let found = problems(&text);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("lines 2, 3, 4, 5 are none"), "{found:?}");
        assert!(!found[0].contains("hunter2") && !found[0].contains("0f1f"), "{found:?}");
        assert!(problems(&"x\n".repeat(9))[0].ends_with("lines 1, 2, 3, 4, 5 and others are none"));
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_in_whatever_case() {
        let found = problems(&format!("{A}\n{B}\n{}\n", A.to_lowercase()));
        assert_eq!(
            found,
            ["line 3 of the file it names holds the key of line 1 again; expected each key once"]
        );
    }

    #[test]
    fn a_key_that_stands_in_for_one_is_refused() {
        for made_up in ["00".repeat(32), "deadbeef".repeat(8)] {
            assert!(problems(&made_up)[0].contains("line 1 of the file it names holds no random key"));
        }
    }

    #[test]
    fn an_empty_file_holds_no_key() {
        for text in ["", "\n\n", "# none yet\n"] {
            assert!(problems(text)[0].ends_with("it holds none"), "{text:?}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let shown = format!("{:?}", read(B).unwrap());
        assert!(!shown.contains("0f1f") && !shown.contains("240"), "{shown}");
    }
}
