//! Log lines: JSON on standard error, one object per line.

use std::error::Error;
use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor directives.
    #[error("log.level is not a level or directives")]
    BadLevel,
    /// The program has a subscriber already.
    #[error("another log subscriber is installed")]
    Installed,
}

/// Sends the process's log to standard error, so that standard output stays a command's own.
///
/// # Errors
/// [`LogError::BadLevel`]; [`LogError::Installed`] on a second call.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(&settings.level).map_err(|_| LogError::BadLevel)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(|_| LogError::Installed)
}

/// An error with its causes on one line, the outermost first.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
