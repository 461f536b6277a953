//! The log: structured lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use super::args::LogFormat;

/// The filter when WEFT_LOG says nothing: everything but chatter.
const DEFAULT_FILTER: &str = "info";

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
    /// Something else logs already.
    #[error("can't start the log: {0}")]
    Start(Box<dyn std::error::Error + Send + Sync>),
}

/// Starts logging.
///
/// # Errors
/// When WEFT_LOG is not a filter.
pub(super) fn start(format: LogFormat) -> Result<(), LogError> {
    let filter = match std::env::var("WEFT_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|error| LogError::Filter { text, error })?
        }
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(LogError::Start)
}
