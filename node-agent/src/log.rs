//! The log: structured lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// What is logged when WEFT_LOG says nothing: everything but chatter.
const DEFAULT_FILTER: &str = "info";

/// Starts logging.
///
/// # Errors
/// When WEFT_LOG is not a filter.
pub(crate) fn start(format: LogFormat) -> Result<(), String> {
    let filter = match std::env::var("WEFT_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| format!("WEFT_LOG is `{text}`, which is not a filter: {error}"))?,
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
    started.map_err(|error| format!("can't start the log: {error}"))
}
