//! Where in a text something stands. Knows nothing of TOML.

use std::ops::Range;

/// A place in a file, both counted from 1; the column counts characters, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Turns byte offsets of one text into places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'t>(&'t [u8]);

impl<'t> Places<'t> {
    pub(super) fn of(text: &'t [u8]) -> Self {
        Self(text)
    }

    /// The place of a byte offset. An offset past the end is the end.
    pub(super) fn at(self, offset: usize) -> Place {
        let before = self.0.get(..offset).unwrap_or(self.0);
        let mut lines = before.rsplit(|byte| *byte == b'\n');
        let column = String::from_utf8_lossy(lines.next().unwrap_or_default()).chars().count() + 1;
        let line = lines.count() + 1;
        Place { line, column }
    }

    /// The place where a span begins; the beginning of the text for none.
    pub(super) fn start_of(self, span: Option<Range<usize>>) -> Place {
        self.at(span.map_or(0, |span| span.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let places = Places::of("ab\né = 1\n".as_bytes());
        for (offset, line, column) in [(0, 1, 1), (2, 1, 3), (3, 2, 1), (5, 2, 2), (10, 3, 1), (99, 3, 1)] {
            assert_eq!(places.at(offset), Place { line, column }, "offset {offset}");
        }
    }
}
