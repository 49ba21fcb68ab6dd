//! Why no answer came. Every failure first answers: did the request leave?
//!
//! Must not know requests. Read `connection.rs` for what proves that nothing was written.

use std::error::Error as StdError;

use super::connect::{ConnectTimedOut, ResolveFailed};
use super::connection::Link;

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Not one byte of the request left: it may be sent again.
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
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// Every connection tried was already dead.
    ConnectionDead,
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

/// What a failure of the HTTP client means for the request that travelled, or was to travel, on `link`.
pub(super) fn classify(error: hyper_util::client::legacy::Error, link: Option<&Link>) -> SendError {
    if error.is_connect() {
        return SendError::NotSent(connect_cause(&error), error.into());
    }
    let hyper_error = causes(&error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    // hyper gives `canceled` only with a request it never began to write, and our own refusal comes before a
    // request's first byte.
    if hyper_error.is_some_and(hyper::Error::is_canceled) || link.is_some_and(Link::proves_not_sent) {
        return SendError::NotSent(NotSent::ConnectionDead, error.into());
    }
    let broken = match hyper_error {
        Some(error) if error.is_user() => Broken::CallersBody,
        Some(error) if error.is_parse() || error.is_parse_too_large() => Broken::Malformed,
        Some(_) | None => Broken::ConnectionLost,
    };
    SendError::Unknown(broken, error.into())
}

fn connect_cause(error: &(dyn StdError + 'static)) -> NotSent {
    causes(error)
        .find_map(|cause| {
            let error = cause.downcast_ref::<std::io::Error>();
            let is_late = error.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut);
            if cause.is::<ConnectTimedOut>() || is_late {
                Some(NotSent::ConnectTimeout)
            } else if cause.is::<ResolveFailed>() {
                Some(NotSent::Dns)
            } else {
                cause.is::<rustls::Error>().then_some(NotSent::Tls)
            }
        })
        .unwrap_or(NotSent::Connect)
}

/// An error and what caused it. An [`std::io::Error`] names the cause of what it wraps, and not what it wraps.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped),
            None => (*error).source(),
        }
    })
}
