//! The log: lines of text or JSON objects on standard error, written off the hot path.
//!
//! There is one in a process, as there is one standard error, so what can be changed of it while it runs is reached
//! without a handle. Read `log/lines.rs` for how lines get there, `access.rs` for the one line per request.

mod lines;

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{Log, LogFormat};
use lines::{Lines, Writer};

/// The log of this process, once it has started.
static LOG: OnceLock<Running> = OnceLock::new();

/// What is asked and told of a log that runs.
struct Running {
    level: Mutex<String>,
    filter: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
    lines: Lines,
}

/// Keeps the log going; dropping it writes what is waiting.
#[must_use]
#[derive(Debug)]
pub struct LogGuard {
    /// Held for its `Drop`.
    _writer: Writer,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("read the log level {0:?}")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// No thread to write it.
    #[error("start the log's thread")]
    Thread(#[from] io::Error),
    /// There is a log already.
    #[error("install the log")]
    Installed(#[from] tracing_subscriber::util::TryInitError),
    /// This process has no log of ours.
    #[error("find a log that has started")]
    NotStarted,
    /// It does not take another filter any more.
    #[error("change the log level")]
    Gone(#[from] reload::Error),
}

/// Starts the log of this process. Returns its guard, to be kept until the process ends.
pub fn start(config: &Log) -> Result<LogGuard, LogError> {
    let (filter, handle) = reload::Layer::new(filter_of(&config.level)?);
    let lines = Lines::default();
    let writer = lines.written_to(io::stderr())?;
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(is_ours_or_of_note));
    match config.format {
        LogFormat::Human => {
            registry
                .with(fmt::layer().with_writer(lines.clone()).with_ansi(false).with_target(false))
                .try_init()?;
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(lines.clone())).try_init()?;
        }
    }
    let level = Mutex::new(config.level.clone());
    LOG.get_or_init(|| Running { level, filter: handle, format: config.format, lines });
    Ok(LogGuard { _writer: writer })
}

/// Writes a line that `make` makes in the log's format, with its end. For what is written too often to pay for an event.
pub(super) fn write_line(make: impl FnOnce(LogFormat) -> String) {
    if let Some(log) = LOG.get() {
        log.lines.put(make(log.format).as_bytes());
    }
}

/// Which events are written now, as it was told; `None`: the log has not started.
pub fn level() -> Option<String> {
    LOG.get().map(|log| log.level.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Writes other events from now on: those of a level such as `debug`, or of a filter such as `info,onceway=debug`.
///
/// Errors: that is no filter, or there is no log; nothing has changed.
pub fn set_level(level: &str) -> Result<(), LogError> {
    let log = LOG.get().ok_or(LogError::NotStarted)?;
    let filter = filter_of(level)?;
    // Held until both are changed, so that of two who change it at once one is right.
    let mut held = log.level.lock().unwrap_or_else(PoisonError::into_inner);
    log.filter.reload(filter)?;
    level.clone_into(&mut held);
    Ok(())
}

/// Lines that were dropped so far, because whoever reads standard error was too slow.
pub fn lines_dropped() -> usize {
    LOG.get().map_or(0, |log| log.lines.dropped())
}

/// Libraries do not know what must not stand in this log. At debug, `tokio-postgres` tells the parameters of its
/// statements, which are records with their bodies, and `h2` the targets that it refuses, with their queries. So what is
/// not this gateway's own is written from info up, whatever the level.
fn is_ours_or_of_note(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO || metadata.target().starts_with(env!("CARGO_PKG_NAME"))
}

fn filter_of(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(level).map_err(|error| LogError::Filter(level.to_owned(), error))
}
