//! Values that need not stand on the command line, where other users and the shell's history would see them: `-` is
//! standard input, `@FILE` a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::place::Unusable;

/// Bytes of a key or a part of a scope at most.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// Reads values, standard input at most once.
pub(super) struct Reader<'a> {
    input: &'a mut dyn io::BufRead,
    taken_by: Option<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn of(input: &'a mut dyn io::BufRead) -> Self {
        Self { input, taken_by: None }
    }

    /// The text that `given` stands for. One line break at the end of an input or a file is no part of it.
    pub(super) fn text(&mut self, argument: &'static str, given: &str) -> Result<String, Unusable> {
        let bytes = if given == "-" {
            self.bytes(argument, Path::new("-"), TEXT_BYTES_MAX)?
        } else if let Some(file) = given.strip_prefix('@') {
            self.bytes(argument, Path::new(file), TEXT_BYTES_MAX)?
        } else {
            return Ok(given.to_owned());
        };
        let text = String::from_utf8(bytes).ok().ok_or(Unusable::NotText(argument))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }

    /// Everything that stands in a file, or, for `-`, that comes by standard input.
    pub(super) fn bytes(
        &mut self,
        argument: &'static str,
        file: &Path,
        max: u64,
    ) -> Result<Vec<u8>, Unusable> {
        let unreadable = |source| Unusable::Unreadable { argument, source };
        if file.as_os_str() != "-" {
            return whole(&mut File::open(file).map_err(unreadable)?, max).map_err(unreadable);
        }
        if let Some(first) = self.taken_by.replace(argument) {
            return Err(Unusable::InputTwice(first, argument));
        }
        whole(&mut self.input, max).map_err(unreadable)
    }
}

fn whole(from: &mut dyn Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > max) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &str, given: &str) -> Result<String, Unusable> {
        Reader::of(&mut input.as_bytes()).text("--key", given)
    }

    #[test]
    fn a_value_stands_for_itself_for_the_input_or_for_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "from a file\r\n").unwrap();
        assert_eq!(read("", "order-1").unwrap(), "order-1");
        assert_eq!(read("from the input\n", "-").unwrap(), "from the input");
        assert_eq!(read("", &format!("@{}", file.display())).unwrap(), "from a file");
        assert_eq!(read("two\n\n", "-").unwrap(), "two\n");
    }

    #[test]
    fn the_input_is_read_for_one_value_only() {
        let mut input = "secret".as_bytes();
        let mut reader = Reader::of(&mut input);
        reader.text("--key", "-").unwrap();
        assert!(matches!(reader.text("--scope", "-"), Err(Unusable::InputTwice("--key", "--scope"))));
    }

    #[test]
    fn what_cannot_be_read_is_told_by_its_argument_and_not_by_its_text() {
        let refused = read("", "@no/such/hunter2").unwrap_err().to_string();
        assert!(refused.starts_with("--key: ") && !refused.contains("hunter2"), "{refused}");
    }
}
