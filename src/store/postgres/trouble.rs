//! What went wrong with PostgreSQL, and what a caller may conclude from it: never more than "nothing is known".
//!
//! A server's message is kept, its details are not: they may quote what was to be written.

use std::fmt;
use std::sync::Arc;

use tokio_postgres::error::{DbError, SqlState};

use super::super::StoreError;
use super::schema::SchemaError;

/// Why there is no connection, or none that is of use.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Outage {
    #[error("connect to PostgreSQL in time")]
    NoConnection,
    #[error("have PostgreSQL take the connection")]
    Refused(#[source] Said),
    #[error("keep the connection to PostgreSQL")]
    Lost(#[source] Arc<tokio_postgres::Error>),
    #[error("have PostgreSQL answer in time")]
    Silent,
    #[error("believe PostgreSQL's answer: it came with a warning")]
    Warned,
    #[error("use what is in the database")]
    Schema(#[source] SchemaError),
    #[error("keep a connection to a server that takes no writes")]
    Replaced,
    #[error("reach PostgreSQL: the connection is closed")]
    Closed,
}

/// Why a statement was not carried out, as far as anybody knows.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Unreachable(Outage),
    Refused(Said),
    /// Another transaction held the record for too long.
    Contended,
    /// More is waiting than the server will get to in time.
    Crowded,
    /// The server answered what it should never answer.
    Unexpected(Arc<tokio_postgres::Error>),
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (SQLSTATE {})", code.code())]
pub(super) struct Said {
    pub(super) code: SqlState,
    message: String,
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("wait for another transaction that holds the record")]
    Contended,
    #[error("queue more statements than PostgreSQL gets done")]
    Crowded,
}

impl From<&DbError> for Said {
    fn from(error: &DbError) -> Self {
        Self { code: error.code().clone(), message: error.message().to_owned() }
    }
}

impl Outage {
    pub(super) fn of(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => Self::Refused(said.into()),
            None => Self::Lost(Arc::new(error)),
        }
    }
}

impl Failure {
    pub(super) fn of(error: tokio_postgres::Error) -> Self {
        match error.as_db_error().map(Said::from) {
            Some(said) if said.is_no_service() => Self::Unreachable(Outage::Refused(said)),
            Some(said) => Self::Refused(said),
            None => Self::Unreachable(Outage::Lost(Arc::new(error))),
        }
    }

    /// An answer that has not the columns it was asked for.
    pub(super) fn unexpected(error: tokio_postgres::Error) -> Self {
        Self::Unexpected(Arc::new(error))
    }

    /// Whether another connection may fare better.
    pub(super) fn breaks_connection(&self) -> bool {
        match self {
            // One that was lost ends by itself.
            Self::Unreachable(_) | Self::Contended | Self::Crowded | Self::Unexpected(_) => false,
            Self::Refused(said) => {
                // A server that became a replica; a connection whose statements somebody dropped or changed.
                said.code == SqlState::READ_ONLY_SQL_TRANSACTION
                    || said.code == SqlState::INVALID_SQL_STATEMENT_NAME
                    || said.code == SqlState::FEATURE_NOT_SUPPORTED
            }
        }
    }

    /// Whether the server gave up waiting for a lock, and hence wrote nothing.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Refused(said) if said.code == SqlState::LOCK_NOT_AVAILABLE)
    }
}

impl Said {
    /// Whether the server is there and does not serve.
    fn is_no_service(&self) -> bool {
        let code = self.code.code();
        // Operator intervention, but for a statement that was cancelled; connection exceptions; too many of them.
        (code.starts_with("57P")) || code.starts_with("08") || self.code == SqlState::TOO_MANY_CONNECTIONS
    }
}

impl From<Outage> for Failure {
    fn from(outage: Outage) -> Self {
        Self::Unreachable(outage)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            // The server is there, and will not have us.
            Failure::Unreachable(Outage::Refused(said)) if !said.is_no_service() => {
                Self::Refused(Box::new(Outage::Refused(said)))
            }
            Failure::Unreachable(outage @ Outage::Schema(_)) => Self::Refused(Box::new(outage)),
            Failure::Unreachable(outage) => Self::Unreachable(Box::new(outage)),
            Failure::Refused(said) => Self::Refused(Box::new(said)),
            Failure::Contended => Self::Refused(Box::new(Refusal::Contended)),
            Failure::Crowded => Self::Refused(Box::new(Refusal::Crowded)),
            Failure::Unexpected(error) => Self::Refused(Box::new(error)),
        }
    }
}

/// An error with its sources, on one line.
pub(super) struct Chain<'a>(pub(super) &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
