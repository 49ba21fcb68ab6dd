//! Why no answer came. Every failure first answers: did the request leave?
//!
//! What proves that a server has processed nothing, and so frees a claim:
//!
//! 1. There was no connection: the name, the connect or the TLS handshake failed.
//! 2. hyper gives the request back: it was never taken from the queue of its connection.
//! 3. Nothing of it was written, and nothing will be: the link was refused first (`connection.rs`).
//! 4. Over HTTP/2, the server reset the stream with `REFUSED_STREAM` (RFC 9113 §8.7).
//! 5. Over HTTP/2, the server sent a GOAWAY whose last stream is below ours (§6.8).
//!
//! All else is unknown: a reset with another code, a GOAWAY above our stream followed by the end of the connection, an
//! end without an answer, an answer that is none. h2 tells 4 and 5 apart from these: a stream gets a *remote* GOAWAY
//! as its error only if its number is above the last one (`recv_go_away`), and what h2 makes of a broken rule or a
//! broken connection is marked as the library's or as I/O. Must not know requests.

use std::error::Error as StdError;

use http::Request;

use super::body::RequestBody;
use super::connection::{Link, Start};

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing of the request was processed: it may be sent again.
    #[error("reach the upstream ({0:?})")]
    NotSent(NotSent, #[source] Box<dyn StdError + Send + Sync>),
    /// A byte may have left: nobody knows what came of it.
    #[error("get the upstream's answer ({0:?})")]
    Unknown(Broken, #[source] Box<dyn StdError + Send + Sync>),
}

/// Why a request could not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The name does not resolve.
    Dns,
    /// The connection was refused or could not be made.
    Connect,
    /// No connection, or no free stream on one, within `connect_timeout`.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// Every connection tried was already dead.
    ConnectionDead,
    /// The server says that it did not process it (RFC 9113 §6.8, §8.7).
    Refused,
    /// No server had room for it in time.
    Overloaded,
}

/// How an exchange broke after a byte may have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Reset or closed.
    ConnectionLost,
    /// The answer is not HTTP.
    Malformed,
    /// The caller's own body broke off on its way through.
    CallersBody,
}

/// A failure and the server at which it came about: of several, somebody has to find it.
#[derive(Debug, thiserror::Error)]
#[error("ask {server} of the upstream {upstream:?}")]
struct Located {
    upstream: String,
    server: String,
    source: Box<dyn StdError + Send + Sync>,
}

impl SendError {
    /// The failure in a word, for people and for counting.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotSent(cause, _) => match cause {
                NotSent::Dns => "dns",
                NotSent::Connect => "connect",
                NotSent::ConnectTimeout => "connect-timeout",
                NotSent::Tls => "tls",
                NotSent::ConnectionDead => "connection-dead",
                NotSent::Refused => "refused",
                NotSent::Overloaded => "overloaded",
            },
            Self::Unknown(broken, _) => match broken {
                Broken::ConnectionLost => "connection-lost",
                Broken::Malformed => "malformed-answer",
                Broken::CallersBody => "callers-body",
            },
        }
    }

    /// The same, with the server named among its causes.
    pub(super) fn at(self, upstream: &str, server: &str) -> Self {
        let located = |source| {
            let (upstream, server) = (upstream.to_owned(), server.to_owned());
            Box::new(Located { upstream, server, source })
        };
        match self {
            Self::NotSent(cause, source) => Self::NotSent(cause, located(source)),
            Self::Unknown(broken, source) => Self::Unknown(broken, located(source)),
        }
    }
}

/// A request without an answer; given back where it is still whole.
#[derive(Debug)]
pub(super) struct Undelivered {
    pub(super) error: SendError,
    pub(super) request: Option<Box<Request<RequestBody>>>,
}

impl From<SendError> for Undelivered {
    fn from(error: SendError) -> Self {
        Self { error, request: None }
    }
}

/// An answer that breaks the rules.
#[derive(Debug, thiserror::Error)]
#[error("read the answer: {0}")]
pub(super) struct Doubted(pub(super) &'static str);

/// What a failure over HTTP/1 means for the request that began with `start`. Its connection is given up.
pub(super) fn of_http1(error: hyper::Error, start: &Start, link: &Link) -> SendError {
    link.refuse();
    if let Some(unsent) = unsent(start, link) {
        return SendError::NotSent(unsent, error.into());
    }
    if let Some(reason) = link.doubted() {
        return SendError::Unknown(Broken::Malformed, Doubted(reason).into());
    }
    let broken = if error.is_user() {
        Broken::CallersBody
    } else if error.is_parse() || error.is_parse_too_large() {
        Broken::Malformed
    } else {
        Broken::ConnectionLost
    };
    SendError::Unknown(broken, error.into())
}

/// What a failure over HTTP/2 means for the request that began with `start`. `is_callers`: its caller's body broke off.
pub(super) fn of_http2(error: h2::Error, start: &Start, link: &Link, is_callers: bool) -> SendError {
    if error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)) {
        return SendError::NotSent(NotSent::Refused, error.into());
    }
    // Only what ends the connection ends its writing too.
    if error.is_io() || error.is_go_away() {
        link.refuse();
        if let Some(unsent) = unsent(start, link) {
            return SendError::NotSent(unsent, error.into());
        }
    }
    let broken = if is_callers {
        Broken::CallersBody
    } else if error.is_library() {
        Broken::Malformed
    } else {
        Broken::ConnectionLost
    };
    SendError::Unknown(broken, error.into())
}

/// What proves that nothing was processed of a request on a link that writes no more, if anything does.
fn unsent(start: &Start, link: &Link) -> Option<NotSent> {
    if link.is_turned_away() {
        return Some(NotSent::Tls);
    }
    (!start.is_written()).then_some(NotSent::ConnectionDead)
}

/// An error and what caused it. An [`std::io::Error`] names the cause of what it wraps, and not what it wraps.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => (*error).source(),
        }
    })
}
