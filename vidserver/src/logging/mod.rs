//! Log lines: JSON on standard error, one object per line.
//!
//! The line that each request makes may be written up to 50 ms later, together with others; every other
//! line is written at once.

use std::io::{self, Stderr};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

mod lines;

pub use lines::ACCESS;

use lines::Lines;

/// The lines of this process.
static LINES: OnceLock<Lines<Stderr>> = OnceLock::new();

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor directives.
    #[error("log.level is not a level or directives")]
    BadLevel,
    /// The thread that writes lines cannot be started.
    #[error("the log's thread cannot be started")]
    Thread(#[source] io::Error),
    /// The program has a subscriber already.
    #[error("another log subscriber is installed")]
    Installed,
}

/// Sends the process's log to standard error, so that standard output stays a command's own.
///
/// # Errors
/// [`LogError::BadLevel`]; [`LogError::Thread`]; [`LogError::Installed`] on a second call.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(&settings.level).map_err(|_| LogError::BadLevel)?;
    if LINES.get().is_some() {
        return Err(LogError::Installed);
    }
    let lines = Lines::start(io::stderr()).map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone());
    match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
        LogFormat::Text => builder.try_init(),
    }
    .map_err(|_| LogError::Installed)?;
    // Of two calls at the same time, only one has come this far.
    let _ = LINES.set(lines);
    Ok(())
}

/// Writes the lines that still wait: for the end of a program.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}

/// An error with what lies behind it, outermost first: the cause is what an operator can act on. A cause
/// that an outer message has told already is not repeated.
pub fn whole_story(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_once_each() {
        use vidcore::platform::OpenError;
        use vidcore::store::StoreError;

        let refused = || std::io::Error::other("the disk is gone");
        let folder = OpenError::Folder(refused());
        assert_eq!("data folder cannot be used: the disk is gone", whole_story(&folder));
        let store = StoreError::Unavailable { operation: "open the database", source: refused().into() };
        let expected = "database unavailable: open the database: the disk is gone";
        assert_eq!(expected, whole_story(&OpenError::Store(store)));
    }
}
