//! The log: lines of text or JSON objects on standard error, written off the hot path.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Lines that may wait for a slow terminal. Beyond it lines are dropped rather than requests held up.
const LINES_WAITING_MAX: usize = 65_536;

/// Keeps the log going; dropping it writes what is waiting.
#[must_use]
#[derive(Debug)]
pub struct LogGuard {
    /// Held for its `Drop`.
    _writer: WorkerGuard,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("read the log level {0:?}")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("install the log")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts the log of this process. Returns its guard, to be kept until the process ends.
pub fn start(config: &Log) -> Result<LogGuard, LogError> {
    let filter =
        EnvFilter::try_new(&config.level).map_err(|error| LogError::Filter(config.level.clone(), error))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("onceway-log")
        .finish(io::stderr());
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Human => {
            registry.with(fmt::layer().with_writer(writer).with_ansi(false).with_target(false)).try_init()?;
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()?;
        }
    }
    Ok(LogGuard { _writer: guard })
}
