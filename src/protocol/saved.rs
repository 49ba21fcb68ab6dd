//! An upstream's answer as plain data, as it is stored and replayed.
//!
//! Must not know any HTTP library: `proxy/respond.rs` turns it into a response.

use std::sync::Arc;

use bytes::Bytes;

/// Field lines in order, repeats kept; names in lower case, values raw. Shared: an answer is kept, stored and delivered
/// at once.
pub type FieldLines = Arc<[(String, Bytes)]>;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedResponse {
    /// Status and headers.
    pub head: SavedHead,
    /// The body, without transfer coding; content coding untouched.
    pub body: Bytes,
    /// Trailer fields, if there were any.
    pub trailers: FieldLines,
}

/// Status and headers of an answer, without hop-by-hop fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedHead {
    /// The final status, 200 to 599.
    pub status: u16,
    /// End-to-end headers.
    pub headers: FieldLines,
}

impl SavedHead {
    /// The value of the first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|(at, _)| at == name).map(|(_, value)| value)
    }

    /// Bytes this head holds in memory, for cache bounds.
    pub fn bytes(&self) -> usize {
        bytes_of(&self.headers)
    }
}

impl SavedResponse {
    /// Bytes this answer holds in memory, for cache bounds.
    pub fn bytes(&self) -> usize {
        self.head.bytes() + self.body.len() + bytes_of(&self.trailers)
    }
}

fn bytes_of(lines: &[(String, Bytes)]) -> usize {
    lines.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[(&str, &'static str)]) -> FieldLines {
        lines.iter().map(|(name, value)| ((*name).to_owned(), Bytes::from_static(value.as_bytes()))).collect()
    }

    #[test]
    fn a_header_is_found_by_its_name_and_the_first_of_several() {
        let head = SavedHead { status: 200, headers: lines(&[("a", "1"), ("b", "2"), ("b", "3")]) };
        assert_eq!(head.header("b"), Some(&Bytes::from_static(b"2")));
        assert_eq!(head.header("c"), None);
    }

    #[test]
    fn an_answer_weighs_what_it_holds_and_something_for_each_line() {
        let head = SavedHead { status: 200, headers: lines(&[("name", "value"), ("n", "")]) };
        assert_eq!(head.bytes(), (4 + 5 + 32) + (1 + 32));
        let saved =
            SavedResponse { head, body: Bytes::from_static(b"body!!"), trailers: lines(&[("t", "xy")]) };
        assert_eq!(saved.bytes(), 74 + 6 + (1 + 2 + 32));
    }
}
