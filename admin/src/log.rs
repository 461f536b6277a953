//! The log: structured lines on standard error. They wait in `queue` for whoever reads that.

mod queue;

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

pub use queue::LogGuard;

/// The filter of a program that has no other when WEFT_LOG says nothing: everything but chatter.
pub const DEFAULT_FILTER: &str = "info";

/// The form of the log's lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// A reason that there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// WEFT_LOG can't be read.
    #[error("WEFT_LOG is `{text}`, which is not a filter: {error}")]
    Filter {
        /// Its content.
        text: String,
        /// The reason.
        error: ParseError,
    },
    /// There is no thread that writes it.
    #[error("can't write the log: {0}")]
    Thread(std::io::Error),
    /// Something else logs already.
    #[error("can't start the log: {0}")]
    Start(Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging, until the guard is dropped. `default_filter` counts when WEFT_LOG says nothing.
///
/// # Errors
/// When WEFT_LOG is not a filter, or something else logs already.
pub fn start(format: LogFormat, default_filter: &str) -> Result<LogGuard, LogError> {
    let filter = match std::env::var("WEFT_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|error| LogError::Filter { text, error })?
        }
        _ => EnvFilter::new(default_filter),
    };
    let (queue, guard) = queue::start(stderr()).map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(queue);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(LogError::Start)?;
    Ok(guard)
}
