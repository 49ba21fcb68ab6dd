//! Why a command failed, what that proves, and what a caller of the store is told.
//!
//! Most failures prove nothing: the command may have been done, or may still be. A redirection proves that
//! it was not done, and so does a script that the server does not know. Must not know records.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::StoreError;
use super::link::Outage;

/// Why a command failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failed {
    /// There is no connection, so it was not sent.
    #[error(transparent)]
    Outage(Outage),
    /// The server said no, or the connection failed with the command on its way.
    #[error(transparent)]
    Answer(RedisError),
    /// It was done, and too few replicas have it.
    #[error("have the write acknowledged by {wanted} replicas in time: {found} did")]
    NotReplicated { found: i64, wanted: u32 },
    /// There was no answer in the time that it may take.
    #[error("get an answer in time")]
    Late,
    /// There was one, and it was no answer to this question.
    #[error("make sense of the answer")]
    Senseless,
    /// The sentinels do not know the name.
    #[error("find a master of that name")]
    NoSuchMaster,
    /// The sentinels in reach have not heard of a failover that others have told of.
    #[error("find a sentinel that knows of the latest failover")]
    Outdated,
    /// No server of the cluster would do it.
    #[error("find the server of the cluster that holds the key")]
    NoOwner,
}

/// Where a command belongs that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirected<'a> {
    pub(super) slot: u16,
    /// `host:port`, as the server names it.
    pub(super) to: &'a str,
    /// Only this command, since the slot is on its way; otherwise the slot has moved.
    pub(super) is_ask: bool,
}

impl Failed {
    /// Where the command is to be sent, if the server said that it holds no such keys.
    pub(super) fn redirected(&self) -> Option<Redirected<'_>> {
        let Self::Answer(error) = self else { return None };
        let (to, slot) = error.redirect_node()?;
        Some(Redirected { slot, to, is_ask: self.is(ServerErrorKind::Ask) })
    }

    /// Whether the server does not know the script, and so has not run it.
    pub(super) fn is_unknown_script(&self) -> bool {
        self.is(ServerErrorKind::NoScript)
    }

    /// Whether the server may no longer be the one to ask.
    pub(super) fn is_sign_of_change(&self) -> bool {
        match self {
            Self::Outage(_) | Self::NoOwner | Self::Late => true,
            Self::NotReplicated { .. } | Self::Senseless | Self::NoSuchMaster | Self::Outdated => false,
            Self::Answer(error) => is_no_answer(error) || self.is(ServerErrorKind::ReadOnly),
        }
    }

    fn is(&self, kind: ServerErrorKind) -> bool {
        matches!(self, Self::Answer(error) if error.kind() == ErrorKind::Server(kind))
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Outage(outage) => Self::Unreachable(Box::new(outage)),
            Failed::NoOwner | Failed::Late | Failed::NoSuchMaster | Failed::Outdated => {
                Self::Unreachable(Box::new(failed))
            }
            Failed::NotReplicated { .. } | Failed::Senseless => Self::Refused(Box::new(failed)),
            Failed::Answer(error) => {
                let is_wrong_login = error.kind() == ErrorKind::AuthenticationFailed;
                if is_no_answer(&error) && !is_wrong_login {
                    Self::Unreachable(Box::new(error))
                } else {
                    Self::Refused(Box::new(error))
                }
            }
        }
    }
}

/// Whether there was no answer, or only that of a server that does not serve.
fn is_no_answer(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        // While it loads, while a cluster has no master, while a slot is on its way.
        || matches!(error.code(), Some("LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(answer: &[u8]) -> Failed {
        let error = redis::parse_redis_value(answer).unwrap().extract_error().unwrap_err();
        Failed::Answer(error)
    }

    #[test]
    fn a_redirection_tells_where_and_for_how_long() {
        let (moved, ask) = (said(b"-MOVED 3999 127.0.0.1:6381\r\n"), said(b"-ASK 12 :7001\r\n"));
        let redirected = |slot, to, is_ask| Some(Redirected { slot, to, is_ask });
        assert_eq!(moved.redirected(), redirected(3999, "127.0.0.1:6381", false));
        assert_eq!(ask.redirected(), redirected(12, ":7001", true));
        assert_eq!(said(b"-READONLY no\r\n").redirected(), None);
    }

    #[test]
    fn a_server_that_does_not_serve_is_out_of_reach_and_one_that_says_no_refuses() {
        for answer in
            [&b"-LOADING x\r\n"[..], b"-CLUSTERDOWN x\r\n", b"-TRYAGAIN x\r\n", b"-MASTERDOWN x\r\n"]
        {
            assert!(matches!(said(answer).into(), StoreError::Unreachable(_)), "{answer:?}");
        }
        for answer in [&b"-OOM x\r\n"[..], b"-READONLY x\r\n", b"-NOPERM x\r\n", b"-NOREPLICAS x\r\n"] {
            assert!(matches!(said(answer).into(), StoreError::Refused(_)), "{answer:?}");
        }
        assert!(matches!(Failed::NotReplicated { found: 0, wanted: 1 }.into(), StoreError::Refused(_)));
    }
}
