//! Looking again and again until Ctrl-C.

use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use vidcore::jobs::JobError;

use super::{CommandError, say};
use crate::cli::output::Form;

/// Moves to the upper left corner and clears what is below, so that nothing scrolls away.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

/// `--watch`.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct WatchFlag {
    /// Look again every so many seconds until Ctrl-C
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
}

impl WatchFlag {
    /// Says what `look` finds, once or again and again. A store that does not answer in time ends a single
    /// look only.
    ///
    /// # Errors
    /// Those of the look, and of standard output.
    pub(super) async fn show(
        self,
        form: Form,
        look: impl AsyncFn() -> Result<String, CommandError>,
    ) -> Result<(), CommandError> {
        let Some(seconds) = self.watch else { return print(&look().await?) };
        // One listener for the whole watch: it keeps a Ctrl-C that comes in the middle of a look.
        let mut interrupted = signal(SignalKind::interrupt())?;
        loop {
            match look().await {
                Ok(found) if form == Form::Table => say(&format!("{REDRAW}{found}"))?,
                Ok(found) => print(&found)?,
                Err(error) if may_pass(&error) => tracing::error!(%error, "looking failed and will be repeated"),
                Err(error) => return Err(error),
            }
            tokio::select! {
                _ = interrupted.recv() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            }
        }
    }
}

/// Nothing is no empty line.
fn print(found: &str) -> Result<(), CommandError> {
    if found.is_empty() { Ok(()) } else { say(found) }
}

fn may_pass(error: &CommandError) -> bool {
    error.downcast_ref::<JobError>().is_some_and(JobError::is_retryable)
}
