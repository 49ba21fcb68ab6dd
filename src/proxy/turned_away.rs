//! Answers to connections on which no request is read: a few bytes, written without an HTTP library.
//!
//! Beside `respond.rs` the only place that chooses status codes. Must not know why a connection is turned away beyond
//! its reason.

/// Why a connection in the clear is turned away before a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// There are as many connections as there may be.
    TooMany,
    /// HTTP in the clear where TLS is spoken.
    NotTls,
}

impl TurnedAway {
    /// The answer, whole.
    pub const fn answer(self) -> &'static [u8] {
        match self {
            Self::TooMany => {
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            }
            Self::NotTls => {
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 34\r\nconnection: close\r\n\r\n\
                  This port speaks HTTPS, not HTTP.\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_as_long_as_they_say() {
        for reason in [TurnedAway::TooMany, TurnedAway::NotTls] {
            let answer = std::str::from_utf8(reason.answer()).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
        }
    }
}
